"""Make a registered version anew in a clean copy of the project, and compare what comes out.

The copy has the commit, the changes that were not committed, the parameters, dvc.lock and the memory of the
split as they were; of DVC's cache it gets the raw pictures alone. The stages run one by one up to the
candidate's predictions, then `evaluate` for the candidate alone: its figures do not depend on other models.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convflow.files import digest_folder, digest_json, read_json
from convflow.lineage.agreement import Agreement, agree_numbers, agree_tables
from convflow.lineage.copying import prepare
from convflow.lineage.data_links import digest_sides, members
from convflow.lineage.links import short
from convflow.lineage.recipe import EVALUATE, Recipe, read_recipe
from convflow.lineage.running import check_source, run_stages
from convflow.lineage.worktree import kept_place, worktree
from convflow.registry.source import LOCK
from convflow.registry.version import Version, read_stages

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Args:
        recipe: what it was made by.
        stages: that were run.
        notes: what is to be known, a line each.
        stations: whether data, split and model are those registered; None where nobody told.
        predictions: how they agree.
        metrics: how they agree.
        kept: the copy, where it stays.
    """

    recipe: Recipe
    stages: list[str]
    notes: list[str]
    stations: dict[str, bool | None]
    predictions: Agreement
    metrics: Agreement
    kept: Path | None

    @property
    def how(self) -> str:
        """identical, within or different: of predictions and metrics the worse."""
        found = {self.predictions.how, self.metrics.how}
        return next(how for how in ("different", "within", "identical") if how in found)


def reproduce(version: Version, root: Path, say: Say, *, keep: bool) -> Outcome:
    """Make `version` anew; `say` is told each step.

    Raises:
        ModelError: it cannot be made anew, or a stage stopped.
        DataError: its pictures are not to be had.
    """
    recipe = read_recipe(version, root)
    named = f"{version.name}-{version.version}"
    with worktree(root, recipe.commit, named, keep=keep) as tree:
        say(f"{version.shown}: {recipe.model} of commit {short(recipe.commit)}, in {tree.relative_to(root)}")
        order, notes = prepare(recipe, root, tree)
        check_source(tree)
        for note in notes:
            say(note)
        first, *others = order
        run_stages(tree, [first])
        if changed := _changed_data(recipe, first, tree):
            notes.append(changed)
            say(changed)
        run_stages(tree, [*others, EVALUATE])
        predictions = tree / recipe.out(f"predict@{recipe.model}", ".parquet")
        figures = read_json(tree / recipe.out(EVALUATE) / "metrics.json").get(recipe.model)
        return Outcome(
            recipe,
            [*order, EVALUATE],
            notes,
            _stations(recipe, tree),
            agree_tables(recipe.predictions, predictions, recipe.tolerance),
            agree_numbers(recipe.figures, figures, recipe.tolerance),
            kept_place(root, named) if keep else None,
        )


def _changed_data(recipe: Recipe, first: str, tree: Path) -> str | None:
    """Whether the pictures that were read are others, by DVC's digest of them."""
    record = (read_stages(tree / LOCK) or {}).get(first, {})
    found = [one.get("md5") for one in record.get("deps", []) if str(one.get("md5")).endswith(".dir")]
    wanted = recipe.raw.get("md5")
    if wanted in found:
        return None
    return f"raw data: changed since: md5 {short(str(wanted))} registered, {short(str(found[0]))} now"


def _stations(recipe: Recipe, tree: Path) -> dict[str, bool | None]:
    """On the way to the predictions: where does it begin to differ?"""
    rows = members(tree / recipe.out("split") / "members.parquet")
    model = digest_folder(tree / "models" / recipe.model)
    found = {
        "data": digest_json([row[:3] for row in rows]), "sides": digest_sides(rows), "digest.model": model,
    }  # fmt: skip
    tags = {name: recipe.version.tag(name) for name in found}
    return {name.removeprefix("digest."): tags[name] == found[name] if tags[name] else None for name in found}


def lines(outcome: Outcome) -> list[str]:
    """For people."""
    recipe = outcome.recipe
    words = {True: "the same", False: "another", None: "not known"}
    said = ", ".join(f"{name} {words[same]}" for name, same in outcome.stations.items())
    out = [
        f"{recipe.version.shown}: {recipe.model} of commit {short(recipe.commit)}, made anew",
        *(f"  {note}" for note in outcome.notes),
        f"  on the way: {said}",
        f"  predictions: {outcome.predictions.line(recipe.tolerance)}",
        f"  metrics: {outcome.metrics.line(recipe.tolerance)}",
    ]
    if outcome.kept:
        out.append(f"  kept: {outcome.kept} (git worktree remove --force takes it away)")
    return [*out, f"reproduced: {_WORDS[outcome.how]}"]


_WORDS = {
    "identical": "identical",
    "within": "equal within the tolerance",
    "different": "different",
}


def told(outcome: Outcome) -> dict[str, Any]:
    """For a script."""
    recipe = outcome.recipe
    agreements = {"predictions": outcome.predictions, "metrics": outcome.metrics}
    return {
        "commit": recipe.commit,
        "kept": str(outcome.kept) if outcome.kept else None,
        "model": recipe.model,
        "notes": outcome.notes,
        "outcome": outcome.how,
        "registered": recipe.version.name,
        "stages": outcome.stages,
        "stations": outcome.stations,
        "tolerance": recipe.tolerance,
        "version": recipe.version.version,
        **{
            name: {"how": one.how, "largest_difference": one.largest, "where": one.where or None}
            for name, one in agreements.items()
        },
    }
