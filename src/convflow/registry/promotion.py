"""Make a version champion on evidence, or go back to the champion before; under the store's lock."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from convflow import __version__
from convflow.errors import ConvflowError, ParamsError, TrackingError
from convflow.evaluation import promoting
from convflow.evaluation.rematch import N_DRAWS, SEED
from convflow.registry import rest
from convflow.registry.acts import Acts, now, user
from convflow.registry.blessing import EVIDENCE, Ask, Blessing, Version
from convflow.registry.limits import Promote
from convflow.registry.opening import connect, only_one
from convflow.registry.promotion_log import Entry, champions
from convflow.registry.provenance import git_state
from convflow.registry.proving import Proof
from convflow.registry.rescoring import Ground, Rescored
from convflow.registry.scratch import scratch_folder
from convflow.registry.store import Store
from convflow.registry.writing import data_digests, read_members

_TRIES = 3  # decisions overtaken by another machine's


@dataclass(frozen=True)
class Places:
    """Where the images are that versions are asked about."""

    packed: Path = Path("data/packed")
    splits: Path = Path("data/splits")


@dataclass(frozen=True)
class House:
    """The store and the registered model in it, the limits, and what today's images are."""

    store: Store
    name: str
    alias: str  # of the version that is promoted where none is named
    limits: Promote
    positive: str | None
    places: Places = field(default_factory=Places)
    ask: Ask = Proof


