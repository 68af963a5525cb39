"""`convflow init` on another set: what was decided for the former one neither stays nor vanishes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from convflow.data.sides import read_sides, write_sides
from convflow.data.splitting import Fractions, draw
from convflow.errors import DataError, ParamsError
from convflow.files import digest_file
from made_images import make_tree, picture
from made_init import make_empty, params, run, table

SETTINGS = {"method": "grouped", "seed": 1}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with the memory of another set's sides; the current folder."""
    root = make_empty(tmp_path / "project")
    monkeypatch.chdir(root)
    (root / "data").mkdir()
    write_sides(root / "data/sides.csv", SETTINGS, [("ab" * 32, None, "test")])
    return root


def set_params(changes):
    tree = params()
    for key, value in changes.items():
        section, _, name = key.partition(".")
        tree[section][name] = value
    Path("params.yaml").write_text(yaml.safe_dump(tree))


def git(*arguments):
    who = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


def commit():
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "t")


def test_a_memory_of_other_images_that_git_does_not_know_is_moved_aside(project, pictures, capsys):
    text = Path("data/sides.csv").read_bytes()
    run(pictures, "--dry-run")
    said = "data/sides.csv holds the sides of other images (data/raw/elpv) that git does not know: "
    assert f"\n{said}to be moved to data/sides-elpv.csv; put it back before" in capsys.readouterr().out
    assert Path("data/sides.csv").read_bytes() == text
    run(pictures)
    assert f"\n{said}moved to data/sides-elpv.csv; put it back before" in capsys.readouterr().out
    assert not Path("data/sides.csv").exists()
    assert Path("data/sides-elpv.csv").read_bytes() == text


def test_nothing_that_was_moved_aside_is_written_over(project, pictures):
    Path("data/sides-elpv.csv").write_text("older")
    run(pictures)
    assert Path("data/sides-elpv.csv").read_text() == "older"
    assert read_sides(Path("data/sides-elpv-1.csv")) == {("ab" * 12, ""): "test"}


def test_a_committed_memory_stays_where_it_is_and_git_keeps_it(project, pictures, capsys):
    commit()
    run(pictures)
    assert "(data/raw/elpv): git keeps them, and the next run writes" in capsys.readouterr().out
    assert Path("data/sides.csv").exists()
    write_sides(Path("data/sides.csv"), SETTINGS, [("cd" * 32, None, "val")])
    run(pictures, "--json")
    assert "git does not know: moved to" in json.loads(capsys.readouterr().out)["sides"]


@pytest.mark.parametrize("is_known", [True, False])
def test_images_with_a_memory_keep_the_seed_that_serves_though_their_folder_moved(project, is_known, capsys):
    lines = ["label,group", *(f"{c},g{n}" for n in range(8) for c in "ab")]
    root = table(project / "set", lines)
    run(root)
    chosen, fractions = params()["split"]["seed"], Fractions(0.15, 0.25)
    served = next(
        seed
        for seed in range(100)
        if seed != chosen and len({fractions.side(draw(seed, f"g{n}")) for n in range(8)}) == 3
    )
    run(root, "--set", f"split.seed={served}")
    digest = digest_file(root / "3.png") if is_known else "cd" * 32
    write_sides(Path("data/sides.csv"), SETTINGS, [(digest, "g1", "test")])
    capsys.readouterr()
    root.rename(project / "moved")
    run("moved")
    assert params()["split"]["seed"] == (served if is_known else chosen)
    assert ("sides.csv" in capsys.readouterr().out) == (not is_known)
    assert Path("data/sides.csv").exists() == is_known


def test_a_memory_that_is_none_is_one_line_and_changes_nothing(project, pictures):
    Path("data/sides.csv").write_text("what?")
    before = Path("params.yaml").read_bytes()
    with pytest.raises(DataError, match=r"^data/sides.csv: not the memory of a split .*; `git checkout"):
        run(pictures)
    assert Path("params.yaml").read_bytes() == before


@pytest.mark.parametrize("floors", [{"defective": 0.7}, {"cat": 0.5}])
def test_a_leak_excused_and_floors_of_classes_are_of_one_set(project, pictures, floors):
    set_params({"decide.leak_waiver": {"reason": "known"}, "decide.min_recall": floors})
    run(pictures)
    kept = floors if "cat" in floors else None
    assert (params()["decide"]["leak_waiver"], params()["decide"]["min_recall"]) == (None, kept)
    set_params({"decide.leak_waiver": {"reason": "known"}})
    run(pictures)  # the same folder again
    assert params()["decide"]["leak_waiver"] == {"reason": "known"}


def test_a_set_that_will_pass_is_told_so(project, capsys):
    files = {f"{name}/{n}.png": picture(n + 50 * (name == "a")) for name in "ab" for n in range(12)}
    root = make_tree(project / "set", files)
    run(root)
    out = capsys.readouterr().out
    assert "validate would stop" not in out
    assert out.endswith(
        "\nnext: make repro   (when mirrored pictures keep their label, first set train.augment.flips\n"
        "and embed.views)\n"
    )
    run(root, "--set", "validate.min_images_per_class=13", "--json")
    assert list(json.loads(capsys.readouterr().out)["stops"]) == ["class_size"]


def test_null_is_written_out(project, pictures):
    run(pictures, "--set", "validate.modes=null")
    lines = Path("params.yaml").read_text().splitlines()
    assert [line.split()[:2] for line in lines if line.startswith(("  modes:", "  positive:"))] == [
        ["modes:", "null"],
        ["positive:", "null"],
    ]


def test_an_empty_name_is_refused(project):
    with pytest.raises(ParamsError, match=r"^PATH is empty; name a folder, as \. for the one you are in$"):
        run("")


def test_great_expectations_is_not_loaded():
    code = "import sys, convflow.verbs.init; assert 'great_expectations' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
