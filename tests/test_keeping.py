"""What stays in a store and what goes, from facts alone."""

import pytest

from convflow.registry.keeping import (
    DAY_MS,
    EVALUATION_TAG,
    SPLIT_TAG,
    Logged,
    Run,
    Version,
    keep_versions,
    marks,
    unneeded_models,
    unneeded_runs,
)
from convflow.registry.ledger import KEY_TAG, LIVE_TAG

NOW = 100 * DAY_MS
CANDIDATE = {KEY_TAG: "k", "convflow.model": "cnn", SPLIT_TAG: "s", "convflow.digest.params": "p"}
RIVAL = {KEY_TAG: "r", "convflow.model": "svm", SPLIT_TAG: "s", EVALUATION_TAG: "old"}


def version(number: int, *aliases: str, name: str = "cells", run: str = "") -> Version:
    return Version(name, number, run or f"run{number}", f"m{number}", aliases)


def one_run(tags, *, status="FINISHED", active=True, days=5.0) -> Run:
    return Run("x", "x", status, active, tags, int(NOW - days * DAY_MS), "")


def test_the_champions_the_aliases_and_the_latest_stay() -> None:
    versions = [version(1), version(2), version(3, "a"), version(4), version(5, "champion", "b"), version(6)]
    assert keep_versions(versions, {2: "champion before", 5: "champion of the log", 9: "x"}, 1) == {
        6: "of the last 1",
        5: "b, champion, champion of the log",
        3: "a",
        2: "champion before",
    }
    assert list(keep_versions(versions, {}, 3)) == [6, 5, 4, 3]
    assert list(keep_versions(versions, {}, 99)) == [6, 5, 4, 3, 2, 1]
    assert keep_versions([], {1: "x"}, 5) == {}


@pytest.mark.parametrize(
    ("champions", "expected"),
    [
        ([], {}),
        (["3"], {3: "champion of the log"}),
        (["1", "2", "9"], {9: "champion of the log", 2: "champion before"}),
    ],
)
def test_of_the_log_the_last_two_champions_stay(champions, expected) -> None:
    assert marks(champions) == expected


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (one_run({}), None),  # somebody's own
        (one_run({}, status="FAILED"), None),
        (one_run({}, active=False), "in the bin"),
        (one_run({}, active=False, status="RUNNING", days=0.9), None),  # a follower may be writing it
        (one_run({}, active=False, status="RUNNING", days=1.1), "in the bin"),
        (one_run(CANDIDATE), "no version of it"),
        (one_run(CANDIDATE, days=0), "no version of it"),  # it ends after its version has been made
        (one_run(CANDIDATE, status="RUNNING", days=0.9), None),
        (one_run(CANDIDATE, status="RUNNING", days=1.1), "half written"),
        (one_run(CANDIDATE, status="FAILED", days=0.9), None),
        (one_run(CANDIDATE, status="FAILED", days=1.1), "half written"),
        (one_run({LIVE_TAG: "cnn"}, days=0.9), None),
        (one_run({LIVE_TAG: "cnn"}, days=1.1), "shown live, never published"),
        (one_run({LIVE_TAG: "cnn"}, status="RUNNING", days=0.9), None),
        (one_run(RIVAL), "compared with no version that stays"),
        (one_run(RIVAL | {EVALUATION_TAG: "new"}), None),
        (one_run(RIVAL | {EVALUATION_TAG: "new", SPLIT_TAG: "t"}), "compared with no version that stays"),
        (one_run(RIVAL | {EVALUATION_TAG: "any", SPLIT_TAG: "u"}), None),  # figures that cannot be read
        (one_run(RIVAL | {EVALUATION_TAG: "new"}, status="FAILED"), "half written"),
    ],
)
def test_a_run_goes_for_one_reason_or_stays(run: Run, why: str | None) -> None:
    kept = [
        Run(f"run{n}", "cnn", "FINISHED", True, CANDIDATE | {SPLIT_TAG: s}, 0, "")
        for n, s in ((2, "s"), (3, "u"))
    ]
    figures = {"run2": {"svm": "new", "cnn": "x"}, "run3": None}
    expected = [] if why is None else [(run, why)]
    assert unneeded_runs([*kept, run], [version(2), version(3)], [version(1)], figures, NOW) == expected


def test_a_run_that_any_version_refers_to_stays_even_in_the_bin() -> None:
    runs = [Run(f"run{n}", "cnn", "FINISHED", n != 2, CANDIDATE, 0, "") for n in (1, 2, 3)]
    stay = [version(2), version(7, name="other", run="run3")]
    assert unneeded_runs(runs, stay, [version(1), version(3)], {}, NOW) == [(runs[0], "of version 1")]


def test_a_model_goes_with_its_run_unless_a_version_holds_it() -> None:
    models = [
        Logged("m1", "gone12345", "", True),
        Logged("m2", "gone12345", "", True),
        Logged("m3", "there", "", True),
        Logged("m4", "lost12345", "", True),
        Logged("m5", "there", "", False),
        Logged("m6", "", "", True),
    ]
    told = unneeded_models(models, ["gone12345"], [version(2)], frozenset({"there", "gone12345"}))
    assert [(model.model_id, why) for model, why in told] == [
        ("m1", "of run gone1234"),
        ("m4", "run lost1234 is gone"),
        ("m5", "in the bin"),
    ]
    told = unneeded_models(models, [], [], None)  # nothing is known of the runs: only the bin
    assert [(model.model_id, why) for model, why in told] == [("m5", "in the bin")]
