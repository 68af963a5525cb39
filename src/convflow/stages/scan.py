"""data/raw/<set> -> data/scan: every file opened once."""

from pathlib import Path

from convflow.data.layout import phone_photos, read_layout
from convflow.data.scanning import measure_all, memory_of, summarise, tables
from convflow.files import whole_folder, write_json
from convflow.tables import write_table

MEMORY = Path(".convflow/scan")


def run(root: Path, scan: Path) -> None:
    """List, open and measure all images below `root`; write rows, rejects and their counts."""
    layout = read_layout(root)
    paths = [item.path for item in layout.items]
    rows, rejects = tables(layout, measure_all(root, paths, memory_of(root, MEMORY)))
    with whole_folder(scan) as folder:
        write_table(folder / "rows.parquet", rows)
        write_table(folder / "rejects.parquet", rejects)
        write_json(folder / "summary.json", summarise(layout, rows, rejects))
    n_ignored = layout.ignored.total()
    photos = f" ({photos})" if (photos := phone_photos(layout.ignored)) else ""
    print(f"scan: {rows.num_rows:,} images, {rejects.num_rows:,} rejected, {n_ignored:,} other files{photos}")
