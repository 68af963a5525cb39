"""What all tests share: hypothesis without a clock or a diary, and a small folder of pictures."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from made_images import make_tree, picture

# No deadline: the machine may be busy. The same examples each time, none kept on disk.
settings.register_profile("convflow", deadline=None, derandomize=True, database=None, max_examples=30)
settings.load_profile("convflow")


def pytest_collection_finish() -> None:
    """Let the collector no more look through what all tests import, test after test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_store_is_left_behind() -> Iterator[None]:
    """MLflow puts the store it is pointed to into the environment, where processes of other tests find it."""
    yield
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        os.environ.pop(name, None)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder per class: `cat/0.png` to `cat/3.png` and `dog/0.png` to `dog/3.png`, all different."""
    files = {
        f"{label}/{n}.png": picture(10 * n + len(label) + ord(label[0]))
        for label in ("cat", "dog")
        for n in range(4)
    }
    return make_tree(tmp_path / "pictures", files)
