"""LP-FT against plain fine-tuning, same steps and seeds: accuracy on pictures as they are, and corrupted.

    python benchmarks/lpft.py EMBEDDED PACKED/train PACKED/val [--splits 5] [--test 0.25] [--groups]
        [--blocks 3|all] [--epochs 8] [--lrs 0.0001 0.001] [--device auto]

All images of the folders are put together and split anew into a fit part, of which a fifth chooses the epoch,
and a held-out part. Both sides train the same stages for the same steps in the same order; they differ in the
head they start from alone. Each tries the same learning rates and keeps the run with the lowest loss on val;
its seconds are those of that run. Beside them stands the frozen rung from whose head LP-FT starts. Figures
are means over the splits with their standard deviation; a corruption's accuracy is the mean over three
severities.

The last lines ask whether the frozen rung reaches 95 % of the best accuracy in 5 % of the time of that run.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from finetune import CS, Images, split_rows
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from convflow.data.packed import Packed
from convflow.learning.activations import Pictures
from convflow.learning.assembling import ask, assemble
from convflow.learning.climbing import Side, Stand, Tuned
from convflow.learning.devices import device_name, pick_device
from convflow.learning.embedded import Embedded
from convflow.learning.embedding import embed, freeze
from convflow.learning.pretrained import open_pretrained
from convflow.learning.probing import Search, Taught, figures_of, fit_probe, last_depths
from convflow.learning.tuner import Place, Tuner
from convflow.learning.tuning import Tuning, training_precision

Pixels = NDArray[np.uint8]
SIDES = ("frozen", "lp_ft", "plain")
_TIMED = 64  # pictures whose features are computed again, for their time


def noisy(image_NSSC: Pixels, deviation: float) -> NDArray:
    """Gaussian noise of so many grey levels."""
    return image_NSSC + np.random.default_rng(0).normal(0, deviation, image_NSSC.shape)


def blurred(image_NSSC: Pixels, share: float) -> NDArray:
    """A Gaussian whose deviation is this share of the side."""
    wide = share * image_NSSC.shape[1]
    return ndimage.gaussian_filter(image_NSSC.astype(np.float32), (0, wide, wide, 0))


def brighter(image_NSSC: Pixels, levels: float) -> NDArray:
    """So many grey levels are added."""
    return image_NSSC.astype(np.float32) + levels


def flatter(image_NSSC: Pixels, share: float) -> NDArray:
    """Each picture's contrast is reduced to this share."""
    mean = image_NSSC.mean(axis=(1, 2, 3), keepdims=True)
    return mean + share * (image_NSSC - mean)


def compressed(image_NSSC: Pixels, quality: float) -> NDArray:
    """Through JPEG and back."""
    found = np.empty_like(image_NSSC)
    for place, image in enumerate(image_NSSC):
        stream = io.BytesIO()
        Image.fromarray(image.squeeze()).save(stream, "JPEG", quality=int(quality))
        found[place] = np.asarray(Image.open(stream)).reshape(image.shape)
    return found


CORRUPTIONS: dict[str, tuple[Callable[[Pixels, float], NDArray], tuple[float, float, float]]] = {
    "noise": (noisy, (8, 16, 32)),
    "blur": (blurred, (0.005, 0.01, 0.02)),
    "brightness": (brighter, (20, 40, 60)),
    "contrast": (flatter, (0.7, 0.5, 0.3)),
    "jpeg": (compressed, (40, 20, 10)),
}


def corrupted(image_NSSC: Pixels, name: str, severity: int) -> Pixels:
    """One of CORRUPTIONS at severity 0, 1 or 2."""
    change, levels = CORRUPTIONS[name]
    return np.clip(np.rint(change(image_NSSC, levels[severity])), 0, 255).astype(np.uint8)


