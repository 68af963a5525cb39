"""data/packed/{train,val} -> models/<name>: a network trained from scratch"""

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from convflow.data.packed import Packed, open_sides
from convflow.files import digest_folder, digest_json, whole_folder, write_text
from convflow.learning.augment import Augment
from convflow.learning.batches import Batches
from convflow.learning.bundle import save_bundle
from convflow.learning.checkpoints import checkpoint_folder, code_digest, load_state, save_state
from convflow.learning.devices import (
    be_deterministic,
    device_name,
    free_memory,
    make_accelerator,
    one_line,
    pick_device,
    pick_precision,
)
from convflow.learning.fitting import Progress, Recipe, Trainer
from convflow.learning.fresh import fresh_network
from convflow.learning.timing import write_timing
from convflow.nets.registry import Classifier
from convflow.params import PositiveInt, Seed
from convflow.recipes.training import Network

WORK = Path(".convflow/live")


class Params(Network):
    """`train:` in params.yaml; dvc.yaml makes a path of `packed_px`."""

    packed_px: PositiveInt
    seed: Seed
    require_gpu: bool


def run(train: Path, val: Path, model: Path, timing: Path, *, params: Params) -> None:
    """Train, going on from where an interrupted run with the same inputs stopped."""
    started = time.monotonic()
    device = pick_device(params.device, require_gpu=params.require_gpu)
    precision = pick_precision(params.precision, device)
    if params.deterministic:
        be_deterministic()
    packed, packed_val = open_sides(train, val).values()
    packed.need_images()
    packed_val.need_images()
    inputs = {
        "train": digest_folder(train),
        "val": digest_folder(val),
        "params": digest_json(params.model_dump()),
    }
    key = digest_json([inputs, code_digest(), device, precision, torch.__version__, torch.get_num_threads()])
    work = checkpoint_folder(WORK / model.name, key)
    torch.manual_seed(params.seed)
    net = fresh_network(packed, params.model_dump())
    trainer = _trainer(net, packed, packed_val, params, device=device, precision=precision)
    with one_line():
        progress, seen = _fit(trainer, work, WORK / model.name / "history.jsonl")
    best = progress.best
    card = {
        "kind": "network",
        "name": model.name,
        "arch": params.arch,
        "arch_args": params.arch_args,
        "normalise": params.normalise,
        **packed.in_card(),
        "best_epoch": best.epoch,
        "epochs": len(progress.history),
        "n_parameters": sum(parameter.numel() for parameter in net.parameters()),
        "val": {"loss": best.val_loss, "accuracy": best.val_accuracy},
        "precision": precision,
        "inputs": inputs,
    }
    with whole_folder(model) as folder:
        write_text(folder / "history.jsonl", _lines(progress))
        save_bundle(folder, progress.state["best"], card)
    write_timing(timing, device, time.monotonic() - started, seen)
    shutil.rmtree(work)
    _tell(progress, f"{params.arch} on {device_name(device)} ({precision})")


def _tell(progress: Progress, what: str) -> None:
    best = progress.best
    print(
        f"train: {what}, best of {len(progress.history)} epochs is {best.epoch}: "
        f"val loss {best.val_loss:.4f}, accuracy {best.val_accuracy:.4f}"
    )


def _trainer(
    net: Classifier, train: Packed, val: Packed, params: Params, *, device: str, precision: str
) -> Trainer:
    accelerator = make_accelerator(device, precision)
    room = free_memory(device) // 2  # the other half is for the net and its feature maps
    batches = []
    for side in (train, val):
        batches.append(Batches(side, accelerator.device, resident_bytes=room))
        room -= side.pixels.nbytes if batches[-1].resident else 0
    recipe = Recipe(**params.model_dump(include=set(Recipe.__dataclass_fields__)))
    augment = Augment(**params.augment.model_dump())
    return Trainer(net, batches[0], batches[1], recipe, augment, accelerator)


def _fit(trainer: Trainer, work: Path, live: Path) -> tuple[Progress, int]:
    """Run the epochs with a progress bar; returns the progress and the images seen by this process."""
    saved = load_state(work)
    n_before = len(saved["history"]) if saved else 0
    n_images = len(trainer.train)
    if saved:
        print(f"train: going on after epoch {n_before}")
    with tqdm(
        total=trainer.recipe.epochs * n_images, initial=n_before * n_images, unit="img", disable=None
    ) as bar:

        def on_epoch(progress: Progress) -> None:
            save_state(work, progress.state)
            write_text(live, _lines(progress))
            last = progress.history[-1]
            bar.set_postfix_str(
                f"epoch {last.epoch}, val loss {last.val_loss:.3f}, accuracy {last.val_accuracy:.3f}"
            )

        progress = trainer.fit(on_epoch, bar.update, saved)
    return progress, (len(progress.history) - n_before) * n_images


def _lines(progress: Progress) -> str:
    return "".join(json.dumps(asdict(epoch)) + "\n" for epoch in progress.history)
