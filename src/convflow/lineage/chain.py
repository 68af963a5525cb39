"""The chain from a version to its commit, settings, software, verdict and promotion: what it rests on."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convflow.errors import TrackingError
from convflow.files import digest_file
from convflow.lineage.data_links import manifest_link, raw_link, split_link
from convflow.lineage.links import Link, broken, near, now, short
from convflow.params import read_params
from convflow.registry.promotion_log import LOG, read_log
from convflow.registry.provenance import NONE, ask_git, dvc_lock_digest
from convflow.registry.record import flat_params
from convflow.registry.source import DIFF, LOCK, PACKAGES, PARAMS
from convflow.registry.version import Version, read_stages

_MOST_SHOWN = 6
_PROMOTION = ("at", "by", "sentence", "decision")


def chain(version: Version, root: Path, cache: Path | None) -> list[Link]:
    """All links, from the version down to the pictures and on to who promoted it.

    Args:
        version: whose.
        root: the project's folder.
        cache: of DVC, None where it is not known.
    """
    return [
        version_link(version),
        run_link(version),
        commit_link(version, root),
        lock_link(version, root),
        manifest_link(version),
        split_link(version, root),
        raw_link(version, root, cache),
        params_link(version, root),
        environment_link(version, root),
        _said("device", version, "device", "no report of the training tells the device"),
        _said("protocol", version, "protocol", "the evaluation told no protocol"),
        verdict_link(version),
        promotion_link(version, root),
    ]


def version_link(version: Version) -> Link:
    """The version itself."""
    facts = {"model": version.model, "version": version.version, "aliases": list(version.aliases)}
    told = {**facts, "registered": version.name, "created": version.created}
    return Link("version", f"{version.shown}: {version.model}, made {version.created}", facts=told)


def run_link(version: Version) -> Link:
    """The run that it was registered from."""
    facts = {"id": version.run_id, "status": version.status}
    if version.status != "FINISHED":
        return broken("run", f"{short(version.run_id)} is {version.status} in {version.store}", **facts)
    return Link("run", f"{version.run_id} in {version.store}", facts=facts)


def commit_link(version: Version, root: Path) -> Link:
    """The commit, when and what it was, and where the changes beside it are."""
    commit = version.tag("git.commit")
    if commit is None:
        return broken("commit", "made outside of a git repository")
    is_dirty = version.tag("git.dirty") == "true"
    diff = version.fetch(DIFF)
    facts = {"commit": commit, "dirty": is_dirty, "diff": str(diff) if diff else None}
    changes = ""
    if is_dirty:
        changes = f"; with changes that were not committed: {near(diff, root) if diff else 'not kept'}"
    said = ask_git(root, "log", "-1", "--date=iso-strict", "--format=%cd%x09%s", commit)
    if said is None:
        return broken("commit", f"{short(commit)}: not in this repository; fetch it{changes}", **facts)
    date, _, subject = said.strip().partition("\t")
    text = f"{short(commit)} {date} {subject}{changes}"
    lost = is_dirty and diff is None
    return Link("commit", text, "broken" if lost else "whole", facts | {"date": date, "subject": subject})


def lock_link(version: Version, root: Path) -> Link:
    """dvc.lock as it was published, against its tag and against the project's."""
    wanted, place = version.tags.get("convflow.dvc_lock", NONE), version.kept(LOCK)
    facts = {"digest": wanted, "file": str(place) if place else None}
    if place is None:
        return broken("dvc.lock", f"{short(wanted)}: the file was not kept with the run", **facts)
    if dvc_lock_digest(place, but="publish") != wanted:
        return broken("dvc.lock", f"{place}: not the one that was published ({short(wanted)})", **facts)
    text, state = now(dvc_lock_digest(root / LOCK, but="publish") == wanted, "dvc.lock")
    other = _other_stages(version.lock() or {}, read_stages(root / LOCK) or {}) if state != "whole" else []
    if other:
        text += f" ({_shown(other)})"
    return Link("dvc.lock", f"{short(wanted)}; {text}", state, facts | {"stages_that_differ": other})


