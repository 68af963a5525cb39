"""What a version was made by, gathered from its run before anything is begun."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from convflow.errors import ModelError
from convflow.files import digest_file
from convflow.lineage.data_links import raw_record
from convflow.lineage.graph import Stages, needed
from convflow.registry.source import DIFF, LOCK, PARAMS
from convflow.registry.version import Version

EVALUATE = "evaluate"


@dataclass(frozen=True)
class Recipe:
    """All that it takes to make a version anew.

    Args:
        version: itself.
        commit: of the code.
        diff: what was not committed, None where all was.
        stages: of dvc.lock as it was published.
        settings: params.yaml as it was published, with the candidate as the only model.
        raw: what dvc.lock says of the folder of pictures.
        predictions: as they were registered.
        figures: the candidate's part of metrics.json, as registered.
        tolerance: `publish.tolerance`.
    """

    version: Version
    commit: str
    diff: Path | None
    stages: Stages
    settings: dict[str, Any]
    raw: Mapping[str, Any]
    predictions: Path
    figures: Any
    tolerance: float

    @property
    def model(self) -> str:
        """The candidate's name."""
        return self.version.model

    def order(self, known: Collection[str]) -> list[str]:
        """The stages up to the predictions; dvc.lock still holds some that are no longer `known`.

        Raises:
            ModelError: there is no stage that makes the predictions.
        """
        raw = str(self.raw["path"])
        stages = {name: stage for name, stage in self.stages.items() if name in known}
        # those that make the raw pictures are left out: these are taken as they were
        makers = [name for name in stages if any(one["path"] == raw for one in stages[name].get("outs", []))]
        return needed(stages, f"predict@{self.model}", without=frozenset(makers))

    def out(self, stage: str, suffix: str = "") -> Path:
        """The first output of a stage that ends with `suffix`, below the project.

        Raises:
            ModelError: it has none.
        """
        for one in self.stages.get(stage, {}).get("outs", []):
            if PurePosixPath(one["path"]).suffix == suffix:
                return Path(one["path"])
        raise ModelError(
            f"dvc.lock: stage {stage!r} has no output *{suffix}; the version is of another pipeline"
        )


def read_recipe(version: Version, root: Path) -> Recipe:
    """Gather it.

    Raises:
        ModelError: the run does not hold enough to make the version anew; the text says what is missing.
    """
    stages, settings, raw = version.lock(), version.settings(), raw_record(version, root)
    model = version.model
    predictions = version.fetch(f"predictions/{model}.parquet")
    figures = (version.report("evaluation/metrics.json") or {}).get(model)
    lacks = [
        name
        for name, found in (
            (f"source/{LOCK}", stages), (f"source/{PARAMS}", settings), ("the digest of the raw data", raw),
            (f"predictions/{model}.parquet", predictions), ("evaluation/metrics.json", figures),
        )
        if not found
    ]  # fmt: skip
    if lacks or not (stages and settings and raw and predictions):
        raise ModelError(
            f"{version.shown}: its run ({version.status}) lacks {', '.join(lacks)}; such a version cannot be "
            "made anew: publish again with `convflow repro`"
        )
    wanted = version.tag("digest.predictions")
    if wanted and digest_file(predictions) != wanted:
        raise ModelError(f"{predictions}: not the predictions that were registered; restore the file")
    return Recipe(
        version=version,
        commit=_commit(version),
        diff=_diff(version),
        stages=stages,
        settings=_narrowed(settings, version),
        raw=raw,
        predictions=predictions,
        figures=figures,
        tolerance=float((settings.get("publish") or {}).get("tolerance", 0.0)),
    )


def _commit(version: Version) -> str:
    commit = version.tag("git.commit")
    if commit is None:
        raise ModelError(f"{version.shown}: made outside of a git repository; its code is not known")
    return commit


def _diff(version: Version) -> Path | None:
    if version.tag("git.dirty") != "true":
        return None
    found = version.fetch(DIFF)
    if found is None:
        raise ModelError(
            f"{version.shown}: made with changes that were not committed, and {DIFF} is not in its run; "
            "its code is not known"
        )
    return found


def _narrowed(settings: dict[str, Any], version: Version) -> dict[str, Any]:
    """With the candidate alone to evaluate, and what `auto` had measured and chosen at the time."""
    evaluate = {**settings.get("evaluate", {}), "models": [version.model], "candidate": version.model}
    card = version.report("model_folder/card.json") or {}
    mode = (card.get("backbone") or {}).get("computed_in")
    embed = settings.get("embed")
    if mode and isinstance(embed, dict) and embed.get("mode") == "auto":
        settings = {**settings, "embed": {**embed, "mode": mode}}
    return {**settings, "evaluate": evaluate}
