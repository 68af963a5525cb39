"""Classification metrics from labels and probabilities, for many bootstrap draws at once; numpy only.

Shape letters: N images, K classes, B draws, M calibration bins. A draw is a row of counts:
`count_BN[b, n]` says how often image n stands in draw b, so that a metric over thousands of draws is
matrix arithmetic. Without counts every image stands once and B = 1. Every metric returns floats (B,);
NaN says that a draw leaves it undefined.

Conventions where the literature has several:
    macro means run over the classes present: recall over those among the labels, F1 over those among
    labels or decisions, ROC-AUC and average precision one-vs-rest over those with images inside (and,
    for the area, outside);
    brier is the sum over classes, in [0, 2] (twice the one-column binary score);
    ece has 15 bins of equal width (lo, hi] on the probability of the likeliest class;
    log_loss counts a probability of 0 as 2.2e-16.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from convflow.errors import DataError
from convflow.evaluation.ranking import TINY, Floats, Indices, Ranked, ratio

N_BINS = 15
SCALARS = (
    "accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "average_precision", "log_loss", "brier", "ece",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Scored:
    """Images with their labels and a model's probabilities, and what the metrics derive from them once.

    Args:
        label_N: int, class indices in [0, K).
        prob_NK: float, each row sums to 1 (within 1e-3).
        predicted_N: int, the classes decided on; by default the likeliest (the first among equals).
        positive: of two classes, the one that ROC-AUC and average precision look for; None is the last.

    Raises:
        DataError: where these disagree with each other, or there is no image.
    """

    label_N: Indices
    prob_NK: Floats
    predicted_N: Indices | None = None
    positive: int | None = None

    def __post_init__(self) -> None:
        n_images, n_classes = self.prob_NK.shape
        if len(self.label_N) != n_images or n_images == 0:
            raise DataError(
                f"{len(self.label_N)} labels for {n_images} rows of probabilities; run predict again"
            )
        if self.label_N.min() < 0 or self.label_N.max() >= n_classes:
            raise DataError(f"class index {self.label_N.max()} among {n_classes} classes; run predict again")
        off = float(np.abs(self.prob_NK.sum(axis=1) - 1).max())
        if not off <= 1e-3:
            raise DataError(f"a row of probabilities is off from sum 1 by {off:.3g}; run predict again")

    @property
    def n_classes(self) -> int:
        """K, the classes the model knows."""
        return int(self.prob_NK.shape[1])

    @cached_property
    def decided(self) -> Indices:
        """The class decided on per image."""
        return self.prob_NK.argmax(axis=1) if self.predicted_N is None else self.predicted_N

    @cached_property
    def ranked(self) -> tuple[Ranked, ...]:
        """The images in order of each class's probability: of two classes only the positive one's."""
        classes: range | tuple[int] = range(self.n_classes)
        if self.n_classes == 2:
            classes = (1 if self.positive is None else self.positive,)
        present = np.unique(self.label_N)
        return tuple(Ranked.of(self.label_N == k, self.prob_NK[:, k]) for k in classes if k in present)

    def counts(self, count_BN: Floats | None) -> Floats:
        """`count_BN`, or one draw in which every image stands once."""
        return np.ones((1, len(self.label_N))) if count_BN is None else count_BN


@dataclass(frozen=True, eq=False)
class Tally:
    """How many images of each class stand in a draw, are decided for, and are rightly so: (B, K)."""

    n_B: Floats
    actual_BK: Floats
    decided_BK: Floats
    right_BK: Floats


def tally(case: Scored, count_BN: Floats | None = None) -> Tally:
    """Count what every metric of decisions is made of."""
    count_BN = case.counts(count_BN)
    eye = np.eye(case.n_classes)
    actual_NK, decided_NK = eye[case.label_N], eye[case.decided]
    return Tally(
        count_BN.sum(axis=1),
        count_BN @ actual_NK,
        count_BN @ decided_NK,
        count_BN @ (actual_NK * decided_NK),
    )


def accuracy(case: Scored, count_BN: Floats | None = None) -> Floats:
    """The share of images decided rightly, in [0, 1]."""
    count_BN = case.counts(count_BN)
    return ratio(count_BN @ (case.label_N == case.decided).astype(float), count_BN.sum(axis=1))


def weighted_accuracy(case: Scored, weight_N: Floats, count_BN: Floats | None = None) -> Floats:
    """Accuracy in which image n counts `weight_N[n]` (positive) times."""
    count_BN = case.counts(count_BN)
    return ratio(count_BN @ (weight_N * (case.label_N == case.decided)), count_BN @ weight_N)


def recall(case: Scored, count_BN: Floats | None = None) -> Floats:
    """Recall of each class, (B, K) in [0, 1]; NaN where a draw has no image of it."""
    counted = tally(case, count_BN)
    return ratio(counted.right_BK, counted.actual_BK)


def balanced_accuracy(case: Scored, count_BN: Floats | None = None) -> Floats:
    """The mean recall of the classes present, in [0, 1]."""
    return _mean_of_known(recall(case, count_BN))


def macro_f1(case: Scored, count_BN: Floats | None = None) -> Floats:
    """The mean F1 of the classes present among labels or decisions, in [0, 1]."""
    return _f1(tally(case, count_BN))


def ranking(case: Scored, count_BN: Floats | None = None) -> tuple[Floats, Floats]:
    """ROC-AUC and average precision, both in [0, 1]: of the positive class, or macro one-vs-rest.

    The area counts pairs (Mann-Whitney, a tie is half a pair); average precision is the sum of
    precision times the gain in recall over the thresholds, without interpolation.
    """
    count_BN = case.counts(count_BN)
    n_B = count_BN.sum(axis=1)
    both = [one.measure(count_BN, n_B) for one in case.ranked]
    if not both:
        return np.full(len(n_B), np.nan), np.full(len(n_B), np.nan)
    area_BK, precision_BK = (np.stack(column, axis=1) for column in zip(*both, strict=True))
    return _mean_of_known(area_BK), _mean_of_known(precision_BK)


def roc_auc(case: Scored, count_BN: Floats | None = None) -> Floats:
    """The area under the ROC curve, as `ranking` says."""
    return ranking(case, count_BN)[0]


def average_precision(case: Scored, count_BN: Floats | None = None) -> Floats:
    """The average precision, as `ranking` says."""
    return ranking(case, count_BN)[1]


def log_loss(case: Scored, count_BN: Floats | None = None) -> Floats:
    """The mean of -ln(probability of the true class), in nats, at least 0."""
    count_BN = case.counts(count_BN)
    prob_N = case.prob_NK[np.arange(len(case.label_N)), case.label_N] / case.prob_NK.sum(axis=1)
    return ratio(count_BN @ -np.log(np.clip(prob_N, TINY, 1)), count_BN.sum(axis=1))


def brier(case: Scored, count_BN: Floats | None = None) -> Floats:
    """The mean squared distance of the probabilities from the truth, summed over classes, in [0, 2]."""
    count_BN = case.counts(count_BN)
    distance_N = ((case.prob_NK - np.eye(case.n_classes)[case.label_N]) ** 2).sum(axis=1)
    return ratio(count_BN @ distance_N, count_BN.sum(axis=1))


def calibration_gaps(case: Scored, count_BN: Floats | None = None) -> Floats:
    """Confidence less accuracy of each of the 15 bins, times the bin's share of images: (B, M)."""
    count_BN = case.counts(count_BN)
    sure_N = case.prob_NK.max(axis=1)
    right_N = case.label_N == case.prob_NK.argmax(axis=1)
    gap_NM = (sure_N - right_N)[:, None] * np.eye(N_BINS)[confidence_bins(sure_N)]
    return ratio(count_BN @ gap_NM, count_BN.sum(axis=1, keepdims=True))


