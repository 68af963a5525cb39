"""Small true images and folders of them, for all tests that need files to look at."""

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Content = Image.Image | bytes | str


def picture(seed: int = 0, size: tuple[int, int] = (24, 16), mode: str = "RGB") -> Image.Image:
    """A soft random landscape, width x height: unlike any other seed, and the same after a little blur."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC).convert(mode)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file of format `kind`."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def make_tree(root: Path, files: Mapping[str, Content]) -> Path:
    """Write `files` (image, bytes or text by relative path) below `root`; returns `root`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Image.Image):
            content.save(path)
        elif isinstance(content, str):
            path.write_bytes(content.encode())
        else:
            path.write_bytes(content)
    return root


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def black_png(width: int, height: int, *chunks: bytes) -> bytes:
    """A black 1-bit PNG of any size, made without its pixels; `chunks` go before them."""
    row_bytes = 1 + (width + 7) // 8
    packer = zlib.compressobj(9)
    block = b"\0" * row_bytes * 64
    rows = [packer.compress(block[: row_bytes * min(64, height - top)]) for top in range(0, height, 64)]
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    pixels = png_chunk(b"IDAT", b"".join(rows) + packer.flush())
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + png_chunk(b"IEND", b"")
