"""Images/s of ONNX Runtime against eager torch, one picture at a time, and the start of `convflow predict`.

    python benchmarks/serving.py [--model models/cnn] [--images 40] [--repeats 9] [--threads 2]
        [--starts 3]

Both answer as `convflow predict` asks them: uint8 pixels in, probabilities out, the same model, the same
pictures, as many threads. They take turns, and who begins changes with each turn; the ratio is the median
over the turns. Run it on a calm machine: threads of torch wait for each other, so a busy one slows torch
more.
Without --model: networks as the solar cells want them (the residual one of params.yaml at 96 px, and
EfficientNet-Lite0 at 224 px under four views), their heads left to chance: what they answer is not asked
here, only that both answer alike.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from convflow.cards import load_card
from convflow.learning.bundle import save_bundle
from convflow.learning.exporting import export_onnx
from convflow.learning.predictor import load_predictor
from convflow.learning.pretrained import Wanted, open_pretrained
from convflow.nets.registry import Classifier, build
from convflow.nets.transfer import Transfer
from convflow.serving.record import FILES, OPSET, PLAIN, Exported, write_record
from convflow.serving.session import IMAGES, PROBABILITIES, OnnxPredictor

CLASSES = ["defective", "functional"]


def made_cnn(folder: Path) -> None:
    """The network from scratch that params.yaml describes."""
    args = {"width": 32, "dropout": 0.2}
    _save(folder, build("residual", 2, 1, 96, args, "image"), "residual", args, 96)


def made_transfer(folder: Path) -> None:
    """A pretrained trunk under a linear head."""
    trunk = open_pretrained("efficientnet_lite0", Wanted(pooling="mean_std")).trunk
    depths = [6, 7, 8]
    args = {"trunk": trunk.spec.as_json(), "depths": depths, "views": "flips"}
    net = Classifier(Transfer(trunk, 2, depths, "flips"), torch.zeros(1), torch.ones(1))
    _save(folder, net, "transfer", args, 224)


def _save(folder: Path, network: torch.nn.Module, arch: str, args: dict, size_px: int) -> None:
    folder.mkdir(parents=True)
    about = {"kind": "network", "name": folder.name, "arch": arch, "arch_args": args, "classes": CLASSES}
    contract = {"size_px": size_px, "channels": 1, "fit": "stretch"}
    normalise = "image" if arch == "residual" else "dataset"
    save_bundle(folder, network.state_dict(), {**about, "normalise": normalise, "input": contract})


def main() -> None:
    """Print both sides and their ratio, for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, action="append")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--starts", type=int, default=3)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    torch.manual_seed(0)
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        if asked.model is None:
            made_cnn(root / "models/cnn")
            made_transfer(root / "models/transfer")
        for model in asked.model or sorted((root / "models").iterdir()):
            link = root / "models" / model.name
            if asked.model is not None:
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(model.resolve())
            compare(root, model.name, asked)


def compare(root: Path, name: str, asked: argparse.Namespace) -> None:
    """Export one model below `root`, and time both sides of it."""
    folder, exported = root / "models" / name, root / "exported" / name
    exported.mkdir(parents=True)
    begun = time.perf_counter()
    at_once = export_onnx(folder, exported / FILES[PLAIN], (IMAGES, PROBABILITIES), OPSET)
    seconds = time.perf_counter() - begun
    card = load_card(folder)
    write_record(exported, card, {"at_once": at_once})
    sides = [OnnxPredictor(Exported(exported, exported / "none"), card), load_predictor(folder)]
    side, channels = card["input"]["size_px"], card["input"]["channels"]
    images = np.random.default_rng(0).integers(0, 256, (asked.images, side, side, channels), dtype=np.uint8)
    far = np.abs(np.subtract(*(one.predict_proba(images[:4]) for one in sides))).max()
    assert far < 1e-4, far
    turns = [_turn(sides, images, first=n % 2) for n in range(asked.repeats + 1)][1:]  # the first warms up
    print(f"{name}, {side} px, one picture at a time, {asked.threads} threads; exported in {seconds:.1f} s")
    for runtime, times in zip(("ONNX Runtime", "eager torch"), zip(*turns, strict=True), strict=True):
        print(f"  {runtime:13} {asked.images / statistics.median(times):8.1f} images/s")
    ratios = sorted(theirs / mine for mine, theirs in turns)
    print(f"  ratio         {statistics.median(ratios):8.2f} x (turns: {ratios[0]:.2f} to {ratios[-1]:.2f})")
    Image.fromarray(images[0][..., 0] if channels == 1 else images[0]).save(root / "one.png")
    starts = [[_start(root, name, runtime) for runtime in ("onnx", "torch")] for _ in range(asked.starts)]
    for runtime, times in zip(("onnx", "torch"), zip(*starts, strict=True), strict=True):
        print(f"  convflow predict --runtime {runtime:5} {statistics.median(times):6.2f} s for one picture")


def _turn(sides, images: np.ndarray, *, first: int) -> tuple[float, float]:
    found = [0.0, 0.0]
    for which in (first, 1 - first):
        begun = time.perf_counter()
        for image in images:
            sides[which].predict_proba(image[None])
        found[which] = time.perf_counter() - begun
    return found[0], found[1]


def _start(root: Path, name: str, runtime: str) -> float:
    command = [sys.executable, "-m", "convflow", "predict", "--model", f"models/{name}"]
    begun = time.perf_counter()
    subprocess.run([*command, "--runtime", runtime, "one.png"], cwd=root, capture_output=True, check=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
