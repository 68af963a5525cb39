"""params.yaml is strict: what is wrong is named with its place and its value, in one line."""

from typing import Literal

import pytest
from pydantic import ValidationError

from convflow.errors import ParamsError
from convflow.params import Fraction, PositiveInt, Section, check_section, load_section, read_params


class Inner(Section):
    """A part of a section."""

    share: Fraction


class Outer(Section):
    """A section."""

    epochs: PositiveInt
    lr: float
    mode: Literal["a", "b"]
    inner: Inner


GOOD = "outer:\n  epochs: 3\n  lr: 1\n  mode: a\n  inner: {share: 0.5}\n"


def write(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_good_section_is_read_and_frozen(tmp_path):
    section = load_section(write(tmp_path, GOOD), "outer", Outer)
    assert section == Outer(epochs=3, lr=1.0, mode="a", inner=Inner(share=0.5))
    with pytest.raises(ValidationError, match="frozen"):
        section.epochs = 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs: 3", "epochs: 0", "epochs: Input should be greater than 0 (found 0)"),
        ("epochs: 3", "epochs: '3'", "epochs: Input should be a valid integer (found '3')"),
        ("epochs: 3", "epochs: 3.5", "epochs: Input should be a valid integer"),
        ("epochs: 3", "epochs: true", "epochs: Input should be a valid integer (found True)"),
        ("lr: 1", "lr: 1e-3", "lr: Input should be a valid number (found '1e-3')"),
        ("mode: a", "mode: c", "mode: Input should be 'a' or 'b' (found 'c')"),
        ("share: 0.5", "share: 1.5", "inner.share: Input should be less than or equal to 1 (found 1.5)"),
        ("share: 0.5", "share: .nan", "inner.share: Input should be less than or equal to 1 (found nan)"),
        ("  mode: a\n", "", "mode: Field required"),
        ("  mode: a\n", "  mode: a\n  colour: red\n", "colour: Extra inputs are not permitted (found 'red')"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(tmp_path, old, new, message):
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ParamsError) as caught:
        load_section(path, "outer", Outer)
    assert str(caught.value).startswith(f"{path}: outer.{message}")
    assert "\n" not in str(caught.value)


def test_all_problems_come_in_one_line():
    with pytest.raises(ParamsError) as caught:
        check_section({"epochs": 3, "mode": "x", "inner": {}}, Outer, place="here")
    assert str(caught.value) == (
        "here.lr: Field required; here.mode: Input should be 'a' or 'b' (found 'x'); "
        "here.inner.share: Field required"
    )


@pytest.mark.parametrize("text", ["other: {}\n", "outer:\n"])
def test_a_missing_section_lists_what_it_needs(tmp_path, text):
    with pytest.raises(ParamsError, match=r"outer\.epochs: Field required; .*outer\.lr: Field required"):
        load_section(write(tmp_path, text), "outer", Outer)


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
    with pytest.raises(ParamsError, match=r"params.yaml: outer: Input should be"):
        load_section(write(tmp_path, "outer: 3\n"), "outer", Outer)
