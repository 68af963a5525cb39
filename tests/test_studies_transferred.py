"""A pretrained network as a contestant: from cached features of train and val alone, one split at a time."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from convflow.data.packed import Packed
from convflow.errors import DataError, ParamsError
from convflow.stages import encode, folds
from convflow.studying import transferred
from convflow.studying.jobs import Task
from convflow.studying.splits import splits_in
from convflow.tables import read_table
from made_packed import packed_folder
from made_study import N_IMAGES, make_study
from test_studies_contestants import BASELINES, NETWORK

torch.set_num_threads(1)
FROZEN = {
    "rungs": ["probe", "views", "temperature"],
    "keep_errors": 0.0,
    "probe": {"depths": "auto", "c": [0.01, 1.0], "folds": 3, "unsure": "weight"},
}
ENCODE = {
    "source": "efficientnet_lite0", "arch": None, "sha256": None, "size_px": 32, "pooling": "mean_std",
    "views": "mirror", "mode": "fp32", "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("made"))


def task(made, *, number=0, protocol="P1", **changed):
    _, splits = splits_in(read_table(made / f"data/splits/{protocol}.parquet"))
    rows = {side: splits[number].rows(side) for side in ("train", "val", "test")}
    packed, encoded = made / "data/packed/pretrained", made / "data/encoded"
    return Task(packed, encoded, rows, FROZEN | changed, number, "frozen", protocol == "P2")


def probe(**changed):
    return FROZEN["probe"] | changed


def copy_of(folder, other):
    return Path(shutil.copytree(folder, other))


@pytest.mark.parametrize("protocol", ["P1", "P2"])
def test_it_learns_what_the_features_tell(made, protocol):
    one = task(made, protocol=protocol)
    found = transferred.answer(one)
    label_M = Packed(one.packed).labels[one.rows["test"]]
    assert (found.prob_MK.dtype, found.prob_MK.shape) == (np.float32, (len(label_M), 2))
    assert np.allclose(found.prob_MK.sum(axis=1), 1, atol=1e-5)
    assert (found.prob_MK.argmax(axis=1) == label_M).mean() > 0.9
    assert list(found.steps) == list(found.notes["rungs"]) == FROZEN["rungs"]
    assert min(found.steps.values()) > 0
    assert found.notes["rungs"]["views"]  # two looks at a noisy feature are better than one
    assert found.notes["depths"] in ([2], [1, 2])


def test_labels_of_test_images_do_not_count_and_those_of_train_and_val_do(made, tmp_path):
    one = task(made, keep_errors=0.5)
    told = transferred.answer(one)
    for side in ("test", "val", "train"):
        spoilt = copy_of(one.packed, tmp_path / side)
        labels = np.load(spoilt / "labels.npy")
        labels[one.rows[side][::2]] ^= 1
        np.save(spoilt / "labels.npy", labels)
        other = transferred.answer(replace(one, packed=spoilt))
        assert np.array_equal(told.prob_MK, other.prob_MK) == (side == "test"), side
        assert (told.notes == other.notes) == (side == "test"), side


def test_a_test_image_is_answered_by_its_own_features_alone(made, tmp_path):
    one = task(made)
    spoilt = copy_of(one.features, tmp_path / "encoded")
    feature_NVF = np.load(spoilt / "all.npy")
    feature_NVF[one.rows["test"][1:]] += 100
    np.save(spoilt / "all.npy", feature_NVF)
    told, other = (transferred.answer(replace(one, features=folder)) for folder in (one.features, spoilt))
    assert np.array_equal(told.prob_MK[:1], other.prob_MK[:1])
    assert not np.allclose(told.prob_MK[1:], other.prob_MK[1:])
    assert told.notes == other.notes


def test_what_it_says_of_val_is_what_it_answers_there(made):
    one = task(made)
    found = transferred.answer(replace(one, rows=one.rows | {"test": one.rows["val"]}))
    label_M = Packed(one.packed).labels[one.rows["val"]]
    loss = -np.log(found.prob_MK[np.arange(len(label_M)), label_M]).mean()
    accuracy = (found.prob_MK.argmax(axis=1) == label_M).mean()
    assert found.notes["val"] == pytest.approx({"accuracy": accuracy, "loss": loss}, rel=1e-4)


def test_weights_count_and_groups_where_the_protocol_keeps_them(made, tmp_path, monkeypatch):
    seen = []
    real = transferred.climb
    monkeypatch.setattr(
        transferred,
        "climb",
        lambda train, val, *rest, **more: seen.append((train, val)) or real(train, val, *rest, **more),
    )
    one = task(made, protocol="P2")
    weighted = copy_of(one.packed, tmp_path / "packed")
    weights = np.linspace(0.3, 1, N_IMAGES, dtype=np.float32)
    np.save(weighted / "weights.npy", weights)
    for asked in (replace(one, packed=weighted), task(made)):
        transferred.answer(asked)
    for side, name in zip(seen[0], ("train", "val"), strict=True):
        assert np.array_equal(side.taught.weight_N, weights[one.rows[name]])
        assert np.array_equal(side.taught.group_N, one.rows[name] // 10)
    assert seen[1][0].taught.group_N is seen[1][1].taught.group_N is None


def test_the_stamp_follows_features_labels_and_weights(made, tmp_path):
    one = task(made)
    encoded = copy_of(one.features, tmp_path / "encoded")
    assert transferred.stamp(replace(one, features=encoded)) == transferred.stamp(one)
    np.save(encoded / "all.npy", np.load(encoded / "all.npy") * 2)
    changed = transferred.stamp(replace(one, features=encoded))
    assert {name for name, value in transferred.stamp(one).items() if changed[name] != value} == {"features"}


def test_features_of_other_pictures_are_refused(made, tmp_path):
    one = task(made)
    packed = copy_of(one.packed, tmp_path / "packed")
    (packed / "pixels.npy").write_bytes(b"other pixels")
    with pytest.raises(DataError, match=r"encoded: features of other images .*run `dvc repro encode`"):
        transferred.stamp(replace(one, packed=packed))


def test_what_cannot_be_fitted_is_told_in_one_line(made):
    with pytest.raises(
        ParamsError, match=r"folds\.transfers\.frozen\.rungs: \['temperature'\] has nothing to stand on"
    ):
        transferred.answer(task(made, rungs=["temperature"]))
    with pytest.raises(ParamsError, match=r"frozen\.probe\.depths: \[2, 7\] is not among \[1, 2\]"):
        transferred.answer(task(made, probe=probe(depths=[[1], [7, 2]])))
    one = task(made)
    rows = one.rows | {"train": np.flatnonzero(Packed(one.packed).labels == 1)}
    with pytest.raises(DataError, match="pretrained: images of one class only in train"):
        transferred.answer(replace(one, rows=rows))
    with pytest.raises(DataError, match=r"not features of convflow .*run `dvc repro -f encode`"):
        transferred.answer(replace(one, features=one.packed))


def test_memory_is_asked_for_and_the_machine_may_be_shared(made):
    assert transferred.memory(task(made)) > 2**30
    assert transferred.most_at_once(FROZEN) is None


def params(**changed):
    known = {
        "processes": 1, "seed": 0, "baselines": BASELINES, "networks": {"cnn": NETWORK},
        "transfers": {"frozen": FROZEN | {"tune": None}},
    }  # fmt: skip
    return folds.Params(**(known | changed))


def test_names_pick_the_contestant():
    assert folds._contestant("frozen", params()) == ("convflow.studying.transferred", FROZEN)
    with pytest.raises(ParamsError, match="folds: 'cnn' stands in networks and in transfers; rename one"):
        folds._contestant("cnn", params(transfers={"cnn": FROZEN | {"tune": None}}))


@pytest.fixture
def study(made, tmp_path, monkeypatch):
    """The study's data and a folder for results; jobs are done here, and `stop` breaks off after so many."""
    (tmp_path / "data").symlink_to(made / "data")
    monkeypatch.chdir(tmp_path)
    told = {"stop": None, "done": []}

    def work_off(do, jobs, n_processes):
        for number, job in enumerate(jobs):
            if number == told["stop"]:
                raise KeyboardInterrupt
            told["done"].append(job.path.name)
            yield job, do(job)

    monkeypatch.setattr(folds, "work_off", work_off)
    return told