class Split:
    """One split of the images: what each side needs."""

    def __init__(self, images: Images, image_NSSC: Pixels, fit_N, ask_N, *, groups: bool, seed: int) -> None:
        """Set a fifth of the fit part aside as val: by groups, or spread over the kinds."""
        shuffled = np.random.default_rng(seed).permutation(fit_N)
        unit = images.group_N if groups else images.kind_N
        if groups:
            units = np.unique(unit[shuffled])
            chosen = np.isin(
                unit[shuffled], np.random.default_rng(seed).permutation(units)[: -(-len(units) // 5)]
            )
        else:
            chosen = np.zeros(len(shuffled), bool)
            chosen[np.argsort(unit[shuffled], kind="stable")[::5]] = True
        n_classes = len(np.unique(images.label_N))

        def side(rows) -> Side:
            group_N = images.group_N[rows] if groups else None
            taught = Taught(images.label_N[rows], images.weight_N[rows], group_N, n_classes)
            return Side(images.feature_NVF, taught, image_NSSC, rows)

        self.train, self.val = side(shuffled[~chosen]), side(shuffled[chosen])
        self.image_MSSC, self.label_M = image_NSSC[ask_N], images.label_N[ask_N]


def told(network, split: Split, device: str) -> dict[str, float]:
    """Accuracy and log loss on what was held out, and accuracy under each corruption."""

    def accuracy(image_MSSC: Pixels) -> float:
        prob_MK = ask(network, Pictures(image_MSSC), device)
        return float((prob_MK.argmax(axis=1) == split.label_M).mean())

    prob_MK = ask(network, Pictures(split.image_MSSC), device)
    right = prob_MK[np.arange(len(prob_MK)), split.label_M]
    found = {"clean": accuracy(split.image_MSSC), "log loss": float(-np.log(np.maximum(right, 1e-12)).mean())}
    for name in CORRUPTIONS:
        levels = [accuracy(corrupted(split.image_MSSC, name, severity)) for severity in range(3)]
        found[name] = float(np.mean(levels))
    found["corrupted"] = float(np.mean([found[name] for name in CORRUPTIONS]))
    return found


def tuned_by(method: str, lr: float, asked, seed: int, ready) -> Tuned:
    """One fine-tuning."""
    trunk, split, place, stand = ready
    blocks = None if asked.blocks == "all" else int(asked.blocks)
    tuning = Tuning(method, blocks, asked.epochs, 32, lr, 0.75, 0.01, 0.98, 0.0, seed, 2)
    return Tuner(trunk, (split.train, split.val), tuning, place).tune(stand)


def one_split(split: Split, widths, opened, asked, number: int) -> dict[str, dict[str, float]]:
    """Figures and seconds of each side."""
    about, trunk = opened
    device = pick_device(asked.device, require_gpu=False)
    place = Place(
        device, training_precision("auto", device), about.mode, about.views, Path(tempfile.gettempdir())
    )
    begun = time.perf_counter()
    search = Search(last_depths(list(widths)), CS, seed=number)
    stand = Stand(fit_probe(split.train.seen(all_views=True), widths, split.train.taught, search), True)
    seconds = {"frozen": time.perf_counter() - begun}
    stands = {"frozen": stand}
    for method in SIDES[1:]:
        least = np.inf
        for lr in asked.lrs:
            begun = time.perf_counter()
            tuned = tuned_by(method, lr, asked, number, (trunk, split, place, stand))
            taken = time.perf_counter() - begun
            loss = figures_of(tuned.val_NK, torch.from_numpy(split.val.taught.label_N))[0]
            if loss < least:
                least = loss
                seconds[method] = taken + (seconds["frozen"] if method == "lp_ft" else 0.0)
                stands[method] = Stand(stand.probe, True, tuned=tuned.weights)
    channels = split.image_MSSC.shape[3]
    return {
        name: told(assemble(trunk, one, channels, about.views), split, device) | {"seconds": seconds[name]}
        for name, one in stands.items()
    }


def seconds_of_features(about, trunk, split: Split, device: str) -> float:
    """What the features of train and val take under all views, from a sample."""
    rows = split.train.row_N[:_TIMED]
    frozen = freeze(trunk, about.depths, about.mode, device)
    out_NVF = np.empty((len(rows), split.train.feature_NVF.shape[1], frozen.n_features), np.float32)
    begun = time.perf_counter()
    embed(frozen, np.asarray(split.train.image_NSSC[rows]), about.views, out_NVF, text="timed")
    taken = (time.perf_counter() - begun) / len(rows)
    return taken * (len(split.train.taught.label_N) + len(split.val.taught.label_N))


def report(found: dict[str, list[dict[str, float]]], features: float) -> None:
    """Both sides, their difference, and what the frozen rung costs beside them."""
    mean = {
        side: {name: np.mean([one[name] for one in lines]) for name in lines[0]}
        for side, lines in found.items()
    }
    print(f"{'':12}" + "".join(f"{side:>16}" for side in SIDES) + f"{'lp_ft - plain':>18}")
    for name in mean["plain"]:
        scale = 1 if name in ("log loss", "seconds") else 100
        values = {side: scale * np.array([one[name] for one in lines]) for side, lines in found.items()}
        cells = [f"{values[side].mean():.3f} ({values[side].std():.3f})" for side in SIDES]
        ahead = values["lp_ft"] - values["plain"]
        print(
            f"{name:12}"
            + "".join(f"{cell:>16}" for cell in cells)
            + f"{ahead.mean():+9.3f} ({ahead.std():.3f})"
        )
    best = max(SIDES[1:], key=lambda side: mean[side]["clean"])
    share = mean["frozen"]["clean"] / mean[best]["clean"]
    alone = mean["frozen"]["seconds"] / mean[best]["seconds"]
    both = (mean["frozen"]["seconds"] + features) / (mean[best]["seconds"] + features)
    print(
        f"frozen reaches {100 * share:.1f} % of the accuracy of {best} in {100 * alone:.1f} % of its time; "
        f"{100 * both:.1f} % where both count {features:.1f} s for the features (asked: 95 % in 5 %)"
    )


def main() -> None:
    """Print both sides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs=3, type=Path)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--test", type=float, default=0.25)
    parser.add_argument("--groups", action="store_true")
    parser.add_argument("--blocks", default="3")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lrs", type=float, nargs="+", default=[1e-4, 1e-3])
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    images = Images([asked.folders], [])
    image_NSSC = np.concatenate([Packed(folder).pixels for folder in asked.folders[1:]])
    about = Embedded(asked.folders[0]).about
    trunk = open_pretrained(about.source, about.wanted()).trunk
    device = pick_device(asked.device, require_gpu=False)
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    features = []
    splits = split_rows(images, asked.splits, asked.test, groups=asked.groups)
    for number, (fit_N, ask_N) in enumerate(splits):
        split = Split(images, image_NSSC, fit_N, ask_N, groups=asked.groups, seed=number)
        features.append(seconds_of_features(about, trunk, split, device))
        for side, line in one_split(split, images.widths, (about, trunk), asked, number).items():
            found[side].append(line)
    print(
        f"{len(features)} splits, {len(image_NSSC):,} images, blocks {asked.blocks}, {asked.epochs} epochs, "
        f"{about.source} at {trunk.spec.size_px} px on {device_name(device)}; accuracies in %, sd in brackets"
    )
    report(found, float(np.mean(features)))


if __name__ == "__main__":
    main()
