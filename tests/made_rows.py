"""Rows and rejects of a scan, as literals, and the settings of a gate that they pass."""

import hashlib
from typing import Any

import pyarrow as pa

TEXT = ("path", "sha256", "dhash", "format", "mode", "label", "group", "split")
SCHEMA = pa.schema(
    {
        **dict.fromkeys(TEXT, pa.string()),
        **dict.fromkeys(("width", "height"), pa.int32()),
        "bytes": pa.int64(),
        **dict.fromkeys(("brightness_mean", "brightness_spread", "weight"), pa.float64()),
    }
)
REJECTS = pa.schema(dict.fromkeys(("path", "label", "reason", "detail"), pa.string()))
SEVERITY = {
    **dict.fromkeys(("labels", "modes", "class_size", "reject_share", "group"), "critical"),
    **dict.fromkeys(("size", "aspect", "imbalance", "duplicates", "near_label_conflict"), "warning"),
    "near_duplicates": "info",
}
SETTINGS: dict[str, Any] = {
    "labels": None,
    "min_side_px": 8,
    "max_aspect": 8.0,
    "modes": None,
    "min_images_per_class": 3,
    "max_imbalance": 2.0,
    "max_reject_share": 0.2,
    "on_bad_image": "fail",
    "near_duplicate_distance": 4,
    "require_group": False,
    "data_docs": False,
    "severity": SEVERITY,
}
TRUNCATED = {"path": "cat/x.png", "label": "cat", "reason": "truncated"}
TRUNCATED |= {"detail": "truncated PNG (10 of 99 bytes)"}


def image(path: str, **changes: Any) -> dict[str, Any]:
    digest = hashlib.sha256(path.encode()).hexdigest()
    row = {"path": path, "sha256": digest, "dhash": hashlib.sha256(digest.encode()).hexdigest()}
    row |= {"format": "PNG", "mode": "L", "width": 16, "height": 16, "bytes": 100}
    row |= {"brightness_mean": 100.0, "brightness_spread": 50.0, "label": path.split("/")[0]}
    return row | {"group": None, "weight": 1.0, "split": None} | changes


def good() -> list[dict[str, Any]]:
    return [image(f"{label}/{number}.png") for label in ("cat", "dog") for number in range(4)]
