"""Two versions on the test images they have in common: the paired difference of every metric.

Shape letters: N images.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convflow.evaluation.bootstrap import Resampling, resampling
from convflow.evaluation.entrants import Entrant, commonest, measure_all, positive_index, scored
from convflow.evaluation.metrics import SCALARS, Scored
from convflow.evaluation.operating_point import told_point
from convflow.evaluation.pairs import Difference, McNemar, differences, mcnemar
from convflow.evaluation.sides import Predictions, Side, aligned, read_predictions
from convflow.evaluation.summary import LOWER_IS_BETTER


@dataclass(frozen=True)
class Said:
    """What one version said of its images.

    Args:
        predictions: its table.
        numbers: its part of metrics.json.
        positive: `evaluate.positive` of its parameters.
    """

    predictions: Path
    numbers: dict[str, Any]
    positive: str | None


@dataclass(frozen=True)
class Paired:
    """A less B on the common test images.

    Args:
        n_common: how many there are; n_ours and n_theirs: how many each has.
        n_relabelled: those that both have, under different labels: left out.
        why_not: why nothing could be paired; empty where it was.
        apart: by metric.
        test: McNemar's, of the decisions.
        about: how it was drawn, in JSON values.
    """

    n_common: int
    n_ours: int
    n_theirs: int
    n_relabelled: int
    why_not: str
    apart: dict[str, Difference]
    test: McNemar | None
    about: dict[str, object]


def pair(ours: Said, theirs: Said, *, n_draws: int, seed: int) -> Paired:
    """Both on their common test images, each at its own operating point, on the same draws.

    Raises:
        DataError: a table of predictions is none.
    """
    a, b = read_predictions(ours.predictions), read_predictions(theirs.predictions)
    if sorted(a.test.classes) != sorted(b.test.classes):
        why = f"other classes ({', '.join(a.test.classes)} and {', '.join(b.test.classes)})"
        return Paired(0, a.test.n_images, b.test.n_images, 0, why, {}, None, {})
    rows_a, rows_b, n_relabelled = _common(a.test, b.test)
    counts = (len(rows_a), a.test.n_images, b.test.n_images, n_relabelled)
    if not rows_a:
        return Paired(*counts, "no test image in common", {}, None, {})
    a = _only(a, rows_a)
    b = aligned(_only(b, rows_b), a, theirs.predictions)
    draws = resampling(a.test.group_N, n_draws=n_draws, seed=seed)
    entrants = [_entrant(a, ours), _entrant(b, theirs)]
    apart, test = _measured(entrants, draws)
    return Paired(*counts, "", apart, test, draws.about())


def ahead(metric: str, apart: Difference) -> int:
    """1 where the interval says that A is better, -1 where B is, 0 where it does not say."""
    if apart.ends is None or apart.ends.low <= 0 <= apart.ends.high:
        return 0
    sign = 1 if apart.ends.low > 0 else -1
    return -sign if metric in LOWER_IS_BETTER else sign


def _measured(entrants: list[Entrant], draws: Resampling) -> tuple[dict[str, Difference], McNemar]:
    ours, theirs = measure_all(entrants, draws)
    apart = differences(ours, theirs, draws.n_units)
    right = [one.case.label_N == one.case.decided for one in entrants]
    # of a metric that the common images leave undefined there is nothing to tell
    told = {name: apart[name] for name in SCALARS if np.isfinite(apart[name].value)}
    return told, mcnemar(right[0], right[1])


def _common(ours: Side, theirs: Side) -> tuple[list[int], list[int], int]:
    """The rows of the images that both sides have under one label, and how many have two."""
    row_of = {image: row for row, image in enumerate(theirs.image_N)}
    both = [(row, row_of[image]) for row, image in enumerate(ours.image_N) if image in row_of]
    same = [
        pair
        for pair in both
        if ours.classes[ours.label_N[pair[0]]] == theirs.classes[theirs.label_N[pair[1]]]
    ]
    return [row for row, _ in same], [row for _, row in same], len(both) - len(same)


def _only(found: Predictions, rows: list[int]) -> Predictions:
    """`found` with these test images alone, and no val images: the points were chosen long ago."""
    return replace(found, test=_rows(found.test, rows), val=_rows(found.val, []))


def _rows(side: Side, rows: list[int]) -> Side:
    row_N = np.array(rows, dtype=np.int64)
    return replace(
        side,
        label_N=side.label_N[row_N],
        prob_NK=side.prob_NK[row_N],
        weight_N=side.weight_N[row_N],
        group_N=[side.group_N[row] for row in rows],
        image_N=[side.image_N[row] for row in rows],
        traits={name: [values[row] for row in rows] for name, values in side.traits.items()},
    )


def _entrant(found: Predictions, said: Said) -> Entrant:
    test = found.test
    point = told_point(said.numbers.get("operating_point"), test.classes, str(said.predictions))
    positive = positive_index(test.classes, said.positive)
    return Entrant(
        found=found,
        point=point,
        positive=positive,
        note=None,
        raw=Scored(test.label_N, test.prob_NK, positive=positive),
        case=scored(test, point, positive),
        majority=Scored(test.label_N, test.prob_NK, np.full(test.n_images, commonest(found)), positive),
    )
