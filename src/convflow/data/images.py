"""The one decoder: from the bytes of an image file to uint8 pixels, for scan, pack and prediction alike.

Shape letters: H rows, W columns, S side of the packed square, C channels (1 grey, 3 RGB).

Every mode Pillow can deliver is handled on purpose:

| in the file                | becomes                                                          |
|----------------------------|------------------------------------------------------------------|
| 1, L                       | grey                                                             |
| RGB, YCbCr, LAB, HSV, CMYK | RGB                                                              |
| P                          | RGB                                                              |
| RGBA, LA, PA, RGBa         | laid over white, as a page would show it                         |
| any with a see-through colour or palette entry | the same                                     |
| I;16 and its byte orders   | the upper 8 of the 16 bits, grey                                 |
| I (32-bit whole numbers)   | as 16 bits when 0..65535, otherwise refused                      |
| F (floats)                 | refused: their range is unknown                                  |
| EXIF orientation           | applied, as a viewer would; broken EXIF is passed over            |
| several frames or pages    | the first                                                        |
"""

import io
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from convflow.errors import DataError

Fit = Literal["stretch", "crop", "pad"]

# Formats whose decoders are plain pixels; left out on purpose: those that run a program (EPS, WMF),
# those that lead to other files, and those nobody photographs in. MPO comes in by way of JPEG.
SAFE_FORMATS = (
    "PNG", "JPEG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM", "TGA", "PCX", "QOI",
)  # fmt: skip
MAX_PIXELS = 100_000_000
MAX_BYTES = 512 * 1024 * 1024
MAX_SCANS = 100  # of a JPEG: each goes over all pixels, ten are usual, and one takes fewer than 100 bytes

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # of a JPEG, those within a scan left out
_SCAN, _END = 0xDA, 0xD9
_WITH_ALPHA = {"RGBA", "LA", "PA", "RGBa"}
# How the files begin of which one with a broken header is still called by its name.
_BEGINNINGS = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"II*\0": "TIFF", b"MM\0*": "TIFF"}


class ImageError(DataError):
    """An image that cannot be used; `reason` is one word for tables, `detail` a phrase for people.

    In the phrase the only "; " stands before what to do about it, where that is known here.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        """How a worker process sends it home."""
        return type(self), (self.reason, self.detail)


def open_image(data: bytes) -> Image.Image:
    """Decode encoded bytes to a Pillow image, orientation applied, mode as in the file.

    Raises:
        ImageError: zero bytes, too large, not an image of a known format, too many pixels or scans,
            truncated.
    """
    if not data:
        raise ImageError("zero-bytes", "the file is empty")
    if len(data) > MAX_BYTES:
        raise ImageError("too-large", _too_large(len(data)))
    image = _open_header(data)
    kind = image.format or "image"
    _check_pixels(image)
    if kind in ("JPEG", "MPO"):
        _check_scans(data)
    try:
        with warnings.catch_warnings(), _nothing_made_up():
            warnings.simplefilter("ignore")  # notes on odd metadata; the pixels decide
            image.load()
            with suppress(Exception):  # broken EXIF turns nothing
                ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        size = f"{image.width:,} x {image.height:,}"
        raise ImageError(
            "too-large", f"not enough memory for {size} pixels; free some, or shrink the image"
        ) from None
    except Exception as error:  # noqa: BLE001  decoders raise many types on broken bytes
        raise ImageError("truncated", f"broken or truncated {kind} ({_phrase(error)})") from None
    return image


def to_pixels(image: Image.Image, *, channels: int) -> Image.Image:
    """Convert any mode to 8-bit grey (`channels` = 1) or RGB (3), as the table above says.

    Raises:
        ImageError: for float pixels, or whole numbers beyond 16 bits.
    """
    target = "L" if channels == 1 else "RGB"
    see_through = image.mode in _WITH_ALPHA or "transparency" in image.info
    if image.mode == target and not see_through:
        return image
    if image.mode.startswith("I"):
        image = _upper_byte(image)
    elif image.mode == "F":
        raise ImageError("unsupported-mode", "float pixels of unknown range; save it as 8 or 16 bits")
    elif image.mode == "LAB":
        image = image.convert("RGB")  # Pillow has no direct way to grey
    elif see_through:
        rgba = image.convert("RGBA")
        paper = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(paper, rgba)
    return image.convert(target)


def decode(source: bytes | Path, *, size_px: int, channels: int, fit: Fit = "stretch") -> NDArray[np.uint8]:
    """Decode and resize one image, exactly as training saw it.

    Args:
        source: encoded bytes, or the path of an image file.
        size_px: side S of the result.
        channels: C, 1 or 3.
        fit: `stretch` both sides to S; `crop` the centre square first; `pad` with black to a square first.

    Returns:
        uint8 (S, S, C), 0..255.

    Raises:
        ImageError: the image cannot be read; the text starts with the path when `source` is one.
    """
    if isinstance(source, bytes):
        return _fitted(open_image(source), size_px, channels, fit)
    try:
        return _fitted(open_image(read_bytes(source)), size_px, channels, fit)
    except ImageError as error:
        raise ImageError(error.reason, f"{source}: {error.detail}{_remedy(error)}") from None


def read_bytes(path: Path) -> bytes:
    """Read an image file, looking at its size before its content.

    Raises:
        ImageError: missing, unreadable (a pipe would wait for its writer for ever) or too large.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("unreadable", "not a file but a folder, pipe, socket or device")
        n_bytes = status.st_size
        if n_bytes > MAX_BYTES:
            raise ImageError("too-large", _too_large(n_bytes))
        with path.open("rb") as stream:  # not all of it: a file of the system's may be longer than it says
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ImageError("too-large", _too_large(len(data)))
        return data
    except FileNotFoundError:
        raise ImageError("missing", "no such file") from None
    except OSError as error:
        raise ImageError("unreadable", error.strerror or "cannot be read") from None


