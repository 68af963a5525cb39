"""Files and their labels: nothing vanishes, and every oddity has its reason."""

import os
import socket
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convflow.data.images import SAFE_FORMATS
from convflow.data.layout import Labelled, Reject, natural_key, phone_photos, read_layout
from convflow.errors import DataError
from made_images import encode, make_tree, picture

ONE = picture()
TWICE = "listed more than once in labels.csv; keep one line"
OUTSIDE = "points outside the data folder; copy the file into it"
GONE = "listed in labels.csv but not there; restore the file or remove the line"


def tree(root, files):
    return make_tree(root / "set", files)


def n_files(layout):
    return len(layout.items) + len(layout.rejects) + layout.ignored.total()


def reasons(layout):
    return {reject.path: reject.reason for reject in layout.rejects}


def of_table(tmp_path, table, *names):
    return read_layout(tree(tmp_path, dict.fromkeys(names, ONE) | {"labels.csv": table}))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cell10", "cell9", "cell1"], ["cell1", "cell9", "cell10"]),
        (["b2", "a10", "a2"], ["a2", "a10", "b2"]),
        (["x", "10", "9", ""], ["", "9", "10", "x"]),
        (["a²", "a1"], ["a1", "a²"]),
    ],
)
def test_names_sort_as_people_count(names, expected):
    assert sorted(names, key=natural_key) == expected


@given(st.lists(st.text(max_size=8)))
def test_any_names_can_be_compared(names):
    assert Counter(sorted(names, key=natural_key)) == Counter(names)


# A folder per class


def test_a_folder_per_class_gives_its_name_to_all_below_it(tmp_path):
    root = tree(tmp_path, {"dog/b.PNG": ONE, "cat/deep/er/a.jpg": ONE, "cat/z.png": ONE})
    (root / "empty").mkdir()
    layout = read_layout(root)
    assert layout.items == [
        Labelled("cat/deep/er/a.jpg", "cat"),
        Labelled("cat/z.png", "cat"),
        Labelled("dog/b.PNG", "dog"),
    ]
    assert (layout.kind, layout.classes, layout.tags) == ("folders", ["cat", "dog", "empty"], ())
    assert (layout.rejects, layout.ignored) == ([], Counter())


def test_an_image_beside_the_class_folders_has_no_label(tmp_path):
    layout = read_layout(tree(tmp_path, {"cat/a.png": ONE, "b.png": ONE}))
    detail = "lies beside the class folders; move it into one, or add a labels.csv"
    assert layout.rejects == [Reject("b.png", None, "unlabelled", detail)]


def test_other_files_are_counted_by_suffix_and_hidden_folders_passed_over(tmp_path):
    files = {"cat/a.png": ONE, "notes.TXT": "", "cat/b.txt": "", "cat/.hidden": "", "paper.pdf": ""}
    layout = read_layout(tree(tmp_path, files | {".git/x.png": ONE}))
    assert layout.ignored == {".txt": 2, ".hidden": 1, ".pdf": 1}
    assert n_files(layout) == 5


@pytest.mark.parametrize("name", ["schöne Katze 1.png", "two\nlines.png", "🐈.png", "a'b\"c.png", "noend"])
def test_a_name_may_hold_any_character(tmp_path, name):
    assert read_layout(tree(tmp_path, {f"Größe 7/{name}": encode(ONE)})).items == [
        Labelled(f"Größe 7/{name}", "Größe 7")
    ]


@pytest.mark.parametrize("kind", [kind for kind in SAFE_FORMATS if kind not in ("TGA", "DIB")])
def test_a_file_without_a_suffix_is_an_image_when_it_starts_like_one(tmp_path, kind):
    image = ONE.convert("P" if kind == "GIF" else "RGB")
    layout = read_layout(tree(tmp_path, {"cat/DSC0001": encode(image, kind)}))
    assert layout.items == [Labelled("cat/DSC0001", "cat")]


