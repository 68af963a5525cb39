"""Great Expectations: puts questions to pandas frames and returns its answers as plain values."""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.checkpoint import UpdateDataDocsAction
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext
from great_expectations.data_context.types.base import ProgressBarsConfig

from convflow.data.rules import Expectation

VERSION: str = gx.__version__
_SITE = "local"
_TIME = re.compile(r"\d{8}T\d{6}\.\d{6}Z")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Logos are fetched from the net, one with the time of the build in its address: that would tell who looked.
_BEACON = re.compile(r"https://great-expectations-web-assets[^\s\"')]*")


@dataclass(frozen=True)
class Answer:
    """What Great Expectations found: whether the expectation held, and how many values broke it."""

    rule: str
    type: str
    passed: bool
    n_unexpected: int | None  # None where the expectation counts no values


def ask(
    frames: Mapping[str, pd.DataFrame],
    expectations: Sequence[Expectation],
    *,
    docs: Path | None,
) -> list[Answer]:
    """Put all `expectations` to their frames; the answers come in no particular order.

    Args:
        frames: by name; a column that an expectation names and its frame lacks gives a failed answer.
        expectations: each with the name of its frame; frames without one are left out.
        docs: a folder to build Data Docs in, or None to build none.
    """
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    for name in list(context.variables.data_docs_sites or {}):
        context.delete_data_docs_site(name)  # the default one is a temporary folder
    if docs is not None:
        context.add_data_docs_site(_SITE, _site(docs))
    answers: list[Answer] = []
    for name, frame in frames.items():
        mine = [item for item in expectations if item.frame == name]
        if mine:
            answers += _ask_one(context, name, frame, mine, with_docs=docs is not None)
    if docs is not None:
        _settle(docs)
    return answers


def _ask_one(
    context: EphemeralDataContext,
    name: str,
    frame: pd.DataFrame,
    expectations: Sequence[Expectation],
    *,
    with_docs: bool,
) -> list[Answer]:
    source = context.data_sources.add_pandas(name)
    data = source.add_dataframe_asset("frame").add_batch_definition_whole_dataframe("all")
    configurations: list[Any] = [
        {
            "type": item.type,
            "kwargs": dict(item.kwargs),
            "severity": item.severity,
            "meta": {"rule": item.rule},
        }
        for item in expectations
    ]
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=configurations))
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=name, data=data, suite=suite)
    )
    actions = [UpdateDataDocsAction(name="docs", site_names=[_SITE])] if with_docs else []
    checkpoint = gx.Checkpoint(
        name=name, validation_definitions=[definition], result_format="SUMMARY", actions=actions
    )
    # A fixed time: what was found depends on the data alone.
    when = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    outcome = context.checkpoints.add(checkpoint).run(
        batch_parameters={"dataframe": frame}, run_id=RunIdentifier(run_name="validate", run_time=when)
    )
    return [_answer(item) for one in outcome.run_results.values() for item in one.to_json_dict()["results"]]


def _answer(result: Any) -> Answer:
    configuration = result["expectation_config"]
    return Answer(
        rule=configuration["meta"]["rule"],
        type=configuration["type"],
        passed=bool(result["success"]),
        n_unexpected=result["result"].get("unexpected_count"),
    )


def _site(folder: Path) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(folder.resolve()),
        },
    }


def _settle(docs: Path) -> None:
    """Make the same answers give the same bytes: no clock, no random id; and nothing that reports home.

    The how-to animations (3.3 of 4.1 MB) go too. Styles still come from the net, where there is one.
    """
    for animation in docs.glob("static/images/*.gif"):
        animation.unlink()
    for page in sorted(docs.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        text = _TIME.sub("20000101T000000.000000Z", _BEACON.sub("data:,", text))
        for number, random in enumerate(dict.fromkeys(_UUID.findall(text))):
            text = text.replace(random, f"id-{number}")
        page.write_text(text, encoding="utf-8")
