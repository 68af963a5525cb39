"""What `decide` said of the candidate, as tags and in a line."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from convflow.errors import ModelError
from convflow.files import read_json

VERDICT_TAG, SENTENCE_TAG = "convflow.verdict", "convflow.verdict.sentence"
LONGEST_TAG = 5000  # what older MLflow servers take


@dataclass(frozen=True)
class Verdict:
    """Accepted or not, and why in a sentence."""

    accepted: bool
    sentence: str

    @property
    def word(self) -> str:
        """The verdict as a tag has it."""
        return "accepted" if self.accepted else "refused"

    def tags(self) -> dict[str, str]:
        """The tags of runs and versions."""
        return {VERDICT_TAG: self.word, SENTENCE_TAG: self.sentence[:LONGEST_TAG]}

    def stands_in(self, tags: Mapping[str, str]) -> bool:
        """Whether `tags` tell this very verdict."""
        return all(tags.get(name) == value for name, value in self.tags().items())

    def __str__(self) -> str:
        return f"verdict {self.word} ({self.sentence})"


def read_verdict(path: Path) -> Verdict:
    """The verdict in verdict.json.

    Raises:
        ConvflowError: no such file.
        ModelError: a file that tells no verdict.
    """
    found = read_json(path)
    if not isinstance(found, dict) or type(found.get("accepted")) is not bool:
        raise ModelError(f"{path}: no verdict in it; run `dvc repro --force decide`")
    return Verdict(found["accepted"], " ".join(str(found.get("sentence", "")).split()).rstrip("."))