@pytest.mark.parametrize("text", ["", "Python pictures", "Pfad", "P12", "BMW and other cars", "GIF of cats"])
def test_a_readme_without_a_suffix_is_no_image(tmp_path, text):
    layout = read_layout(tree(tmp_path, {"cat/a.png": ONE, "README": text, "cat/LICENSE": text}))
    assert (layout.rejects, layout.ignored, n_files(layout)) == ([], {"README": 1, "LICENSE": 1}, 3)


def test_a_pipe_without_a_suffix_is_not_waited_for(tmp_path):
    root = tree(tmp_path, {"cat/a.png": ONE})
    os.mkfifo(root / "cat" / "pipe")
    assert read_layout(root).ignored == {"pipe": 1}


def test_a_link_without_a_suffix_that_leads_nowhere_is_kept_to_be_told(tmp_path):
    root = tree(tmp_path, {"cat/a.png": ONE})
    (root / "cat" / "gone").symlink_to("nowhere")
    assert [item.path for item in read_layout(root).items] == ["cat/a.png", "cat/gone"]


def test_photos_in_a_phone_s_format_come_with_a_remedy(tmp_path):
    root = tree(tmp_path, {"cat/a.HEIC": b"x", "cat/b.heic": b"x", "cat/c.heif": b"x"})
    with pytest.raises(
        DataError, match=r"no images found; convert 2 \.heic and 1 \.heif to JPEG or PNG in one"
    ):
        read_layout(root)
    assert phone_photos({".txt": 3}) == ""


def test_names_that_differ_only_in_their_unicode_form_stay_two(tmp_path):
    names = ["cat/caf\u00e9.png", "cat/cafe\u0301.png"]
    root = tree(tmp_path, dict.fromkeys(names, ONE))
    if len(os.listdir(root / "cat")) == 1:
        pytest.skip("this file system folds them")
    assert {item.path for item in read_layout(root).items} == set(names)


def test_a_name_that_is_no_text_is_rejected_and_shown_as_far_as_it_can_be(tmp_path):
    root = tree(tmp_path, {"cat/a.png": ONE})
    os.makedirs(os.fsencode(root) + b"/d\xffg")
    for name in (b"/cat/\xff.png", b"/d\xffg/b.png", b"/cat/x.t\xfft"):
        with open(os.fsencode(root) + name, "wb"):
            pass
    layout = read_layout(root)
    assert layout.classes == ["cat"]
    assert reasons(layout) == dict.fromkeys(["cat/�.png", "d�g/b.png", "cat/x.t�t"], "unreadable")
    assert layout.rejects[0].detail == "its name is not UTF-8; rename it"


def test_a_link_is_taken_inside_the_tree_and_rejected_where_it_leaves_it(tmp_path):
    root = tree(tmp_path, {"cat/a.png": ONE})
    (tmp_path / "b.png").write_bytes(b"x")
    (root / "cat" / "inside.png").symlink_to("a.png")
    (root / "cat" / "outside.png").symlink_to(tmp_path / "b.png")
    (root / "cat" / "broken.png").symlink_to("nowhere.png")
    (root / "cat" / "loop.png").symlink_to("loop.png")
    layout = read_layout(root)
    assert [item.path for item in layout.items] == [f"cat/{n}.png" for n in ("a", "broken", "inside", "loop")]
    detail = "a symbolic link to a file outside the data folder; copy the file"
    assert layout.rejects == [Reject("cat/outside.png", "cat", "link-leaves-tree", detail)]


def test_a_linked_folder_is_not_followed_but_is_told(tmp_path):
    root = tree(tmp_path, {"cat/a.png": ONE})
    make_tree(tmp_path / "elsewhere", {"b.png": ONE})
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "kitten").symlink_to("cat")
    layout = read_layout(root)
    assert [item.path for item in layout.items] == ["cat/a.png"]
    assert layout.classes == ["cat"]
    detail = "a symbolic link to a folder outside the data folder; copy the folder"
    assert layout.rejects == [Reject("dog", None, "link-leaves-tree", detail)]
    assert layout.ignored == {"kitten": 1}


def test_a_root_that_is_itself_a_link_is_fine(tmp_path):
    root = tree(tmp_path, {"cat/a.png": ONE})
    (root / "cat" / "b.png").symlink_to("a.png")
    (tmp_path / "link").symlink_to(root)
    assert len(read_layout(tmp_path / "link").items) == 2


