"""data/splits and the images -> data/packed/{train,val,test}/<side in px>"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from convflow.data.packed import Contract, write_contract
from convflow.data.packing import channels_for, write_pixels
from convflow.errors import ParamsError
from convflow.files import whole_folder
from convflow.params import Section
from convflow.tables import read_about, read_table, write_table

Size = Annotated[int, Field(ge=8, le=1024)]


class Params(Section):
    """`pack:` in params.yaml."""

    sizes_px: Annotated[list[Size], Field(min_length=1)]
    channels: Literal["auto", 1, 3]
    fit: Literal["stretch", "crop", "pad"]


def run(root: Path, splits: Path, train: Path, val: Path, test: Path, *, params: Params) -> None:
    """Pack each side into a folder of its own, so that no stage can reach test by accident.

    The folders are called after the side that pictures are brought to, in px.
    """
    members = read_table(splits / "members.parquet")
    split = read_about(splits / "members.parquet")
    known = members.filter(pc.field("side") != "excluded")
    channels = channels_for(known["mode"].to_pylist()) if params.channels == "auto" else params.channels
    classes = sorted(set(known["label"].to_pylist()))
    contract = Contract(classes, _size_px(train, params), channels, params.fit)
    for side, folder in (("train", train), ("val", val), ("test", test)):
        with whole_folder(folder) as partial:
            rows = known.filter(pc.field("side") == side)
            _pack(root, rows, partial, contract)
            write_table(partial / "rows.parquet", rows, about=split)
    _sweep((train, val, test), params.sizes_px)


def _sweep(folders: Sequence[Path], sizes_px: Sequence[int]) -> None:
    """Remove what was packed in sizes that are no longer asked for: whoever reads a side reads all of it."""
    for entry in [entry for folder in folders for entry in folder.parent.iterdir()]:
        if entry.name.isdigit() and int(entry.name) not in sizes_px and (entry / "contract.json").is_file():
            shutil.rmtree(entry)


def _size_px(folder: Path, params: Params) -> int:
    """What `folder` is called after."""
    if folder.name not in map(str, params.sizes_px):
        raise ParamsError(
            f"{folder}: {folder.name} is not among pack.sizes_px {params.sizes_px}; add it there"
        )
    return int(folder.name)


def _pack(root: Path, rows: pa.Table, folder: Path, contract: Contract) -> None:
    place = {name: index for index, name in enumerate(contract.classes)}
    write_pixels(folder / "pixels.npy", [root / path for path in rows["path"].to_pylist()], contract)
    labels = [place[label] for label in rows["label"].to_pylist()]
    np.save(folder / "labels.npy", np.asarray(labels, dtype=np.int64))
    np.save(folder / "weights.npy", rows["weight"].to_numpy().astype(np.float32))
    write_contract(folder / "contract.json", contract)
