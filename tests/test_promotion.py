"""Promoting, rolling back and telling the history, on a true SQLite store, with a stand-in for a network."""

import json
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from convflow import cli
from convflow.errors import ParamsError, TrackingError
from convflow.registry import acts, promotion, publisher
from convflow.registry.promotion_log import LOG, read_log
from convflow.stages import publish
from made_project import make_package
from made_promotion import (
    LIMITS,
    Broken,
    Quiet,
    commit,
    house,
    make,
    patch_all,
    unsynced,
    write_members,
    write_model,
)
from made_published import Unasked, client, move, run_stage

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Model logged without a signature"),
]
Wish = promotion.Wish


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two versions: the first is wrong for some greys, the second, the challenger, for none."""
    root = make(tmp_path_factory.mktemp("promotable") / "project")
    package = make_package(tmp_path_factory.mktemp("package"))
    with pytest.MonkeyPatch.context() as patch, unsynced():
        patch.setattr(publisher, "package_folder", lambda: package)
        patch.setattr(publish, "Proof", Unasked)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        run_stage()
        write_model(root, 0.5)
        run_stage()
        yield root


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = move(template, tmp_path / "project")
    monkeypatch.chdir(root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(publish, "Proof", Unasked)
    patch_all(monkeypatch)
    return root


def champion(root: Path) -> str | None:
    found = client(root).get_registered_model("cells").aliases.get("champion")
    return None if found is None else str(found)


def failed(outcome: promotion.Outcome) -> dict[str, str]:
    rules = [*outcome.decision["quality"], *outcome.decision["mechanics"]]
    return {rule["name"]: rule["sentence"] for rule in rules if rule["passed"] is False}


def test_the_better_follows_the_first_and_all_of_it_is_recorded(project: Path) -> None:
    first = promotion.promote(house(project), Wish("1"))
    assert (first.status, first.previous, failed(first)) == ("promoted", None, {})
    assert first.sentence == "version 1 is promoted: all 6 rules hold"
    second = promotion.promote(house(project), Wish())
    assert (second.status, second.previous, failed(second)) == ("promoted", "1", {})
    assert second.sentence == "version 2 is promoted: all 12 rules hold"
    again = promotion.promote(house(project), Wish())
    assert (again.status, again.sentence) == ("already", "version 2 is champion already")
    assert champion(project) == "2"
    entries = read_log(LOG)
    told = [(one.action, one.version, one.previous, one.by, one.forced, one.decision) for one in entries]
    assert told == [
        ("promote", "1", None, "ann", False, first.digest),
        ("promote", "2", "1", "ann", False, second.digest),
    ]
    tags = client(project).get_model_version("cells", "2").tags
    assert {name: tags[name] for name in tags if name.startswith("convflow.promotion")} == {
        "convflow.promotion": "promoted",
        "convflow.promotion.at": second.decision["at"],
        "convflow.promotion.by": "ann",
        "convflow.promotion.sentence": second.sentence,
        "convflow.promotion.decision": second.digest,
    }
    kept = client(project).get_registered_model("cells").tags
    assert kept == {acts.HEAD: entries[-1].hash, acts.PREVIOUS: "1"}
    store = acts.Acts(client(project), house(project).store, "cells")
    assert store.decision(store.find("2"), second.digest) == second.decision
    compared = second.decision["comparison"]
    assert (compared["n_rows"], compared["left_out"], len(compared["rows"])) == (120, 0, 64)


def test_the_worse_and_the_equal_are_refused_and_the_champion_stays(project: Path) -> None:
    promotion.promote(house(project), Wish("2"))
    worse = promotion.promote(house(project), Wish("1"))
    assert (worse.status, worse.sentence) == (
        "refused",
        "version 1 is refused by 3 of 12 rules (better, no class falls, no slice falls)",
    )
    assert champion(project) == "2"
    assert len(read_log(LOG)) == 1
    tags = client(project).get_model_version("cells", "1").tags
    assert (tags["convflow.promotion"], tags["convflow.promotion.decision"]) == ("refused", worse.digest)


@pytest.mark.slow
def test_force_needs_a_reason_and_overrides_no_mechanics(project: Path) -> None:
    promotion.promote(house(project), Wish("2"))
    with pytest.raises(ParamsError, match=r'^--force: say why; add --reason "..."$'):
        promotion.promote(house(project), Wish("1", forced=True, reason=" \n"))
    broken = promotion.promote(house(project, ask=Broken), Wish("1", forced=True, reason="the fair"))
    assert broken.sentence == (
        "version 1 is refused: answers: what does not load and answer alike cannot be forced"
    )
    forced = promotion.promote(house(project), Wish("1", forced=True, reason="the fair"))
    assert forced.sentence.startswith("version 1 is promoted by force against ")
    assert forced.sentence.endswith("): the fair")
    entry = read_log(LOG)[-1]
    assert (entry.forced, entry.reason, champion(project)) == (True, "the fair", "1")


@pytest.mark.slow
def test_rolling_back_goes_further_back_and_not_to_and_fro(project: Path) -> None:
    write_model(project, 0.499)
    run_stage()
    with pytest.raises(TrackingError, match=r"^cells: there is no champion yet"):
        promotion.rollback(house(project), "")
    for version in "123":
        promotion.promote(house(project), Wish(version, forced=True, reason="x"))
    refused = promotion.rollback(house(project, ask=Broken), "it fails")
    assert (refused.status, champion(project)) == ("refused", "3")
    assert refused.sentence == (
        "version 2 is refused: answers: what does not load and answer alike cannot be champion"
    )
    back = promotion.rollback(house(project), "smoke")
    assert (back.status, back.version, back.previous) == ("rolled back", "2", "3")
    assert back.sentence == "version 2 is champion again after version 3: smoke"
    assert promotion.rollback(house(project), "").version == "1"
    with pytest.raises(TrackingError, match=r"^cells: no champion before version 1 in the log"):
        promotion.rollback(house(project), "")
    assert [(one.action, one.version) for one in read_log(LOG)] == [
        ("promote", "1"), ("promote", "2"), ("promote", "3"), ("rollback", "2"), ("rollback", "1"),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_version_that_is_gone_is_not_gone_back_to(project: Path) -> None:
    promotion.promote(house(project), Wish("1"))
    promotion.promote(house(project), Wish("2"))
    client(project).delete_model_version("cells", "1")
    with pytest.raises(TrackingError, match=r"^cells version 1: no such version in sqlite:///mlflow.db"):
        promotion.rollback(house(project), "")
    assert champion(project) == "2"


@pytest.mark.slow
def test_images_that_the_champion_has_learnt_are_left_out(project: Path) -> None:
    promotion.promote(house(project), Wish("1"))
    write_members(project, train=[f"a b/{n}.png" for n in range(1000, 1020)])
    write_model(project, 0.499)
    run_stage()  # version 3 has learnt 20 of the test images
    write_members(project)
    outcome = promotion.promote(house(project), Wish("3"))
    assert outcome.decision["comparison"]["left_out"] == 20
    limits = LIMITS.model_copy(update={"min_rows": 101})
    few = promotion.promote(house(project, limits), Wish("3"))
    assert outcome.status in ("promoted", "refused")
    assert few.status == "already" or failed(few)["same images"] == (
        "both answered 100 test images, 20 left out that one of them had in train or val; "
        "promote.min_rows wants 101"
    )


@pytest.mark.slow
def test_what_is_missing_refuses_and_says_so(project: Path) -> None:
    promotion.promote(house(project), Wish("1"))
    (project / "data/packed/test/8/rows.parquet").unlink()
    outcome = promotion.promote(house(project), Wish("2", forced=True, reason="x"))
    assert "rows.parquet: no such table" in failed(outcome)["answers"]
    assert outcome.status == "refused"


@pytest.mark.slow
def test_the_champions_files_are_gone(project: Path) -> None:
    promotion.promote(house(project), Wish("1"))
    (weights,) = [one for one in (project / "mlartifacts").rglob("weights.txt") if one.read_text() == "0.4"]
    weights.unlink()
    outcome = promotion.promote(house(project), Wish("2"))
    assert "missing; it is not what was registered as models:/cells/1" in failed(outcome)["same images"]
    forced = promotion.promote(house(project), Wish("2", forced=True, reason="the champion is broken"))
    assert (forced.status, champion(project)) == ("promoted", "2")


def test_a_changed_tree_is_refused_until_it_is_committed_and_published_again(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("epochs: 3", "epochs: 4"))
    run_stage()
    outcome = promotion.promote(house(project), Wish())
    assert failed(outcome) == {
        "clean tree": "published from files that git does not have; commit, then run `convflow repro`, "
        "or set promote.allow_dirty"
    }
    commit(project)
    capsys.readouterr()
    for said in ("its files are committed by now, its tags say so", "nothing to add"):
        run_stage()
        assert capsys.readouterr().out == f"publish: cells version 3 is there already; {said}\n"
    assert promotion.promote(house(project), Wish()).status == "promoted"
    run_stage()  # the log is no change of the tree
    assert capsys.readouterr().out.endswith("nothing to add\n")


def test_the_limits_are_no_part_of_what_is_published(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("min_rows: 50", "min_rows: 60"))
    run_stage()
    assert capsys.readouterr().out == "publish: cells version 2 is there already; nothing to add\n"


STEPS = ("_finish", "_tell", "append")


@pytest.mark.parametrize(
    "step", [*(pytest.param(one, marks=pytest.mark.slow) for one in STEPS[:2]), STEPS[2]]
)
def test_cut_short_after_the_move_the_next_act_completes_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    promotion.promote(house(project), Wish("1"))
    with monkeypatch.context() as patch:

        def die(*_: object) -> None:
            raise ZeroDivisionError

        patch.setattr(acts if step == "append" else acts.Acts, step, die)
        with pytest.raises(ZeroDivisionError):
            promotion.promote(house(project), Wish("2"))
    assert champion(project) == "2"
    outcome = promotion.promote(house(project), Wish("2"))
    assert (outcome.status, outcome.notes) == (
        "already",
        ["the promotion of version 2, cut short before, is complete now"],
    )
    assert [one.version for one in read_log(LOG)] == ["1", "2"]
    assert client(project).get_model_version("cells", "2").tags["convflow.promotion"] == "promoted"
    assert acts.PENDING not in client(project).get_registered_model("cells").tags


@pytest.mark.slow
def test_a_rollback_cut_short_is_completed_and_not_done_twice(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in "121":
        promotion.promote(house(project), Wish(version, forced=True, reason="x"))
    with monkeypatch.context() as patch:
        patch.setattr(acts, "append", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            promotion.rollback(house(project), "smoke")
    outcome = promotion.rollback(house(project), "smoke")
    assert (outcome.status, outcome.version, champion(project)) == ("rolled back", "2", "2")
    assert [one.action for one in read_log(LOG)] == ["promote"] * 3 + ["rollback"]


def test_a_log_that_was_tampered_with_stops_everything(project: Path) -> None:
    promotion.promote(house(project), Wish("1"))
    text = LOG.read_text()
    LOG.write_text(text.replace("ann", "bob"))
    with pytest.raises(TrackingError, match=r"^promotions.jsonl:1: this line is not as it was written"):
        promotion.promote(house(project), Wish("2"))
    LOG.unlink()
    with pytest.raises(TrackingError, match=r"^promotions.jsonl: the newest act in the registry \(hash "):
        promotion.promote(house(project), Wish("2"))
    assert champion(project) == "1"


@pytest.mark.slow
def test_another_machine_moves_the_champion_meanwhile(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server knows no lock across machines: the champion is looked at once more just before the move."""
    real = acts.Acts._store_decision

    def overtaken(self: acts.Acts, version: object, decision: object) -> str:
        monkeypatch.setattr(acts.Acts, "_store_decision", real)
        client(project).set_registered_model_alias("cells", "champion", "2")
        return real(self, version, decision)

    monkeypatch.setattr(acts.Acts, "_store_decision", overtaken)
    outcome = promotion.promote(house(project), Wish("1"))
    assert (outcome.status, outcome.previous, champion(project)) == ("refused", "2", "2")
    assert outcome.notes == ["version 2 became champion meanwhile; judged against it"]