def _other_stages(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    names = [*ours, *(name for name in theirs if name not in ours)]
    return [name for name in names if name != "publish" and ours.get(name) != theirs.get(name)]


def params_link(version: Version, root: Path) -> Link:
    """The parameters, and which are others in the project now."""
    apart = differing(version.params, flat_params(read_params(root / PARAMS)))
    facts = {"n": len(version.params), "differ": {key: list(pair) for key, pair in apart.items()}}
    if not version.params:
        return broken("params", "the run holds none", **facts)
    text = f"{len(version.params)}; "
    if not apart:
        return Link("params", f"{text}those of {PARAMS} now", facts=facts)
    said = _shown([f"{key} {ours or '-'}, now {theirs or '-'}" for key, (ours, theirs) in apart.items()])
    return Link("params", f"{text}{len(apart)} differ now: {said}", "changed", facts)


def differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """Flat parameters that two sides have otherwise; None where a side has none of that name.

    Where to publish (`tracking`) says nothing about what.
    """
    keys = sorted(key for key in {*ours, *theirs} if not key.startswith("tracking."))
    return {key: (ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)}


def environment_link(version: Version, root: Path) -> Link:
    """The locked packages it was trained with, and Python and torch."""
    wanted = version.tag("requirements_lock")
    versions = ", ".join(f"{what} {version.tag(what) or '?'}" for what in ("python", "torch"))
    facts = {"digest": wanted, "python": version.tag("python"), "torch": version.tag("torch")}
    if wanted is None:
        return broken("environment", f"no digest of {PACKAGES}; {versions}", **facts)
    same = digest_file(root / PACKAGES) == wanted if (root / PACKAGES).is_file() else None
    text, state = now(same, str(PACKAGES))
    return Link("environment", f"{PACKAGES} {short(wanted)}, {versions}; {text}", state, facts)


def verdict_link(version: Version) -> Link:
    """What `decide` said."""
    word, sentence = version.tag("verdict"), version.tag("verdict.sentence")
    if word is None:
        return broken("verdict", "none was published with it")
    return Link("verdict", f"{word}: {sentence or '-'}", facts={"verdict": word, "sentence": sentence})


def promotion_link(version: Version, root: Path) -> Link:
    """Who made it champion, when and on what evidence: from the version's tags, and every act in the log."""
    try:
        log = read_log(root / LOG)
    except TrackingError as error:
        return broken("promotion", str(error))
    acts = [asdict(act) for act in log if (act.model, act.version) == (version.name, version.version)]
    action = version.tag("promotion")
    if action is None:
        return Link("promotion", "never promoted", facts={"promotion": None, "acts": acts})
    facts = {name: version.tag(f"promotion.{name}") for name in _PROMOTION}
    by, at = facts["by"] or "somebody", facts["at"] or "no date"
    text = f"{action} by {by}, {at}: {facts['sentence'] or 'no reason was kept'}"
    digest = facts["decision"] or ""
    place = version.fetch(f"promotion/decision-{short(digest)}.json")
    told = {"promotion": action, **facts, "acts": acts, "evidence": str(place) if place else None}
    if place is None:
        return broken("promotion", f"{text}; the evidence (decision {short(digest)}) was not kept", **told)
    if digest_file(place) != digest:
        return broken("promotion", f"{text}; {near(place, root)}: not the decision that was recorded", **told)
    return Link("promotion", f"{text}; evidence: {near(place, root)}", facts=told)


def _said(name: str, version: Version, tag: str, missing: str) -> Link:
    found = version.tag(tag)
    return Link(name, found, facts={name: found}) if found else broken(name, missing)


def _shown(texts: list[str]) -> str:
    more = f" and {len(texts) - _MOST_SHOWN} more" if len(texts) > _MOST_SHOWN else ""
    return ", ".join(texts[:_MOST_SHOWN]) + more
