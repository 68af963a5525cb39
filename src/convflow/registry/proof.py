"""Load a logged model as a stranger would, and write down what it answers.

Run as a file by a fresh Python (`python -P proof.py MODULE ...`), so that everything comes from the logged
model: this file must not import convflow. The modules are imported while the model is still being logged;
then one line of JSON on stdin says where it is and what to ask it. No line: nothing is to be proved.
"""

import base64
import gc
import importlib
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path


def main(modules: list[str]) -> None:
    """Import `modules`, none of ours, then answer the questions that stdin names."""
    gc.disable()  # half of these imports' time, and this process is short
    for name in modules:
        with suppress(ImportError):  # a head start, no more: what is truly missing, loading will say
            importlib.import_module(name)
    line = sys.stdin.readline()
    if line:
        answer(**json.loads(line))


def answer(store: str, model: str, questions: str, answers: str) -> None:
    """Ask `model` the PNG files in `questions` (npz) as bytes, some as base64 and as arrays too; save.

    `answers` (npz) gets one row of numbers per image and way, the labels, where the code came from, and how
    many seconds of processor time imports and loading took: those of the clock are longer on a busy machine.
    """
    # here, not above: see gc.disable
    import mlflow
    import numpy as np
    import pandas as pd

    mlflow.set_tracking_uri(store)
    # Its warnings go nowhere here, and to find them it reads the file list of every installed distribution.
    loaded = mlflow.pyfunc.load_model(model, suppress_warnings=True)
    load_s = time.process_time()
    with np.load(questions) as asked:
        pixels, every = asked["pixels"], int(asked["every"])
        encoded = [asked[f"png_{n}"].tobytes() for n in range(len(pixels))]
    texts = [base64.b64encode(data).decode() for data in encoded[::every]]
    tables = {
        "bytes": loaded.predict(pd.DataFrame({"image": encoded})),
        "base64": loaded.predict(pd.DataFrame({"image": texts})),
        "arrays": loaded.predict(pixels[::every]),
    }
    first = tables["bytes"]
    np.savez(
        answers,
        load_s=np.array(load_s),
        columns=np.array([str(name) for name in first.columns]),
        source=np.array(str(Path(sys.modules["convflow"].__file__ or "").resolve())),
        **{way: table.drop(columns="label").to_numpy(np.float64) for way, table in tables.items()},
        **{f"label_{way}": table["label"].to_numpy().astype(str) for way, table in tables.items()},
    )


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # all is on disk; taking torch and MLflow down in order would only keep the parent waiting