def ece(case: Scored, count_BN: Floats | None = None) -> Floats:
    """Expected calibration error of the likeliest class, in [0, 1] (Guo et al., ICML 2017).

    As it is usually computed: too high by the noise in each bin (`bootstrap` has the cure).
    """
    total: Floats = np.abs(calibration_gaps(case, count_BN)).sum(axis=1)
    return total


def confidence_bins(sure_N: Floats) -> Indices:
    """The bin of each confidence: 15 of equal width, (0, 1/15] up to (14/15, 1]."""
    return np.clip(np.ceil(sure_N * N_BINS).astype(np.int64) - 1, 0, N_BINS - 1)


def confusion(case: Scored) -> Indices:
    """How many images of class i were decided for class j, (K, K)."""
    flat_N = case.label_N * case.n_classes + case.decided
    count = np.bincount(flat_N, minlength=case.n_classes**2)
    return count.astype(np.int64).reshape(case.n_classes, case.n_classes)


def all_metrics(case: Scored, count_BN: Floats | None = None) -> dict[str, Floats]:
    """Every metric above by name, (B,) each; also `recall` (B, K) and `calibration_gaps` (B, M)."""
    count_BN = case.counts(count_BN)
    counted = tally(case, count_BN)
    recall_BK = ratio(counted.right_BK, counted.actual_BK)
    area_B, precision_B = ranking(case, count_BN)
    gap_BM = calibration_gaps(case, count_BN)
    return {
        "accuracy": ratio(counted.right_BK.sum(axis=1), counted.n_B),
        "balanced_accuracy": _mean_of_known(recall_BK),
        "macro_f1": _f1(counted),
        "roc_auc": area_B,
        "average_precision": precision_B,
        "log_loss": log_loss(case, count_BN),
        "brier": brier(case, count_BN),
        "ece": np.abs(gap_BM).sum(axis=1),
        "recall": recall_BK,
        "calibration_gaps": gap_BM,
    }


def _f1(counted: Tally) -> Floats:
    return _mean_of_known(ratio(2 * counted.right_BK, counted.actual_BK + counted.decided_BK))


def _mean_of_known(value_BK: Floats) -> Floats:
    known_BK = np.isfinite(value_BK)
    return ratio(np.where(known_BK, value_BK, 0).sum(axis=1), known_BK.sum(axis=1).astype(float))
