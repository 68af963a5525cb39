"""`convflow init`: looks at a folder, writes what follows from it, keeps everything else as it was."""

import json
from pathlib import Path

import pytest
from PIL import Image

from convflow.errors import DataError, ParamsError
from convflow.stages.pack import Params as Pack
from convflow.stages.split import Params as Split
from made_images import encode, make_tree, picture
from made_init import PARAMS, make_empty, params, run, table


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project; the current folder."""
    root = make_empty(tmp_path / "project")
    monkeypatch.chdir(root)
    return root


def test_a_folder_per_class_sets_the_data_and_what_follows(project, capsys):
    files = {f"{label}/{n}.png": picture(n, (60, 50)) for label in ("Große Katze", "dog") for n in range(3)}
    root = make_tree(
        project / "my pictures",
        files
        | {"dog/x.jpg": b"", "dog/a.txt": "", "dog/l.png": picture(9, mode="L")}
        | {"dog/p.heic": b"x", "dog/q.HEIC": b"x"},
    )
    (root / "empty").mkdir()
    before = params()
    assert run(root) == 0
    after = params()
    changed = {
        f"{section}.{key}": value
        for section, values in after.items()
        for key, value in values.items()
        if value != before[section][key]
    }
    assert (
        changed.items()
        >= {
            "data.root": "my pictures",
            "validate.labels": ["Große Katze", "dog"],
            "split.method": "stratified",
            "pack.sizes_px": [48],
            "train.packed_px": 48,
            "train.batch_size": 8,
            "train.epochs": 60,
        }.items()
    )
    assert after["train"]["augment"]["flips"] == "none"
    out = capsys.readouterr().out
    assert out.startswith(
        "my pictures: 7 usable images in 3 classes (one folder per class)\n".replace("my pictures", str(root))
    )
    for line in (
        "  Große Katze: 3\n",
        "  dog: 4\n",
        "  empty: 0  <- empty; add images or remove the folder\n",
        "  sizes: 2 different, most often 60 x 50 (6)\n",
        "  modes: RGB 6, L 1\n",
        "  also: no groups, weights or further columns\n",
        "  not images: 2 .heic, 1 .txt\n",
        "  cannot be used: dog/x.jpg: the file is empty\n",
        '  data.root: "my pictures"\n',
        "  cannot be read: convert 2 .heic to JPEG or PNG\n",
        ", of 0..99 the one with the most even sides\n",
        "\nvalidate would stop the pipeline:\n",
        "  bad_images: dog/x.jpg: the file is empty; mend or remove it, or set validate.on_bad_image",
        "  class_size: class 'Große Katze' has 3 images; add some, remove the folder or lower "
        "validate.min_images_per_class (10) (and 2 more)\n",
        "\nnext: mend that, then make repro   (when",
    ):
        assert line in out


def test_what_init_writes_is_what_the_stages_accept(project, pictures):
    run(pictures)
    written = params()
    assert Split(**written["split"]).method == "stratified"
    assert Pack(**written["pack"]).sizes_px == [16]


def test_comments_order_and_untouched_values_stay(project, pictures):
    before = Path("params.yaml").read_text()
    run(pictures)
    after = Path("params.yaml").read_text()
    old, new = before.splitlines(), after.splitlines()
    changed = [name for name, line in zip(old, new, strict=True) if name != line]
    ours = {"root", "labels", "method", "seed", "sizes_px", "packed_px", "size_px", "normalise", "epochs"}
    ours |= {"batch_size", "flips", "views", "positive", "leak_waiver", "min_recall"}
    assert {line.strip().partition(":")[0] for line in changed} <= ours
    assert [line.partition("#")[2] for line in after.splitlines()] == [
        line.partition("#")[2] for line in before.splitlines()
    ]
    run(pictures)
    assert Path("params.yaml").read_text() == after


def test_a_folder_outside_the_project_is_written_whole(project, pictures):
    run(pictures)
    assert params()["data"]["root"] == pictures.as_posix()


@pytest.mark.parametrize(
    ("lines", "method", "said"),
    [
        (["label", *"ab" * 8], "stratified", "no groups, weights or further columns"),
        (["label,group", *(f"{c},g{n}" for n in range(8) for c in "ab")], "grouped", "8 groups"),
        (["label,group", "a,g1", "b,", *["a,", "b,"] * 7], "grouped", "1 groups"),
        (["label,group,split", "a,g,train", "b,g,val", "b,g,test"], "column", "1 groups"),
        (["label,weight,wafer", *["a,0.5,x", "b,1,y"] * 8], "stratified", "weights, column wafer"),
    ],
)
def test_a_table_s_columns_choose_the_split(project, capsys, lines, method, said):
    run(table(project / "set", lines))
    assert params()["split"]["method"] == method
    out = capsys.readouterr().out
    assert "(labels.csv)" in out
    assert f"  also: {said}\n" in out


@pytest.mark.parametrize(("side", "size_px"), [(5, 16), (31, 16), (60, 48), (96, 96), (300, 96)])
def test_the_size_follows_the_pictures_within_bounds(project, side, size_px):
    run(
        make_tree(
            project / "set",
            {f"a/{n}.png": picture(n, (side + 9, side)) for n in range(6)}
            | {f"b/{n}.png": picture(n + 6, (side, side + 4)) for n in range(6)},
        )
    )
    assert params()["train"]["packed_px"] == params()["features"]["packed_px"] == size_px
    assert params()["pack"]["sizes_px"] == sorted({size_px, 224 if side >= 160 else size_px})
    assert params()["embed"]["size_px"] == (64 if side < 64 else None)


def test_a_network_of_one_s_own_looks_at_pictures_of_the_size_it_knows(project, pictures):
    run(pictures, "--set", "embed.source=weights/mine")
    assert params()["embed"]["size_px"] is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"cat/a.png": picture()},
            r"set: 1 class with usable images \(cat\); two or more are needed, one folder each",
        ),
        ({"cat/a.png": picture(), "dog/b.png": b""}, r"set: 1 class with usable images \(cat\)"),
        ({"cat/a.png": b"", "dog/b.png": "text"}, r"set: 0 class with usable images \(none\)"),
        ({"a.txt": ""}, r"set: no images found; put them in one folder per class"),
    ],
)
def test_nothing_to_learn_from_is_one_line_and_writes_nothing(project, files, message):
    make_tree(project / "set", files)
    with pytest.raises(DataError, match=message):
        run("set")
    assert Path("params.yaml").read_text() == PARAMS.read_text()


def test_a_missing_folder_is_one_line(project):
    with pytest.raises(DataError, match=r"^gone: no such folder"):
        run("gone")


def test_all_oddities_get_their_line_and_a_long_list_is_cut(project, capsys):
    files = {f"{label}/{n}.png": picture(n) for label in "ab" for n in range(3)}
    hostile = {
        "a/1 cut.jpg": encode(picture(), "JPEG")[:400],
        "a/2 text.png": "no picture",
        "a/3 none.png": b"",
        "a/4 float.tif": encode(Image.new("F", (4, 4)), "TIFF"),
        "a/5.png": "more text",
        "a/6.png": "more text",
    }
    run(make_tree(project / "set", files | hostile))
    out = capsys.readouterr().out
    assert [line.split(": ")[1] for line in out.splitlines() if "cannot be used" in line] == list(hostile)[:5]
    assert "  ... and 1 more; `make repro` lists them all\n" in out


def test_set_changes_any_parameter_and_wins(project, pictures):
    run(pictures, "--set", "train.epochs=3", "--set", "split.seed=9", "--set", "train.arch_args={width: 8}")
    written = params()
    assert (written["train"]["epochs"], written["split"]["seed"]) == (3, 9)
    assert written["train"]["arch_args"] == {"width": 8}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.epochs", r"--set train.epochs: write it as train.epochs=20"),
        ("=1", r"--set =1: write it as train.epochs=20"),
        ("train.epoch=1", r"^--set train.epoch: no such parameter; did you mean epochs\?$"),
        ("train.augment.flip=1", r"^--set train.augment.flip: no such parameter; did you mean flips\?$"),
        (
            "train.augmant.flips=none",
            r"^--set train.augmant.flips: train.augmant: no such parameter; did",
        ),
        ("trian.epochs=1", r"^--set trian.epochs: trian: no such section; did you mean train\?$"),
        ("colour=1", r"^--set colour: no such section$"),
        (
            "train.lr.deep=1",
            r"^--set train.lr.deep: train.lr: expected a number above 0, found {",
        ),
        ("train=1", r"^--set train: expected a section with .*arch, .*, found 1$"),
        ("split.val_fraction=0.8", r"^--set split.val_fraction: split: val_fraction \+ test_fraction leave"),
        (
            "evaluate.positive=ca",
            r"^--set evaluate.positive: no class 'ca' in validate.labels; did you",
        ),
        ("data.root=x", r"^--set data.root: PATH says that already; leave one of them out$"),
        ("train.lr=[1", r"^--set train.lr=\[1: not YAML: while parsing"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_wrong_set_is_one_line_and_writes_nothing(project, pictures, text, message, dry):
    with pytest.raises(ParamsError, match=message) as caught:
        run(pictures, "--set", text, *dry)
    assert "\n" not in str(caught.value)
    assert Path("params.yaml").read_text() == PARAMS.read_text()


# The folder's name


@pytest.mark.parametrize("name", ["yes", "12:30", "Bilder 2024 (neu) & mehr; it's", "a: b", "#1", "größer"])
def test_a_folder_may_have_most_names(project, pictures, name):
    pictures.rename(project / name)
    run(name)
    assert params()["data"]["root"] == name


@pytest.mark.parametrize("sign", ['"', "$", "`", "\\"])
def test_a_folder_whose_name_a_shell_would_change_is_one_line_unless_linked(project, pictures, sign):
    pictures.rename(project / f"a{sign}b")
    with pytest.raises(
        DataError, match=r"its name holds . which a shell would read as its own; rename"
    ) as caught:
        run(f"a{sign}b")
    assert "\n" not in str(caught.value)
    assert Path("params.yaml").read_text() == PARAMS.read_text()
    (project / "plain").symlink_to(project / f"a{sign}b")
    run("plain")
    assert params()["data"]["root"] == "plain"


def test_a_dry_run_says_all_and_writes_nothing(project, pictures, capsys):
    assert run(pictures, "--dry-run") == 0
    assert "8 usable images in 2 classes" in capsys.readouterr().out
    assert Path("params.yaml").read_text() == PARAMS.read_text()


def test_json_is_for_scripts(project, pictures, capsys):
    run(pictures, "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["found"]["classes"] == {"cat": 4, "dog": 4}
    assert told["set"]["data.root"] == str(pictures)
    assert told["stops"].keys() == {"class_size"}
    assert told["sides"] == ""
    assert params()["split"]["method"] == told["set"]["split.method"]


def test_outside_a_project_nothing_is_looked_at(tmp_path, pictures, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ParamsError, match=r"params.yaml: no such file; run convflow from the project's folder$"
    ):
        run(pictures)
    assert not (tmp_path / ".convflow").exists()


def test_a_broken_params_file_is_one_line(project, pictures):
    Path("params.yaml").write_text("data: [1\n")
    with pytest.raises(ParamsError, match=r"^params.yaml: not YAML: while parsing") as caught:
        run(pictures)
    assert "\n" not in str(caught.value)
