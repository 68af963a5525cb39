"""manifest.txt: size and sha256 of every file in a model folder, written last and checked before any is read.

The text is canonical, so no bit of it can change unseen:

    convflow manifest 1
    <sha256> <bytes> card.json
    <sha256> <bytes> weights.safetensors
    <sha256 of the lines above>

Files whose names begin with a dot are nobody's: neither listed nor read. Whoever can write the folder can
write a manifest, too: it tells damage, not forgery. What the files say is checked by those who read them.
"""

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from convflow.errors import ModelError
from convflow.files import digest_file, write_text

MANIFEST = "manifest.txt"
MAX_BYTES = 8 * 2**30  # of one file of a model; the largest of torchvision's weights have 2.6 GB
_HEAD = "convflow manifest 1\n"
_LINE = re.compile(r"([0-9a-f]{64}) (\d{1,11}) ([A-Za-z0-9_][A-Za-z0-9._-]{0,99})\n")
_MOST_BYTES = 2**16  # of the manifest itself: some 400 files
_IN_CACHE = re.compile(r".*/files/md5/[0-9a-f]{2}/[0-9a-f]{30}(\.dir)?")  # where DVC's links lead
_REMEDY = "run `dvc checkout` or train again"


class Entry(NamedTuple):
    """What is known of one file."""

    sha256: str
    n_bytes: int


class Manifest:
    """The files of one folder, as its manifest lists them.

    Attributes:
        entries: by name.
    """

    def __init__(self, folder: Path, entries: Mapping[str, Entry]) -> None:
        self.folder, self.entries = folder, entries

    def digest(self, name: str) -> str:
        """The sha256 of the file `name`, as it lies there.

        Raises:
            ModelError: it cannot be read.
        """
        try:
            return digest_file(self.folder / name)
        except OSError as error:
            raise _unreadable(self.folder / name, error) from None

    def check(self, name: str, digest: str | None = None) -> Path:
        """The path of the file `name`, its bytes compared; `digest` is its sha256 where that is known.

        Raises:
            ModelError: the file is not listed, or not the one that is.
        """
        path = self.folder / name
        if name not in self.entries:
            raise ModelError(f"{path}: not in {MANIFEST}; {_REMEDY}")
        if (digest or self.digest(name)) != self.entries[name].sha256:
            raise ModelError(f"{path}: its sha256 is not the one in {MANIFEST}; {_REMEDY}")
        return path

    def check_all(self, known: Mapping[str, str] | None = None) -> None:
        """Compare all files; `known` has the sha256 of those that have been read already.

        Raises:
            ModelError: the first that is not the one listed.
        """
        for name in self.entries:
            self.check(name, (known or {}).get(name))


def save_manifest(folder: Path) -> None:
    """List the files in `folder`; nothing may be written there afterwards.

    Raises:
        ValueError: something in it that a manifest cannot list, such as a folder.
    """
    lines = []
    for name in sorted(_names(folder) - {MANIFEST}):
        path = folder / name
        line = f"{digest_file(path)} {path.stat().st_size} {name}\n" if path.is_file() else ""
        if not _LINE.fullmatch(line):
            raise ValueError(f"{path}: has no place in a model folder")
        lines.append(line)
    text = _HEAD + "".join(lines)
    write_text(folder / MANIFEST, text + _digest(text))


def open_manifest(folder: Path) -> Manifest:
    """Read the manifest of `folder`, and see that just the files it lists are there, as long as it says.

    No file but the manifest is opened.

    Raises:
        ModelError: no manifest, a damaged one, or a file that is missing, too many, or of another size.
    """
    path = folder / MANIFEST
    if not os.path.lexists(path):
        raise ModelError(f"{path}: missing, so nothing vouches for this model's files; {_REMEDY}")
    if plain_size(path) > _MOST_BYTES:
        raise ModelError(f"{path}: larger than {_MOST_BYTES:,} bytes; {_REMEDY}")
    manifest = Manifest(folder, _parsed(path))
    present = _names(folder) - {MANIFEST}
    for name in sorted(present - manifest.entries.keys()):
        raise ModelError(f"{folder / name}: not in {MANIFEST}; move it elsewhere, or {_REMEDY}")
    for name, entry in manifest.entries.items():
        if name not in present:
            raise ModelError(f"{folder / name}: missing; {_REMEDY}")
        n_bytes = plain_size(folder / name)
        if n_bytes != entry.n_bytes:
            raise ModelError(
                f"{folder / name}: {n_bytes:,} bytes, {entry.n_bytes:,} in {MANIFEST}; {_REMEDY}"
            )
    return manifest


def plain_size(path: Path) -> int:
    """Bytes of a file of a model, before it is opened: to open a pipe is to wait for its writer.

    Raises:
        ModelError: no plain file, one above the limit, or a link that leads out of its folder. Those that DVC
            makes, into its cache, are none of these.
    """
    try:
        if path.is_symlink():
            target = path.resolve()
            if target.parent != path.parent.resolve() and not _IN_CACHE.fullmatch(target.as_posix()):
                raise ModelError(f"{path}: a link that leaves the folder; put the file itself there")
        status = path.stat()
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
        raise _unreadable(path, error) from None
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"{path}: not a file but a folder, pipe, socket or device; {_REMEDY}")
    if status.st_size > MAX_BYTES:
        raise ModelError(f"{path}: {status.st_size:,} bytes, above the limit of {MAX_BYTES:,}; {_REMEDY}")
    return status.st_size


def _unreadable(path: Path, error: Exception) -> ModelError:
    reason = getattr(error, "strerror", None) or "a loop of links"
    return ModelError(f"{path}: cannot be read ({reason}); {_REMEDY}")


def _names(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")}
    except OSError as error:
        raise _unreadable(folder, error) from None


def _parsed(path: Path) -> dict[str, Entry]:
    try:
        text = path.read_bytes().decode("latin-1")  # any byte is a letter: what is not ASCII fits no line
    except OSError as error:
        raise _unreadable(path, error) from None
    head, last = text[:-65], text[-65:]
    if _digest(head) != last or not head.startswith(_HEAD):
        raise ModelError(f"{path}: damaged; {_REMEDY}")
    lines = [_LINE.fullmatch(line) for line in head.removeprefix(_HEAD).splitlines(keepends=True)]
    entries = {line[3]: Entry(line[1], int(line[2])) for line in lines if line}
    if len(entries) != len(lines) or MANIFEST in entries:
        raise ModelError(f"{path}: not a list of files; {_REMEDY}")
    return entries


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("latin-1")).hexdigest() + "\n"
