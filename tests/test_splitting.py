"""Groups and copies stay together, order does not matter, and no image ever changes sides."""

import hashlib
import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.sparse.csgraph import connected_components

from convflow.data.duplicates import bits_apart
from convflow.data.splitting import (
    Fractions,
    assign_by_column,
    assign_by_hash,
    check_sides,
    draw,
    families,
    torn_families,
)
from convflow.errors import DataError
from convflow.stages import split as stage
from convflow.tables import read_table, write_table

SHARES = Fractions(val=0.2, test=0.3)
BASES = [hashlib.sha256(bytes([n])).hexdigest() for n in range(6)]
PARAMS = {
    "method": "grouped",
    "seed": 3,
    "val_fraction": 0.2,
    "test_fraction": 0.3,
    "near_duplicate_distance": 6,
    "leak_probe": "warn",
    "leak_limit": 0.2,
}


def flip(dhash, bits):
    return f"{int(dhash, 16) ^ sum(1 << bit for bit in bits):064x}"


images = st.lists(
    st.tuples(
        st.sampled_from("abcdefghijkl"),  # the file's digest
        st.just("") | st.builds(flip, st.sampled_from(BASES), st.sets(st.integers(0, 255), max_size=5)),
        st.sampled_from([None, None, "g1", "g2", "g3"]),
    ),
    min_size=1,
    max_size=25,
)


def assigned(rows, *, distance=6, seed=1, before=None):
    """(family, side) of each row."""
    sha256, dhash, group = zip(*rows, strict=True)
    family_N = families(sha256, dhash, group, distance)
    key = [g or s for g, s in zip(group, sha256, strict=True)]
    sides, _ = assign_by_hash(family_N, key, SHARES, seed=seed, before=before or [None] * len(rows))
    return family_N, sides


def belong(one, other, distance):
    alike = bool(one[1] and other[1]) and bits_apart(one[1], other[1]) <= distance
    return one[0] == other[0] or (one[2] is not None and one[2] == other[2]) or alike


@given(images, st.integers(0, 12))
def test_families_are_what_group_bytes_and_likeness_connect(rows, distance):
    linked = [[belong(one, other, distance) for other in rows] for one in rows]
    _, expected = connected_components(np.asarray(linked))
    family_N, sides = assigned(rows, distance=distance)
    assert ((family_N[:, None] == family_N) == (expected[:, None] == expected)).all()
    assert torn_families(family_N, sides) == []


