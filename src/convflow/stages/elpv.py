"""(the package elpv-dataset) -> data/raw/elpv"""

from pathlib import Path

from convflow.data.sources import write_elpv
from convflow.files import whole_folder


def run(elpv: Path) -> None:
    """Write the ELPV solar-cell images and their labels.csv."""
    with whole_folder(elpv) as folder:
        n_images = write_elpv(folder)
    print(f"elpv: {n_images:,} solar cells (images CC BY-NC-SA 4.0, Deitsch et al. 2019)")
