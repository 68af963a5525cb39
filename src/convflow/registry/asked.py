"""What promote, rollback and history ask of the project's files, and how they tell what became of it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convflow.errors import ParamsError
from convflow.files import dump_json
from convflow.params import load_section, read_params
from convflow.registry.limits import Promote
from convflow.registry.promotion_log import LOG
from convflow.registry.store import Store, Tracking, open_store

PARAMS = Path("params.yaml")
_WORDS = {True: "holds", False: "FAILS", None: "-"}


def read_model() -> tuple[Store, str, str]:
    """The store, the name of the registered model, and the alias of its newest version.

    Raises:
        ParamsError: params.yaml is missing or does not say.
    """
    asked = read_params(PARAMS).get("publish") or {}
    name, alias = asked.get("name"), asked.get("alias")
    if not (isinstance(name, str) and isinstance(alias, str)):
        raise ParamsError(f"{PARAMS}: publish: give the registered model a name and an alias")
    return open_store(load_section(PARAMS, "tracking", Tracking), Path.cwd()), name, alias


def read_house() -> Callable[[Any], Any]:
    """All that an act needs, checked at once; to be handed the module `promotion` once it is loaded.

    Raises:
        ParamsError: a section that is wrong.
    """
    store, name, alias = read_model()
    limits = load_section(PARAMS, "promote", Promote)
    positive = (read_params(PARAMS).get("evaluate") or {}).get("positive")
    return lambda promotion: promotion.House(store, name, alias, limits, positive)


def print_outcome(verb: str, outcome: Any, *, as_json: bool) -> int:
    """Tell rule by rule, or as JSON; returns the exit status."""
    if as_json:
        told = {name: value for name, value in asdict(outcome).items() if name != "digest"}
        print(dump_json(told | {"decision_sha256": outcome.digest}), end="")
    else:
        for line in [*outcome.notes, *_rules(outcome.decision), outcome.sentence, *_after(outcome)]:
            print(f"{verb}: {line}")
    return 1 if outcome.status == "refused" else 0


def _rules(decision: Any) -> list[str]:
    """A line per rule."""
    rules = [rule for part in ("quality", "mechanics") for rule in decision.get(part, [])]
    return [f"{_WORDS[rule['passed']]:5} {rule['name']}: {rule['sentence']}" for rule in rules]


def _after(outcome: Any) -> list[str]:
    """Who is champion now, and what to do next."""
    if outcome.status == "already":
        return []
    if outcome.status == "refused":
        stays = f"version {outcome.previous} stays" if outcome.previous else "there is no"
        return [f"{stays} champion"]
    return [f"{LOG} has a new line; commit it"]