@given(images, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_is_irrelevant(rows, random):
    _, sides = assigned(rows)
    places = list(range(len(rows)))
    random.shuffle(places)
    _, shuffled = assigned([rows[place] for place in places])
    assert shuffled == [sides[place] for place in places]


@given(st.integers(1, 40), st.integers(0, 40))
def test_new_images_that_resemble_no_old_one_move_none(n_old, n_new):
    digests = [hashlib.sha256(f"{n}".encode()).hexdigest() for n in range(n_old + n_new)]
    rows = [(digest, digest, f"g{n % 17}" if n % 3 else None) for n, digest in enumerate(digests)]
    assert assigned(rows)[1][:n_old] == assigned(rows[:n_old])[1]


@given(images, images)
def test_what_was_decided_before_is_kept_whatever_comes(old, new):
    _, before = assigned(old)
    family_N, sides = assigned(old + new, before=before + [None] * len(new))
    assert sides[: len(old)] == before
    for family in set(family_N):
        members = np.flatnonzero(family_N == family)
        earlier = {before[index] for index in members if index < len(old)}
        fresh = {sides[index] for index in members if index >= len(old)}
        assert fresh <= ({"excluded"} if len(earlier) > 1 else earlier or {sides[members[0]]})


def test_an_image_that_ties_two_sides_is_excluded_with_the_reason():
    sides, why = assign_by_hash(
        np.asarray([0, 0, 0, 3]), ["a", "b", "c", "d"], SHARES, seed=0, before=["train", "test", None, "val"]
    )
    assert sides == ["train", "test", "excluded", "val"]
    assert why == ["", "", "resembles or groups with test and train", ""]


def test_a_torn_family_is_shown_by_one_member_of_each_side():
    family_N = np.asarray([0, 0, 0, 3, 3])
    assert torn_families(family_N, ["train", "train", "test", "val", "val"]) == [[0, 2]]


def test_the_shares_come_near_the_fractions_and_the_seed_matters():
    keys = [f"group {n}" for n in range(4000)]
    sides = {
        seed: assign_by_hash(np.arange(4000), keys, SHARES, seed=seed, before=[None] * 4000)[0]
        for seed in (1, 2)
    }
    for found in sides.values():
        share = {side: n / 4000 for side, n in Counter(found).items()}
        assert share == pytest.approx({"train": 0.5, "val": 0.2, "test": 0.3}, abs=0.03)
    agreement = np.mean(np.asarray(sides[1]) == np.asarray(sides[2]))
    assert agreement == pytest.approx(0.5**2 + 0.2**2 + 0.3**2, abs=0.03)


def test_large_families_do_not_gather_on_one_side():
    keys = [hashlib.sha256(f"{n}".encode()).hexdigest() for n in range(10_000)]
    family_N = np.arange(10_000) // 10 * 10
    sides, _ = assign_by_hash(family_N, keys, SHARES, seed=1, before=[None] * 10_000)
    share = {side: n / 10_000 for side, n in Counter(sides).items()}
    assert share == pytest.approx({"train": 0.5, "val": 0.2, "test": 0.3}, abs=0.06)


def test_a_draw_is_even_and_stays_what_it_was():
    draws = [draw(7, f"{n}") for n in range(2000)]
    assert np.histogram(draws, bins=4, range=(0, 1))[0] == pytest.approx([500] * 4, abs=80)
    # Another number here would move every image of every user.
    assert draw(4, "module-01") == int(hashlib.sha256(b"4\0module-01").hexdigest()[:16], 16) / 2**64
    assert [SHARES.side(number) for number in (0, 0.29, 0.31, 0.49, 0.51, 0.99)] == [
        *("test", "test", "val", "val", "train", "train")
    ]


def test_the_owner_s_column_is_taken_as_it_is_and_must_be_full():
    assert assign_by_column(["train", "val", "test"], ["a", "b", "c"]) == ["train", "val", "test"]
    with pytest.raises(DataError, match=r"^b: no side in the column 'split' \(2 such images\); fill it"):
        assign_by_column(["train", None, None], ["a", "b", "c"])


def test_a_side_without_images_and_a_class_unknown_to_training_are_one_line():
    check_sides(["train", "val", "test"], ["a", "a", "a"])
    with pytest.raises(DataError, match=r"^split: no image falls to val \(2 images in all\); use"):
        check_sides(["train", "test"], ["a", "b"])
    with pytest.raises(DataError, match=r"^split: class 'b' has 2 images, none of them in train; use"):
        check_sides(["train", "val", "test"], ["a", "b", "b"])


# The stage


def approve(folder, names, *, label=None, group=None, like=None):
    """Write one approved row per name; `label`, `group` and `like` (a dhash) are asked about it."""
    rng = np.random.default_rng(0)
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    label = label or (lambda name: "ab"[int(hashlib.md5(name.encode()).hexdigest(), 16) % 2])  # noqa: S324
    columns = {
        "path": [f"{name}.png" for name in names],
        "sha256": digests,
        "dhash": [(like and like(name)) or digest for name, digest in zip(names, digests, strict=True)],
        "width": pa.array([32] * len(names), pa.int32()),
        "height": pa.array([32] * len(names), pa.int32()),
        "bytes": rng.integers(900, 1000, len(names)),
        "brightness_mean": rng.normal(100, 5, len(names)),
        "brightness_spread": rng.normal(40, 2, len(names)),
        "label": [label(name) for name in names],
        "group": pa.array([group(name) if group else None for name in names], pa.string()),
        "split": pa.array([None] * len(names), pa.string()),
    }
    write_table(folder / "rows.parquet", pa.table(columns))


def split(tmp_path, **changes):
    """Run the stage; side by path."""
    stage.run(
        tmp_path / "approved",
        tmp_path / "splits",
        tmp_path / "sides.csv",
        params=stage.Params(**PARAMS | changes),
    )
    members = read_table(tmp_path / "splits" / "members.parquet").to_pydict()
    return dict(zip(members["path"], members["side"], strict=True))


def test_the_stage_writes_members_and_the_probe_s_answer(tmp_path, capsys):
    names = [f"{n}" for n in range(80)]
    approve(tmp_path / "approved", names, group=lambda name: f"g{int(name) % 20}")
    sides = split(tmp_path)
    by_group = defaultdict(set)
    for path, side in sides.items():
        by_group[int(Path(path).stem) % 20].add(side)
    assert set(map(len, by_group.values())) == {1}
    members = read_table(tmp_path / "splits" / "members.parquet")
    approved = read_table(tmp_path / "approved" / "rows.parquet")
    assert members.select(approved.column_names).equals(approved)
    assert members.column_names[-2:] == ["side", "why"]
    leak = json.loads((tmp_path / "splits" / "leak.json").read_text())
    assert [leak["tripped"], leak["families_on_several_sides"]] == [False, 0]
    assert {probe["name"] for probe in leak["probes"]} == {"file order", "path", "file", "brightness"}
    out, err = capsys.readouterr()
    assert f"split: train {Counter(sides.values())['train']} images (a " in out
    assert leak["sentence"] in out
    assert err == ""


def test_groups_count_only_where_they_are_asked_for(tmp_path):
    approve(tmp_path / "approved", [f"{n}" for n in range(60)], group=lambda name: f"g{int(name) % 6}")
    grouped, stratified = split(tmp_path, method="grouped"), split(tmp_path, method="stratified")
    assert len({grouped[f"{n}.png"] for n in range(0, 60, 6)}) == 1
    assert len({stratified[f"{n}.png"] for n in range(0, 60, 6)}) > 1


def test_later_images_move_no_earlier_one_and_a_bridge_is_excluded(tmp_path):
    names = [f"{n}" for n in range(60)]
    approve(tmp_path / "approved", names, group=lambda name: f"g{int(name) % 30}")
    before = split(tmp_path)
    train, test = (next(n for n in range(30) if before[f"{n}.png"] == side) for side in ("train", "test"))
    groups = {"bridge": f"g{train}", "more": f"g{test}", "fresh": None}
    hash_of = hashlib.sha256(f"{test}".encode()).hexdigest()
    approve(
        tmp_path / "approved",
        [*names, "bridge", "more", "fresh"],
        group=lambda name: groups[name] if name in groups else f"g{int(name) % 30}",
        like=lambda name: flip(hash_of, [3, 77]) if name == "bridge" else None,
    )
    after = split(tmp_path)
    assert {path: after[path] for path in before} == before
    assert after["bridge.png"] == "excluded"
    members = read_table(tmp_path / "splits" / "members.parquet").to_pydict()
    assert members["why"][members["path"].index("bridge.png")] == "resembles or groups with test and train"
    assert split(tmp_path) == after


def test_without_a_bridge_a_new_image_joins_its_group(tmp_path):
    names = [f"{n}" for n in range(40)]
    approve(tmp_path / "approved", names, group=lambda name: f"g{int(name) % 20}")
    before = split(tmp_path)
    approve(tmp_path / "approved", [*names, "40", "41"], group=lambda name: f"g{int(name) % 20}")
    after = split(tmp_path)
    assert (after["40.png"], after["41.png"]) == (before["0.png"], before["1.png"])


@pytest.mark.parametrize("changes", [{"seed": 4}, {"val_fraction": 0.3}, {"near_duplicate_distance": 0}])
def test_other_settings_start_afresh(tmp_path, changes):
    names = [f"{n}" for n in range(60)]
    approve(tmp_path / "approved", names)
    split(tmp_path)
    remembered = split(tmp_path, **changes)
    (tmp_path / "sides.csv").unlink()
    assert split(tmp_path, **changes) == remembered


def test_a_group_named_later_is_not_torn_by_what_was_decided_before(tmp_path):
    names = [f"{n}" for n in range(60)]
    approve(tmp_path / "approved", names)
    split(tmp_path)
    approve(tmp_path / "approved", names, group=lambda name: f"g{int(name) % 12}")
    sides = split(tmp_path)
    assert all(len({sides[f"{n}.png"] for n in range(first, 60, 12)}) == 1 for first in range(12))
    assert "excluded" not in sides.values()


def test_the_owner_s_column_decides_where_asked(tmp_path):
    names = [f"{n}" for n in range(30)]
    approve(tmp_path / "approved", names)
    table = read_table(tmp_path / "approved" / "rows.parquet")
    column = ["train", "val", "test"] * 10
    table = table.set_column(table.column_names.index("split"), "split", pa.array(column))
    write_table(tmp_path / "approved" / "rows.parquet", table)
    assert list(split(tmp_path, method="column").values()) == column


def test_copies_on_several_sides_of_the_owner_s_column_are_named_or_stop_the_stage(tmp_path, capsys):
    names = [f"{n}" for n in range(30)]
    approve(tmp_path / "approved", names, like=lambda name: "ab" * 32 if name in "12" else None)
    table = read_table(tmp_path / "approved" / "rows.parquet")
    table = table.set_column(
        table.column_names.index("split"), "split", pa.array(["train", "val", "test"] * 10)
    )
    write_table(tmp_path / "approved" / "rows.parquet", table)
    split(tmp_path, method="column")
    assert "1 sets of copies, look-alikes or groups lie on several sides, as 1.png (val), 2.png (test)" in (
        capsys.readouterr().err
    )
    with pytest.raises(DataError, match=r"^split: .*give them one side$"):
        split(tmp_path, method="column", leak_probe="fail", leak_limit=1.0)


def test_a_clone_with_the_memory_alone_gives_the_same_sides(tmp_path):
    names = [f"{n}" for n in range(60)]
    approve(tmp_path / "approved", names)
    split(tmp_path)
    twin = hashlib.sha256(b"7").hexdigest()
    approve(tmp_path / "approved", [*names, "new"], like=lambda name: twin if name == "new" else None)
    after = split(tmp_path)
    shutil.rmtree(tmp_path / "splits")
    assert split(tmp_path) == after


def test_a_damaged_memory_is_named_not_guessed(tmp_path):
    approve(tmp_path / "approved", [f"{n}" for n in range(60)])
    split(tmp_path)
    path = tmp_path / "sides.csv"
    path.write_text(path.read_text().replace(",train", ",trian", 1))
    with pytest.raises(DataError, match=r"sides.csv: not the memory of a split \(unknown columns or sides\)"):
        split(tmp_path)


def test_a_leak_stops_the_stage_where_it_may(tmp_path, capsys):
    names = [f"{n}" for n in range(200)]
    approve(tmp_path / "approved", names, label=lambda name: "ab"[int(name) // 50 % 2])
    split(tmp_path)
    assert capsys.readouterr().err.startswith(
        "split: leak probe TRIPPED: file order (which files lie next to it)"
    )
    with pytest.raises(
        DataError, match=r"^split: leak probe TRIPPED: .*; keep together what was taken together"
    ):
        split(tmp_path, leak_probe="fail", seed=5)
    settings = {"leak_probe": "fail", "leak_limit": 1.0, "seed": 5}
    assert len(split(tmp_path, **settings)) == 200


def test_the_same_input_gives_the_same_bytes(tmp_path):
    approve(tmp_path / "approved", [f"{n}" for n in range(50)])
    written = []
    for _ in range(2):
        split(tmp_path)
        written.append([path.read_bytes() for path in sorted((tmp_path / "splits").iterdir())])
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "leave nothing to train on"),
        ({"method": "random"}, "'grouped', 'stratified' or 'column'"),
        ({"near_duplicate_distance": 16}, "less than or equal to 15"),
        ({"colour": 1}, "Extra inputs"),
    ],
)
def test_wrong_parameters_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        stage.Params(**PARAMS | changes)