def _race(root: Path, version: str, ready: object, results: object) -> None:
    ready.wait()  # type: ignore[attr-defined]
    outcome = promotion.promote(house(root), Wish(version))
    results.put((version, outcome.status, outcome.notes))  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="its processes are forks")
@pytest.mark.parametrize("versions", [("2", "2"), ("1", "3")])
def test_of_two_promoters_at_once_one_wins_and_the_other_is_told(
    project: Path, versions: tuple[str, str]
) -> None:
    write_model(project, 0.4001)  # as good as the first
    run_stage()
    fork = multiprocessing.get_context("fork")
    ready, results = fork.Barrier(2), fork.Queue()
    racers = [fork.Process(target=_race, args=(project, version, ready, results)) for version in versions]
    for racer in racers:
        racer.start()
    found = [results.get(timeout=120) for _ in racers]
    for racer in racers:
        racer.join()
    winner, loser = sorted(found, key=lambda one: one[1] != "promoted")
    assert (winner[1], loser[1]) == ("promoted", "already" if versions[0] == versions[1] else "refused")
    assert champion(project) == winner[0]
    assert [one.version for one in read_log(LOG)] == [winner[0]]
    assert loser[2] == [] or loser[2][0].startswith(
        f"version {winner[0]} became champion meanwhile (by ann, "
    )


