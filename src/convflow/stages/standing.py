"""data/splits and folds/ -> results/: every model under every protocol, with intervals, tests and the gap"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from convflow.errors import DataError
from convflow.files import whole_folder, write_json, write_text
from convflow.params import PositiveInt, Section
from convflow.studying.figure import draw_standings
from convflow.studying.page import leak_sentence, table_csv, table_page
from convflow.studying.scores import EVERYTHING, Scores, score
from convflow.studying.splits import splits_in
from convflow.studying.standings import (
    HEADLINE,
    Played,
    about_protocol,
    against_published,
    gaps_between,
    leaks_of,
    standings_of,
    tests_of,
)
from convflow.tables import read_about, read_table

Share = Annotated[float, Field(gt=0, le=1)]


class Published(Section):
    """A figure from the literature, of one split: the model of ours that is its counterpart is `like`."""

    name: str
    protocol: str
    like: str
    accuracy: Share
    roc_auc: Share | None
    n_test: PositiveInt
    source: str


class Params(Section):
    """`standing:` in params.yaml."""

    protocols: Annotated[list[str], Field(min_length=1)]
    models: Annotated[list[str], Field(min_length=1)]
    reference: str
    positive: str
    slices: list[str]
    published: list[Published]


def run(splits: Path, folds: Path, results: Path, *, params: Params) -> None:
    """Write table.json, table.csv, table.md and plot.png."""
    if params.reference not in params.models:
        raise DataError(
            f"standing.reference: {params.reference!r} is none of the models ({', '.join(params.models)})"
        )
    played = [_play(splits / f"{name}.parquet", folds / name, params) for name in params.protocols]
    found = _found(played, read_table(splits / "leaks.parquet").to_pylist(), params)
    dots = {
        one.name: {model: one.values(model, EVERYTHING, HEADLINE).tolist() for model in one.scores}
        for one in played
    }
    with whole_folder(results) as folder:
        write_json(folder / "table.json", found)
        write_text(folder / "table.csv", table_csv(found))
        write_text(folder / "table.md", table_page(found))
        draw_standings(folder / "plot.png", found, dots)
    print(table_page(found))


def _found(played: list[Played], leaks: list[dict[str, Any]], params: Params) -> dict[str, Any]:
    told = [leaks_of([row for row in leaks if row["protocol"] == one.name], one) for one in played]
    gaps = gaps_between(played[0], played[1]) if len(played) > 1 else []
    by_name = {one.name: one for one in played}
    sentence = ""
    if gaps:
        same = next(line for line in told[1] if line["probe"] == told[0][0]["probe"])
        sentence = leak_sentence(told[0][0], same, gaps)
    return {
        "protocols": {one.name: about_protocol(one) for one in played},
        "reference": params.reference,
        "standings": [line for one in played for line in standings_of(one)],
        "tests": [line for one in played for line in tests_of(one, params.reference)],
        "gaps": gaps,
        "leaks": [line for lines in told for line in lines],
        "sentence": sentence,
        "published": [
            against_published(one.model_dump(), by_name[one.protocol])
            for one in params.published
            if one.protocol in by_name
        ],
    }


def _play(table: Path, folds: Path, params: Params) -> Played:
    """Read every model's answers to the splits in `table`.

    Raises:
        DataError: answers are missing, or are not about the test images of their split.
    """
    images, splits = splits_in(read_table(table))
    scores = dict[str, list[Scores]]()
    for split in splits:
        test = [images[row] for row in split.rows("test")]
        for model in params.models:
            answers = folds / model / f"{split.name}.parquet"
            scores.setdefault(model, []).append(_score(answers, test, params))
    return Played(table.stem, read_about(table), [split.sizes for split in splits], scores)


def _score(answers: Path, test: list[str], params: Params) -> Scores:
    protocol, model = answers.parts[-3:-1]
    if not answers.is_file():
        raise DataError(f"{answers}: no answers yet; run `dvc repro dvc.yaml:folds@{protocol}-{model}`")
    table, classes = read_table(answers), read_about(answers)["classes"]
    if table["sha256"].to_pylist() != test:
        raise DataError(f"{answers}: not about the test images of its split; remove it and run `dvc repro`")
    if params.positive not in classes:
        raise DataError(f"standing.positive: no class {params.positive!r}; there are {', '.join(classes)}")
    label_N = np.asarray([classes.index(label) for label in table["label"].to_pylist()])
    prob_NK = np.column_stack([table[f"p_{name}"].to_numpy() for name in classes]).astype(np.float64)
    tags = [name.removeprefix("tag_") for name in table.column_names if name.startswith("tag_")]
    if unknown := set(params.slices) - set(tags):
        raise DataError(f"standing.slices: no column {min(unknown)!r}; there are {', '.join(tags)}")
    columns = {name: table[f"tag_{name}"].to_pylist() for name in params.slices}
    return score(label_N, prob_NK, classes.index(params.positive), columns)
