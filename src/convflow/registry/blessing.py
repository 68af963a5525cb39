"""The evidence for and against a version, gathered from its run and from its files fetched anew."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from convflow.data.packed import Contract, packed_as
from convflow.errors import ConvflowError, DataError, TrackingError
from convflow.evaluation import promoting
from convflow.evaluation.deciding import Rule
from convflow.evaluation.operating_point import told_point
from convflow.files import read_json
from convflow.registry.kinds import needs_of
from convflow.registry.known import Known
from convflow.registry.limits import Promote
from convflow.registry.rescoring import Contestant, Ground, Rescored, rescore
from convflow.registry.resolve import POINT, verified
from convflow.registry.source import MEMBERS
from convflow.registry.store import Store
from convflow.registry.verdict import SENTENCE_TAG, VERDICT_TAG
from convflow.tables import read_table

EVIDENCE = (
    "convflow.model", "convflow.code", "convflow.git.commit", "convflow.dvc_lock", "convflow.data",
    "convflow.sides", "convflow.digest.model", "convflow.digest.predictions", "convflow.digest.evaluation",
    "convflow.digest.validation", "convflow.digest.split", "convflow.digest.params", "convflow.check",
)  # fmt: skip
_LEARNT = ("train", "val")
_UNREGISTERED = "; no version was registered"  # what the proof says of a model that is being published


class Asker(Protocol):
    """A fresh process that loads a model and answers; see `proving.Proof`."""

    def ask(self, model_uri: str, known: Known) -> None:
        """Tell it where the model is and what to ask."""

    def check(self, model_uri: str, known: Known, tolerance: float) -> float:
        """Wait for the answers; the largest difference."""

    def load_s(self) -> float:
        """Seconds of processor time that imports and loading took."""


Ask = Callable[[Store, Sequence[str]], AbstractContextManager[Asker]]


@dataclass(frozen=True)
class Version:
    """A registered version and its run, as the registry tells of them."""

    name: str
    number: str
    run_id: str
    tags: Mapping[str, str]


class Blessing:
    """Asks the evidence of one store; files are fetched into `scratch`, which is swept by the caller."""

    def __init__(self, client: MlflowClient, store: Store, limits: Promote, scratch: Path) -> None:
        self._client, self._store, self._limits, self._scratch = client, store, limits, scratch

    def origin(self, version: Version) -> list[Rule]:
        """The rules that need no champion: verdict, evidence, commit."""
        tags = version.tags
        missing = [tag for tag in (VERDICT_TAG, *EVIDENCE) if not tags.get(tag)]
        commit = tags.get("convflow.git.commit", "none")
        return [
            promoting.verdict(tags.get(VERDICT_TAG), tags.get(SENTENCE_TAG, ""), self._waived(version)),
            promoting.evidence(missing),
            promoting.clean(tags.get("convflow.git.dirty"), commit, allow=self._limits.allow_dirty),
        ]

    def contest(
        self, ours: Contestant, champion: Version | None, ground: Ground
    ) -> tuple[list[Rule], Rescored | None]:
        """The rules against the champion, and the comparison where there is one."""
        least = self._limits.min_rows
        if champion is None:
            why = promoting.NO_CHAMPION
            rules = [promoting.classes([], None, None), promoting.contract({}, None, None)]
            return [*rules, *promoting.not_compared(why)], None
        try:
            theirs = self.contestant(champion, "champion")
            card = theirs.card
        except (ConvflowError, MlflowException, OSError) as error:
            problem = f"champion version {champion.number}: {' '.join(str(error).split())[:300]}"
            found = Rescored(problem=problem)
            rules = [promoting.common_rows(0, 0, least, problem)]
            return [*rules, *promoting.not_compared("not judged: there is nothing to compare with")], found
        alike = [
            promoting.classes(ours.card["classes"], card["classes"], champion.number),
            promoting.contract(ours.card["input"], card["input"], champion.number),
        ]
        if not all(rule.passed for rule in alike):
            return [
                *alike,
                *promoting.not_compared("not judged: the two do not take and give the same"),
            ], None
        found = rescore(ours, theirs, ground)
        common = promoting.common_rows(found.n_rows, found.left_out, least, found.problem)
        if found.found is None:
            return [*alike, common, *promoting.not_compared("not judged: too little to compare on")], found
        limits = self._limits
        figures = promoting.against(
            found.found,
            champion.number,
            metric_margin=limits.margin,
            drops=(limits.max_class_drop, limits.max_slice_drop),
            min_slice=limits.min_slice,
        )
        return [*alike, common, *figures], found

    def contestant(self, version: Version, place: str) -> Contestant:
        """The version with its files, fetched anew.

        Raises:
            ConvflowError: its files cannot be had, or are not those registered.
        """
        uri = f"models:/{version.name}/{version.number}"
        folder = self._scratch / place
        folder.mkdir(exist_ok=True)
        mlflow.set_registry_uri(self._store.uri)
        try:
            mlflow.artifacts.download_artifacts(
                artifact_uri=uri, dst_path=str(folder), tracking_uri=self._store.uri
            )
        except (MlflowException, OSError) as error:
            text = " ".join(str(error).split())[:200]
            raise TrackingError(
                f"{uri}: its files are not to be had from {self._store.shown} ({text})"
            ) from None
        model = verified(folder, uri)
        point = model.parent / POINT
        digests = (version.tags.get("convflow.data", ""), version.tags.get("convflow.sides", ""))
        told = read_json(point) if point.is_file() else None
        return Contestant(version.number, model, told, self._learnt(version), digests)

    def mechanics(self, version: Version, packed: Path, ask: Ask) -> tuple[list[Rule], Contestant | None]:
        """The files fetched anew, loaded in a fresh process and asked; nothing of this may fail."""
        limits, n_images = self._limits, 0
        found: Contestant | None = None
        difference = load_s = size_mb = problem = None
        try:
            found = self.contestant(version, "challenger")
            folder = self._scratch / "challenger"
            size_mb = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
            known = self._known(version, found, packed)
            n_images = len(known.pixels)
            with ask(self._store, needs_of(found.folder).modules) as asker:
                asker.ask(str(folder), known)
                difference = asker.check(str(folder), known, 1.0)
                load_s = asker.load_s()
        except (ConvflowError, OSError, KeyError) as error:
            text = " ".join(str(error).split()).replace(str(self._scratch), "")
            problem = text.partition(_UNREGISTERED)[0][:300]
        loads = f"imports and loading take {load_s or 0:.1f} s of processor time"
        return [
            promoting.answers(difference, n_images, limits.tolerance, problem),
            promoting.at_most("load time", loads, load_s, limits.max_load_s),
            promoting.at_most("size", f"{size_mb or 0:.1f} MB on disk", size_mb, limits.max_size_mb),
        ], found

    def _known(self, version: Version, found: Contestant, packed: Path) -> Known:
        """Images of val and test that its predictions tell of, with what it is to answer."""
        card = found.card
        classes = [str(name) for name in card["classes"]]
        contract = Contract(classes, **card["input"])
        name = f"predictions/{version.tags.get('convflow.model', card['name'])}.parquet"
        table = read_table(self._file(version, name), ["path", "sha256", *(f"p_{one}" for one in classes)])
        prob_NK = np.stack([table[f"p_{one}"].to_numpy() for one in classes], axis=1).astype(np.float64)
        images = zip(table["path"].to_pylist(), table["sha256"].to_pylist(), strict=True)
        row_of = {image: row for row, image in enumerate(images)}
        parts: list[tuple[NDArray[np.uint8], NDArray[np.float64]]] = []
        for side in ("val", "test"):
            folder = packed_as(contract, packed / side)
            rows = read_table(folder / "rows.parquet", ["path", "sha256"])
            here = list(zip(rows["path"].to_pylist(), rows["sha256"].to_pylist(), strict=True))
            both = [row for row, image in enumerate(here) if image in row_of]
            n_wanted = (self._limits.check_images + 1) // 2 if both else 0
            chosen = [both[at] for at in np.unique(np.linspace(0, len(both) - 1, n_wanted).astype(int))]
            pixels = np.load(folder / "pixels.npy", mmap_mode="r")[chosen]
            parts.append((pixels, prob_NK[[row_of[here[row]] for row in chosen]]))
        told = told_point(found.point, classes, name)
        pixels, answer_NK = (np.concatenate(part) for part in zip(*parts, strict=True))
        if not len(pixels):
            raise DataError(f"none of the images it was asked when published is in {packed}")
        return Known(pixels, told.calibrated(answer_NK), classes, told)

    def _waived(self, version: Version) -> str | None:
        """What the leak probe's rule says where a tripped probe was waived."""
        try:
            rules = read_json(self._file(version, "verdict.json")).get("rules") or []
        except (ConvflowError, AttributeError):
            return None
        said = [str(rule.get("sentence")) for rule in rules if rule.get("name") == "leak probe"]
        return next((text for text in said if "waived: " in text), None)

    def _learnt(self, version: Version) -> frozenset[str] | None:
        try:
            table = read_table(self._file(version, MEMBERS), ["sha256", "side"])
        except ConvflowError:
            return None
        rows = zip(table["sha256"].to_pylist(), table["side"].to_pylist(), strict=True)
        return frozenset(sha256 for sha256, side in rows if side in _LEARNT)

    def _file(self, version: Version, name: str) -> Path:
        """A file of the version's run.

        Raises:
            TrackingError: it is not to be had.
        """
        folder = self._scratch / f"run-{version.number}"
        folder.mkdir(exist_ok=True)
        try:
            return Path(self._client.download_artifacts(version.run_id, name, str(folder)))
        except (MlflowException, OSError) as error:
            text = " ".join(str(error).split())[:200]
            raise TrackingError(f"{name} of run {version.run_id}: not to be had ({text})") from None
