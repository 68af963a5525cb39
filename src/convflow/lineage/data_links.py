"""The links that lead to the pictures: which ones, on which side, and where they are."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convflow.files import digest_json
from convflow.lineage.links import Link, broken, now, short
from convflow.registry.source import MEMBERS
from convflow.registry.version import Version
from convflow.tables import read_about, read_table

_HERE = Path("data/splits/members.parquet")


def manifest_link(version: Version) -> Link:
    """Which pictures: how many, of which classes; their digest reckoned anew."""
    wanted, place = version.tag("data"), version.fetch(MEMBERS)
    if place is None:
        return broken("manifest", f"{short(wanted)}: the list of pictures was not kept", digest=wanted)
    rows = members(place)
    found = digest_json([row[:3] for row in rows])
    classes = Counter(row[2] for row in rows)
    facts = {"digest": wanted, "images": len(rows), "classes": dict(sorted(classes.items()))}
    if found != wanted:
        text = f"{place}: not the list that was published ({short(found)} instead of {short(wanted)})"
        return broken("manifest", text, **facts)
    return Link("manifest", f"{short(wanted)}: {len(rows):,} images of {len(classes)} classes", facts=facts)


def split_link(version: Version, root: Path) -> Link:
    """Which side each picture was on, how that was decided, and whether the project's split is the same."""
    wanted, place = version.tag("sides"), version.fetch(MEMBERS)
    if place is None:
        return broken("split", f"{short(wanted)}: the sides of the pictures were not kept", digest=wanted)
    rows, about = members(place), read_about(place)
    found = digest_sides(rows)
    counts = dict(sorted(Counter(row[3] for row in rows).items()))
    how = {name: about.get(name, version.params.get(f"split.{name}")) for name in ("method", "seed")}
    facts = {"digest": wanted, "sides": counts, **how}
    if found != wanted:
        text = f"{place}: not the split that was published ({short(found)} instead of {short(wanted)})"
        return broken("split", text, **facts)
    here = root / _HERE
    text, state = now(digest_sides(members(here)) == wanted if here.is_file() else None, "split")
    said = ", ".join(f"{side} {count:,}" for side, count in counts.items())
    return Link(
        "split", f"{short(wanted)}: {how['method']}, seed {how['seed']}: {said}; {text}", state, facts
    )


def members(place: Path) -> list[tuple[str, str, str, str]]:
    """Path, SHA-256, label and side of every picture, sorted.

    Raises:
        DataError: `place` is no such table.
    """
    table = read_table(place, columns=["path", "sha256", "label", "side"])
    return sorted(zip(*(column.to_pylist() for column in table.columns), strict=True))


def digest_sides(rows: list[tuple[str, str, str, str]]) -> str:
    """The digest that publish gives the sides."""
    return digest_json([(row[0], row[3]) for row in rows])


def raw_link(version: Version, root: Path, cache: Path | None) -> Link:
    """The raw pictures: where they were, what DVC's digest of them is, whether they can still be had."""
    record = raw_record(version, root)
    place = version.params.get("data.root")
    if record is None:
        return broken("raw data", f"{place or '?'}: no digest of it (dvc.lock was not kept)", path=place)
    digest = str(record.get("md5"))
    facts = {"path": record["path"], "md5": digest, "files": record.get("nfiles")}
    text = f"{record['path']}, {record.get('nfiles', '?')} files, md5 {short(digest)}"
    missing = lacking(cache, digest) if cache else "DVC's cache is not known"
    if missing is None:
        return Link("raw data", f"{text}; in DVC's cache", facts=facts | {"cached": True})
    facts |= {"cached": False}
    if (root / record["path"]).is_dir():
        text += f"; not in DVC's cache ({missing}), the folder is there: `convflow reproduce` compares it"
        return Link("raw data", text, "changed", facts)
    return broken("raw data", f"{text}; neither in DVC's cache ({missing}) nor in its folder", **facts)


def raw_record(version: Version, root: Path) -> Mapping[str, Any] | None:
    """What dvc.lock says of the folder of raw pictures: path, md5, size, nfiles; None if it says nothing."""
    tree = version.settings() or {}
    wanted = (tree.get("data") or {}).get("root")
    if not isinstance(wanted, str):
        return None
    for stage in (version.lock() or {}).values():
        for one in stage.get("deps", []):
            if one.get("md5") and (root / one["path"]).resolve() == (root / wanted).resolve():
                found: Mapping[str, Any] = one
                return found
    return None


def lacking(cache: Path, digest: str) -> str | None:
    """What DVC's cache lacks of the folder with this digest, in a phrase; None where all is there."""
    files = cache / "files" / "md5"
    listing = files / digest[:2] / digest[2:]
    if not listing.is_file():
        return "it was never put there"
    try:
        wanted = [str(one["md5"]) for one in json.loads(listing.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError):
        return "its list is damaged"
    gone = sum(not (files / md5[:2] / md5[2:]).is_file() for md5 in wanted)
    return f"{gone:,} of {len(wanted):,} files are gone" if gone else None