@dataclass(frozen=True)
class Wish:
    """What is asked for: a version's number or alias (None: the challenger), by force or not, and why."""

    version: str | None = None
    forced: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of it.

    Args:
        status: "promoted", "refused", "already" (it is champion), or "rolled back".
        previous: the champion before, or still.
        notes: what is to be said besides.
        decision: as recorded; empty where none was made.
    """

    status: str
    version: str
    previous: str | None
    sentence: str
    notes: list[str] = field(default_factory=list)
    decision: Mapping[str, Any] = field(default_factory=dict)
    digest: str | None = None


def promote(house: House, wish: Wish) -> Outcome:
    """Judge a version and, where it holds, make it champion.

    Raises:
        ParamsError: forced without a reason.
        TrackingError: no store, no such version, a log that was tampered with.
    """
    if wish.forced and not wish.reason.strip():
        raise ParamsError('--force: say why; add --reason "..."')
    return _alone(house, lambda desk: desk.promote(wish))


def rollback(house: House, reason: str) -> Outcome:
    """Make the champion before the present one champion again.

    Raises:
        TrackingError: there is none, or it is gone; and as `promote`.
    """
    return _alone(house, lambda desk: desk.rollback(reason))


def _alone(house: House, act: Callable[["Desk"], Outcome]) -> Outcome:
    store = house.store
    if store.database is not None and not store.database.is_file():
        raise TrackingError(f"{store.shown}: nothing is there yet; run `convflow repro` to publish a version")
    if store.is_server:
        rest.find(store.uri, "-", ("-", "-"), "-")  # raises at once when nothing answers
    try:
        seen = Acts(MlflowClient(store.uri, registry_uri=store.uri), store, house.name).champion()
        with only_one(store, Path.cwd()), scratch_folder(Path.cwd()) as scratch:
            return act(Desk(house, connect(store), Path(scratch), seen))
    except MlflowException as error:
        text = " ".join(str(error).split())[:300]
        raise TrackingError(f"{store.shown}: {text}; run the same command again") from error


class Desk:
    """One act while the store's lock is held; `seen` is the champion before it was."""

    def __init__(self, house: House, client: MlflowClient, scratch: Path, seen: str | None) -> None:
        self._house = house
        self._acts = Acts(client, house.store, house.name)
        self._blessing = Blessing(client, house.store, house.limits, scratch)
        self._seen = seen
        self._notes: list[str] = []

    def promote(self, wish: Wish) -> Outcome:
        """Judge, and move the alias where the judgement allows."""
        self._settle()
        for _ in range(_TRIES):
            entries = self._acts.entries()
            champion = self._acts.champion()
            self._tell_who_won(champion, entries)
            version = self._acts.find(wish.version or self._house.alias)
            if champion == version.number and champions(entries, version.name)[-1:] == [champion]:
                sentence = f"version {champion} is champion already"
                return Outcome("already", champion, champion, sentence, self._notes)
            decision, promoted = self._judge(version, champion, wish)
            if not promoted:
                digest = self._acts.refuse(version, decision)
                return self._outcome("refused", decision, digest)
            if entry := self._acts.move(version, decision):
                return self._outcome("promoted", decision, entry.decision)
            self._seen = champion
        raise TrackingError(
            f"{self._house.name}: others keep moving the champion; run the same command again"
        )

    def rollback(self, reason: str) -> Outcome:
        """Go back by the log, further with each act."""
        completed = self._settle()
        if completed is not None and completed.action == "rollback":
            version = completed.version
            sentence = f"version {version} is champion again: the rollback that was cut short is complete"
            return Outcome("rolled back", version, completed.previous, sentence, self._notes)
        entries, champion = self._acts.entries(), self._acts.champion()
        former = self._before(entries, champion)
        rules, _ = self._blessing.mechanics(former, self._house.places.packed, self._house.ask)
        judgement = promoting.judge_rollback(former.number, champion, rules, reason)
        wish = Wish(former.number, reason=reason)
        decision = self._decision("rollback", former, champion, wish)
        decision = _finite(decision | promoting.record(judgement, [], rules))
        if not judgement.promoted:
            return self._outcome("refused", decision, self._acts.refuse(former, decision))
        entry = self._acts.move(former, decision)
        if entry is None:
            raise TrackingError(
                f"{self._house.name}: the champion was moved meanwhile; see `convflow history`"
            )
        return self._outcome("rolled back", decision, entry.decision)

    def _judge(self, version: Version, champion: str | None, wish: Wish) -> tuple[dict[str, Any], bool]:
        house, blessing = self._house, self._blessing
        mechanics, ours = blessing.mechanics(version, house.places.packed, house.ask)
        quality = blessing.origin(version)
        found: Rescored | None = None
        # one that was made champion by hand has no other to beat
        rival = self._acts.find(champion) if champion and champion != version.number else None
        if ours is not None:
            rules, found = blessing.contest(ours, rival, self._ground())
            quality += rules
        judgement = promoting.judge(
            version.number, quality, mechanics, forced=wish.forced, reason=wish.reason
        )
        decision = self._decision("promote", version, champion, wish)
        decision |= promoting.record(judgement, quality, mechanics)
        decision["comparison"] = found.record() | {"n_draws": N_DRAWS, "seed": SEED} if found else None
        return _finite(decision), judgement.promoted

    def _decision(self, action: str, version: Version, champion: str | None, wish: Wish) -> dict[str, Any]:
        git = git_state(Path.cwd())
        return {
            "action": action,
            "at": now(),
            "by": user(),
            "convflow": __version__,
            "evidence": {tag: version.tags[tag] for tag in EVIDENCE if tag in version.tags},
            "forced": wish.forced,
            "git_commit": git.commit,
            "git_dirty": git.dirty,
            "limits": self._house.limits.model_dump(),
            "model": version.name,
            "previous": champion,
            "reason": " ".join(wish.reason.split()),
            "run_id": version.run_id,
            "version": version.number,
        }

    def _ground(self) -> Ground:
        house, limits = self._house, self._house.limits
        try:
            digests = data_digests(read_members(house.places.splits))
        except ConvflowError:
            digests = ("", "")  # no image here: the comparison will say so
        return Ground(house.places.packed / "test", digests, limits.metric, house.positive, limits.min_rows)

    def _before(self, entries: Sequence[Entry], champion: str | None) -> Version:
        """The champion before the present one, which must be the version that the log tells of."""
        name, line = self._house.name, champions(entries, self._house.name)
        if line and line[-1] == champion:
            line.pop()
        if champion is None and not line:
            raise TrackingError(f"{name}: there is no champion yet, nothing to go back to")
        if not line:
            raise TrackingError(
                f"{name}: no champion before version {champion} in the log; nothing to go back to"
            )
        version = self._acts.find(line[-1])
        promoted = [entry for entry in entries if (entry.model, entry.version) == (name, line[-1])]
        if not self._acts.has_decision(version, promoted[-1].decision):
            raise TrackingError(
                f"{name} version {line[-1]}: not the one that the log tells of (no decision in its run), as "
                "the store was made anew; promote a version that is there"
            )
        return version

    def _settle(self) -> Entry | None:
        """Complete what a kill has left, the log being sound."""
        self._acts.entries()
        entry = self._acts.complete()
        if entry is not None:
            what = {"promote": "promotion of", "rollback": "rollback to"}[entry.action]
            self._notes.append(f"the {what} version {entry.version}, cut short before, is complete now")
        return entry

    def _tell_who_won(self, champion: str | None, entries: Sequence[Entry]) -> None:
        if champion == self._seen or any("cut short" in note for note in self._notes):
            return
        last = next((one for one in reversed(entries) if one.version == champion), None)
        who = f" (by {last.by}, {last.at})" if last else ""
        self._notes.append(f"version {champion} became champion meanwhile{who}; judged against it")

    def _outcome(self, status: str, decision: Mapping[str, Any], digest: str) -> Outcome:
        return Outcome(
            status,
            decision["version"],
            decision["previous"],
            decision["sentence"],
            self._notes,
            decision,
            digest,
        )


def _finite(value: Any) -> Any:
    """`value` with NaN and infinities as None, which JSON has not."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
