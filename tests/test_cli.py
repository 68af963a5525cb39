"""The command line: one module per call, one line per error, and nothing heavy that is not used."""

import subprocess
import sys
from pathlib import Path

import pytest

from convflow import __main__ as entry
from convflow import __version__, cli
from convflow.errors import ConvflowError, DataError, ParamsError
from made_images import make_tree, picture

HEAVY = {
    "accelerate",
    "great_expectations",
    "matplotlib",
    "mlflow",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pandas",
    "prefect",
    "pyarrow",
    "scipy",
    "skimage",
    "sklearn",
    "skops",
    "torch",
    "torchvision",
}
SKLEARN = {"sklearn", "scipy", "pandas", "pyarrow"}  # it loads the other three itself
# What each stage calls, and so may load. torchvision's and mlflow's users load them once they are called.
LOADS = {
    "baseline": {"pyarrow", "scipy"},  # and what its kind needs, once that is known
    "decide": set(),
    "digits": SKLEARN,
    "elpv": set(),
    "embed": {"accelerate", "torch"},
    "export": {"onnx", "onnxruntime", "pyarrow"},  # and torch where the candidate is a network
    "evaluate": {"matplotlib", "pyarrow", "scipy"},
    "features": {"scipy", "skimage"},
    "finetune": {"accelerate", "pyarrow", "scipy", "torch"},
    "pack": {"pyarrow"},
    "predict": {"pyarrow"},  # and what the model's kind needs, once it is known
    "publish": set(),
    "scan": {"pyarrow"},
    "split": SKLEARN,
    "train": {"accelerate", "torch"},
    "validate": {"great_expectations", "pandas", "pyarrow", "scipy"},
}


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Those that load nothing that takes seconds are looked at each time.
_AT_ONCE = [stage for stage in LOADS if LOADS[stage] <= {"pyarrow"}]
_LATER = [pytest.param(stage, marks=pytest.mark.slow) for stage in LOADS if stage not in _AT_ONCE]


@pytest.mark.parametrize("stage", [*_AT_ONCE, *_LATER])
def test_a_stage_loads_the_heavy_libraries_it_calls_and_no_other(stage):
    names = python(f"import sys, convflow.__main__, convflow.stages.{stage}; print(*sys.modules)")
    assert HEAVY & set(names.split()) == LOADS[stage]


def test_every_stage_is_on_the_list():
    assert set(LOADS) == set(cli.STAGES + cli.SOURCES)


def test_help_names_all_verbs_with_examples_and_loads_nothing_heavy():
    heavy = sorted(HEAVY | {"numpy", "PIL", "ruamel", "tqdm"})
    light = f"assert not sys.modules.keys() & set({heavy}), sorted(sys.modules)"
    out = python(
        "import sys, convflow.__main__ as m; sys.argv = ['convflow', '--help']\n"
        f"try: m.main()\nexcept SystemExit as end: assert end.code == 0\n{light}"
    )
    for verb, text in cli.VERBS.items():
        assert f"\n    {verb}" in out
        assert text.split(",")[0][:40] in out
    for example in ("convflow init ~/pictures", "dvc repro", "convflow predict --json photo.jpg"):
        assert example in out


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_its_module_and_its_own_help(verb, capsys):
    with pytest.raises(SystemExit) as end:
        cli.run([verb, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: convflow {verb} ")


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as end:
        cli.run(["--version"])
    assert (end.value.code, capsys.readouterr().out) == (0, f"convflow {__version__}\n")


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["run"], ["run", "fly"], ["init"], ["init", "a", "b"], ["--fly"]]
)
def test_what_is_not_understood_is_short_and_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.run(arguments)
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert err.startswith("usage: convflow ")
    assert "error: " in err.splitlines()[-1]
    assert len(err.splitlines()) <= 4


def test_a_stage_wants_its_paths_in_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match=r"^scan takes 2 paths \(root scan\); got 1$"):
        cli.run(["run", "scan", "a"])
    with pytest.raises(ParamsError, match=r"^pack takes 5 paths \(root splits train val test\); got 0$"):
        cli.run(["run", "pack"])
    with pytest.raises(ParamsError, match=r"^no stage 'fly'; the stages are scan, validate, split"):
        cli.run_stage("fly", [])


def test_a_stage_is_handed_its_paths_and_its_section(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_tree(tmp_path / "set", {"a/1.png": picture()})
    assert cli.run(["run", "scan", "set", "out"]) == 0
    assert capsys.readouterr().out == "scan: 1 images, 0 rejected, 0 other files\n"
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "rejects.parquet",
        "rows.parquet",
        "summary.json",
    ]
    Path("params.yaml").write_text("pack: {sizes_px: [12], channels: 2, fit: stretch}\n")
    with pytest.raises(ParamsError, match=r"^params.yaml: pack.channels: expected auto, 1 or 3, found 2$"):
        cli.run(["run", "pack", *"abcde"])


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DataError("a.png: cut; remove it"), 2, "convflow: a.png: cut; remove it"),
        (ConvflowError("x"), 2, "convflow: x"),
        (
            OSError(28, "No space left on device", "a.png"),
            2,
            "convflow: a.png: No space left on device; free some",
        ),
        (
            PermissionError(13, "Permission denied", "a.png"),
            2,
            "convflow: a.png: Permission denied; check the path",
        ),
        (KeyboardInterrupt(), 130, "convflow: interrupted; run the same command again to go on"),
    ],
)
def test_what_the_user_can_mend_is_one_line(monkeypatch, capsys, error, status, line):
    def fail(_):
        raise error

    monkeypatch.setattr(entry.cli, "run", fail)
    monkeypatch.setattr(entry, "quiet_tools", lambda _: None)
    assert entry.main() == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail(_):
        raise ZeroDivisionError

    monkeypatch.setattr(entry.cli, "run", fail)
    monkeypatch.setattr(entry, "quiet_tools", lambda _: None)
    with pytest.raises(ZeroDivisionError):
        entry.main()


def test_the_process_ends_with_2_and_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "convflow", "run", "scan", "gone", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "convflow: gone: no such folder; set data.root in params.yaml or use `convflow init PATH`\n"
    )
