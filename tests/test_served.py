"""The model as MLflow serves it: what it takes, what it answers, how it decides."""

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from convflow.evaluation.operating_point import told_point
from convflow.registry.known import png
from convflow.registry.served import Served
from made_project import CLASSES, POINT

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Model logged without a signature"),
]


class Grey:
    """White is good, black is bad."""

    classes = CLASSES
    card = {"input": {"size_px": 8, "channels": 1}}  # noqa: RUF012

    def decode(self, source: bytes) -> Any:
        return np.asarray(Image.open(io.BytesIO(source)).convert("L").resize((8, 8)))[..., None]

    def predict_proba(self, images: Any) -> Any:
        good = (images.mean(axis=(1, 2, 3)) / 255).astype(np.float32)
        return np.stack([1 - good, good], axis=1)


def test_the_model_decides_at_the_operating_point() -> None:
    told = {"criterion": "f1", "positive": "good", "threshold": POINT}
    model = Served()
    model.predictor, model.point = Grey(), told_point(told, CLASSES, "here")
    pictures = np.array([0, 60, 70, 255], np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    answer = model.predict(None, pictures)
    assert answer["label"].tolist() == ["bad one", "bad one", "good", "good"]
    np.testing.assert_allclose(answer["p_good"], [0, 60 / 255, 70 / 255, 1], rtol=1e-6)
    np.testing.assert_allclose(answer["probability"], [1, 195 / 255, 70 / 255, 1], rtol=1e-6)


def test_the_model_answers_calibrated_probabilities() -> None:
    model = Served()
    model.predictor, model.point = Grey(), told_point({"temperature": 2.0}, CLASSES, "here")
    answer = model.predict(None, np.full((1, 8, 8, 1), 51, np.uint8))  # 0.2 good
    np.testing.assert_allclose(answer["p_good"], [0.2**0.5 / (0.2**0.5 + 0.8**0.5)], rtol=1e-6)
    assert answer["probability"][0] == answer["p_bad one"][0]


def test_the_served_model_takes_bytes_base64_and_arrays() -> None:
    model = Served()
    model.predictor = Grey()
    white = np.full((8, 8, 1), 255, np.uint8)
    encoded = png(white)
    expected = pd.DataFrame({"label": ["good"], "probability": [1.0], "p_bad one": [0.0], "p_good": [1.0]})
    text = base64.b64encode(encoded).decode()
    for asked in (
        pd.DataFrame({"image": [encoded]}),
        pd.DataFrame({"image": [text]}),
        pd.DataFrame({"image": ["data:image/png;base64," + text]}),
        pd.DataFrame({"image": [white]}),
        {"image": [white.tolist()]},
        white[None],
        np.full((1, 20, 30), 255, np.int64),
        [encoded],
    ):
        pd.testing.assert_frame_equal(model.predict(None, asked), expected)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (pd.DataFrame({"img": [b""]}), r"no column 'image' among \['img'\]"),
        (["not base64!"], "image 0: text that is not base64"),
        (np.zeros((1, 8, 8, 1), np.float32), "image 0: an array .* of float32"),
        (
            np.zeros((20, 30, 3), np.uint8),
            r"image 0: an array \(30, 3\) is a row.*one image as image\[None\]",
        ),
        (np.zeros((8, 8, 1), np.uint8), r"image 0: an array \(8, 1\) is a row of pixels"),
        (np.zeros((20, 30), np.uint8), r"image 0: an array \(30,\) is a row of pixels"),
        (np.zeros((20, 30, 3), np.uint8).tolist(), r"image 0: an array \(30, 3\) is a row of pixels"),
        (np.full((1, 8, 8, 1), 300), "image 0: values 300 to 300; expected 0 to 255"),
    ],
)
def test_what_the_model_cannot_take_is_named(asked: Any, message: str) -> None:
    model = Served()
    model.predictor = Grey()
    with pytest.raises(ValueError, match=message):
        model.predict(None, asked)
