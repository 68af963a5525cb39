"""Load a logged model as a stranger would, and write down what it answers.

Run as a file by a fresh Python (`python -P proof.py STORE MODEL QUESTIONS ANSWERS`), so that everything
comes from the logged model: this file must not import convflow.
"""

import base64
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd


def main(store: str, model: str, questions: str, answers: str) -> None:
    """Ask `model` the PNG files in `questions` (npz) as bytes, as base64 and as arrays; save to `answers`."""
    mlflow.set_tracking_uri(store)
    loaded = mlflow.pyfunc.load_model(model)
    with np.load(questions) as asked:
        pixels = asked["pixels"]
        encoded = [asked[f"png_{n}"].tobytes() for n in range(len(pixels))]
    texts = [base64.b64encode(data).decode() for data in encoded]
    tables = {
        "bytes": loaded.predict(pd.DataFrame({"image": encoded})),
        "base64": loaded.predict(pd.DataFrame({"image": texts})),
        "arrays": loaded.predict(pixels),
    }
    first = tables["bytes"]
    np.savez(
        answers,
        columns=np.array([str(name) for name in first.columns]),
        source=np.array(str(Path(sys.modules["convflow"].__file__ or "").resolve())),
        **{way: table.drop(columns="label").to_numpy(np.float64) for way, table in tables.items()},
        **{f"label_{way}": table["label"].to_numpy().astype(str) for way, table in tables.items()},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
