"""Promoting and publishing killed at many moments: the champion is always whole, and a rerun completes.

CONVFLOW_KILLS=100 kills each of them a hundred times.
"""

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_registry_for_real import server  # noqa: F401  a fixture

from convflow.registry import acts, promotion, publisher
from convflow.registry.past import look_back
from convflow.registry.promotion_log import LOG, champions, check_head, read_log
from convflow.registry.resolve import resolve
from convflow.stages import publish
from made_project import make_package
from made_promotion import house, make, patch_all, unsynced, write_model
from made_published import Unasked, client, move, run_stage, state

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Model logged without a signature"),
]
KILLS = int(os.environ.get("CONVFLOW_KILLS", "25"))
Wish = promotion.Wish


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Version 1 is champion, and version 2 is better."""
    root = make(tmp_path_factory.mktemp("promotable") / "project")
    package = make_package(tmp_path_factory.mktemp("package"))
    with pytest.MonkeyPatch.context() as patch, unsynced():
        patch.setattr(publisher, "package_folder", lambda: package)
        patch.setattr(publish, "Proof", Unasked)
        patch_all(patch)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        run_stage()
        promotion.promote(house(root), Wish("1"))
        write_model(root, 0.5)
        run_stage()
        write_model(root, 0.49)  # not yet published
        yield root


def in_a_fork(act: Callable[[], object], kill_at: int | None) -> int | None:
    """Do `act` in a fork; returns the calls it made, or None where it was killed at call `kill_at`.

    Moments are counted in calls, of Python and of C, rather than in seconds: they are spread alike on a busy
    machine.
    """
    told, tell = os.pipe()
    number = os.fork()
    if number == 0:
        n_calls, status = 0, 1

        def count(*_: object) -> None:
            nonlocal n_calls
            n_calls += 1
            if n_calls == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, 1)
            sys.setprofile(count)
            act()
            sys.setprofile(None)
            os.write(tell, str(n_calls).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(tell)
    with os.fdopen(told) as pipe:
        text = pipe.read()
    _, found = os.waitpid(number, 0)
    if os.waitstatus_to_exitcode(found) == -signal.SIGKILL:
        return None
    assert os.waitstatus_to_exitcode(found) == 0
    return int(text)


def check_champion(root: Path) -> str:
    """The champion, whole and blessed, the log sound."""
    entries = read_log(LOG)
    asked = client(root)
    model = asked.get_registered_model("cells")
    check_head(LOG, entries, model.tags.get(acts.HEAD))
    version = str(model.aliases["champion"])
    store = house(root).store
    resolve(store, "models:/cells@champion", root / "downloads")  # its weights are those of its card
    assert asked.get_run(asked.get_model_version("cells", version).run_id).info.status == "FINISHED"
    found = acts.Acts(asked, store, "cells")
    pending = model.tags.get(acts.PENDING)
    if champions(entries, "cells")[-1:] != [version]:
        assert pending is not None  # killed between the move and the log
        assert f'"version": "{version}"' in pending
    else:
        last = [entry for entry in entries if entry.version == version][-1]
        assert found.decision(found.find(version), last.decision)["promoted"]
    return version


def killed_often(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], object]
) -> Iterator[Path]:
    """Kill `act` at moments spread over all of it, each in a project of its own, and hand that over."""
    dice = random.Random(int(os.environ.get("CONVFLOW_SEED", "1")))
    root = move(template, tmp_path / "project")
    monkeypatch.chdir(root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    n_calls = in_a_fork(lambda: act(root), None)
    assert n_calls is not None
    n_killed = 0
    for place in range(KILLS):
        root = move(template, tmp_path / f"project-{place}")
        monkeypatch.chdir(root)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow itself sets it
        moment = 1 + int((place + dice.random()) / KILLS * n_calls)
        n_killed += in_a_fork(lambda: act(root), moment) is None  # noqa: B023  done at once
        yield root
        shutil.rmtree(root)
    assert n_killed >= 0.97 * KILLS  # not each time the same number of calls is made


def test_promote_killed_at_any_moment(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_all(monkeypatch)
    found = {"1": 0, "2": 0}
    for root in killed_often(
        template, tmp_path, monkeypatch, lambda root: promotion.promote(house(root), Wish("2"))
    ):
        found[check_champion(root)] += 1
        outcome = promotion.promote(house(root), Wish("2"))
        assert outcome.status in ("promoted", "already")
        assert check_champion(root) == "2"
        assert [entry.version for entry in read_log(LOG)] == ["1", "2"]
        assert acts.PENDING not in client(root).get_registered_model("cells").tags
    print(f"champion after the kill: {found}")
    if KILLS >= 50:
        assert min(found.values()) > 0


def test_publish_killed_at_any_moment(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_all(monkeypatch)
    monkeypatch.setattr(publish, "Proof", Unasked)
    for root in killed_often(template, tmp_path, monkeypatch, lambda _: run_stage()):
        assert check_champion(root) == "1"
        run_stage()
        runs, versions, aliases = state(root)
        assert [status for _, status in runs] == ["FINISHED"] * 3
        *known, new = sorted(number for number, _ in versions)
        assert known == ["1", "2"]
        assert new in ("3", "4")  # 4 where a version 3 without a finished run had to give way
        assert aliases == {"champion": "1", "challenger": new}


def test_on_a_server_all_is_the_same(
    template: Path,
    tmp_path: Path,
    server: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = make(tmp_path / "project")
    monkeypatch.chdir(root)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    patch_all(monkeypatch)
    monkeypatch.setattr(publish, "Proof", Unasked)
    run_stage()
    write_model(root, 0.5)
    run_stage()
    there = house(root, uri=server)
    assert promotion.promote(there, Wish("1")).sentence == "version 1 is promoted: all 6 rules hold"
    found = promotion.promote(there, Wish())
    assert (found.status, found.previous) == ("promoted", "1")
    assert promotion.rollback(there, "smoke").version == "1"
    told = [
        (one["version"], one["aliases"], len(one["acts"])) for one in look_back(there.store, "cells").versions
    ]
    assert told == [("1", ["champion"], 2), ("2", ["challenger"], 1)]
