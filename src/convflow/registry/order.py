"""What is to be in the store once a model is published, and what of it is there already; without MLflow."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from convflow.registry.key import Evidence, Request, Rival, run_key
from convflow.registry.ledger import Published, find_published, is_logged
from convflow.registry.provenance import is_committed_now
from convflow.registry.store import Store
from convflow.registry.verdict import Verdict


@dataclass(frozen=True)
class Order:
    """One registered version of the candidate, one run of each rival, and the verdict."""

    evidence: Evidence
    params: dict[str, Any]  # all of params.yaml
    request: Request
    parts: dict[str, str]  # the digests of the evidence
    rivals: list[Rival]
    verdict: Verdict

    @property
    def key(self) -> str:
        """The digest that names the candidate's run."""
        return run_key(self.parts)


class State(NamedTuple):
    """What of an order is there; what is not certain counts as absent."""

    published: Published | None
    missing: list[Rival]
    has_verdict: bool
    has_origin: bool = True  # False: published from changed files that have been committed since

    @property
    def whole(self) -> Published | None:
        """What is published, if nothing is left to do."""
        is_whole = self.has_verdict and self.has_origin and not self.missing
        return self.published if is_whole and self.published and self.published.has_alias else None


def look(store: Store, order: Order) -> State:
    """See what is there.

    Raises:
        TrackingError: the store is a server that does not answer.
    """
    published = find_published(store, order.key, order.request.name, order.request.alias)
    missing = [rival for rival in order.rivals if not is_logged(store, rival.key)]
    has_verdict = published is not None and order.verdict.stands_in(published.tags)
    has_origin = published is None or not is_committed_now(published.tags, Path.cwd())
    return State(published, missing, has_verdict, has_origin)
