"""What has to run for one output of a pipeline, read off its dvc.lock."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from convflow.errors import ModelError

Stages = Mapping[str, Mapping[str, Any]]


def needed(stages: Stages, last: str, *, without: frozenset[str] = frozenset()) -> list[str]:
    """`last` and every stage that it rests on, each after those that it needs.

    Args:
        stages: of dvc.lock, by name.
        last: one of them.
        without: stages that are not to run, nor what they alone rest on.

    Raises:
        ModelError: there is no such stage.
    """
    if last not in stages:
        raise ModelError(f"dvc.lock: no stage {last!r}; a version of another pipeline cannot be made anew")
    order: list[str] = []

    def visit(name: str) -> None:
        for one in stages:
            if one not in (name, *without) and one not in order and _feeds(stages[one], stages[name]):
                visit(one)
        if name not in order:
            order.append(name)

    visit(last)
    return order


def code_of(stages: Stages, names: list[str]) -> dict[str, str]:
    """The MD5 of each source file that these stages rest on, by its path."""
    return {
        str(one["path"]): str(one["md5"])
        for name in names
        for one in stages[name].get("deps", [])
        if str(one["path"]).endswith(".py") and one.get("md5")
    }


def _feeds(maker: Mapping[str, Any], user: Mapping[str, Any]) -> bool:
    return any(_overlap(out, dep) for out in _paths(maker, "outs") for dep in _paths(user, "deps"))


def _paths(stage: Mapping[str, Any], part: str) -> Iterator[PurePosixPath]:
    return (PurePosixPath(str(one["path"])) for one in stage.get(part, []))


def _overlap(one: PurePosixPath, other: PurePosixPath) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)