def test_pipes_sockets_and_folders_with_an_image_s_name_are_listed_without_waiting(tmp_path, monkeypatch):
    root = tree(tmp_path, {"cat/a.png": ONE})
    os.mkfifo(root / "cat" / "pipe.png")
    (root / "cat" / "folder.png").mkdir()
    monkeypatch.chdir(root / "cat")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("socket.png")
        names = [item.path for item in read_layout(root).items]
    assert names == ["cat/a.png", "cat/pipe.png", "cat/socket.png"]


def test_a_folder_that_cannot_be_listed_does_not_pass_for_an_empty_one(tmp_path, monkeypatch):
    root = tree(tmp_path, {"cat/a.png": ONE, "dog/b.png": ONE})
    listed = os.scandir

    def guarded(path):
        if os.path.basename(path) == "dog":
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(PermissionError, match="dog"):
        read_layout(root)


def test_no_folder_and_no_images_are_one_line(tmp_path):
    with pytest.raises(
        DataError, match=r"gone: no such folder; set data.root in params.yaml or use `convflow init PATH`$"
    ):
        read_layout(tmp_path / "gone")
    (tmp_path / "set" / "cat").mkdir(parents=True)
    expected = (
        f"{tmp_path / 'set'}: no images found; put them in one folder per class, "
        "or beside a labels.csv with path,label"
    )
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            read_layout(tmp_path / "set")
        assert str(caught.value) == expected
        (tmp_path / "set" / "readme.txt").write_text("none yet")


# labels.csv


def test_a_table_gives_label_group_weight_side_and_tags(tmp_path):
    table = (
        "path,label,group,weight,split,wafer,note\n"
        "a.png,cat,g1,0.5,train,mono,\n"
        "sub/b.png, dog ,,,,poly,x y\n"
    )
    layout = of_table(tmp_path, table, "a.png", "sub/b.png")
    assert layout.items == [
        Labelled("a.png", "cat", "g1", 0.5, "train", ("mono", "")),
        Labelled("sub/b.png", "dog", None, 1.0, None, ("poly", "x y")),
    ]
    assert (layout.kind, layout.classes, layout.tags) == ("table", ["cat", "dog"], ("wafer", "note"))
    assert (layout.rejects, layout.ignored) == ([], {})


@pytest.mark.parametrize(
    "table",
    [
        "\ufeffpath,label\na.png,cat\n",
        "path,label\r\na.png,cat\r\n",
        '"path","label"\n"a.png","cat"\n',
        " label , path \ncat,a.png",
        "path,label,\na.png,cat,,,\n",
        "path,label\n\n./a.png,cat\n\n",
        "path,label\n.\\a.png,cat\n",
    ],
    ids=["BOM", "CRLF", "quotes", "spaces and order", "loose commas", "empty lines", "backslash"],
)
def test_a_table_may_come_from_any_program(tmp_path, table):
    layout = of_table(tmp_path, table, "a.png")
    assert (layout.items, layout.rejects, layout.tags) == ([Labelled("a.png", "cat")], [], ())


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        ("a.png,dog,,", "duplicate-path", TWICE),
        ("./a.png,cat,,", "duplicate-path", TWICE),
        (
            "../c.png,cat,,",
            "link-leaves-tree",
            OUTSIDE,
        ),
        (
            "/etc/c.png,cat,,",
            "link-leaves-tree",
            OUTSIDE,
        ),
        (
            "gone.png,cat,,",
            "missing",
            GONE,
        ),
        (
            "folder.png,cat,,",
            "missing",
            GONE,
        ),
        (
            ",cat,,",
            "missing",
            GONE,
        ),
        ("b.png, ,,", "unlabelled", "has no label in labels.csv; give it one"),
        ("b.png", "unlabelled", "has no label in labels.csv; give it one"),
        ("b.png,cat,,dev", "bad-split", "split 'dev' is none of train, val, test"),
        *(
            (f"b.png,cat,{weight},", "bad-weight", f"weight '{weight}' is no number above 0")
            for weight in ("abc", "nan", "inf", "0", "-1")
        ),
    ],
)
def test_a_line_that_cannot_be_used_says_why(tmp_path, line, reason, detail):
    (tmp_path / "set" / "folder.png").mkdir(parents=True)
    table = f"path,label,weight,split\na.png,cat,,\n{line}\n"
    layout = of_table(tmp_path, table, "a.png", "b.png")
    found = [reject for reject in layout.rejects if not reject.detail.startswith("not listed")]
    assert [(reject.reason, reject.detail) for reject in found] == [(reason, f"{detail} (line 3)")]
    assert found[0].label == (line.split(",")[1].strip() or None if "," in line else None)
    assert [item.path for item in layout.items] == ["a.png"]