def run(model="frozen", **changed):
    folds.run(
        Path("data/splits/P1.parquet"), Path("data/features"), Path("data/packed/networks"),
        Path("data/encoded"), Path("data/packed/pretrained"),
        Path(f"folds/P1/{model}"), Path(f"timing/P1-{model}.json"), params=params(**changed),
    )  # fmt: skip
    return {path.name: path.read_bytes() for path in Path(f"folds/P1/{model}").iterdir()}


def test_a_run_broken_off_goes_on_and_ends_with_the_same_bytes(study):
    whole = run()
    assert len(whole) == 6
    timing = json.loads(Path("timing/P1-frozen.json").read_text())
    assert {tuple(one["steps"]) for one in timing.values()} == {("probe", "temperature", "views")}
    shutil.rmtree("folds")
    study |= {"stop": 2, "done": []}
    with pytest.raises(KeyboardInterrupt):
        run()
    assert sorted(path.name for path in Path("folds/P1/frozen").iterdir()) == sorted(whole)[:2]
    study["stop"] = None
    assert run() == whole
    assert study["done"] == sorted(whole)


def test_a_key_changes_with_its_own_settings_and_features_and_no_others(study, made):
    def keys(model, **changed):
        """As the jobs have them; nothing is fitted."""
        study["stop"] = 0
        found = []
        real = folds.is_done
        try:
            folds.is_done = lambda job: found.append(job.about["key"]) or True
            run(model, **changed)
        finally:
            folds.is_done = real
        return found

    plain = FROZEN | {"tune": None}
    other = {"frozen": plain | {"probe": probe(c=[3.0])}, "more": plain}
    frozen, majority, cnn = keys("frozen"), keys("majority"), keys("cnn")
    assert len(set(frozen)) == 6
    assert keys("frozen", networks={"cnn": NETWORK | {"epochs": 9}}) == frozen
    assert keys("frozen", baselines=BASELINES | {"folds": 4}) == frozen
    assert keys("frozen", transfers={"frozen": plain, "more": other["frozen"]}) == frozen
    assert not set(keys("frozen", transfers=other)) & set(frozen)
    assert keys("majority", transfers=other) == majority
    assert keys("cnn", transfers=other) == cnn
    Path("data").unlink()
    Path("data").mkdir()
    for name in ("splits", "packed", "features"):
        (Path("data") / name).symlink_to(made / "data" / name)
    encoded = copy_of(made / "data/encoded", Path("data/encoded"))
    np.save(encoded / "all.npy", np.load(encoded / "all.npy") * 2)
    assert not set(keys("frozen")) & set(frozen)
    assert keys("majority") == majority
    assert keys("cnn") == cnn


def test_all_images_are_encoded_once_under_all_views(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    packed = packed_folder(tmp_path / "packed", 5, classes=["a", "b"])
    for name in ("one", "two"):
        encode.run(packed, tmp_path / name, params=encode.Params(**ENCODE))
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["all.npy", "embedded.json"]
    assert (tmp_path / "one/all.npy").read_bytes() == (tmp_path / "two/all.npy").read_bytes()
    assert np.load(tmp_path / "one/all.npy").shape == (5, 2, 2 * 2024)
    told = "encode: 4,048 features of each of 5 images, views: mirror; efficientnet_lite0 at 32 px (fp32)"
    assert told in capsys.readouterr().out
    empty = packed_folder(tmp_path / "empty", 0, classes=["a", "b"])
    with pytest.raises(DataError, match=r"empty: no images; add some and run `dvc repro`"):
        encode.run(empty, tmp_path / "none", params=encode.Params(**ENCODE))
