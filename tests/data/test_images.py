"""Files that are stored turned, or with more than 8 bits: right, or refused in a sentence."""

from __future__ import annotations

import io
import os

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from xai_core.data.images import MAX_BYTES, decode, read_image
from xai_core.errors import BadInput

PIXELS = (np.arange(6 * 8 * 3).reshape(6, 8, 3) * 1.7).astype(np.uint8)


def stored(orientation, suffix="png", pixels=PIXELS):
    """A file of these pixels, with the orientation beside them."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(pixels).save(file := io.BytesIO(), suffix, exif=exif)
    return file.getvalue()


def upright(orientation, pixels=PIXELS):
    image = PIL.Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    return np.asarray(PIL.ImageOps.exif_transpose(image))


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_quarter_turn_is_taken_in_the_shape_that_the_annotation_has(orientation, suffix):
    save = {"lossless": True} if suffix == "webp" else {}
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(PIXELS).save(file := io.BytesIO(), suffix, exif=exif, **save)
    content = file.getvalue()
    np.testing.assert_array_equal(decode(content, "a", (6, 8)), PIXELS)
    np.testing.assert_array_equal(decode(content, "a", (8, 6)), upright(orientation))
    np.testing.assert_array_equal(decode(content, "a", upright=True), upright(orientation))
    with pytest.raises(BadInput, match="image a is 8x6, but its annotation says 5x6"):
        decode(content, "a", (6, 5))


@pytest.mark.parametrize("suffix", ["png", "jpeg", "tiff"])
@pytest.mark.parametrize(
    ("orientation", "pixels"),
    [*((n, PIXELS) for n in (2, 3, 4)), *((n, PIXELS[:, :6]) for n in range(2, 9))],
)
def test_a_turn_that_keeps_the_shape_is_refused_for_nothing_says_what_was_meant(
    orientation, pixels, suffix
):
    content = stored(orientation, suffix, pixels)
    with pytest.raises(BadInput, match=r"image a is stored turned or mirrored \(EXIF orientation"):
        decode(content, "a", pixels.shape[:2])
    if suffix != "jpeg":
        turned = upright(orientation, pixels)
        np.testing.assert_array_equal(decode(content, "a", upright=True), turned)


@pytest.mark.parametrize("orientation", [0, 1, 9, 255])
def test_other_orientations_mean_as_stored(orientation):
    np.testing.assert_array_equal(decode(stored(orientation), "a", (6, 8)), PIXELS)


def of_16_bits(values, suffix):
    return cv2.imencode(suffix, values.astype(np.uint16))[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3)])
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_fewer_bits_in_a_16_bit_file_are_refused_and_never_black(suffix, shape, bits):
    values = np.linspace(0, 2**16 - 1, 6 * 8 * 3)[: np.prod(shape)].reshape(shape)
    values[0, 0] = 2**16 - 1
    pixels = decode(of_16_bits(values, suffix), "a")
    expected = (values.astype(np.uint16) >> 8).astype(np.uint8).reshape(6, 8, -1)
    np.testing.assert_array_equal(pixels, np.broadcast_to(expected[..., ::-1], (6, 8, 3)))
    with pytest.raises(BadInput, match="uses less than a quarter of their range"):
        decode(of_16_bits(values / 2 ** (16 - bits), suffix), "a")


@pytest.mark.parametrize("factor", [1, 2**8, 2**20])
def test_pixels_of_32_bits_are_refused(factor):
    values = PIXELS[..., 0].astype(np.int32) * factor
    PIL.Image.fromarray(values).save(file := io.BytesIO(), "tiff")
    with pytest.raises(BadInput, match="integers of 32 bits, whose brightness is not known"):
        decode(file.getvalue(), "a")


def test_only_ordinary_files_of_a_bounded_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(BadInput, match=f"image {name} can't be read: it is a device, pipe"):
            read_image(tmp_path / name)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(BadInput, match="sparse can't be read: it has 536,870,913 bytes, more than"):
        read_image(tmp_path / "sparse")
    with pytest.raises(BadInput, match="can't be read: it is a folder"):
        read_image(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"content")
    assert read_image(tmp_path / "link") == b"content"