def _remedy(error: ImageError) -> str:
    if "; " in error.detail:
        return ""
    return "; check the path" if error.reason == "missing" else "; remove it or put a whole copy in its place"


def _open_header(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(data), formats=SAFE_FORMATS)
    except Image.DecompressionBombError as error:
        n_pixels = re.findall(r"\d+", str(error))[0]
        raise ImageError("too-many-pixels", _too_many(int(n_pixels))) from None
    except UnidentifiedImageError:
        if kind := next((name for start, name in _BEGINNINGS.items() if data.startswith(start)), None):
            raise ImageError("truncated", f"broken or truncated {kind} (in its header)") from None
        raise ImageError("not-an-image", f"not an image ({_looks_like(data)})") from None
    except Exception as error:  # noqa: BLE001  a hostile header may raise anything
        raise ImageError("truncated", f"broken header ({_phrase(error)})") from None


def _check_pixels(image: Image.Image) -> None:
    n_pixels = image.width * image.height
    if n_pixels > MAX_PIXELS:
        raise ImageError("too-many-pixels", _too_many(n_pixels))


def _check_scans(data: bytes) -> None:
    """Count the scans of the picture itself: other pictures may lie within its header and behind its end."""
    if data.count(b"\xff\xda") <= MAX_SCANS:
        return
    n_scans, at = 0, 2
    while (found := _MARKER.search(data, at)) is not None and data[found.start() + 1] != _END:
        n_scans += data[found.start() + 1] == _SCAN
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    if n_scans > MAX_SCANS:
        raise ImageError("too-large", f"a JPEG of {n_scans:,} scans, above {MAX_SCANS}; save it anew")


@contextmanager
def _nothing_made_up() -> Iterator[None]:
    """Half a picture is not filled up with grey, whatever Pillow was told for the whole process."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _too_many(n_pixels: int) -> str:
    limit = f"{MAX_PIXELS / 1e6:,.0f} megapixels"
    return f"{n_pixels / 1e6:,.0f} megapixels, above the limit; shrink it below {limit} or remove it"


def _too_large(n_bytes: int) -> str:
    return f"{n_bytes:,} bytes, above the limit; shrink it below {MAX_BYTES:,} bytes or remove it"


def _upper_byte(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ImageError("unsupported-mode", "whole numbers beyond 16 bits; save it as 8 or 16 bits")
    upper = (values >> 8).astype(np.uint8)
    if (see_through := image.info.get("transparency")) is not None:
        upper[values == see_through] = 255
    return Image.fromarray(upper)


def _fitted(image: Image.Image, size_px: int, channels: int, fit: Fit) -> NDArray[np.uint8]:
    pixels = to_pixels(image, channels=channels)
    size = (size_px, size_px)
    if fit == "crop":
        pixels = ImageOps.fit(pixels, size, Image.Resampling.BILINEAR)
    elif fit == "pad":
        pixels = ImageOps.pad(pixels, size, Image.Resampling.BILINEAR)
    elif pixels.size != size:
        pixels = pixels.resize(size, Image.Resampling.BILINEAR)  # antialiased when it shrinks
    return np.asarray(pixels, dtype=np.uint8).reshape(size_px, size_px, channels)


def _looks_like(data: bytes) -> str:
    head: Any = data[:64]
    if all(32 <= byte < 127 or byte in (9, 10, 13) for byte in head):
        return f"it is text, starting {_unbroken(head[:20].decode('ascii'))!r}"
    return f"{len(data):,} bytes of no known image format"


def _phrase(error: Exception) -> str:
    return _unbroken(" ".join(str(error).split()))[:100] or type(error).__name__


def _unbroken(text: str) -> str:
    """Foreign text without the sign that stands before a remedy."""
    return text.replace("; ", ", ")
