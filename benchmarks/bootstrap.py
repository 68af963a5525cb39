"""2,000 bootstrap draws of ten metrics on 656 images, against a loop over scikit-learn on the same draws.

    python benchmarks/bootstrap.py [--draws 2000] [--peer-draws 50]

The peer does fewer draws and is scaled up; both sides are printed. Ten metrics: the eight of `all_metrics`
and the recall of two classes. One thread.
"""

import os

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import argparse
import resource
import sys
import time

import numpy as np
from sklearn import metrics as peer

from convflow.evaluation.bootstrap import resampling
from convflow.evaluation.metrics import Scored, all_metrics, confidence_bins


def made_up(n_images: int, n_classes: int) -> Scored:
    """Labels, and probabilities that know something of them."""
    rng = np.random.default_rng(0)
    label_N = rng.integers(0, n_classes, n_images)
    score_NK = np.exp(rng.normal(0, 1, (n_images, n_classes)) + 2 * np.eye(n_classes)[label_N])
    return Scored(label_N, score_NK / score_NK.sum(axis=1, keepdims=True))


def by_peer(case: Scored, n_draws: int) -> None:
    """The same ten metrics (two classes) by a loop over scikit-learn."""
    rng = np.random.default_rng(0)
    n_images = len(case.label_N)
    for _ in range(n_draws):
        rows = rng.integers(0, n_images, n_images)
        label, prob, decided = case.label_N[rows], case.prob_NK[rows], case.decided[rows]
        peer.accuracy_score(label, decided)
        peer.balanced_accuracy_score(label, decided)
        peer.f1_score(label, decided, average="macro")
        peer.roc_auc_score(label, prob[:, 1])
        peer.average_precision_score(label, prob[:, 1])
        peer.log_loss(label, prob)
        peer.brier_score_loss(label, prob[:, 1])
        peer.recall_score(label, decided, average=None)  # of both classes
        sure = prob.max(axis=1)
        gap = np.bincount(confidence_bins(sure), weights=sure - (label == decided), minlength=15)
        np.abs(gap).sum()


def by_us(case: Scored, n_draws: int) -> None:
    """The same by counts."""
    draws = resampling([None] * len(case.label_N), n_draws=n_draws, seed=0)
    draws.draw(lambda count_BN: all_metrics(case, count_BN))


def main() -> None:
    """Print both sides, their ratio, and what larger sets cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2_000)
    parser.add_argument("--peer-draws", type=int, default=50)
    asked = parser.parse_args()
    case = made_up(656, 2)
    by_us(case, 10)
    by_peer(case, 2)
    ours = min(_seconds(by_us, case, asked.draws) for _ in range(3))
    theirs = _seconds(by_peer, case, asked.peer_draws) * asked.draws / asked.peer_draws
    print(f"convflow      {ours:8.3f} s for {asked.draws:,} draws")
    print(f"scikit-learn  {theirs:8.3f} s ({asked.peer_draws:,} draws, scaled)")
    print(f"ratio         {theirs / ours:8.0f} x")
    for n_images, n_classes in ((656, 10), (20_000, 2), (20_000, 10)):
        seconds = _seconds(by_us, made_up(n_images, n_classes), asked.draws)
        unit = 2**20 if sys.platform == "darwin" else 2**10
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
        print(f"{n_images:6,} images, {n_classes:2} classes: {seconds:6.2f} s, peak {peak:,.0f} MiB")


def _seconds(work, *given) -> float:
    begun = time.perf_counter()
    work(*given)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
