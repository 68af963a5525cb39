"""The leak probe: can the label be told without looking at the picture's content?

Four probes that see no pixel are fitted on train and asked about val and test. One that clearly beats
always naming the commonest class means that an accuracy measured on this split is partly an illusion:
whatever the probe used (neighbours in file order cut from one module, a folder per camera, a brighter
lamp for one class), a network can use too, and will not find it again in the field.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neighbors import KNeighborsClassifier

from convflow.data.layout import natural_key

_NEIGHBOURS = 4
_DRAWS = 2000

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Probe:
    """What one probe reached on the held-out images; `gain` is (accuracy - majority) / (1 - majority)."""

    name: str
    sees: str
    accuracy: float
    gain: float
    gain_low: float
    gain_high: float


@dataclass(frozen=True)
class Rows:
    """What the probes may see of N images; `key_N` ties those that belong together (for the interval)."""

    paths: Sequence[str]
    label_N: NDArray[np.int64]
    names: Sequence[str]
    file_NF: Column
    light_NF: Column
    key_N: NDArray[np.int64]

    def take(self, index_M: NDArray[np.int64]) -> "Rows":
        """The rows at `index_M`."""
        return Rows(
            [self.paths[index] for index in index_M], self.label_N[index_M], self.names,
            self.file_NF[index_M], self.light_NF[index_M], self.key_N[index_M],
        )  # fmt: skip


def file_order(paths: Sequence[str], labels: Sequence[str]) -> NDArray[np.float64]:
    """Rank of each file among all, in natural order of its name without its class, as float (N,).

    The class is taken out of the name (a folder per class, or `cat.1.png`), because a name made from
    the label says nothing of how the pictures were taken; the number in it does.
    """
    keys = [(natural_key(_nameless(path, label)), path) for path, label in zip(paths, labels, strict=True)]
    rank = np.empty(len(paths))
    rank[sorted(range(len(paths)), key=keys.__getitem__)] = np.arange(len(paths))
    return rank


def probe_all(
    train: Rows, held: Rows, labels: tuple[Sequence[str], Sequence[str]], *, seed: int
) -> list[Probe]:
    """Fit the four probes on `train`, ask them about `held`; the strongest comes first.

    Args:
        train: what may be learnt from.
        held: the images of val and test.
        labels: the class names of both, row by row.
        seed: of the interval's draws.
    """
    majority = np.bincount(train.label_N).argmax()
    hit_by_majority = held.label_N == majority
    order = file_order([*train.paths, *held.paths], [*labels[0], *labels[1]])
    order_fit, order_ask = np.split(order[:, None], [len(train.paths)])
    guesses: dict[str, tuple[str, Callable[[], NDArray[np.int64]]]] = {
        "file order": ("which files lie next to it", lambda: _nearest(order_fit, train.label_N, order_ask)),
        "path": (
            "folder and name, digits and class taken out",
            lambda: _look_up(_patterns(train, labels[0]), train.label_N, _patterns(held, labels[1])),
        ),
        "file": ("bytes, width, height", lambda: _boosted(train.file_NF, train.label_N, held.file_NF)),
        "brightness": (
            "mean and spread of grey",
            lambda: _boosted(train.light_NF, train.label_N, held.light_NF),
        ),
    }
    probes = [
        _judge(name, sees, guess() == held.label_N, hit_by_majority, held.key_N, seed)
        for name, (sees, guess) in guesses.items()
    ]
    return sorted(probes, key=lambda probe: -probe.gain_low)


def sentence(probes: Sequence[Probe], majority: float, margin: float) -> str:
    """The finding in one sentence."""
    worst = probes[0]
    verdict = "TRIPPED" if worst.gain_low > margin else "clear"
    return (
        f"leak probe {verdict}: {worst.name} ({worst.sees}) alone tells the label in {worst.accuracy:.1%} "
        f"of the held-out images, always naming the commonest class in {majority:.1%}; gain {worst.gain:+.2f} "
        f"[{worst.gain_low:+.2f}, {worst.gain_high:+.2f}] of what is left to gain, limit {margin:.2f}"
    )


def _nameless(path: str, label: str) -> str:
    folders = [part for part in PurePosixPath(path).parts[:-1] if part != label]
    name = re.sub(re.escape(label), "", PurePosixPath(path).stem, flags=re.IGNORECASE)
    return "/".join([*folders, name])


def _patterns(rows: Rows, labels: Sequence[str]) -> list[str]:
    return [
        re.sub(r"\d+", "#", _nameless(path, label)) + PurePosixPath(path).suffix.lower()
        for path, label in zip(rows.paths, labels, strict=True)
    ]


def _nearest(fit_NF: Column, label_N: NDArray[np.int64], ask_MF: Column) -> NDArray[np.int64]:
    model = KNeighborsClassifier(min(_NEIGHBOURS, len(label_N)), weights="distance")
    return np.asarray(model.fit(fit_NF, label_N).predict(ask_MF))


def _boosted(fit_NF: Column, label_N: NDArray[np.int64], ask_MF: Column) -> NDArray[np.int64]:
    if len(np.unique(label_N)) < 2:
        return np.full(len(ask_MF), label_N[0])
    model = HistGradientBoostingClassifier(
        max_iter=50, learning_rate=0.1, max_leaf_nodes=8, early_stopping=False, random_state=0
    )
    return np.asarray(model.fit(fit_NF, label_N).predict(ask_MF))


def _look_up(fit: Sequence[str], label_N: NDArray[np.int64], ask: Sequence[str]) -> NDArray[np.int64]:
    """The commonest label among the training images of the same pattern, else of all."""
    seen: dict[str, Counter[int]] = defaultdict(Counter)
    for pattern, label in zip(fit, label_N, strict=True):
        seen[pattern][int(label)] += 1
    commonest = int(np.bincount(label_N).argmax())
    known = {pattern: counts.most_common(1)[0][0] for pattern, counts in seen.items()}
    return np.asarray([known.get(pattern, commonest) for pattern in ask])


def _judge(
    name: str,
    sees: str,
    hit_N: NDArray[np.bool_],
    majority_N: NDArray[np.bool_],
    key_N: NDArray[np.int64],
    seed: int,
) -> Probe:
    """Accuracy and gain, with a 95 % interval over families drawn with replacement."""
    _, family_N = np.unique(key_N, return_inverse=True)
    n_families = int(family_N.max()) + 1
    sums_F3 = np.zeros((n_families, 3))
    np.add.at(sums_F3, family_N, np.column_stack([hit_N, majority_N, np.ones(len(hit_N))]))
    gains = np.empty(_DRAWS)
    generator = np.random.default_rng(seed)
    for index in range(_DRAWS):
        hits, by_majority, n_rows = sums_F3[generator.integers(n_families, size=n_families)].sum(axis=0)
        gains[index] = _gain(hits / n_rows, by_majority / n_rows)
    low, high = np.quantile(gains, [0.025, 0.975])
    accuracy = float(hit_N.mean())
    return Probe(name, sees, accuracy, _gain(accuracy, float(majority_N.mean())), float(low), float(high))


def _gain(accuracy: float, majority: float) -> float:
    return (accuracy - majority) / (1 - majority) if majority < 1 else 0.0
