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
from os.path import splitext

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

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
    """What the probes may see of N images.

    `names` are the classes, in the order `label_N` counts them; `key_N` ties images that belong together
    (for the interval).
    """

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


def file_order(paths: Sequence[str], names: Sequence[str]) -> NDArray[np.float64]:
    """Rank of each file among all, in natural order of its path without class names, as float (N,).

    Class names are taken out (a folder per class, or `cat.1.png`), because a name made from the label
    says nothing of how the pictures were taken; the number in it does. `cat.1` and `dog.1` rank equal.
    """
    keys = [natural_key(name) for name in nameless(paths, names)]
    place = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return np.asarray([place[key] for key in keys], dtype=np.float64)


def probe_all(train: Rows, held: Rows, *, seed: int) -> list[Probe]:
    """Fit the four probes on `train`, ask them about `held`; the strongest comes first.

    Args:
        train: what may be learnt from.
        held: the images of val and test.
        seed: of the interval's draws.
    """
    majority = np.bincount(train.label_N).argmax()
    hit_by_majority = held.label_N == majority
    order = file_order([*train.paths, *held.paths], train.names)
    order_fit, order_ask = np.split(order[:, None], [len(train.paths)])
    guesses: dict[str, tuple[str, Callable[[], NDArray[np.int64]]]] = {
        "file order": ("which files lie next to it", lambda: _nearest(order_fit, train.label_N, order_ask)),
        "path": (
            "folder and name, digits and class taken out",
            lambda: _look_up(_patterns(train), train.label_N, _patterns(held)),
        ),
        "file": ("bytes, width, height", lambda: _boosted(train.file_NF, train.label_N, held.file_NF)),
        "brightness": (
            "mean and spread of grey",
            lambda: _boosted(train.light_NF, train.label_N, held.light_NF),
        ),
    }
    # so little work is done sooner than threads that share cores wait for each other
    with threadpool_limits(1):
        probes = [
            _judge(name, sees, guess() == held.label_N, hit_by_majority, held.key_N, seed)
            for name, (sees, guess) in guesses.items()
        ]
    return sorted(probes, key=lambda probe: -probe.gain)


def tripped(probes: Sequence[Probe], limit: float) -> list[Probe]:
    """The probes whose gain lies above `limit` with its whole interval, the strongest first."""
    return [probe for probe in probes if probe.gain_low > limit]


def sentence(probes: Sequence[Probe], majority: float, limit: float) -> str:
    """The finding in one sentence."""
    told = tripped(probes, limit)
    worst = [*told, *probes][0]
    verdict = "TRIPPED" if told else "clear"
    return (
        f"{verdict}: {worst.name} ({worst.sees}) alone tells the label in {worst.accuracy:.1%} "
        f"of the held-out images, always naming the commonest class in {majority:.1%}; "
        f"gain {worst.gain:+.2f} [{worst.gain_low:+.2f}, {worst.gain_high:+.2f}] of what is left to gain, "
        f"limit {limit:.2f} for its lower end"
    )


def nameless(paths: Sequence[str], names: Sequence[str]) -> list[str]:
    """`paths` without suffix and without any of the class `names`.

    All names go from all paths, whatever the image's own label: what is left must not depend on it.
    """
    by_length = sorted(names, key=lambda name: (-len(name), name))
    pattern = re.compile("|".join(_as_token(name) for name in by_length), re.IGNORECASE)
    return [pattern.sub("", splitext(path)[0]) for path in paths]


def _as_token(name: str) -> str:
    """A pattern for `name`; one short or made of digits counts only where it stands alone."""
    if len(name) > 2 and not name.isdecimal():
        return re.escape(name)
    same_kind = r"\d" if name.isdecimal() else r"[^\W\d_]"
    return f"(?<!{same_kind}){re.escape(name)}(?!{same_kind})"


def _patterns(rows: Rows) -> list[str]:
    return [
        re.sub(r"\d+", "#", name) + splitext(path)[1].lower()
        for name, path in zip(nameless(rows.paths, rows.names), rows.paths, strict=True)
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
    # Families with the same sums are drawn by their number: the same draws, without a loop over families.
    kinds_U3, n_U = np.unique(sums_F3, axis=0, return_counts=True)
    drawn_BU = np.random.default_rng(seed).multinomial(n_families, n_U / n_families, size=_DRAWS)
    gains = [_gain(hits / n, majority / n) for hits, majority, n in (drawn_BU @ kinds_U3).tolist()]
    low, high = np.quantile(gains, [0.025, 0.975])
    accuracy = float(hit_N.mean())
    return Probe(name, sees, accuracy, _gain(accuracy, float(majority_N.mean())), float(low), float(high))


def _gain(accuracy: float, majority: float) -> float:
    return (accuracy - majority) / (1 - majority) if majority < 1 else 0.0
