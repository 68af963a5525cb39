"""The one decoder: every mode on purpose, every broken file one sentence, and Pillow as the judge."""

import io
import os
import pickle
import resource
import socket
import struct
import subprocess
import sys
import time
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from convflow.data import images
from convflow.data.images import ImageError, decode, open_image, read_bytes, to_pixels
from made_images import black_png, encode, picture, png_chunk

LOSSLESS = {"WEBP": {"lossless": True}}
GREY_16 = np.arange(24 * 16, dtype=np.uint16).reshape(16, 24) * 170


def grey(data):
    return np.asarray(to_pixels(open_image(data), channels=1))


def rgb(data):
    return np.asarray(to_pixels(open_image(data), channels=3))


def refusal(data):
    with pytest.raises(ImageError) as caught:
        decode(data, size_px=8, channels=1)
    return caught.value.reason, caught.value.detail


# Every format and mode


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA", "PCX", "QOI", "DIB", "JPEG2000"])
def test_a_lossless_format_gives_the_pixels_it_was_made_from(kind):
    made = picture()
    assert (rgb(encode(made, kind)) == np.asarray(made)).all()
    assert (grey(encode(made, kind)) == np.asarray(made.convert("L"))).all()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "GIF"])
def test_a_lossy_format_gives_what_pillow_gives(kind):
    data = encode(picture(), kind, quality=90)
    assert (rgb(data) == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()


def test_a_stereo_photograph_gives_its_first_picture():
    data = encode(picture(1), "MPO", save_all=True, append_images=[picture(2)])
    assert open_image(data).format == "MPO"
    assert np.abs(rgb(data).astype(int) - np.asarray(picture(1))).mean() < 15


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_opaque_mode_becomes_what_pillow_converts_it_to(mode, channels):
    data = encode(picture(mode=mode), "PNG" if mode in ("1", "L", "P", "RGB") else "TIFF")
    opened = open_image(data)
    assert opened.mode == mode
    expected = np.asarray(opened.convert("RGB").convert("L" if channels == 1 else "RGB"), dtype=int)
    assert np.abs(np.asarray(to_pixels(opened, channels=channels)) - expected).max() <= (mode == "YCbCr")


def test_lab_goes_to_grey_by_way_of_rgb():
    data = encode(Image.new("LAB", (4, 4), (100, 20, 30)), "TIFF")
    assert (grey(data) == np.asarray(Image.open(io.BytesIO(data)).convert("RGB").convert("L"))).all()


@pytest.mark.parametrize(
    "mode",
    [
        "1",
        "L",
        "P",
        "RGB",
        "RGBA",
        "CMYK",
        "YCbCr",
        "LAB",
        "HSV",
        "I",
        "LA",
        "PA",
        "RGBX",
        "RGBa",
        "I;16",
        "I;16L",
        "I;16B",
        "I;16N",
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_has_an_8_bit_form(mode, channels):
    pixels = to_pixels(Image.new(mode, (3, 2)), channels=channels)
    assert (pixels.mode, pixels.size) == ("L" if channels == 1 else "RGB", (3, 2))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_is_laid_over_white(mode, channels):
    colour = picture(mode="L") if mode == "LA" else picture()
    made = colour.convert(mode)
    alpha = Image.fromarray(np.linspace(0, 255, 24 * 16).astype(np.uint8).reshape(16, 24))
    made.putalpha(alpha)
    opened = open_image(encode(made, "PNG" if mode != "PA" else "TIFF"))
    assert opened.mode == mode
    alpha_HW1 = np.asarray(alpha)[:, :, None] / 255
    expected = np.asarray(opened.convert("RGBA"))[:, :, :3] * alpha_HW1 + 255 * (1 - alpha_HW1)
    if channels == 1:
        expected = expected @ [0.299, 0.587, 0.114]
    assert np.abs(np.asarray(to_pixels(opened, channels=channels)) - expected).max() <= 1.5


@pytest.mark.parametrize(
    ("image", "see_through"),
    [
        (Image.new("1", (4, 4), 0), 0),
        (Image.new("L", (4, 4), 10), 10),
        (Image.new("RGB", (4, 4), (10, 20, 30)), (10, 20, 30)),
        (Image.new("RGB", (4, 4), (10, 20, 30)).quantize(4), 0),
        (Image.fromarray(np.full((4, 4), 300, dtype=np.uint16)), 300),
    ],
    ids=["1", "L", "RGB", "P", "16 bits"],
)
def test_a_see_through_colour_is_white_in_grey_and_in_rgb(image, see_through):
    data = encode(image, "PNG", transparency=see_through)
    assert (grey(data) == 255).all()
    assert (rgb(data) == 255).all()


@pytest.mark.parametrize(("kind", "stored_as"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2")])
def test_of_16_bits_the_upper_8_remain(kind, stored_as):
    data = encode(Image.fromarray(GREY_16.astype(stored_as)), kind)
    assert open_image(data).mode.startswith("I;16")
    assert (grey(data) == GREY_16 // 256).all()
    assert (rgb(data) == (GREY_16 // 256)[:, :, None]).all()


def test_32_bit_whole_numbers_pass_only_within_16_bits():
    assert (grey(encode(Image.fromarray(GREY_16.astype(np.int32)), "TIFF")) == GREY_16 // 256).all()
    for value in (-1, 65536):
        data = encode(Image.fromarray(np.full((4, 4), value, dtype=np.int32)), "TIFF")
        assert refusal(data) == ("unsupported-mode", "whole numbers beyond 16 bits; save it as 8 or 16 bits")


def test_floats_are_refused_because_their_range_is_unknown():
    data = encode(Image.fromarray(np.ones((4, 4), dtype=np.float32)), "TIFF")
    assert refusal(data) == ("unsupported-mode", "float pixels of unknown range; save it as 8 or 16 bits")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(picture(), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert expected.size == ((24, 16) if orientation < 5 else (16, 24))
    assert (rgb(data) == np.asarray(expected)).all()
    assert open_image(data).format == kind


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_taken(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(rgb(data).astype(int) - [255, 0, 0]).max() <= 2


# Size and fit


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    size_px=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    fit=st.sampled_from(["stretch", "crop", "pad"]),
    mode=st.sampled_from(["1", "L", "P", "RGB", "RGBA", "LA", "I;16"]),
)
def test_any_size_becomes_a_square_of_bytes(size, size_px, channels, fit, mode):
    made = picture(size=size) if mode == "I;16" else picture(size=size, mode=mode)
    if mode == "I;16":
        made = Image.fromarray(np.asarray(made.convert("L")).astype(np.uint16) * 257)
    pixels = decode(encode(made), size_px=size_px, channels=channels, fit=fit)
    assert (pixels.shape, pixels.dtype) == ((size_px, size_px, channels), np.uint8)


@given(seed=st.integers(0, 99), size_px=st.integers(8, 32), kind=st.sampled_from(["PNG", "JPEG"]))
def test_bytes_and_path_give_the_same_pixels(tmp_path_factory, seed, size_px, kind):
    path = tmp_path_factory.mktemp("one") / "x.png"
    path.write_bytes(encode(picture(seed), kind))
    from_bytes, from_path = (decode(s, size_px=size_px, channels=3) for s in (path.read_bytes(), path))
    assert (from_bytes == from_path).all()


def test_shrinking_is_antialiased_as_pillow_does_it():
    board = (
        np.indices((96, 96)).sum(axis=0) % 2 * 255
    )  # a pixel-wide chequerboard: plain sampling keeps its black
    made = Image.fromarray(board.astype(np.uint8))
    pixels = decode(encode(made), size_px=12, channels=1)
    assert (pixels[:, :, 0] == np.asarray(made.resize((12, 12), Image.Resampling.BILINEAR))).all()
    assert np.abs(pixels.astype(int) - 127).max() < 12


def test_the_three_fits_treat_a_wide_picture_each_in_its_way():
    wide = Image.new("L", (60, 20), 90)
    wide.paste(200, (20, 0, 40, 20))
    stretch, crop, pad = (
        decode(encode(wide), size_px=12, channels=1, fit=f)[:, :, 0] for f in ("stretch", "crop", "pad")
    )
    assert stretch[6].tolist() == np.asarray(wide.resize((12, 12), Image.Resampling.BILINEAR))[6].tolist()
    assert (crop[:, 1:-1] == 200).all()
    assert (pad[:4] == 0).all() and (pad[8:] == 0).all() and (pad[4:8] >= 90).all()  # noqa: PT018


def test_a_picture_of_the_right_size_is_not_touched():
    made = picture(size=(16, 16))
    assert (decode(encode(made), size_px=16, channels=3) == np.asarray(made)).all()


# Hostile files


def test_no_bytes_and_text_are_told_apart():
    assert refusal(b"") == ("zero-bytes", "the file is empty")
    assert refusal(b"to be painted later") == (
        "not-an-image",
        "not an image (it is text, starting 'to be painted later')",
    )
    assert refusal(bytes(range(256))) == ("not-an-image", "not an image (256 bytes of no known image format)")


def test_foreign_text_holds_no_sign_that_stands_before_a_remedy(monkeypatch):
    assert refusal(b"a; b\n") == ("not-an-image", "not an image (it is text, starting 'a, b\\n')")

    def fail(_):
        raise ValueError("bad; very bad")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    assert refusal(encode(picture())) == ("truncated", "broken or truncated PNG (bad, very bad)")


@given(share=st.floats(0.02, 0.9), kind=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"]))
def test_a_file_cut_short_is_refused(share, kind):
    data = encode(picture(size=(48, 48)), kind)
    reason, detail = refusal(data[: max(4, int(share * len(data)))])
    assert reason in ("truncated", "not-an-image")
    assert reason == "truncated" or kind in ("BMP", "WEBP")
    assert "\n" not in detail


@given(st.data())
def test_flipped_bytes_give_pixels_or_an_image_error(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "QOI", "TGA", "PPM"]))
    broken = bytearray(encode(picture(), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert decode(bytes(broken), size_px=8, channels=1).shape == (8, 8, 1)
    except ImageError as error:
        assert error.reason  # noqa: PT017  pixels are as good


@given(st.binary(max_size=200))
def test_any_bytes_give_pixels_or_an_image_error(data):
    try:
        decode(data, size_px=4, channels=3)
    except ImageError as error:
        assert error.detail  # noqa: PT017  pixels are as good


@pytest.mark.parametrize(("size", "megapixels"), [((20_000, 10_000), 200), ((11_000, 10_000), 110)])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(size, megapixels):
    data = black_png(*size)
    assert len(data) < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = f"{megapixels} megapixels, above the limit; shrink it below 100 megapixels or remove it"
    assert refusal(data) == ("too-many-pixels", said)
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
    )  # KiB; the pixels need 110,000


def test_a_file_too_large_to_be_a_picture_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    (tmp_path / "x.png").write_bytes(bytes(11))
    said = "11 bytes, above the limit; shrink it below 10 bytes or remove it"
    with pytest.raises(ImageError, match=f"^{said}$"):
        read_bytes(tmp_path / "x.png")
    assert refusal(bytes(11)) == ("too-large", said)
    with pytest.raises(ImageError, match=rf"/x\.png: {said}$"):  # one remedy, not two
        decode(tmp_path / "x.png", size_px=8, channels=1)


def test_too_little_memory_is_no_fault_of_the_file(monkeypatch):
    def fail(_):
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    said = "not enough memory for 24 x 16 pixels; free some, or shrink the image"
    assert refusal(encode(picture())) == ("too-large", said)


def test_a_text_or_colour_profile_that_unpacks_to_megabytes_is_refused():
    bomb = zlib.compress(bytes(3_000_000))
    for chunk in (png_chunk(b"zTXt", b"k\0\0" + bomb), png_chunk(b"iCCP", b"k\0\0" + bomb)):
        reason, detail = refusal(black_png(8, 8, chunk))
        assert reason == "truncated"
        assert "too large" in detail


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_broken_exif_or_profile_is_passed_over(kind):
    if kind == "PNG":
        chunks = png_chunk(b"eXIf", b"no TIFF at all"), png_chunk(b"iCCP", b"k\0\0junk")
        data, expected = black_png(8, 8, *chunks), black_png(8, 8)
    else:
        expected = encode(picture(), kind)
        data = encode(picture(), kind, exif=b"Exif\0\0II*\0\xff\xff\xff\xff", icc_profile=b"junk")
    assert (rgb(data) == rgb(expected)).all()


# Hostile places


@pytest.mark.parametrize(
    ("make", "reason", "detail"),
    [
        (lambda path: path.mkdir(), "unreadable", "not a file but a folder, pipe, socket or device"),
        (os.mkfifo, "unreadable", "not a file but a folder, pipe, socket or device"),
        (lambda path: path.symlink_to(path), "unreadable", "Too many levels of symbolic links"),
        (lambda path: path.symlink_to("nowhere.png"), "missing", "no such file; check the path"),
        (
            lambda path: path.symlink_to("/dev/zero"),
            "unreadable",
            "not a file but a folder, pipe, socket or device",
        ),
        (lambda path: None, "missing", "no such file; check the path"),
    ],
    ids=["folder", "pipe", "loop", "broken link", "endless device", "nothing"],
)
def test_what_is_no_file_is_refused_without_waiting(tmp_path, make, reason, detail):
    path = tmp_path / "x.png"
    make(path)
    with pytest.raises(ImageError) as caught:
        decode(path, size_px=8, channels=1)
    remedy = "" if "; " in detail else "; remove it or put a whole copy in its place"
    assert caught.value.reason == reason
    assert str(caught.value) == f"{path}: {detail}{remedy}"


def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("x.png")
        with pytest.raises(ImageError, match="not a file but a folder, pipe, socket or device"):
            read_bytes(tmp_path / "x.png")


def test_a_file_without_permission_is_refused(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(encode(picture()))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(ImageError, match="Permission denied"):
        read_bytes(path)


def test_an_error_comes_home_whole_from_a_worker_process():
    error = pickle.loads(pickle.dumps(ImageError("truncated", "cut")))  # noqa: S301  our own
    assert (error.reason, error.detail, str(error)) == ("truncated", "cut", "cut")


def test_no_format_is_asked_for_that_pillow_cannot_open():
    code = (
        "from PIL import Image; from convflow.data.images import SAFE_FORMATS; Image.init(); "
        "assert set(SAFE_FORMATS) <= set(Image.OPEN), set(SAFE_FORMATS) - set(Image.OPEN)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Limits


def jpeg_of_scans(n_more: int, size: tuple[int, int] = (24, 16)) -> bytes:
    """A progressive JPEG whose last scan comes again and again: a few bytes for a walk over all pixels."""
    data = encode(picture(size=size, mode="L"), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + n_more * last + b"\xff\xd9"


def test_a_jpeg_of_scans_without_end_is_refused_before_it_is_decoded(monkeypatch):
    assert grey(jpeg_of_scans(80)).shape == (16, 24)
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.load", None)
    n_scans = jpeg_of_scans(0).count(b"\xff\xda") + 100
    assert refusal(jpeg_of_scans(100)) == (
        "too-large",
        f"a JPEG of {n_scans} scans, above 100; save it anew",
    )


def test_scans_of_other_pictures_in_the_file_do_not_count():
    """A preview within the header, and what telephones put behind the end."""
    plain = encode(picture(), "JPEG")
    preview = b"\xff\xe1" + (2 + 1200).to_bytes(2, "big") + b"\xff\xda" * 600
    for data in (plain + b"\xff\xda" * 1000, plain[:2] + preview + plain[2:]):
        assert data.count(b"\xff\xda") > 500
        assert (rgb(data) == rgb(plain)).all()


def test_half_a_picture_is_refused_whatever_pillow_was_told(monkeypatch):
    whole = encode(picture(size=(48, 48)), "JPEG")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for data in (whole[: len(whole) // 2], encode(picture(size=(48, 48)))[:-300]):
        assert refusal(data)[0] == "truncated"
    assert ImageFile.LOAD_TRUNCATED_IMAGES
    assert (rgb(whole) == rgb(whole)).all()


def test_a_file_longer_than_it_says_is_read_up_to_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    (tmp_path / "x.png").write_bytes(bytes(50))
    short = os.stat_result((0o100644, 0, 0, 1, 0, 0, 0, 0, 0, 0))  # as the files in /proc
    monkeypatch.setattr("pathlib.Path.stat", lambda path, **how: short)
    with pytest.raises(ImageError, match=r"^11 bytes, above the limit; shrink it below 10 bytes"):
        read_bytes(tmp_path / "x.png")


def tiff(*tags: tuple[int, int, int, int]) -> bytes:
    """8 x 8 grey pixels at offset 8, and these tags: number, type, count, value or offset."""
    own = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 4, 1, 8), (259, 4, 1, 1), (262, 4, 1, 1), (273, 4, 1, 8),
           (278, 4, 1, 8), (279, 4, 1, 64)]  # fmt: skip
    replaced = {tag[0]: tag for tag in [*own, *tags]}
    entries = b"".join(struct.pack("<HHII", *replaced[number]) for number in sorted(replaced))
    head = b"II*\0" + struct.pack("<I", 8 + 64) + bytes(range(64))
    return head + struct.pack("<H", len(replaced)) + entries + struct.pack("<I", 0)


@pytest.mark.parametrize(
    "tags",
    [
        [(270, 2, 2**32 - 1, 8)],  # a description of 4 GB
        [(34665, 4, 1, 72)],  # EXIF that leads to its own tags
        [(330, 4, 1, 72)],
        [(40_000 + n, 1, 2**20, 8) for n in range(500)],
        [(256, 4, 1, 2**31), (257, 4, 1, 2**31)],
        [(256, 4, 1, 0)],
        [(258, 4, 1, 2**31)],
        [(259, 4, 1, 99)],
        [(273, 4, 1, 2**32 - 1)],
        [(278, 4, 1, 0)],
        [(279, 4, 1, 2**32 - 1)],
        [(322, 4, 1, 2**31), (323, 4, 1, 2**31), (324, 4, 1, 8), (325, 4, 1, 64)],
        [(277, 4, 1, 2**16 - 1)],
    ],
)
def test_a_tiff_of_hostile_tags_gives_its_pixels_or_an_image_error(tags):
    expected = np.arange(64).reshape(8, 8)
    assert (grey(tiff()) == expected).all()
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        found = decode(tiff(*tags), size_px=8, channels=1)
    except ImageError as error:
        assert "\n" not in str(error)  # noqa: PT017  pixels are as good
    else:
        assert found.shape == (8, 8, 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert time.process_time() - began < 5


def test_many_texts_in_a_png_take_no_memory():
    text = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000)))
    reason, detail = refusal(black_png(8, 8, *[text] * 100))
    assert reason == "truncated"
    assert "Too much memory used in text chunks" in detail


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_only_the_first_of_many_frames_is_decoded(kind):
    frames = [picture(n, mode="L") for n in range(40)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **LOSSLESS.get(kind, {}))
    assert (grey(data) == grey(encode(frames[0], kind, **LOSSLESS.get(kind, {})))).all()
    cut = data[: int(0.7 * len(data))]  # somewhere in the others
    if kind == "GIF":
        assert (grey(cut) == grey(data)).all()
    else:  # their tables stand at the end, or their length at the beginning
        with suppress(ImageError):
            grey(cut)
