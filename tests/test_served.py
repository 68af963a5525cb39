"""The model as MLflow serves it: what it takes, what it answers, how it decides."""

import base64
import io
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from convflow.data.images import decode
from convflow.evaluation.operating_point import told_point
from convflow.registry import served
from convflow.registry.known import png
from convflow.registry.served import Served
from made_images import black_png
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


def test_what_is_too_large_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Served()
    model.predictor = Grey()
    monkeypatch.setattr(served, "MAX_BYTES", 90)
    monkeypatch.setattr(served, "MAX_PIXELS", 100)
    encoded = png(np.zeros((8, 8, 1), np.uint8))
    assert 60 < len(encoded) <= 90
    text = base64.b64encode(encoded).decode()
    for asked in ([text], ["data:image/png;base64," + text], np.zeros((1, 10, 10), np.uint8)):
        assert model.predict(None, asked)["label"].tolist() == ["bad one"]
    monkeypatch.setattr(base64, "b64decode", None)
    long = base64.b64encode(bytes(120)).decode()
    for asked in ([long], ["data:image/png;base64," + long]):
        with pytest.raises(
            ValueError, match="image 0: text of 120 bytes, above the limit of 90; shrink the im"
        ):
            model.predict(None, asked)
    with pytest.raises(
        ValueError, match=r"image 0: an array \(11, 10, 1\), above the limit of 100 pixels; shr"
    ):
        model.predict(None, np.zeros((1, 11, 10), np.uint8))


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (b"", "the file is empty"),
        (b"GIF89a", "broken or truncated GIF"),
        (pickle.dumps({}), "not an image"),
        (black_png(20_000, 10_000), "200 megapixels, above the limit; shrink it below 100 megapixels"),
        ("data:image/svg+xml;base64,PHN2Zy8+", "not an image"),
        ("=" * 100, "text that is not base64"),
        ("base64," * 50, "text that is not base64"),
        ("", "the file is empty"),
        ("ü" * 10, "text that is not base64"),
    ],
)
def test_hostile_inputs_are_one_line_that_names_the_image(asked: Any, reason: str) -> None:
    model = Served()
    model.predictor = Grey()
    model.predictor.decode = lambda data: decode(data, size_px=8, channels=1)
    good = png(np.zeros((8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match=f"^image 1: .*{reason}") as caught:
        model.predict(None, pd.DataFrame({"image": [good, asked]}))
    assert "\n" not in str(caught.value)


def test_a_server_is_told_in_one_line_with_status_400() -> None:
    model = Served()
    model.predictor = Grey()
    with pytest.raises(MlflowException) as caught:  # MLflow sends a traceback along with any other error
        model.predict(None, [b"two\nlines"])
    caught.value.message = "all that was sent, and more"  # as MLflow does
    said = '{"error_code": "INVALID_PARAMETER_VALUE", "message": "image 0: cannot identify image file'
    assert caught.value.serialize_as_json().startswith(said)
    assert "\n" not in caught.value.serialize_as_json()
    assert caught.value.get_http_status_code() == 400
