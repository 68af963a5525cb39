"""`convflow init`: what it writes is what the stages read, and the seed it chooses serves."""

import shutil
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from convflow.data.splitting import Fractions, draw
from convflow.editing import rewritten
from convflow.errors import DataError, ParamsError
from made_images import make_tree, picture
from made_init import PARAMS, make_empty, params, run, table


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project; the current folder."""
    root = make_empty(tmp_path / "project")
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.lr=1e-5", 1e-5),
        ("train.lr=1", 1.0),
        ("train.lr=3.5e+20", 3.5e20),
        ("publish.name=yes", "yes"),
        ("publish.name=1_000", "1_000"),
        ("evaluate.positive=null", None),
        ("validate.modes=[L, RGB]", ["L", "RGB"]),
        ("validate.modes=null", None),
        ("pack.channels=1", 1),
        ("pack.channels=auto", "auto"),
        ("tracking.experiment=2024-01-31", "2024-01-31"),
        ("tracking.experiment=12:30", "12:30"),
        ("tracking.experiment='a: b'", "a: b"),
        ("train.arch_args.dropout=0", 0.0),
        ("train.arch_args={width: 8, 'no': 1.0e-7}", {"width": 8, "no": 1e-7}),
    ],
)
def test_a_set_is_read_back_as_it_was_meant(project, pictures, text, value):
    run(pictures, "--set", text)
    place = params()
    for name in text.partition("=")[0].split("."):
        place = place[name]
    assert (place, type(place)) == (value, type(value))


def test_two_settings_are_judged_together(project, pictures):
    run(pictures, "--set", "split.val_fraction=0.8", "--set", "split.test_fraction=0.1")
    assert params()["split"]["val_fraction"] == 0.8


def test_a_positive_class_may_be_named_yes(project):
    files = {f"{name}/{n}.png": picture(n + 9 * len(name)) for name in ("yes", "no") for n in range(4)}
    run(make_tree(project / "set", files), "--set", "evaluate.positive=yes")
    assert params()["evaluate"]["positive"] == "yes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.epochs=abc", 'expected a whole number above 0, found "abc"'),
        ("train.epochs=3.5", "expected a whole number above 0, found 3.5"),
        ("train.epochs=-1", "expected a whole number above 0, found -1"),
        ("train.epochs=true", "expected a whole number above 0, found true"),
        ("train.epochs=null", "expected a whole number above 0, found null"),
        ("train.lr=fast", 'expected a number above 0, found "fast"'),
        ("train.lr=.nan", "expected a number above 0, found .nan"),
        ("train.require_gpu=1", "expected true or false, found 1"),
        ("train.arch_args=3", "expected a mapping (each true or false, a number or a text), found 3"),
        (
            "train.augment.flips=horizntal",
            'expected none, horizontal or both, found "horizntal"; did you mean horizontal?',
        ),
        ("validate.modes=L", 'expected a list that is not empty (each a text) or null, found "L"'),
        ("evaluate.positive=[a]", 'expected a text or null, found ["a"]'),
    ],
)
def test_a_set_of_another_kind_is_one_line_and_writes_nothing(project, pictures, text, message):
    with pytest.raises(ParamsError) as caught:
        run(pictures, "--set", text)
    assert str(caught.value) == f"--set {text.partition('=')[0]}: {message}"
    assert Path("params.yaml").read_text() == PARAMS.read_text()


NAMES = [
    "yes",
    "no",
    "on",
    "12:30",
    "null",
    "1e3",
    "1_000",
    "0x1f",
    "2024-01-31",
    "2024-13-45",
    "~",
    "=",
    "1.0",
]
NAMES += [
    "a: b",
    "a, b",
    "#1",
    "x #y",
    "[a",
    "'a",
    "- a",
    "<<",
    "Größe 7",
    "🐈",
    "{a}",
    "%a",
    "@a",
    "!a",
    "&a",
]


def test_a_class_may_have_any_name(project):
    run(
        make_tree(
            project / "set",
            {f"{name}/{n}.png": picture(n + 9 * place) for place, name in enumerate(NAMES) for n in range(4)},
        ),
        "--set",
        "split.seed=0",
    )
    assert params()["validate"]["labels"] == sorted(NAMES)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )
)
def test_every_value_comes_back_from_the_file(value):
    with NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write("a: {b: 0}  # kept\nc: 1\n")
        file.flush()
        text = rewritten(Path(file.name), {"a.b": value})
    assert yaml.safe_load(text) == {"a": {"b": value}, "c": 1}
    assert "# kept" in text


def test_a_bare_yes_in_the_file_is_no_text_and_gets_quotes_when_it_is_meant_to_be_one(project, pictures):
    text = PARAMS.read_text().replace("name: convflow ", "name: yes ").replace("live: true", "live: yes")
    Path("params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"^params.yaml: publish.name: expected a text .* need quotes"):
        run(pictures)
    run(pictures, "--set", "publish.name=yes")
    written = params()
    assert (written["publish"]["name"], written["tracking"]["live"]) == ("yes", True)


# The seed


def grouped(root, n_groups):
    return table(root, ["label,group", *(f"{c},g{n}" for n in range(n_groups) for c in "ab")])


def test_the_seed_written_fills_every_side(project, capsys):
    run(grouped(project / "set", 4))
    split = params()["split"]
    sides = {Fractions(0.15, 0.25).side(draw(split["seed"], f"g{n}")) for n in range(4)}
    assert sides == {"train", "val", "test"}
    assert (
        f"  split.seed: {split['seed']}, of 0..99 the one with the most even sides\n"
        in capsys.readouterr().out
    )


def test_fractions_set_beside_it_decide_the_seed(project):
    root = grouped(project / "set", 20)
    seeds = []
    for value in (0.1, 0.3):
        shutil.copy(PARAMS, "params.yaml")
        run(root, "--set", f"split.val_fraction={value}")
        draws = [Fractions(value, 0.25).side(draw(params()["split"]["seed"], f"g{n}")) for n in range(20)]
        seeds.append([draws.count(side) for side in ("train", "val", "test")])
    assert seeds == [[13, 2, 5], [9, 6, 5]]


def test_a_seed_that_serves_stays_with_its_folder_and_any_other_goes(project):
    root = grouped(project / "set", 8)
    run(root)
    chosen = params()["split"]["seed"]
    served = next(
        n
        for n in range(100)
        if n != chosen and len({Fractions(0.15, 0.25).side(draw(n, f"g{k}")) for k in range(8)}) == 3
    )
    failed = next(
        n for n in range(100) if len({Fractions(0.15, 0.25).side(draw(n, f"g{k}")) for k in range(8)}) < 3
    )
    for seed, expected in ((served, served), (failed, chosen)):
        run(root, "--set", f"split.seed={seed}")
        run(root)
        assert params()["split"]["seed"] == expected


def test_sides_from_the_table_need_no_seed(project):
    before = params()["split"]["seed"]
    run(table(project / "set", ["label,split", "a,train", "b,train", "a,val", "b,test"]), "--json")
    assert params()["split"]["seed"] == before


def test_too_few_groups_for_three_sides_are_one_line_and_write_nothing(project):
    root = grouped(project / "set", 2)
    with pytest.raises(
        DataError, match=r"^split: of seeds 0 to 99 none gives every side .*; add images"
    ) as caught:
        run(root)
    assert "\n" not in str(caught.value)
    assert Path("params.yaml").read_text() == PARAMS.read_text()