def test_the_line_named_is_the_one_an_editor_shows(tmp_path):
    table = 'path,label,note\na.png,cat,"two\nlines"\n\ngone.png,cat,\n'
    assert of_table(tmp_path, table, "a.png").rejects[0].detail.endswith("(line 5)")


def test_an_image_that_no_line_names_is_unlabelled(tmp_path):
    layout = of_table(tmp_path, "path,label\na.png,cat\n", "a.png", "b.png")
    assert layout.rejects == [
        Reject("b.png", None, "unlabelled", "not listed in labels.csv; add a line or remove the file")
    ]


def test_a_listed_file_counts_once_whatever_its_suffix(tmp_path):
    layout = of_table(tmp_path, "path,label\na.dat,cat\n", "a.png", "b.png")
    assert n_files(layout) == 3
    root = tree(tmp_path, {"a.dat": b"x", "other.dat": b"y", "more/labels.csv": "", "b.png": ONE})
    layout = read_layout(root)
    assert [item.path for item in layout.items] == ["a.dat"]
    assert layout.ignored == {".dat": 1, ".csv": 1}


def test_a_line_that_goes_through_a_linked_folder_leaves_the_tree(tmp_path):
    make_tree(tmp_path / "elsewhere", {"c.png": ONE})
    root = tree(
        tmp_path, {"labels.csv": "path,label\nlink/c.png,cat\nout.png,cat\na.png,cat\n", "a.png": ONE}
    )
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "out.png").symlink_to(tmp_path / "elsewhere" / "c.png")
    layout = read_layout(root)
    assert reasons(layout) == dict.fromkeys(["link", "link/c.png", "out.png"], "link-leaves-tree")
    assert layout.items == [Labelled("a.png", "cat")]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,label\na.png,cat\n", r"no column 'path' \(found: file, label\); add it"),
        ("path\na.png\n", r"no column 'label' \(found: path\); add it"),
        (
            "path;label\na.png;cat\n",
            r"no column 'path' \(found: path;label\); separate the columns by commas",
        ),
        ("", r"no column 'path' \(found: none\); add it"),
        ("path,label,label\na.png,cat,dog\n", r"column 'label' is there more than once; keep one"),
        (b"path,label\na.png,k\xe4tzchen\n", r"not a CSV table in UTF-8 \(.*\); save it as CSV, UTF-8"),
        ("path,label\na.png,cat\n".encode("utf-16"), r"not a CSV table in UTF-8"),
        ("path,label\n" + "x" * 200_000, r"not a CSV table in UTF-8 \(field larger"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(tmp_path, table, message):
    with pytest.raises(DataError, match=rf"set/labels\.csv: {message}") as caught:
        of_table(tmp_path, table, "a.png")
    assert "\n" not in str(caught.value)


NAMES = ["a.png", "b.png", "gone.png", "../x", "./a.png"]


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.text("ab", max_size=1))))
def test_every_file_and_every_line_comes_out_somewhere(tmp_path_factory, lines):
    table = "path,label\n" + "".join(f"{path},{label}\n" for path, label in lines)
    layout = of_table(tmp_path_factory.mktemp("t"), table, "a.png", "b.png", "c.png")
    listed = {path.removeprefix("./") for path, _ in lines}
    assert n_files(layout) == len(lines) + len({"a.png", "b.png", "c.png"} - listed)
    assert len({item.path for item in layout.items}) == len(layout.items)
