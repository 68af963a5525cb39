"""The models on the leaderboard: calibrated and decided upon as val says, measured on the same draws of test.

Shape letters: N images, K classes, B draws, M calibration bins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from convflow.errors import ParamsError
from convflow.evaluation.bootstrap import Resampling
from convflow.evaluation.calibration import Temperature, fit_temperature
from convflow.evaluation.metrics import Scored, accuracy, all_metrics, calibration_gaps, weighted_accuracy
from convflow.evaluation.operating_point import OperatingPoint, choose_operating_point
from convflow.evaluation.ranking import Floats, Indices
from convflow.evaluation.sides import Predictions, Side


@dataclass(frozen=True, eq=False)
class Entrant:
    """What one model said, as it said it (`raw`) and calibrated and decided upon.

    Args:
        found: what it said of val and test.
        point: chosen on val; of calibrated probabilities.
        positive: the class that a two-class task looks for.
        note: what is to be said of the temperature, or None.
        raw: the test images as the model said them.
        case: the test images calibrated and decided at `point`.
        majority: the test images decided for the commonest class of training.
    """

    found: Predictions
    point: OperatingPoint
    positive: int
    note: str | None
    raw: Scored
    case: Scored
    majority: Scored

    @property
    def name(self) -> str:
        """The model's."""
        return self.found.model

    def of_val(self) -> Scored:
        """The val images, calibrated and decided like the test images; wants at least one."""
        return scored(self.found.val, self.point, self.positive)


@dataclass(frozen=True, eq=False)
class Measured:
    """Every metric of one entrant: on the test images (B = 1), and on every draw of them."""

    seen: Mapping[str, Floats]
    drawn: Mapping[str, Floats]


def positive_index(classes: tuple[str, ...], positive: str | None) -> int:
    """The index of the class that a two-class task looks for; by default the last.

    Raises:
        ParamsError: there is no such class.
    """
    if positive is None:
        return len(classes) - 1
    if positive not in classes:
        raise ParamsError(
            f"params.yaml: evaluate.positive: {positive!r} is none of the classes "
            f"{', '.join(classes)}; name one of them, or null for the last"
        )
    return classes.index(positive)


def enter(
    found: Predictions, *, operating_point: str, positive: str | None, calibrate: str = "none"
) -> Entrant:
    """Choose temperature and threshold on val alone, and apply them to test.

    Args:
        found: what the model said of val and test.
        operating_point: the criterion of `choose_operating_point`.
        positive: the class that a two-class task looks for, None for the last.
        calibrate: "temperature" or "none".

    Raises:
        ParamsError: `positive` is no class, or a threshold is asked for more than two.
        DataError: val cannot choose a threshold.
    """
    wanted = positive_index(found.test.classes, positive)
    val = found.val
    fitted = fit_temperature(val.label_N, val.prob_NK) if calibrate == "temperature" else Temperature()
    warm = OperatingPoint("argmax", temperature=fitted.value)
    point = choose_operating_point(
        val.label_N, warm.calibrated(val.prob_NK), criterion=operating_point, positive=wanted
    )
    point = replace(point, temperature=fitted.value)
    test, common = found.test, commonest(found)
    return Entrant(
        found=found,
        point=point,
        positive=wanted,
        note=fitted.note,
        raw=Scored(test.label_N, test.prob_NK, positive=wanted),
        case=scored(test, point, wanted),
        majority=Scored(test.label_N, test.prob_NK, np.full(test.n_images, common), wanted),
    )


def scored(side: Side, point: OperatingPoint, positive: int) -> Scored:
    """The images of one side, calibrated and decided at `point`."""
    prob_NK = point.calibrated(side.prob_NK)
    return Scored(side.label_N, prob_NK, point.decide(prob_NK), positive)


def measure_all(entrants: Sequence[Entrant], draws: Resampling) -> list[Measured]:
    """Every metric of every entrant on the same draws, in their order.

    Beside those of `all_metrics`: weighted_accuracy, majority (accuracy of the commonest class), gain over
    it, and raw_calibration_gaps (before the temperature).
    """

    def of_all(count_BN: Floats | None) -> dict[str, Floats]:
        return {
            f"{place} {name}": value
            for place, one in enumerate(entrants)
            for name, value in _of_one(one, count_BN).items()
        }

    seen, drawn = of_all(None), draws.draw(of_all)
    return [Measured(_part(seen, place), _part(drawn, place)) for place in range(len(entrants))]


def _part(values: Mapping[str, Floats], place: int) -> dict[str, Floats]:
    start = f"{place} "
    return {name.removeprefix(start): value for name, value in values.items() if name.startswith(start)}


def _of_one(one: Entrant, count_BN: Floats | None) -> dict[str, Floats]:
    found = all_metrics(one.case, count_BN)
    base_B = accuracy(one.majority, count_BN)
    return {
        **found,
        "weighted_accuracy": weighted_accuracy(one.case, one.found.test.weight_N, count_BN),
        "majority": base_B,
        "gain": found["accuracy"] - base_B,
        "raw_calibration_gaps": calibration_gaps(one.raw, count_BN),
    }


def commonest(found: Predictions) -> int:
    """The commonest class of training; where the table does not say it, of val, then of test."""
    if found.commonest in found.test.classes:
        return found.test.classes.index(found.commonest)
    label_N: Indices = found.val.label_N if found.val.n_images else found.test.label_N
    return int(np.bincount(label_N).argmax())
