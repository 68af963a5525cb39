"""A link of the chain from a version back to its pictures, and how it is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal["whole", "changed", "broken"]
_MARKS: dict[State, str] = {"whole": " ", "changed": "~", "broken": "!"}


@dataclass(frozen=True)
class Link:
    """One station.

    Args:
        name: of the station, as in "commit".
        text: what is known of it, in a line.
        state: whole; changed: it is known, and the project has moved on since; broken: it leads nowhere.
        facts: the same for a script, in JSON values.
    """

    name: str
    text: str
    state: State = "whole"
    facts: Mapping[str, Any] = field(default_factory=dict)


def broken(name: str, text: str, **facts: Any) -> Link:
    """A link that leads nowhere."""
    return Link(name, text, "broken", facts)


def short(digest: str | None) -> str:
    """The first digits of a digest: enough to tell two apart."""
    return (digest or "?")[:12]


def near(place: Path, root: Path) -> Path:
    """`place` as seen from the project at `root`, where it lies there."""
    return place.relative_to(root) if place.is_relative_to(root) else place


def now(same: bool | None, what: str) -> tuple[str, State]:
    """Whether something of the project is still as it was; None where it is gone from the project."""
    if same is None:
        return f"the project has no {what} now", "changed"
    if same:
        return "the project's is the same", "whole"
    return "the project's is another now", "changed"


def lines(links: Sequence[Link]) -> list[str]:
    """A line for each; `!` before those that are broken, `~` where the project has moved on since."""
    width = max(len(one.name) for one in links)
    return [f"{_MARKS[one.state]} {one.name:<{width}}  {one.text}" for one in links]


def told(links: Sequence[Link]) -> list[dict[str, Any]]:
    """The same as JSON values."""
    return [{"name": one.name, "state": one.state, "text": one.text, **one.facts} for one in links]
