"""The gate: what breaks a rule is named with its reason; what is critical leaves no approved table behind."""

import csv
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from convflow.data import evidence
from convflow.data.evidence import gather
from convflow.data.expectations import ask
from convflow.data.foretelling import foretell
from convflow.data.layout import read_layout
from convflow.data.rules import Limits, limits_of, make_rules
from convflow.errors import DataError, ParamsError
from convflow.files import digest_folder, read_json, write_json
from convflow.params import check_section
from convflow.stages.validate import Params, run
from convflow.tables import read_table, write_table
from made_images import make_tree
from made_rows import REJECTS, SCHEMA, SETTINGS, SEVERITY, TRUNCATED, good, image


class Room:
    """A project folder with one scan in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.split("stratified")

    def split(self, method: str) -> None:
        (self.folder / "params.yaml").write_text(f"split: {{method: {method}}}\n")

    def validate(
        self,
        rows: list[dict[str, Any]] | pa.Table,
        rejects: tuple[dict[str, Any], ...] = (),
        empty: tuple[str, ...] = (),
        **changes: Any,
    ) -> dict[str, Any]:
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema=SCHEMA)
        write_table(Path("scan/rows.parquet"), table)
        write_table(Path("scan/rejects.parquet"), pa.Table.from_pylist(list(rejects), schema=REJECTS))
        write_json(Path("scan/summary.json"), {"classes": dict.fromkeys(empty, 0)})
        self.changes = changes
        params = check_section(SETTINGS | changes, Params, place="params.yaml: validate")
        run(Path("scan"), Path("approved"), Path("validation"), params=params)
        return self.result()

    def refused(self, *args: Any, **changes: Any) -> dict[str, Any]:
        (self.folder / "approved").mkdir(exist_ok=True)
        (self.folder / "approved/rows.parquet").write_text("of an earlier run")
        message = r"^validation stopped the pipeline: .*problems\.csv.*index\.html$"
        with pytest.raises(DataError, match=message):
            self.validate(*args, **changes)
        assert not (self.folder / "approved").exists()
        assert "Not approved" in (self.folder / "validation/index.html").read_text()
        return self.result()

    def foretold(self) -> dict[str, list[str]]:
        """What `convflow init` would say of the scan last validated."""
        rows, rejects = (read_table(Path(f"scan/{name}.parquet")).to_pandas() for name in ("rows", "rejects"))
        settings = SETTINGS | self.changes
        limits = limits_of(settings, grouped=False)
        classes = read_json(Path("scan/summary.json"))["classes"]
        evidence = gather(rows, rejects, classes, distance=settings["near_duplicate_distance"])
        return foretell(make_rules(limits, settings["severity"]), evidence)

    def result(self) -> dict[str, Any]:
        value: dict[str, Any] = read_json(self.folder / "validation/result.json")
        return value

    def problems(self) -> list[tuple[str, str, str, str, str]]:
        with (self.folder / "validation/problems.csv").open(newline="") as stream:
            return [tuple(row) for row in csv.reader(stream)][1:]  # type: ignore[misc]


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.chdir(tmp_path)
    return Room(tmp_path)


def broken(result: dict[str, Any]) -> dict[str, int]:
    return {row["rule"]: row["count"] for row in result["rules"] if not row["passed"]}


def test_sound_images_are_approved_row_for_row(room: Room, capsys: pytest.CaptureFixture[str]) -> None:
    result = room.validate(good())
    assert read_table(Path("approved/rows.parquet")).equals(read_table(Path("scan/rows.parquet")))
    assert (result["success"], result["worst"], broken(result)) == (True, None, {})
    assert result["classes"] == {"cat": 4, "dog": 4}
    assert room.problems() == []
    assert capsys.readouterr() == ("validate: 8 images of 2 classes approved\n", "")


REMEDY = "mend or remove it, or set validate.on_bad_image: quarantine"
CRITICAL_CASES: list[tuple[list[dict[str, Any]], dict[str, Any], dict[str, int], str]] = [
    (
        good(),
        {"rejects": (TRUNCATED,)},
        {"bad_images": 1},
        f"cat/x.png: truncated PNG (10 of 99 bytes); {REMEDY}",
    ),
    (
        good(),
        {"rejects": (TRUNCATED | {"detail": "200 megapixels, above the limit; shrink it or remove it"},)},
        {"bad_images": 1},
        "cat/x.png: 200 megapixels, above the limit; shrink it or remove it, or set "
        "validate.on_bad_image: quarantine",
    ),
    (
        [*good(), image("rare/1.png"), image("rare/2.png")],
        {},
        {"class_size": 1},
        "class 'rare' has 2 images; add some, remove the folder or lower validate.min_images_per_class (3)",
    ),
    (
        good(),
        {"empty": ("bird",)},
        {"class_size": 1},
        "class 'bird' has no image; add some or remove the class",
    ),
    (
        good()[:4],
        {},
        {"two_classes": 1},
        "class 'cat' is the only one with images (4); add a class, or look at data.root",
    ),
    (
        [*good(), image("dog/äö 猫.png", sha256=good()[0]["sha256"])],
        {},
        {"label_conflict": 2},
        "dog/äö 猫.png: labelled 'dog', but cat/0.png has the same bytes and is 'cat'; "
        "keep the copy with the right label and remove the others",
    ),
    (
        good(),
        {"labels": ["cat", "dog", "bird"]},
        {"labels": 1},
        "class 'bird' is expected and has no image; correct the label or change validate.labels",
    ),
    (
        good(),
        {"labels": ["cat"]},
        {"labels": 4},
        "dog/3.png: unexpected label 'dog'; correct the label or change validate.labels",
    ),
    (
        [*good(), image("cat/c.png", mode="RGB")],
        {"modes": ["L"]},
        {"modes": 1},
        "cat/c.png: mode RGB; convert it or change validate.modes",
    ),
    (
        [*good(), image("cat/s.png", width=7)],
        {"severity": SEVERITY | {"size": "critical"}},
        {"size": 1},
        "cat/s.png: 7 x 16 px; a side is below 8 px; remove it or lower validate.min_side_px (8)",
    ),
    (
        good(),
        {"require_group": True},
        {"group": 8},
        "cat/0.png: has no group; fill the group column of labels.csv or choose another split.method",
    ),
    (
        good(),
        {"rejects": (TRUNCATED,) * 3, "on_bad_image": "quarantine"},
        {"reject_share": 1},
        "27.3 % of the files are rejects (3 of 11: 3 truncated); "
        "mend or remove them, or raise validate.max_reject_share (0.2)",
    ),
    ([], {}, {"schema": 1, "two_classes": 1}, "no image is left to learn from (0 readable, 0 rejected)"),
]


def test_what_the_owner_wrote_holds_no_sign_that_stands_before_a_remedy(tmp_path: Path) -> None:
    lines = ["path,label,split,weight", "a.png,cat,old; dev,1", "b.png,cat,train,1; 2"]
    root = make_tree(tmp_path, {"labels.csv": "\n".join(lines), "a.png": b"", "b.png": b""})
    assert [reject.detail for reject in read_layout(root).rejects] == [
        "split 'old, dev' is none of train, val, test (line 2)",
        "weight '1, 2' is no number above 0 (line 3)",
    ]


@pytest.mark.parametrize(("rows", "changes", "expected", "line"), CRITICAL_CASES)
def test_a_critical_rule_stops_the_pipeline_and_says_why(
    room: Room,
    capsys: pytest.CaptureFixture[str],
    rows: list[dict[str, Any]],
    changes: dict[str, Any],
    expected: dict[str, int],
    line: str,
) -> None:
    result = room.refused(rows, **changes)
    assert (broken(result), result["success"], result["worst"]) == (expected, False, "critical")
    assert f"  {line}" in capsys.readouterr().err
    foretold = room.foretold()
    assert {name: len(lines) for name, lines in foretold.items()} == expected
    assert all(set(row["examples"]) <= set(foretold.get(row["rule"], ())) for row in result["rules"])
    assert any(row[4] in line or line in row[4] for row in room.problems())


@pytest.mark.parametrize(
    ("extra", "rule", "line"),
    [
        (
            image("cat/w.png", width=200),
            "aspect",
            "cat/w.png: 200 x 16 px; one side is 12.5 times the other; crop or remove it, or raise "
            "validate.max_aspect (8)",
        ),
        (
            image("cat/z.png", sha256=good()[0]["sha256"], dhash=good()[0]["dhash"]),
            "duplicates",
            "cat/z.png: same bytes as cat/0.png; remove the copy; the split keeps copies on one side, "
            "but each counts as an image",
        ),
        (
            image("cat/z.png", dhash=good()[0]["dhash"]),
            "near_duplicates",
            "cat/z.png: looks like cat/0.png (0 of 256 bits apart); nothing need be done; lower "
            "validate.near_duplicate_distance (4) if they do not look alike",
        ),
    ],
)
def test_a_warning_names_the_file_and_blocks_nothing(
    room: Room, capsys: pytest.CaptureFixture[str], extra: dict[str, Any], rule: str, line: str
) -> None:
    result = room.validate([*good(), extra])
    severity = SEVERITY[rule]
    assert (broken(result), result["success"], result["worst"]) == ({rule: 1}, True, severity)
    assert f"  {severity}: {rule} (1), first: {line}\n" in capsys.readouterr().out
    path, detail = line.split(": ", 1)
    assert room.problems() == [(path, "cat", rule, severity, detail)]
    assert read_table(Path("approved/rows.parquet")).num_rows == 9
    assert room.foretold() == {}


def test_look_alikes_with_two_labels_are_reported_with_both(room: Room) -> None:
    result = room.validate([*good(), image("dog/z.png", dhash=good()[0]["dhash"])])
    assert broken(result) == {"near_label_conflict": 1, "near_duplicates": 1}
    assert room.problems()[0][4].startswith("labelled 'dog', looks like cat/0.png, labelled 'cat' (0 of 256")


def test_flat_pictures_are_not_taken_for_look_alikes(room: Room) -> None:
    flat = [image(f"cat/f{n}.png", dhash="") for n in range(3)]
    assert broken(room.validate([*good(), *flat])) == {}


def test_a_grouped_split_needs_groups_and_others_do_not(room: Room) -> None:
    room.validate(good())
    room.split("grouped")
    assert broken(room.refused(good())) == {"group": 8}
    assert broken(room.validate([row | {"group": "a"} for row in good()])) == {}


def test_a_rule_that_cannot_be_asked_does_not_pass(room: Room) -> None:
    table = pa.Table.from_pylist(good(), schema=SCHEMA).drop_columns("group")
    assert broken(room.refused(table, require_group=True)) == {"schema": 1, "group": 1}
    assert room.foretold().keys() == {"schema", "group"}


def test_a_critical_rule_that_could_not_be_checked_says_why(
    room: Room, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def heap(*_: Any, **__: Any) -> None:
        raise DataError("too many look-alikes; lower the distance")

    monkeypatch.setattr(evidence, "near_duplicate_pairs", heap)
    critical = SEVERITY | {"near_label_conflict": "critical"}
    with pytest.raises(DataError, match=r": 1 critical problem \(near_label_conflict not checked\); all in"):
        room.validate(good(), severity=critical)
    reason = "not checked: too many look-alikes; lower the distance"
    assert capsys.readouterr().err == f"  near_label_conflict: {reason}\n"
    assert room.problems()[0] == ("", "", "near_label_conflict", "critical", reason)
    assert room.foretold() == {"near_label_conflict": [reason]}


def test_quarantine_sets_bad_images_aside_and_lists_them(
    room: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    result = room.validate(good(), (TRUNCATED,), on_bad_image="quarantine")
    assert (result["success"], broken(result)) == (True, {})
    assert result["rejects"] == {"by_reason": {"truncated": 1}, "set_aside": True, "total": 1}
    detail = "truncated: truncated PNG (10 of 99 bytes); set aside"
    assert room.problems() == [("cat/x.png", "cat", "set_aside", "info", detail)]
    assert capsys.readouterr().out == "validate: 8 images of 2 classes approved, 1 files set aside\n"


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (pa.Table.from_pylist(good(), schema=SCHEMA).drop_columns("width"), "column 'width' is missing"),
        (
            pa.Table.from_pylist([row | {"label": None} for row in good()], schema=SCHEMA),
            "column 'label' has 8 empty cells",
        ),
        (
            pa.Table.from_pylist(good(), schema=SCHEMA).set_column(8, "width", pa.array(["16"] * 8)),
            "column 'width' holds str, not int32",
        ),
    ],
)
def test_a_column_missing_empty_or_of_another_type_is_critical_and_never_passes(
    room: Room, table: pa.Table, reason: str
) -> None:
    result = room.refused(table)
    assert broken(result)["schema"] == 1
    unchecked = [row for row in result["rules"] if row["observed"] == f"not checked: {reason}"]
    assert len(unchecked) >= 2
    assert not any(row["passed"] for row in unchecked)
    assert not any("Traceback" in path.read_text() for path in Path("validation").iterdir())


def test_a_path_listed_twice_is_critical(room: Room) -> None:
    assert broken(room.refused([*good(), good()[3] | {"sha256": "0" * 64}]))["schema"] == 1
    assert ("cat/3.png", "", "schema", "critical") in {row[:4] for row in room.problems()}


def test_the_terminal_shows_ten_lines_and_the_table_all(
    room: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    rejects = tuple(TRUNCATED | {"path": f"cat/x{n:02}.png"} for n in range(25))
    room.refused(good(), rejects, max_reject_share=1.0)
    lines = capsys.readouterr().err.splitlines()
    assert (len(lines), lines[-1]) == (11, "  ... and 15 more")
    assert len(room.problems()) == 25
    page = Path("validation/index.html").read_text()
    assert "cat/x19.png" in page
    assert "cat/x20.png" not in page
    assert 'and 5 more in <a href="problems.csv">' in page


def test_the_page_needs_nothing_and_trusts_no_name(room: Room) -> None:
    room.validate([*good(), image("cat/<script>alert(1)</script>.png", width=200)])
    page = Path("validation/index.html").read_text()
    assert "<script" not in page
    assert "cat/&lt;script&gt;" in page
    assert not re.search(r"https?:|//cdn|@import|url\(", page)


@pytest.mark.slow
def test_the_same_images_give_the_same_bytes_data_docs_included(room: Room) -> None:
    digests = set()
    for _ in range(2):
        room.validate(good(), data_docs=True)
        digests.add(digest_folder(Path("validation")))
    assert len(digests) == 1
    assert Path("validation/data_docs/index.html").is_file()
    pages = "".join(page.read_text() for page in Path("validation/data_docs").rglob("*.html"))
    assert str(room.folder) not in pages
    assert "great-expectations-web-assets" not in pages


def test_great_expectations_counts_what_the_lists_name(room: Room) -> None:
    rows = [
        *good(),
        image("cat/a.png", sha256=good()[0]["sha256"]),
        image("dog/a.png", sha256=good()[0]["sha256"], dhash=good()[1]["dhash"]),
        image("dog/b.png", width=2, height=40, mode="RGB"),
    ]
    room.refused(rows, labels=["dog"], modes=["L"], require_group=True)
    named = {row["rule"]: row["count"] for row in room.result()["rules"] if not row["passed"]}
    limits = Limits(["dog"], 8, 8.0, ["L"], 3, 2.0, 0.2, 4, bad_images_fail=True, group_required=True)
    rejects = pa.Table.from_pylist([], schema=REJECTS).to_pandas()
    table = pa.Table.from_pylist(rows, schema=SCHEMA).to_pandas()
    seen = gather(table, rejects, {}, distance=4)
    asks = [e for rule in make_rules(limits, SEVERITY) for e in rule.expectations() if e.frame == "images"]
    answers = ask({"images": seen.images}, asks, docs=None)
    assert {a.rule: a.n_unexpected for a in answers if not a.passed and a.n_unexpected} == named
    assert len(named) == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"near_duplicate_distance": 16}, r"near_duplicate_distance: .* from 0 to 15, found 16$"),
        ({"severity": SEVERITY | {"label_conflict": "info"}}, r"severity\.label_conflict: no such parameter"),
        ({"severity": SEVERITY | {"size": "fatal"}}, r"severity\.size: expected critical, warning or info"),
        ({"on_bad_image": "skip"}, r"on_bad_image: expected fail or quarantine, found \"skip\"$"),
        ({"labels": []}, r"labels: expected a list that is not empty"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        check_section(SETTINGS | changes, Params, place="params.yaml: validate")
