"""data/scan and the images -> data/packed/<use>: all images of the set in one array"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from convflow.data.packed import Contract, write_contract
from convflow.data.packing import channels_for, write_pixels
from convflow.errors import DataError, ParamsError
from convflow.files import whole_folder
from convflow.params import Section
from convflow.tables import read_table, write_table


class Params(Section):
    """`gather:` in params.yaml."""

    size_px: dict[str, Annotated[int, Field(ge=8, le=1024)]]
    channels: Literal["auto", 1, 3]
    fit: Literal["stretch", "crop", "pad"]


def run(root: Path, scan: Path, packed: Path, *, params: Params) -> None:
    """Decode and resize every image once; `gather.size_px` has the side of what `packed` is called after."""
    if packed.name not in params.size_px:
        raise ParamsError(f"gather.size_px: no {packed.name!r}; there are {', '.join(params.size_px)}")
    rows = read_table(scan / "rows.parquet")
    if n_rejects := read_table(scan / "rejects.parquet").num_rows:
        raise DataError(f"{scan}/rejects.parquet: {n_rejects} images cannot be read; mend or remove them")
    channels = channels_for(rows["mode"].to_pylist()) if params.channels == "auto" else params.channels
    classes = sorted(set(rows["label"].to_pylist()))
    contract = Contract(classes, params.size_px[packed.name], channels, params.fit)
    place = {name: index for index, name in enumerate(classes)}
    labels = [place[label] for label in rows["label"].to_pylist()]
    with whole_folder(packed) as folder:
        write_pixels(folder / "pixels.npy", [root / path for path in rows["path"].to_pylist()], contract)
        np.save(folder / "labels.npy", np.asarray(labels, dtype=np.int64))
        np.save(folder / "weights.npy", rows["weight"].to_numpy().astype(np.float32))
        write_contract(folder / "contract.json", contract)
        write_table(folder / "rows.parquet", rows)
    print(f"gather: {rows.num_rows:,} images of {contract.size_px} px for {packed.name}")
