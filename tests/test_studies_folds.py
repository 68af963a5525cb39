"""One model on all splits: each split's answers whole or absent, done once, by as many processes as asked."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from convflow.errors import ConvflowError, DataError, ModelError
from convflow.stages import folds
from convflow.studying import crew
from convflow.studying.codekey import code_digest
from convflow.tables import read_about, read_table
from made_study import make_study

BASELINES = {
    "folds": 3,
    "criterion": "balanced_accuracy",
    "device": "cpu",
    "knn": {"neighbours": [1, 5]},
    "svm": {"c": [1.0], "gamma": [1.0]},
    "logistic": {"c": [0.01, 1.0]},
}
NAMES = [f"{repeat:02d}-0.parquet" for repeat in range(6)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("made"))


@pytest.fixture
def study(made, tmp_path, monkeypatch):
    """The study's data, a folder for its results, and the stand-in as the model `made`."""
    (tmp_path / "data").symlink_to(made / "data")
    monkeypatch.chdir(tmp_path)
    settings = {"log": str(tmp_path / "log")}
    monkeypatch.setattr(folds, "_contestant", lambda name, params: ("made_contestant", settings))
    return settings


@pytest.fixture
def alone(study, monkeypatch):
    """The same without processes of its own, where they do not matter: each takes a second to start."""
    monkeypatch.setattr(folds, "work_off", lambda do, jobs, n_processes: ((job, do(job)) for job in jobs))
    return study


def params(**changed):
    known = {"processes": 1, "seed": 0, "baselines": BASELINES, "networks": {}, "transfers": {}}
    return folds.Params(**(known | changed))


def run(protocol="P1", model="made", **changed):
    folds.run(
        Path(f"data/splits/{protocol}.parquet"), Path("data/features"), Path("data/packed/networks"),
        Path("data/encoded"), Path("data/packed/pretrained"),
        Path(f"folds/{protocol}/{model}"), Path(f"timing/{protocol}-{model}.json"), params=params(**changed),
    )  # fmt: skip


def seeds_asked():
    return [int(line.split()[0]) for line in Path("log").read_text().splitlines()]


def test_each_split_gets_a_file_with_the_answers_to_its_test_images(study, capsys):
    run()
    assert sorted(path.name for path in Path("folds/P1/made").iterdir()) == NAMES
    table, about = (
        read_table(Path("folds/P1/made/02-0.parquet")),
        read_about(Path("folds/P1/made/02-0.parquet")),
    )
    splits = read_table(Path("data/splits/P1.parquet")).to_pylist()
    tested = [row["path"] for row in splits if (row["repeat"], row["side"]) == (2, "test")]
    assert table["path"].to_pylist() == tested
    assert table.column_names == ["path", "sha256", "label", "group", "tag_wafer", "p_bad", "p_good"]
    assert np.allclose(table["p_bad"].to_numpy() + table["p_good"].to_numpy(), 1)
    assert about["model"], about["protocol"] == ("made", "P1")
    assert about["notes"] == {"means": 2}
    assert "folds: P1 made: 6 of 6 done" in capsys.readouterr().out
    assert seeds_asked() == [0, 1, 2, 3, 4, 5]


def test_what_is_done_is_not_done_again_and_gives_the_same_bytes(study):
    run()
    first = {path.name: path.read_bytes() for path in Path("folds/P1/made").iterdir()}
    clock = Path("timing/P1-made.json").read_bytes()
    run()
    assert len(seeds_asked()) == 6
    assert Path("timing/P1-made.json").read_bytes() == clock
    for path in Path("folds/P1/made").iterdir():
        path.unlink()
    run(processes=2)
    assert {path.name: path.read_bytes() for path in Path("folds/P1/made").iterdir()} == first


@pytest.mark.parametrize("harm", ["missing", "cut short", "of another key"])
def test_only_the_split_that_is_missing_or_spoilt_is_done_again(alone, harm):
    run()
    victim = Path("folds/P1/made/03-0.parquet")
    whole = victim.read_bytes()
    if harm == "missing":
        victim.unlink()
    elif harm == "cut short":
        victim.write_bytes(whole[:1000])
    else:
        victim.write_bytes(Path("folds/P1/made/04-0.parquet").read_bytes())
    run()
    assert seeds_asked() == [0, 1, 2, 3, 4, 5, 3]
    assert victim.read_bytes() == whole


def test_other_settings_seeds_inputs_or_code_fit_everything_anew(alone, monkeypatch, made):
    run()
    alone["other"] = 1
    run()
    run(seed=6)
    monkeypatch.setattr(folds, "code_digest", lambda *_: "edited")
    run(seed=6)
    (Path("data")).unlink()
    features = np.load(made / "data/features/all.npy")
    Path("data").mkdir()
    for name in ("splits", "packed"):
        (Path("data") / name).symlink_to(made / "data" / name)
    Path("data/features").mkdir()
    np.save("data/features/all.npy", features * 2)
    run(seed=6)
    assert seeds_asked() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, *[6, 7, 8, 9, 10, 11] * 3]


