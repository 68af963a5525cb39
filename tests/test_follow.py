"""Following a training from beside it."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from convflow.registry.follow import Epoch, Tail, follow
from convflow.verbs.follow import _alive


def line(epoch: int) -> str:
    return json.dumps({"epoch": epoch, "loss": 1 / epoch}) + "\n"


class Shown:
    """Remembers what was shown."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.closed = False

    def show(self, epochs: list[Epoch]) -> None:
        self.epochs += [epoch for epoch, _ in epochs]

    def close(self) -> None:
        self.closed = True


def steps(*acts: Callable[[], object]) -> Callable[[], bool]:
    """A training that does one thing between two looks, then ends."""
    todo = list(acts)

    def go_on() -> bool:
        if todo:
            todo.pop(0)()
        return bool(todo)

    return go_on


@pytest.fixture
def history(tmp_path: Path) -> Path:
    (tmp_path / "cnn").mkdir()
    return tmp_path / "cnn/history.jsonl"


def append(path: Path, text: str) -> Callable[[], object]:
    def act() -> None:
        with path.open("a") as stream:
            stream.write(text)

    return act


def followed(folder: Path, go_on: Callable[[], bool]) -> dict[str, list[Shown]]:
    opened: dict[str, list[Shown]] = {}

    def open_live(model: str) -> Shown:
        opened.setdefault(model, []).append(Shown())
        return opened[model][-1]

    follow(folder, open_live, go_on, wait_s=0)
    return opened


def test_epochs_are_shown_as_they_come_the_last_ones_too(history: Path) -> None:
    half = line(3)
    opened = followed(
        history.parent.parent,
        steps(append(history, line(1)), append(history, line(2) + half[:5]), append(history, half[5:])),
    )
    (shown,) = opened["cnn"]
    assert (shown.epochs, shown.closed) == ([1, 2, 3], True)


def test_an_old_trainings_history_opens_nothing(history: Path) -> None:
    append(history, line(1))()
    assert followed(history.parent.parent, steps(lambda: None, lambda: None)) == {}


def test_a_resumed_training_is_shown_from_its_first_epoch(history: Path) -> None:
    append(history, line(1))()
    opened = followed(history.parent.parent, steps(append(history, line(2))))
    assert [shown.epochs for shown in opened["cnn"]] == [[1, 2]]


def test_a_training_that_starts_anew_gets_a_new_run(history: Path) -> None:
    opened = followed(
        history.parent.parent,
        steps(append(history, line(1) + line(2)), lambda: history.write_text(line(1))),
    )
    assert [shown.epochs for shown in opened["cnn"]] == [[1, 2], [1]]


def test_trouble_is_one_line_and_no_exception(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(model: str) -> Shown:
        raise RuntimeError(f"no store\nfor {model}")

    follow(history.parent.parent, broken, steps(append(history, line(1)), append(history, line(2))), wait_s=0)
    assert capsys.readouterr().err == f"convflow: {history}: not shown live any more (no store for cnn)\n"


def test_lines_that_are_no_epochs_are_passed_over(history: Path) -> None:
    history.write_bytes(b"nonsense\n\xff\xfe\n[1]\n" + line(2).encode())
    assert Tail(history).read() == (False, [(2, {"loss": 0.5})])


def test_the_parent_is_watched_by_its_number() -> None:
    assert _alive(None)()
    assert _alive(1)()
    assert not _alive(2**22 + 1)()  # above the largest number a Linux process can have


def test_a_parent_that_has_ended_but_is_still_listed_counts_as_gone() -> None:
    with subprocess.Popen(["sleep", "60"]) as parent:
        assert _alive(parent.pid)()
        parent.kill()
        assert os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT) is not None
        assert not _alive(parent.pid)()
