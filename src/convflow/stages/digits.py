"""(scikit-learn's digits) -> data/raw/digits"""

from pathlib import Path

from sklearn.datasets import load_digits

from convflow.data.sources import write_digits
from convflow.files import whole_folder


def run(digits: Path) -> None:
    """Write scikit-learn's 1,797 hand-written digits as PNG files, one folder per digit."""
    found = load_digits()
    with whole_folder(digits) as folder:
        n_images = write_digits(folder, found.images, found.target)
    print(f"digits: {n_images:,} hand-written digits")
