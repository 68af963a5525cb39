"""The command line: picks a stage or a verb by its name and loads only that one."""

import argparse
import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path

from convflow import __version__
from convflow.errors import ParamsError
from convflow.params import load_section

SOURCES = ("elpv", "digits")
STAGES = (
    "scan", "validate", "split", "pack", "features", "baseline", "train", "embed", "finetune", "predict",
    "export", "evaluate", "decide", "publish",
)  # fmt: skip
STUDY = ("gather", "protocols", "describe", "encode", "folds", "standing")  # of the pipelines in studies/
VERBS = {
    "init": "check a folder of images and point params.yaml at it",
    "repro": "run the pipeline, then say what came out",
    "predict": "classify images with a registered model or a model folder",
    "promote": "make a registered version champion, on evidence",
    "rollback": "make the champion before the present one champion again",
    "history": "the registered versions, and who made which champion, when and why",
    "summary": "what the last run trained, and how good it is",
    "trace": "where a registered version comes from, link by link",
    "compare": "two registered versions side by side",
    "reproduce": "make a registered version anew and compare its predictions",
    "ui": "browse runs and models in MLflow",
    "gc": "remove versions, runs and files of MLflow that nobody refers to any more",
    "follow": "show a running training live in MLflow",
    "environment": "print the settings that keep every tool quiet and inside the project",
}
PASS_ON = ("repro",)  # verbs that hand arguments they do not know to another command
PARAMS = Path("params.yaml")

_EPILOG = """\
examples:
  convflow init ~/pictures            check a folder, then run: make repro
  convflow repro                      from images to a registered model (dvc repro, and a summary)
  convflow summary                    what came out, with intervals
  convflow predict photo.jpg folder/  classify images
  convflow predict --json photo.jpg   the same for a script
"""


def build_parser(verb: str | None) -> argparse.ArgumentParser:
    """The parser of all verbs; only `verb` gets its arguments, so only its module is loaded."""
    parser = argparse.ArgumentParser(
        prog="convflow",
        description="From a folder of labelled images to a registered, gated, reproducible classifier.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"convflow {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in VERBS.items():
        one = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == verb:
            importlib.import_module(f"convflow.verbs.{name}").add_arguments(one)
    one = verbs.add_parser("run", help="run one stage, as dvc.yaml does", description="Run one stage.")
    one.add_argument("stage", choices=SOURCES + STAGES + STUDY)
    one.add_argument("paths", nargs="*", metavar="PATH")
    return parser


def run_stage(stage: str, paths: Sequence[str]) -> None:
    """Run one stage on `paths`, with its section of params.yaml.

    Raises:
        ParamsError: an unknown stage, another number of paths, or a wrong section.
    """
    if stage not in SOURCES + STAGES + STUDY:
        raise ParamsError(f"no stage {stage!r}; the stages are {', '.join(STAGES)}")
    module = importlib.import_module(f"convflow.stages.{stage}")
    wanted = [name for name in inspect.signature(module.run).parameters if name != "params"]
    if len(paths) != len(wanted):
        raise ParamsError(f"{stage} takes {len(wanted)} paths ({' '.join(wanted)}); got {len(paths)}")
    section = {}
    if hasattr(module, "Params"):
        section = {"params": load_section(PARAMS, stage, module.Params)}
    module.run(*map(Path, paths), **section)


def run(arguments: Sequence[str]) -> int:
    """Run what `arguments` ask for; returns the exit status.

    Raises:
        ConvflowError: whatever the user can mend.
    """
    verb = next((word for word in arguments if not word.startswith("-")), None)
    parser = build_parser(verb)
    parsed, more = parser.parse_known_args(arguments)
    if more and verb not in PASS_ON:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    parsed.more, parsed.stages = more, STAGES
    if parsed.verb == "run":
        run_stage(parsed.stage, parsed.paths)
        return 0
    status: int = importlib.import_module(f"convflow.verbs.{parsed.verb}").run(parsed)
    return status
