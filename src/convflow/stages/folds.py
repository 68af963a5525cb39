"""data/{splits,features,encoded,packed} -> folds/<protocol>/<model>: one model on all splits of one protocol

A split whose answers are there, made from the same inputs, settings and code, is not done again: an
interrupted run goes on where it stopped, here or on another machine that the folder was copied to.
"""

import importlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from tqdm import tqdm

from convflow.data.layout import SIDES
from convflow.errors import DataError, ParamsError
from convflow.files import digest_json
from convflow.params import NotNegative, PositiveInt, Section
from convflow.recipes.baselines import Baselines
from convflow.recipes.training import Network
from convflow.recipes.tuning import Probe, Rungs, Tune
from convflow.studying.codekey import code_digest
from convflow.studying.crew import crew_size, work_off
from convflow.studying.jobs import Contestant, Job, Task, do, is_done
from convflow.studying.splits import splits_in
from convflow.studying.timing import Timing
from convflow.tables import read_about, read_table

_SPEAK_S = 20.0  # between lines of progress where there is no terminal


class Transfer(Section):
    """How a pretrained network is fitted, as in `finetune:` of the main pipeline."""

    rungs: Rungs
    keep_errors: NotNegative
    probe: Probe
    tune: Tune | None


class Params(Section):
    """`folds:` in params.yaml."""

    processes: Literal["auto"] | PositiveInt
    seed: Annotated[int, Field(ge=0)]
    baselines: Baselines
    networks: dict[str, Network]
    transfers: dict[str, Transfer]


def run(  # noqa: PLR0913, PLR0917  one path for each dependency in dvc.yaml
    splits: Path,
    features: Path,
    networks: Path,
    encoded: Path,
    pretrained: Path,
    folds: Path,
    timing: Path,
    *,
    params: Params,
) -> None:
    """Fit, on every split of the protocol that `folds` lies in, the model that `folds` is called after.

    Args:
        splits: the protocol's.
        features: classical ones, for baselines.
        networks: pictures for networks; labels and weights for baselines, too.
        encoded: features of a pretrained network, for transfers.
        pretrained: the pictures these are the features of.
        folds: the answers, a file for each split.
        timing: seconds and device of each split.
        params: settings of all models.
    """
    contestant, settings = _contestant(folds.name, params)
    module: Contestant = importlib.import_module(contestant)
    grouped = read_about(splits).get("method") == "grouped"
    packed, described = (pretrained, encoded) if folds.name in params.transfers else (networks, features)
    task = Task(packed, described, {}, settings, params.seed, folds.name, grouped)
    jobs = list(_jobs(splits, task, folds, module))
    folds.mkdir(parents=True, exist_ok=True)
    for stale in set(folds.iterdir()) - {job.path for job in jobs}:
        stale.unlink()
    todo = [job for job in jobs if not is_done(job)]
    clock = Timing(timing, {job.path.stem: job.about["key"] for job in jobs})
    clock.write()
    print(f"folds: {folds.parent.name} {folds.name}: {len(jobs) - len(todo)} of {len(jobs)} splits are there")
    if todo:
        _work(todo, _crew(todo, module, params), clock)


def _contestant(name: str, params: Params) -> tuple[str, dict[str, Any]]:
    """The module that knows the model `name`, and its settings."""
    if name in params.networks and name in params.transfers:
        raise ParamsError(f"folds: {name!r} stands in networks and in transfers; rename one of them")
    if name in params.transfers:
        return _transfer(name, params.transfers[name])
    if name in params.networks:
        return "convflow.studying.networks", params.networks[name].model_dump()
    return "convflow.studying.classical", params.baselines.model_dump()


def _transfer(name: str, transfer: Transfer) -> tuple[str, dict[str, Any]]:
    """A frozen one is made by a module without tuning, so an edit there leaves its answers alone."""
    if not set(transfer.rungs) & {"tune", "soup"}:
        return "convflow.studying.transferred", transfer.model_dump(exclude={"tune"})
    if transfer.tune is None:
        raise ParamsError(
            f"folds.transfers.{name}.tune: null, but a rung wants it; take tune and soup out of rungs"
        )
    return "convflow.studying.tuned", transfer.model_dump()


def _jobs(splits: Path, task: Task, folds: Path, module: Contestant) -> Iterator[Job]:
    images = read_table(task.packed / "rows.parquet", ["sha256", "label"]).to_pydict()
    base = {
        "code": code_digest(module.__name__),
        "inputs": module.stamp(task),
        "model": task.name,
        "settings": task.settings,
    }
    about = {"classes": sorted(set(images["label"])), "model": task.name, "protocol": splits.stem}
    known, parts = splits_in(read_table(splits))
    if known != images["sha256"]:
        raise DataError(
            f"{splits}: not of the images in {task.packed}; run `dvc repro` in the study's folder"
        )
    for number, split in enumerate(parts):
        rows = {side: split.rows(side) for side in SIDES}
        members = {side: [images["sha256"][row] for row in rows[side]] for side in SIDES}
        seed = task.seed + number
        own = {"key": digest_json([base, members, seed]), "repeat": split.repeat, "fold": split.fold}
        one = replace(task, rows=rows, seed=seed)
        yield Job(module.__name__, one, folds / f"{split.name}.parquet", about | own)


def _crew(jobs: Sequence[Job], module: Contestant, params: Params) -> int:
    """How many processes, by the parameter, or by cores and memory."""
    if params.processes != "auto":
        return min(params.processes, len(jobs))
    most = module.most_at_once(jobs[0].task.settings)
    return crew_size(min(len(jobs), most or len(jobs)), bytes_each=module.memory(jobs[0].task))


def _work(jobs: Sequence[Job], n_processes: int, clock: Timing) -> None:
    """Do `jobs`, with a bar in a terminal and a line now and then elsewhere."""
    started = spoken = time.monotonic()
    what = f"{jobs[0].path.parent.parent.name} {jobs[0].path.parent.name}"
    with tqdm(total=len(jobs), unit="split", desc=what, disable=None, smoothing=0) as bar:
        for number, (job, done) in enumerate(work_off(do, jobs, n_processes), start=1):
            clock.add(job.path.stem, done, side_by_side=n_processes)
            bar.update()
            now = time.monotonic()
            if bar.disable and (now - spoken > _SPEAK_S or number == len(jobs)):
                spoken, each = now, (now - started) / number
                left = f", {each * (len(jobs) - number):,.0f} s left" if number < len(jobs) else ""
                print(f"folds: {what}: {number} of {len(jobs)} done, {each:.1f} s a split{left}", flush=True)
