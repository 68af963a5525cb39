"""What a store keeps and what nobody refers to any more: decided from facts alone, without MLflow.

Whatever is not known to be convflow's own (a run without its tags, a version of another model) stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from convflow.params import PositiveInt, Section
from convflow.registry.ledger import KEY_TAG, LIVE_TAG

DAY_MS = 24 * 3600 * 1000
SPLIT_TAG, EVALUATION_TAG = "convflow.digest.split", "convflow.digest.evaluation"
_OF_CANDIDATES = "convflow.digest.params"  # a rival's key follows its own files alone
_GOING_ON = ("RUNNING", "SCHEDULED")

# The digest of each model's figures, as metrics.json has them; None where it is not to be had.
Figures = Mapping[str, str] | None


class Gc(Section):
    """The section `gc` of params.yaml."""

    keep: PositiveInt  # versions, the latest ones


@dataclass(frozen=True)
class Version:
    """A registered version, the run and the logged model it was made from, and its aliases."""

    name: str
    number: int
    run_id: str
    model_id: str
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """A run; `active` unless it is in the bin, `written_ms` when anything was last written to it."""

    run_id: str
    name: str
    status: str
    active: bool
    tags: Mapping[str, str]
    written_ms: int
    place: str


@dataclass(frozen=True)
class Logged:
    """A logged model and the run it was logged to."""

    model_id: str
    run_id: str
    place: str
    active: bool


def marks(champions: Sequence[str]) -> dict[int, str]:
    """Which versions the log of promotions asks to keep: of its champions the last and the one before."""
    said = ("champion of the log", "champion before")
    return {int(number): why for number, why in zip(reversed(champions), said, strict=False)}


def keep_versions(versions: Sequence[Version], marked: Mapping[int, str], keep: int) -> dict[int, str]:
    """Why each version that stays does so, the latest first: an alias, a mark, or one of the last `keep`."""
    latest = sorted((one.number for one in versions), reverse=True)
    whys = {}
    for one in sorted(versions, key=lambda version: version.number, reverse=True):
        said = [*sorted(one.aliases), *([marked[one.number]] if one.number in marked else [])]
        if not said and one.number in latest[:keep]:
            said = [f"of the last {keep}"]
        if said:
            whys[one.number] = ", ".join(said)
    return whys


def unneeded_runs(
    runs: Sequence[Run],
    stay: Sequence[Version],
    go: Sequence[Version],
    figures: Mapping[str, Figures],
    now_ms: int,
) -> list[tuple[Run, str]]:
    """The runs that nobody refers to once the versions in `go` are gone, and why.

    `stay` are all other versions of all models, `figures` those of their runs by the run's id.
    """
    referred = {one.run_id for one in stay}
    gone = {one.run_id: f"of version {one.number}" for one in go}
    compared = {run.run_id: run for run in runs if run.run_id in figures}
    wanted = [(run.tags.get(SPLIT_TAG), figures[run_id]) for run_id, run in compared.items()]
    found = []
    for run in runs:
        why = None if run.run_id in referred else _unneeded(run, wanted, now_ms)
        if why is not None:
            found.append((run, gone.get(run.run_id, why)))
    return found


def unneeded_models(
    models: Sequence[Logged], runs: Sequence[str], stay: Sequence[Version], known: frozenset[str] | None
) -> list[tuple[Logged, str]]:
    """The logged models that go: those of the `runs` that go, of no run that is known, or from the bin."""
    referred = {one.model_id for one in stay}
    found = []
    for model in models:
        if model.model_id in referred:
            continue
        if model.run_id in runs:
            found.append((model, f"of run {model.run_id[:8]}"))
        elif not model.active:
            found.append((model, "in the bin"))
        elif known is not None and model.run_id and model.run_id not in known:
            found.append((model, f"run {model.run_id[:8]} is gone"))
    return found


def is_rival(run: Run) -> bool:
    """Whether `run` is that of another model of the leaderboard."""
    return KEY_TAG in run.tags and _OF_CANDIDATES not in run.tags


def _unneeded(run: Run, wanted: Sequence[tuple[str | None, Figures]], now_ms: int) -> str | None:
    """Why `run`, of which no version was made that stays, goes; None where it stays."""
    is_old = now_ms - run.written_ms > DAY_MS
    if run.status in _GOING_ON and not is_old:  # somebody may be writing it
        return None
    if not run.active:
        return "in the bin"
    if LIVE_TAG in run.tags:
        return "shown live, never published" if is_old else None
    if KEY_TAG not in run.tags:
        return None
    if run.status != "FINISHED":
        return "half written" if is_old else None
    return _unwanted(run, wanted)


def _unwanted(run: Run, wanted: Sequence[tuple[str | None, Figures]]) -> str | None:
    if not is_rival(run):
        return "no version of it"
    return None if any(_compared(run, *one) for one in wanted) else "compared with no version that stays"


def _compared(rival: Run, split: str | None, figures: Figures) -> bool:
    """Whether `rival` stands on the leaderboard of a version with this split and these figures."""
    if rival.tags.get(SPLIT_TAG) != split:
        return False
    if figures is None:
        return True
    return figures.get(rival.tags.get("convflow.model", "")) == rival.tags.get(EVALUATION_TAG)
