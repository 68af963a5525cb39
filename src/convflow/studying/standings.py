"""Where every model stands under every protocol: means, intervals, tests, gaps, as plain values for JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from convflow.evaluation.pairs import holm
from convflow.studying.corrected import Summary, compare, gap, share_interval, summarise
from convflow.studying.scores import EVERYTHING, METRICS, Scores

_DIGITS = 6  # beyond what another processor repeats, and far beyond what the splits can tell
HEADLINE = "accuracy"

Values = dict[str, Any]


@dataclass(frozen=True)
class Played:
    """One protocol with every model's figures.

    Attributes:
        name: of the protocol.
        about: how it splits, in words and numbers.
        sizes: images on train, val and test of each split.
        scores: by model, of each split, in the same order.
    """

    name: str
    about: Mapping[str, Any]
    sizes: Sequence[tuple[int, int, int]]
    scores: Mapping[str, Sequence[Scores]]

    @property
    def test_to_train(self) -> float:
        """Images in test over images a model is made from, val included: it is part of the making."""
        train, val, test = np.sum(self.sizes, axis=0).tolist()
        return float(test / (train + val))

    def values(self, model: str, part: str, metric: str) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """A model's figure of each split, as float (J,); NaN where a split leaves it undefined."""
        found = [scores.get(part, {}).get(metric, math.nan) for scores in self.scores[model]]
        return np.asarray(found, dtype=np.float64)

    def summary(self, model: str, part: str, metric: str) -> Summary | None:
        """The figure over the splits that define it, no end outside its range; None where none does."""
        value_J = self.values(model, part, metric)
        value_J = value_J[np.isfinite(value_J)]
        if not len(value_J):
            return None
        found = summarise(value_J, test_to_train=self.test_to_train)
        if found.low is None or found.high is None:
            return found
        most = math.inf if metric == "log_loss" else 1.0
        return replace(found, low=max(0.0, found.low), high=min(most, found.high))


def about_protocol(played: Played) -> Values:
    """What a protocol's caption needs: how it splits, how many splits, how many images on each side."""
    sides = dict(zip(("train", "val", "test"), np.transpose(played.sizes).tolist(), strict=True))
    return {
        **played.about,
        "n_splits": len(played.sizes),
        "images": {side: [min(counts), max(counts)] for side, counts in sides.items()},
        "test_to_train": _round(played.test_to_train),
    }


def standings_of(played: Played) -> list[Values]:
    """A line for each model, slice and metric."""
    lines = []
    for model, scores in played.scores.items():
        for part in sorted({part for split in scores for part in split}, key=lambda p: (p != EVERYTHING, p)):
            for metric in METRICS:
                if (found := played.summary(model, part, metric)) is not None:
                    base = {"protocol": played.name, "model": model, "slice": part, "metric": metric}
                    lines.append(base | _rounded(asdict(found)))
    return lines


def tests_of(played: Played, reference: str) -> list[Values]:
    """Every model against the reference by the corrected paired t-test; p also with Holm's correction."""
    lines: list[Values] = []
    for metric in (HEADLINE, "roc_auc"):
        theirs_J = played.values(reference, EVERYTHING, metric)
        found = []
        for model in played.scores:
            ours_J = played.values(model, EVERYTHING, metric)
            known_J = np.isfinite(ours_J) & np.isfinite(theirs_J)
            if model != reference and known_J.any():
                one = compare(ours_J[known_J], theirs_J[known_J], test_to_train=played.test_to_train)
                base = {"protocol": played.name, "model": model, "reference": reference, "metric": metric}
                found.append(base | asdict(one))
        tested = [line for line in found if line["p"] is not None]
        for line, p in zip(tested, holm([line["p"] for line in tested]), strict=True):
            line["p_holm"] = p
        lines += [_rounded({"p_holm": None} | line) for line in found]
    return lines


def gaps_between(first: Played, second: Played) -> list[Values]:
    """Each model's accuracy under the first protocol less that under the second."""
    lines = []
    for model in first.scores:
        one, other = (played.summary(model, EVERYTHING, HEADLINE) for played in (first, second))
        if one is not None and other is not None:
            base = {"model": model, "protocols": [first.name, second.name], "values": [one.mean, other.mean]}
            lines.append(_rounded(base | asdict(gap(one, other))))
    return lines


def leaks_of(rows: Sequence[Values], played: Played) -> list[Values]:
    """What each probe that sees no content reaches on the protocol's splits, the strongest first.

    Args:
        rows: of one split and probe each: probe, sees, accuracy, gain, majority.
        played: the protocol they belong to.
    """
    lines = []
    for probe in dict.fromkeys(row["probe"] for row in rows):
        own = [row for row in rows if row["probe"] == probe]
        line: Values = {"protocol": played.name, "probe": probe, "sees": own[0]["sees"]}
        for name in ("accuracy", "gain", "majority"):
            value_J = np.asarray([row[name] for row in own])
            line[name] = _rounded(asdict(summarise(value_J, test_to_train=played.test_to_train)))
        lines.append(line)
    return sorted(lines, key=lambda line: -line["gain"]["mean"])


def against_published(published: Values, played: Played) -> Values:
    """A published figure of one split beside the counterpart's mean: within its interval, above it or below.

    Args:
        published: name, protocol, like (our model), accuracy, n_test, and what else there is.
        played: the protocol it was made under.
    """
    low, high = share_interval(round(published["accuracy"] * published["n_test"]), published["n_test"])
    line = published | {"low": _round(low), "high": _round(high), "ours": None, "ours_is": None}
    found = (
        played.summary(published["like"], EVERYTHING, HEADLINE)
        if published["like"] in played.scores
        else None
    )
    if found is None:
        return line
    value_J = played.values(published["like"], EVERYTHING, HEADLINE)
    place = "within"
    if found.low is not None and found.low > published["accuracy"]:
        place = "above"
    if found.high is not None and found.high < published["accuracy"]:
        place = "below"
    reached = int((value_J >= published["accuracy"]).sum())
    return line | {"ours": _rounded(asdict(found)), "ours_is": place, "splits_that_reach_it": reached}


def _rounded(values: Values) -> Values:
    return {
        name: _round(value) if isinstance(value, float) else _each(value) for name, value in values.items()
    }


def _each(value: Any) -> Any:
    return (
        [_round(one) if isinstance(one, float) else one for one in value]
        if isinstance(value, list)
        else value
    )


def _round(value: float) -> float:
    # p values may be tiny: digits that count, not places
    return float(f"{value:.{_DIGITS}g}")
