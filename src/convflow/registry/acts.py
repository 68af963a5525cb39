"""Acts on the alias `champion`: recorded first, done in one call, and completed after a kill.

The order: the decision goes into the version's run; a tag on the registered model names it as pending; the
alias moves, in one call; then come the log and the tags, and the pending tag goes. Killed before the move,
nothing has happened; killed after it, the next act finds the pending tag and writes what is missing.
"""

import getpass
import hashlib
import json
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from convflow.errors import TrackingError
from convflow.files import dump_json
from convflow.registry.blessing import Version
from convflow.registry.promotion_log import LOG, Act, Entry, append, check_head, read_log
from convflow.registry.store import Store
from convflow.registry.verdict import LONGEST_TAG
from convflow.registry.writing import write_text

CHAMPION = "champion"
HEAD, PENDING, PREVIOUS = (f"convflow.promotions.{name}" for name in ("head", "pending", "previous"))
PROMOTION = "convflow.promotion"
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def now() -> str:
    """The time, UTC, ISO 8601, in ms."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def user() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


class Acts:
    """What is done to one registered model; hold the store's lock for all but reading."""

    def __init__(self, client: MlflowClient, store: Store, name: str) -> None:
        self._client, self._store, self._name = client, store, name

    def entries(self) -> list[Entry]:
        """The log, checked against itself and the registry.

        Raises:
            TrackingError: it has been tampered with, or its end is missing.
        """
        entries = read_log(LOG)
        check_head(LOG, entries, self._tags().get(HEAD))
        return entries

    def champion(self) -> str | None:
        """The version that is champion now."""
        found = self._model().aliases.get(CHAMPION)
        return str(found) if found is not None else None

    def find(self, wanted: str) -> Version:
        """The version of this number or alias.

        Raises:
            TrackingError: there is none.
        """
        number = wanted
        if not wanted.isdigit():
            aliases = self._model().aliases
            if wanted not in aliases:
                known = ", ".join(sorted(aliases)) or "none"
                raise TrackingError(
                    f"{self._name}: no version has the alias {wanted!r} (aliases: {known}); "
                    "see `convflow history`"
                )
            number = str(aliases[wanted])
        try:
            found = self._client.get_model_version(self._name, number)
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                raise
            raise TrackingError(
                f"{self._name} version {number}: no such version in {self._store.shown}; "
                "see `convflow history`"
            ) from None
        return Version(self._name, str(found.version), str(found.run_id), dict(found.tags))

    def refuse(self, version: Version, decision: Mapping[str, Any]) -> str:
        """Record that `version` was refused; returns the decision's SHA-256."""
        digest = self._store_decision(version, decision)
        self._tell(version, decision, digest, "refused")
        return digest

    def move(self, version: Version, decision: Mapping[str, Any]) -> Entry | None:
        """Make `version` champion, with everything that tells of it.

        None where another has become champion since the decision was made: then nothing was done.
        """
        digest = self._store_decision(version, decision)
        pending = json.dumps({"version": version.number, "run_id": version.run_id, "decision": digest})
        self._client.set_registered_model_tag(self._name, PENDING, pending)
        # On a server no lock keeps other machines away: look once more, as late as can be.
        if self._tags().get(PENDING) != pending or self.champion() != decision["previous"]:
            return None
        self._client.set_registered_model_alias(self._name, CHAMPION, version.number)
        return self._finish(version, decision, digest)

    def complete(self) -> Entry | None:
        """Finish the act that was cut short, if there is one whose alias has moved; else forget it."""
        pending = self._tags().get(PENDING)
        if not pending:
            return None
        told = json.loads(pending)
        if self.champion() != told["version"]:
            self._client.delete_registered_model_tag(self._name, PENDING)
            return None
        version = self.find(told["version"])
        return self._finish(version, self.decision(version, told["decision"]), told["decision"])

    def has_decision(self, version: Version, digest: str) -> bool:
        """Whether the run of `version` holds this decision."""
        try:
            self.decision(version, digest)
        except TrackingError:
            return False
        return True

    def decision(self, version: Version, digest: str) -> dict[str, Any]:
        """A decision that is kept in the run of `version`.

        Raises:
            TrackingError: it is not there, or is not the one of this SHA-256.
        """
        name = _place(digest)
        try:
            with tempfile.TemporaryDirectory() as folder:
                data = Path(self._client.download_artifacts(version.run_id, name, folder)).read_bytes()
        except (MlflowException, OSError):
            data = b""
        if hashlib.sha256(data).hexdigest() != digest:
            raise TrackingError(
                f"{self._name} version {version.number}: {name} of its run is not the decision that was "
                f"recorded; delete the tag {PENDING} of the registered model and run `convflow promote`"
            )
        found: dict[str, Any] = json.loads(data)
        return found

    def _finish(self, version: Version, decision: Mapping[str, Any], digest: str) -> Entry:
        """Write what comes after the move; every step may have been done already."""
        act = Act(
            decision=digest,
            **{name: decision[name] for name in ("at", "action", "model", "version", "previous", "by")},
            **{name: decision[name] for name in ("forced", "reason")},
        )
        entry = append(LOG, act)
        self._client.set_registered_model_tag(self._name, HEAD, entry.hash)
        self._client.set_registered_model_tag(self._name, PREVIOUS, decision["previous"] or "none")
        self._tell(version, decision, digest, "promoted")
        self._client.delete_registered_model_tag(self._name, PENDING)
        return entry

    def _tell(self, version: Version, decision: Mapping[str, Any], digest: str, word: str) -> None:
        tags = {
            PROMOTION: word,
            f"{PROMOTION}.at": decision["at"],
            f"{PROMOTION}.by": decision["by"],
            f"{PROMOTION}.sentence": str(decision["sentence"])[:LONGEST_TAG],
            f"{PROMOTION}.decision": digest,
        }
        for name, value in tags.items():
            self._client.set_model_version_tag(self._name, version.number, name, value)

    def _store_decision(self, version: Version, decision: Mapping[str, Any]) -> str:
        text = dump_json(decision)
        digest = hashlib.sha256(text.encode()).hexdigest()
        write_text(self._client, version.run_id, _place(digest), text)
        return digest

    def _tags(self) -> dict[str, str]:
        return dict(self._model().tags)

    def _model(self) -> Any:
        try:
            return self._client.get_registered_model(self._name)
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                raise
            raise TrackingError(
                f"{self._name}: no such model in {self._store.shown}; run `convflow repro` to publish one"
            ) from None


def _place(digest: str) -> str:
    return f"promotion/decision-{digest[:12]}.json"
