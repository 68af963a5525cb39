"""Accuracy of the frozen rungs over repeated random splits of a folder of features, and the time of a probe.

    python benchmarks/finetune.py EMBEDDED PACKED/train PACKED/val [--more EMBEDDED PACKED/train PACKED/val]
        [--splits 20] [--test 0.25] [--strata tag_wafer] [--groups] [--views both|probe|views]

All images of the folders are put together and split anew, stratified by label (and by the columns --strata),
or by groups with --groups. Depth and penalty are chosen by 5-fold cross-validation inside each training part;
no figure here is used to choose anything.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, StratifiedShuffleSplit

from convflow.data.packed import Packed
from convflow.learning.climbing import Side
from convflow.learning.embedded import Embedded
from convflow.learning.probing import Search, Taught, fit_probe, last_depths
from convflow.tables import read_table

CS = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


class Images:
    """All images of some packed folders with their features, as one set."""

    def __init__(self, folders: list[list[Path]], strata: list[str]) -> None:
        """Put train and val of each together."""
        features, labels, weights, groups, kinds = [], [], [], [], []
        for embedded, *sides in folders:
            opened = Embedded(embedded)
            self.widths = dict(zip(opened.about.depths, opened.about.widths, strict=True))
            for name, folder in zip(("train", "val"), sides, strict=True):
                packed, rows = Packed(folder), read_table(folder / "rows.parquet").to_pydict()
                features.append(np.asarray(opened.sides[name]))
                labels.append(packed.labels)
                weights.append(packed.weights)
                groups += [g or s for g, s in zip(rows["group"], rows["sha256"], strict=True)]
                kinds += list(zip(rows["label"], *(rows[column] for column in strata), strict=True))
        self.feature_NVF = np.concatenate(features)
        self.label_N, self.weight_N = np.concatenate(labels), np.concatenate(weights)
        self.group_N = np.unique(groups, return_inverse=True)[1]
        self.kind_N = np.unique([" ".join(kind) for kind in kinds], return_inverse=True)[1]


def split_rows(images: Images, n_splits: int, test: float, *, groups: bool):
    """Train and test rows of each split."""
    nothing = np.zeros((len(images.label_N), 1))
    if not groups:
        splitter = StratifiedShuffleSplit(n_splits, test_size=test, random_state=0)
        yield from splitter.split(nothing, images.kind_N)
        return
    for seed in range(-(-n_splits // 5)):
        yield from GroupKFold(5, shuffle=True, random_state=seed).split(nothing, groups=images.group_N)


def main() -> None:
    """Print mean accuracy, AUC and log loss over the splits, for one view and for all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs=3, type=Path)
    parser.add_argument("--more", nargs=3, type=Path, action="append", default=[])
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--test", type=float, default=0.25)
    parser.add_argument("--strata", nargs="*", default=[])
    parser.add_argument("--groups", action="store_true")
    parser.add_argument("--views", default="both", choices=["both", "probe", "views"])
    parser.add_argument("--unsure", default="weight", choices=["weight", "soft", "ignore"])
    parser.add_argument("--depths", help="such as 6,7,8; default: chosen inside each split")
    asked = parser.parse_args()
    images = Images([asked.folders, *asked.more], asked.strata)
    depths = last_depths(list(images.widths))
    if asked.depths:
        depths = (tuple(int(depth) for depth in asked.depths.split(",")),)
    names = {"both": ["probe", "views"]}.get(asked.views, [asked.views])
    found = {name: [] for name in names}
    for fit_N, ask_N in split_rows(images, asked.splits, asked.test, groups=asked.groups):
        for name in names:
            found[name].append(one_split(images, fit_N, ask_N, depths, asked, all_views=name == "views"))
    for name, lines in found.items():
        accuracy, auc, loss, taken = np.array([line[:4] for line in lines]).T
        print(
            f"{name:6} {len(lines)} splits: accuracy {100 * accuracy.mean():.2f} % "
            f"(sd {100 * accuracy.std():.2f}), AUC {100 * auc.mean():.2f} %, log loss {loss.mean():.4f}, "
            f"search and fit {np.median(taken):.1f} s; chosen {statistics.mode(line[4] for line in lines)}"
        )


def one_split(images: Images, fit_N, ask_N, depths, asked, *, all_views: bool):
    """Accuracy, AUC, log loss, seconds and what was chosen."""
    classes = len(np.unique(images.label_N))
    groups = images.group_N[fit_N] if asked.groups else None
    taught = Taught(images.label_N[fit_N], images.weight_N[fit_N], groups, classes)
    train, test = (
        Side(images.feature_NVF[rows], taught).seen(all_views=all_views) for rows in (fit_N, ask_N)
    )
    begun = time.perf_counter()
    probe = fit_probe(train, images.widths, taught, Search(depths, CS, unsure=asked.unsure))
    taken = time.perf_counter() - begun
    logits_NK, label_N = probe.logits(test, images.widths), images.label_N[ask_N]
    prob_NK = logits_NK.softmax(dim=1).numpy()
    score = prob_NK[:, 1] if classes == 2 else prob_NK
    loss = torch.nn.functional.cross_entropy(logits_NK, torch.from_numpy(label_N))
    accuracy = (prob_NK.argmax(axis=1) == label_N).mean()
    return (
        accuracy,
        roc_auc_score(label_N, score, multi_class="ovr"),
        float(loss),
        taken,
        (probe.depths, probe.c),
    )


if __name__ == "__main__":
    main()
