"""The chain from a version to its pictures: whole, moved on, broken; and what two versions have apart."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convflow.errors import ConvflowError
from convflow.evaluation.bootstrap import Interval
from convflow.evaluation.pairs import Difference
from convflow.files import digest_file, write_text
from convflow.lineage.chain import chain
from convflow.lineage.comparing import compare, lines
from convflow.lineage.links import told
from convflow.lineage.pairing import ahead
from convflow.registry.promotion_log import LOG, Act, append
from convflow.registry.version import Version
from convflow.verbs import compare as compare_verb
from convflow.verbs import trace as verb
from made_version import add_results, git, make_cache, make_git_project, make_version, with_tags

STATIONS = [
    "version", "run", "commit", "dvc.lock", "manifest", "split", "raw data", "params", "environment",
    "device", "protocol", "verdict", "promotion",
]  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_git_project(tmp_path / "project")


@pytest.mark.parametrize("module", ["trace", "compare", "reproduce"])
def test_the_verbs_load_nothing_heavy_before_the_version_is_found(module: str) -> None:
    code = f"import convflow.verbs.{module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"mlflow", "torch", "pandas", "pyarrow", "scipy"} & set(done.stdout.split())


def test_a_whole_chain_is_told_link_by_link(root: Path, tmp_path: Path) -> None:
    links = chain(make_version(root), root, make_cache(tmp_path / "cache"))
    assert [one.name for one in links] == STATIONS
    assert {one.state for one in links} == {"whole"}
    text = {one.name: one.text for one in links}
    assert text["commit"].endswith(" first words")
    assert text["manifest"].endswith(": 4 images of 2 classes")
    assert text["split"].endswith(": stratified, seed 3: test 1, train 2, val 1; the project's is the same")
    assert text["raw data"] == "data/raw/set, 4 files, md5 0123456789ab; in DVC's cache"
    assert (text["params"], text["promotion"]) == ("9; those of params.yaml now", "never promoted")
    assert json.loads(json.dumps(told(links)))[4]["classes"] == {"a": 2, "b": 2}


def test_what_the_project_has_changed_since_is_marked_and_named(root: Path, tmp_path: Path) -> None:
    version = make_version(root)
    write_text(root / "params.yaml", (root / "params.yaml").read_text().replace("epochs: 2", "epochs: 5"))
    write_text(root / "dvc.lock", (root / "dvc.lock").read_text().replace("src/net.py", "src/more.py"))
    write_text(root / "requirements.lock", "torch==2\n")
    (root / "data/splits/members.parquet").unlink()
    links = {one.name: one for one in chain(version, root, make_cache(tmp_path / "cache", less=1))}
    assert {name: one.text for name, one in links.items() if one.state == "changed"} == {
        "dvc.lock": links["dvc.lock"].text,
        "split": links["split"].text,
        "raw data": "data/raw/set, 4 files, md5 0123456789ab; not in DVC's cache (1 of 4 files are gone), "
        "the folder is there: `convflow reproduce` compares it",
        "params": "9; 1 differ now: train.epochs 2, now 5",
        "environment": links["environment"].text,
    }
    assert links["dvc.lock"].text.endswith("the project's is another now (train)")
    assert links["split"].text.endswith("the project has no split now")
    assert links["environment"].text.endswith("torch 1; the project's is another now")
    assert not [one for one in links.values() if one.state == "broken"]


def _lose_commit(version: Version, root: Path) -> Version:
    return with_tags(version, **{"git.commit": "0" * 40})


def _lose_run(version: Version, root: Path) -> Version:
    return replace(version, status="deleted")


def _lose_diff(version: Version, root: Path) -> Version:
    return with_tags(version, **{"git.dirty": "true"})


def _touch_lock(version: Version, root: Path) -> Version:
    place = root / "runs/1/source/dvc.lock"
    write_text(place, place.read_text().replace("src/net.py", "src/other.py"))
    return version


def _lose_lock(version: Version, root: Path) -> Version:
    (root / "runs/1/source/dvc.lock").unlink()
    return version


def _other_members(version: Version, root: Path) -> Version:
    return with_tags(version, data="0" * 64, sides="1" * 64)


def _lose_pictures(version: Version, root: Path) -> Version:
    (root / "data/raw/set").rmdir()
    return version


@pytest.mark.parametrize(
    ("harm", "broken"),
    [
        (_lose_commit, {"commit": "000000000000: not in this repository; fetch it"}),
        (_lose_run, {"run": "ffffffffffff is deleted in sqlite:///mlflow.db"}),
        (_lose_diff, {"commit": "with changes that were not committed: not kept"}),
        (_touch_lock, {"dvc.lock": "not the one that was published"}),
        (_lose_lock, {"dvc.lock": "the file was not kept", "raw data": "no digest of it"}),
        (_other_members, {"manifest": "not the list that was published", "split": "not the split that was"}),
        (_lose_pictures, {"raw data": "neither in DVC's cache (it was never put there) nor in its folder"}),
    ],
)
def test_a_broken_link_is_said_in_its_line(
    root: Path, tmp_path: Path, harm: Callable[[Version, Path], Version], broken: dict[str, str]
) -> None:
    version = harm(make_version(root), root)
    found = {one.name: one.text for one in chain(version, root, tmp_path / "cache") if one.state == "broken"}
    assert found.keys() == broken.keys()
    assert all(text in found[name] for name, text in broken.items())


def test_uncommitted_changes_and_promotions_are_told_with_their_place(root: Path) -> None:
    write_text(root / "src/net.py", "Hello again")
    decision = root / "runs/1/promotion/decision-ba7816bf8f01.json"
    write_text(decision, "abc")
    promoted = {
        "promotion": "promote",
        "promotion.by": "ann",
        "promotion.at": "2031",
        "promotion.sentence": "+2",
    }
    version = make_version(root, **promoted, **{"promotion.decision": digest_file(decision)})
    links = {one.name: one for one in chain(version, root, None)}
    assert links["commit"].text.endswith("that were not committed: runs/1/git/changes.diff")
    assert links["commit"].facts["dirty"] is True
    assert (
        links["promotion"].text
        == "promote by ann, 2031: +2; evidence: runs/1/promotion/decision-ba7816bf8f01.json"
    )
    for text, said in (
        ("abd", ": not the decision that was recorded"),
        (None, " (decision ba7816bf8f01) was not"),
    ):
        decision.unlink() if text is None else write_text(decision, text)
        link = chain(version, root, None)[-1]
        assert (link.state, said in link.text) == ("broken", True)


def test_the_acts_are_those_of_the_log_and_a_forged_log_breaks_the_chain(root: Path) -> None:
    version = make_version(root)
    act = Act("2031", "promote", version.name, version.version, None, "ann", False, "", "d" * 64)
    append(root / LOG, act)
    append(root / LOG, replace(act, version="99", decision="e" * 64))
    assert [one["by"] for one in chain(version, root, None)[-1].facts["acts"]] == ["ann"]
    write_text(root / LOG, (root / LOG).read_text().replace("ann", "eve"))
    link = chain(version, root, None)[-1]
    assert (link.state, str(LOG) in link.text) == ("broken", True)


def test_trace_ends_with_1_where_a_link_is_broken(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = make_version(root)
    monkeypatch.chdir(root)
    monkeypatch.setattr(verb, "find_version", {"1": version, "2": _lose_commit(version, root)}.__getitem__)
    monkeypatch.setattr("convflow.lineage.dvc.ask_dvc", lambda *_: None)
    assert verb.run(_Arguments(version="1", json=False)) == 0
    out = capsys.readouterr().out.splitlines()
    assert (out[0][:11], out[6][:12]) == ("  version  ", "~ raw data  ")
    assert verb.run(_Arguments(version="2", json=True)) == 1
    facts = json.loads(capsys.readouterr().out)
    assert (facts["broken"], facts["links"][2]["commit"]) == (["commit"], "0" * 40)


class _Arguments:
    def __init__(self, **values: object) -> None:
        vars(self).update(values)


NAMES = [f"{n}.png" for n in range(40)]
GOOD = [0.1, 0.9] * 20
POOR = [0.9, 0.9] * 20


def _pair(root: Path, ours: Version, theirs: Version) -> dict:
    found = compare(ours, theirs)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def test_two_versions_are_paired_on_their_common_images(root: Path) -> None:
    good = add_results(make_version(root, "1"), root, GOOD[:30], images=NAMES[:30])
    write_text(root / "params.yaml", (root / "params.yaml").read_text().replace("epochs: 2", "epochs: 5"))
    poor = add_results(make_version(root, "2", **{"git.commit": "none"}), root, POOR, images=NAMES)
    found = _pair(root, good, poor)
    assert found["paired"]["images"] == {"common": 30, "a": 30, "b": 40, "relabelled": 0}
    apart = found["paired"]["difference"]["accuracy"]
    assert apart["value"] == 0.5
    assert 0 < apart["low"] < 0.5 < apart["high"] < 1
    assert found["paired"]["mcnemar"]["only_a_right"] == 15
    assert found["params"] == {"train.epochs": ["2", "5"]}
    assert (found["digests"]["data"][0], found["digests"]["commit"][1]) == (good.tag("data"), None)
    assert found["cost"]["size_bytes"] == [1000, 1000]
    assert found["winner"] == "1"
    assert found["sentence"].startswith("version 1 is ahead: balanced accuracy +50.0 [")
    assert _pair(root, poor, good)["winner"] == "1"
    text = "\n".join(lines(found, ("A", "B")))
    for part in (
        "accuracy             0.500 [0.250, 0.750]",
        "latency, one by one",
        "train.epochs",
        "(of 30 and 40)",
    ):
        assert part in text


def test_no_winner_is_named_where_the_interval_does_not_say_so(root: Path) -> None:
    one = add_results(make_version(root, "1"), root, GOOD, images=NAMES)
    nearly = add_results(make_version(root, "2"), root, [0.9, *GOOD[1:]], images=NAMES)
    found = _pair(root, one, nearly)
    assert found["winner"] is None
    assert found["sentence"].endswith("on 40 common test images: the interval holds 0")
    assert _pair(root, one, one)["sentence"].startswith("no winner: balanced accuracy +0.0 [+0.0, +0.0]")


def test_relabelled_and_missing_images_are_counted_not_compared(root: Path) -> None:
    one = add_results(make_version(root, "1"), root, GOOD, images=NAMES)
    labels = ["b", *[("a", "b")[n % 2] for n in range(1, 40)]]
    other = add_results(make_version(root, "2"), root, GOOD, images=NAMES, labels=labels)
    assert _pair(root, one, other)["paired"]["images"] == {"common": 39, "a": 40, "b": 40, "relabelled": 1}
    strange = add_results(make_version(root, "3"), root, GOOD, images=[f"new {name}" for name in NAMES])
    assert _pair(root, one, strange)["sentence"] == "no winner: no test image in common"
    bare = make_version(root, "4")
    assert _pair(root, one, bare)["sentence"] == "no winner: a run holds no predictions or figures"
    assert lines(compare(one, bare), ("A", "B"))[-1].startswith("no winner")


@pytest.mark.parametrize(
    ("metric", "ends", "side"),
    [
        ("accuracy", (0.1, 0.2), 1), ("accuracy", (-0.2, -0.1), -1), ("accuracy", (-0.1, 0.1), 0),
        ("accuracy", (0.0, 0.1), 0), ("log_loss", (0.1, 0.2), -1), ("log_loss", (-0.2, -0.1), 1),
        ("ece", None, 0),
    ],
)  # fmt: skip
def test_ahead_is_what_the_whole_interval_says(
    metric: str, ends: tuple[float, float] | None, side: int
) -> None:
    assert ahead(metric, Difference(float(np.mean(ends or 0)), Interval(*ends) if ends else None)) == side


def test_the_verb_compares_as_text_and_as_json(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = add_results(make_version(root, "1"), root, GOOD, images=NAMES)
    monkeypatch.setattr(compare_verb, "find_version", lambda _: one)
    assert compare_verb.run(_Arguments(a="1", b="1", json=False)) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("no winner: ")
    assert compare_verb.run(_Arguments(a="1", b="1", json=True)) == 0
    assert json.loads(capsys.readouterr().out)["winner"] is None
    (root / "runs/1/evaluation/metrics.json").write_text("{")
    with pytest.raises(ConvflowError, match=r"metrics.json: not JSON"):
        compare_verb.run(_Arguments(a="1", b="1", json=False))
    git(root, "status")
