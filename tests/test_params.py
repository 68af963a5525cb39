"""params.yaml is strict: what is wrong is named with its place and its value, in a line of our own words."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, field_validator

from convflow.errors import ParamsError
from convflow.faults import find_faults
from convflow.params import Fraction, PositiveInt, Section, check_section, load_section, read_params


class Inner(Section):
    """A part of a section."""

    share: Fraction


class Outer(Section):
    """A section."""

    epochs: PositiveInt
    lr: Annotated[float, Field(ge=0.5)]
    mode: Literal["none", "horizontal", 3]
    name: str | None
    inner: Inner


GOOD = "outer:\n  epochs: 3\n  lr: 1\n  mode: none\n  name: x\n  inner: {share: 0.5}\n"


def write(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_good_section_is_read_and_frozen(tmp_path):
    section = load_section(write(tmp_path, GOOD), "outer", Outer)
    assert section == Outer(epochs=3, lr=1.0, mode="none", name="x", inner=Inner(share=0.5))
    with pytest.raises(ValidationError, match="frozen"):
        section.epochs = 4


WORDS = "; words such as yes, no and on need quotes, or YAML takes them for true and false"
WRONG = [
    ("epochs: 3", "epochs: 0", "epochs: expected a whole number above 0, found 0"),
    ("epochs: 3", "epochs: '3'", 'epochs: expected a whole number above 0, found "3"; leave out the quotes'),
    ("epochs: 3", "epochs: 3.5", "epochs: expected a whole number above 0, found 3.5"),
    ("epochs: 3", "epochs: true", "epochs: expected a whole number above 0, found true"),
    ("epochs: 3", "epochs:", "epochs: expected a whole number above 0, found null"),
    (
        "lr: 1",
        "lr: 1e-3",
        'lr: expected a number at least 0.5, found "1e-3"; write it with point and sign, as 1.0e-3',
    ),
    ("lr: 1", "lr: fast", 'lr: expected a number at least 0.5, found "fast"'),
    ("lr: 1", "lr: .inf", "lr: expected a number at least 0.5, found .inf"),
    ("lr: 1", "lr: .nan", "lr: expected a number at least 0.5, found .nan"),
    ("mode: none", "mode: 4", "mode: expected none, horizontal or 3, found 4"),
    (
        "mode: none",
        "mode: horizntal",
        'mode: expected none, horizontal or 3, found "horizntal"; did you mean horizontal?',
    ),
    ("mode: none", "mode: no", f"mode: expected none, horizontal or 3, found false{WORDS}"),
    ("name: x", "name: on", f"name: expected a text or null, found true{WORDS}"),
    ("name: x", "name: 2024", "name: expected a text or null, found 2024; put it in quotes"),
    ("name: x", "name: 2024-01-31", 'name: expected a text or null, found "2024-01-31"; put it in quotes'),
    ("name: x", "name: [a]", 'name: expected a text or null, found ["a"]'),
    ("name: x", f"name: [{'a' * 99}]", f'name: expected a text or null, found ["{"a" * 58}...'),
    ("share: 0.5", "share: 1.5", "inner.share: expected a number from 0 to 1, found 1.5"),
    ("inner: {share: 0.5}", "inner: 0.5", "inner: expected a section with share, found 0.5"),
    ("  mode: none\n", "", "mode: missing; add `mode:` with none, horizontal or 3"),
    ("  mode: none\n", "  mode: none\n  epoch: 3\n", "epoch: no such parameter; did you mean epochs?"),
    ("{share: 0.5}", "{share: 0.5, shard: 1}", "inner.shard: no such parameter; did you mean share?"),
    (
        "  mode: none\n",
        "  mode: none\n  colour: red\n",
        "colour: no such parameter; there are epochs, lr, mode, name and inner",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_a_wrong_value_is_named_with_its_place_and_what_is_expected(tmp_path, old, new, message):
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ParamsError) as caught:
        load_section(path, "outer", Outer)
    assert str(caught.value) == f"{path}: outer.{message}"


class Odd(Section):
    """What sections may hold, too."""

    labels: Annotated[list[str], Field(min_length=1)] | None = None
    args: dict[str, bool | int | float | str] = Field(default_factory=dict)
    grid: dict[str, Annotated[list[PositiveInt], Field(min_length=1)]] = Field(default_factory=dict)
    recall: Fraction | dict[str, Fraction] | None = None
    floors: dict[Literal["accuracy", "macro_f1"], Fraction] = Field(default_factory=dict)
    name: Annotated[str, Field(pattern="^[a-z]+$")] = "x"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    maybe: Inner | None = None
    set: frozenset[str] | None = None

    @field_validator("seed")
    @classmethod
    def _lucky(cls, seed: int) -> int:
        if seed == 13:
            raise ValueError("13 is no good; take another")
        return seed


SHARE = "a number from 0 to 1"
ODD: list[tuple[Any, dict[str, str]]] = [
    ({}, {}),
    ({"labels": []}, {"labels": "expected a list that is not empty (each a text) or null, found []"}),
    ({"labels": ["a", 1]}, {"labels.1": "expected a text, found 1; put it in quotes"}),
    ({"args": {"x": [1]}}, {"args.x": "expected true or false, a number or a text, found [1]"}),
    ({"args": {1: 2}}, {"args.1": "the name 1 is no text; put it in quotes"}),
    ({True: 1}, {"": "the name true is no text; put it in quotes"}),
    ({"grid": {"c": [1, 0]}}, {"grid.c.1": "expected a whole number above 0, found 0"}),
    ({"recall": {"cat": 2, "dog": 0.5}}, {"recall.cat": f"expected {SHARE}, found 2"}),
    ({"recall": 2}, {"recall": f"expected {SHARE}, a mapping (each {SHARE}) or null, found 2"}),
    ({"floors": {"acuracy": 0.5}}, {"floors.acuracy": "no such parameter; did you mean accuracy?"}),
    ({"floors": {"f": 0.5}}, {"floors.f": "no such parameter; there are accuracy and macro_f1"}),
    ({"name": "X"}, {"name": 'expected a text of the form ^[a-z]+$, found "X"'}),
    ({"seed": -1}, {"seed": "expected a whole number at least 0 and below 4,294,967,296, found -1"}),
    ({"seed": 13}, {"seed": "13 is no good; take another"}),
    ({"maybe": {"share": "x"}}, {"maybe.share": f'expected {SHARE}, found "x"'}),
    ({"maybe": {}}, {"maybe.share": f"missing; add `share:` with {SHARE}"}),
    ({"set": ["a"]}, {"": "Input should be a valid frozenset"}),  # none has it: YAML knows no sets
    (3, {"": f"expected a section with {', '.join(list(Odd.model_fields)[:-1])} and set, found 3"}),
]


@pytest.mark.parametrize(("values", "faults"), ODD)
def test_every_kind_of_value_has_its_words(values, faults):
    assert find_faults(values, Odd) == faults


def test_every_problem_has_its_line():
    with pytest.raises(ParamsError) as caught:
        check_section({"epochs": 3, "mode": "x", "name": None, "inner": {}}, Outer, place="here")
    assert str(caught.value).splitlines() == [
        "here.lr: missing; add `lr:` with a number at least 0.5",
        'here.mode: expected none, horizontal or 3, found "x"',
        "here.inner.share: missing; add `share:` with a number from 0 to 1",
    ]


@pytest.mark.parametrize("text", ["other: {}\n", "outer:\n", "outer: {}\n"])
def test_a_missing_section_lists_what_it_needs(tmp_path, text):
    path = write(tmp_path, text)
    with pytest.raises(ParamsError) as caught:
        load_section(path, "outer", Outer)
    assert str(caught.value) == (
        f"{path}: outer: missing; add the section, with epochs, lr, mode, name and inner"
    )


def test_a_section_that_needs_nothing_may_be_missing(tmp_path):
    assert load_section(write(tmp_path, "other: 1\n"), "odd", Odd) == Odd()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not YAML: while parsing"),
        (b"a: \xff", "not YAML: "),
        ("", "expected sections such as 'train:', found NoneType"),
        ("- 1", "expected sections such as 'train:', found list"),
    ],
)
def test_a_file_that_is_no_mapping_is_one_line(tmp_path, text, message):
    with pytest.raises(ParamsError, match=f"params.yaml: {message}") as caught:
        read_params(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(
        ParamsError, match=r"params.yaml: no such file; run convflow from the project's folder$"
    ):
        read_params(tmp_path / "params.yaml")


def test_a_section_that_is_no_mapping_is_refused(tmp_path):
    with pytest.raises(ParamsError, match=r"params.yaml: outer: expected a section with epochs.*, found 3$"):
        load_section(write(tmp_path, "outer: 3\n"), "outer", Outer)