def test_files_of_splits_that_are_no_more_are_removed(alone):
    run()
    stale = Path("folds/P1/made/17-0.parquet")
    stale.write_bytes(Path("folds/P1/made/00-0.parquet").read_bytes())
    run()
    assert not stale.exists()
    assert len(seeds_asked()) == 6


def test_an_error_names_the_split_and_keeps_what_was_done(study):
    study["fails_at"] = 3
    with pytest.raises(ModelError, match=r"^folds/P1/made/03-0\.parquet: nothing to learn from; add images$"):
        run()
    assert sorted(path.name for path in Path("folds/P1/made").iterdir()) == NAMES[:3]
    assert sorted(json.loads(Path("timing/P1-made.json").read_text())) == ["00-0", "01-0", "02-0"]


def test_a_process_that_dies_is_told_in_one_line(study):
    study["dies_at"] = 2
    with pytest.raises(ConvflowError, match=r"^a process died, .* set folds\.processes lower and run again"):
        run()
    del study["dies_at"]
    assert {path.name for path in Path("folds/P1/made").iterdir()} >= set(NAMES[:2])


def wait_for(is_so):
    ends = time.monotonic() + 60
    while not is_so() and time.monotonic() < ends:
        time.sleep(0.05)
    assert is_so()


def test_workers_have_one_thread_each_and_are_as_many_as_asked_for(study):
    run(processes=2)
    told = [line.split() for line in Path("log").read_text().splitlines()]
    assert {threads for _, threads, _ in told} == {"1"}
    assert str(os.getpid()) not in {process for _, _, process in told}


KILLED = """
import sys
sys.path[:0] = {path!r}
from convflow.stages import folds
import test_studies_folds
if __name__ == "__main__":
    folds._contestant = lambda name, params: ("made_contestant", {settings!r})
    test_studies_folds.run(processes=2)
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_leaves_no_process_behind_and_goes_on(study):
    study |= {"waits_while": str(Path("go.py").resolve()), "waits_from": 2}
    Path("go.py").write_text(KILLED.format(path=[str(Path(__file__).parent)], settings=study))
    process = subprocess.Popen([sys.executable, "go.py"], stdout=subprocess.DEVNULL)
    wait_for(lambda: Path("log").exists() and len(seeds_asked()) == 4)
    workers = {int(line.split()[2]) for line in Path("log").read_text().splitlines()}
    assert len(workers) == 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert sorted(path.name for path in Path("folds/P1/made").iterdir()) == NAMES[:2]
    Path("go.py").unlink()
    run()
    assert sorted(path.name for path in Path("folds/P1/made").iterdir()) == NAMES
    assert seeds_asked()[4:] == [2, 3, 4, 5]


def test_splits_of_other_images_are_refused(study, made):
    Path("data").unlink()
    Path("data").mkdir()
    for name in ("features", "packed"):
        (Path("data") / name).symlink_to(made / "data" / name)
    other = make_study(Path("other"), seed=1)
    (Path("data") / "splits").symlink_to((other / "data/splits").resolve())
    with pytest.raises(
        DataError, match=r"^data/splits/P1\.parquet: not of the images in data/packed/networks"
    ):
        run()


def test_a_crew_is_no_larger_than_jobs_cores_and_memory_allow(monkeypatch):
    monkeypatch.setattr(crew, "cpu_count", lambda: 8)
    monkeypatch.setattr(crew, "_free_memory", lambda: 10 * 2**30)
    assert crew.crew_size(3, bytes_each=2**30) == 3
    assert crew.crew_size(20, bytes_each=2**30) == 8
    assert crew.crew_size(20, bytes_each=3 * 2**30) == 3
    assert crew.crew_size(20, bytes_each=50 * 2**30) == 1


def test_the_code_key_follows_every_import_and_nothing_else(tmp_path, monkeypatch):
    source = tmp_path / "convflow"
    (source / "room").mkdir(parents=True)
    files = {
        "room/one.py": 'import_module("convflow.room.late")\nfrom convflow.room import two\n',
        "room/two.py": "import json\nimport convflow.room.three\n",
        "room/three.py": 'import_module(f"convflow.many.{name}")\n',
        "room/late.py": "",
        "room/apart.py": "",
    }
    (source / "many").mkdir()
    for name, text in (files | {"many/x.py": ""}).items():
        (source / name).write_text(text)
    monkeypatch.setattr("convflow.studying.codekey._SOURCE", tmp_path)
    before = code_digest("convflow.room.one")
    assert code_digest("convflow.room.one") == before
    for name in ("room/two.py", "room/three.py", "room/late.py", "many/x.py"):
        old = (source / name).read_text()
        (source / name).write_text(old + "\n# edited\n")
        assert code_digest("convflow.room.one") != before
        (source / name).write_text(old)
    (source / "room/apart.py").write_text("# edited\n")
    assert code_digest("convflow.room.one") == before
