"""models/<name> and data/packed/{val,test} -> predictions/<name>.parquet; the only reader of test"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from convflow.data.packed import Packed, packed_as
from convflow.files import write_json
from convflow.models import Predictor, load_predictor, measure
from convflow.tables import read_about, read_table, write_table

_KEPT = (
    "path",
    "sha256",
    "label",
    "group",
    "weight",
    "width",
    "height",
    "brightness_mean",
    "brightness_spread",
)


def run(model: Path, val: Path, test: Path, predictions: Path, timing: Path) -> None:
    """Ask the model about every image of val and test; one row each, with all probabilities. And time it."""
    predictor = load_predictor(model)
    sides = {side.name: Packed(packed_as(predictor.contract, side)) for side in (val, test)}
    parts = [_ask(predictor, packed, side) for side, packed in sides.items()]
    split = read_about(sides[test.name].folder / "rows.parquet")
    protocol = f"one {split.get('method', 'unknown')} split, seed {split.get('seed', '?')}"
    n_by_class: dict[str, int] = predictor.card.get("n_by_class", {})
    about = {
        "classes": predictor.classes,
        "commonest": max(n_by_class, key=n_by_class.__getitem__, default=None),
        "model": model.name,
        "protocol": protocol,
    }
    write_table(predictions, pa.concat_tables(parts), about=about)
    timed = max(sides.values(), key=lambda packed: len(packed.pixels))
    write_json(timing, measure(predictor, timed.pixels))


def _ask(predictor: Predictor, packed: Packed, side: str) -> pa.Table:
    rows = read_table(packed.folder / "rows.parquet")
    table = rows.select([name for name in rows.column_names if name in _KEPT or name.startswith("tag_")])
    table = table.add_column(2, "split", pa.array([side] * rows.num_rows, pa.string()))
    prob_NK = predictor.predict_proba(packed.pixels)
    for place, name in enumerate(predictor.classes):
        table = table.append_column(f"p_{name}", pa.array(np.ascontiguousarray(prob_NK[:, place])))
    return table
