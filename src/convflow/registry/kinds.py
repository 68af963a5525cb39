"""What a logged model of each kind needs: packages to list with it, and modules to import ahead of it."""

from pathlib import Path
from typing import NamedTuple

from convflow.errors import ModelError
from convflow.files import read_json


class Needs(NamedTuple):
    """Distributions that answering loads (a test compares), and modules whose import takes long."""

    distributions: tuple[str, ...]
    modules: tuple[str, ...]


_SERVING = ("mlflow", "numpy", "pandas", "pillow", "pydantic", "pyyaml")
_NEEDS = {
    "network": Needs(
        (*_SERVING, "safetensors", "torch", "torchvision"),
        ("torch", "safetensors.torch"),
    ),
    "baseline": Needs(
        (*_SERVING, "scikit-image", "scikit-learn", "scipy", "skops"),
        # not skops.io: by itself it loads all of scikit-learn, and torch with it
        ("sklearn.decomposition", "sklearn.linear_model", "sklearn.svm", "skimage.feature"),
    ),
}


def needs_of(model: Path) -> Needs:
    """What the model in the folder `model` needs, by the kind on its card.

    Raises:
        ModelError: a kind that cannot be served.
    """
    kind = read_json(model / "card.json").get("kind")
    if kind not in _NEEDS:
        raise ModelError(
            f"{model / 'card.json'}: kind {kind!r}; one of {', '.join(_NEEDS)} is expected: make it anew "
            "with `dvc repro`"
        )
    return _NEEDS[kind]