@pytest.mark.slow
def test_the_verbs_say_it_line_by_line_or_as_json(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = promotion.House
    monkeypatch.setattr(promotion, "House", lambda *given: real(*given, ask=Quiet))
    assert cli.run(["promote", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "promote: holds verdict: decide says accepted (cnn is accepted: all 3 rules hold)"
    assert lines[-2:] == [
        "promote: version 1 is promoted: all 6 rules hold",
        "promote: promotions.jsonl has a new line; commit it",
    ]
    assert cli.run(["promote", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["status"], told["version"], told["previous"]) == ("promoted", "2", "1")
    assert told["decision_sha256"] == read_log(LOG)[-1].decision
    assert cli.run(["promote", "1"]) == 1
    assert capsys.readouterr().out.endswith("promote: version 2 stays champion\n")
    assert cli.run(["rollback", "--reason", "smoke"]) == 0
    capsys.readouterr()
    assert cli.run(["history"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "version",
        "registered",
        "model",
        "verdict",
        "accuracy",
        "aliases",
        "champion",
    ]
    assert "cnn    accepted  0.900 [0.850, 0.940]  champion    rolled back to 20" in lines[1]
    assert lines[-1] == "3 acts in the log, its chain holds"
    assert lines[-2].endswith("  version 1 rolled back to after version 2, by ann: smoke")
    assert cli.run(["history", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["version"] for one in told["versions"]] == ["1", "2"]
    LOG.write_text(LOG.read_text().replace("smoke", "smoky"))
    assert cli.run(["history"]) == 2
    out, err = capsys.readouterr()
    assert out.endswith("the log is broken, see below\n")
    assert err.startswith("convflow: promotions.jsonl:3: this line is not as it was written; restore")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["promote", "9"],
            r"^cells version 9: no such version in sqlite:///mlflow.db; see `convflow history`$",
        ),
        (["promote", "best"], r"^cells: no version has the alias 'best' \(aliases: challenger\); see"),
        (["promote", " "], r"^the version is empty; give a number or an alias"),
        (["promote", "1", "--force"], r'^--force: say why; add --reason "..."$'),
        (["rollback"], r"^cells: there is no champion yet, nothing to go back to$"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(project: Path, arguments: list[str], line: str) -> None:
    with pytest.raises((ParamsError, TrackingError), match=line):
        cli.run(arguments)
    assert not LOG.exists()


@pytest.mark.parametrize("verb", ["promote", "rollback", "history"])
def test_without_a_store_none_is_made(project: Path, verb: str) -> None:
    (project / "mlflow.db").unlink()
    with pytest.raises(
        TrackingError, match=r"^sqlite:///mlflow.db: nothing is there yet; run `convflow repro`"
    ):
        cli.run([verb])
    assert not (project / "mlflow.db").exists()
