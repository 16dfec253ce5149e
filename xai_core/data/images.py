"""Image files to pixels."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps

from xai_core.data.reading import read
from xai_core.errors import BadInput, first_line

if TYPE_CHECKING:
    from pathlib import Path

    from xai_core.types import Image

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
"""Image formats that are read; Pillow would hand others, EPS say, to outside programs."""

MAX_PIXELS = 80_000_000
"""Images beyond it are refused before memory is taken for them."""

DARK = 64
"""Of 256 levels: a 16-bit image without any pixel as bright as this holds fewer bits."""

MAX_BYTES = 1 << 29
"""Image files beyond it are refused unread; `MAX_PIXELS` with 16 bits a channel are fewer."""


def read_image(path: Path) -> bytes:
    """The content of an image's file.

    Raises:
        BadInput: it can't be read, is no ordinary file or has more than `MAX_BYTES`.
    """
    try:
        return read(path, MAX_BYTES)
    except OSError as error:
        raise BadInput(f"image {path.name} can't be read: {error.strerror}") from error


def decode(
    content: bytes, name: str, shape: tuple[int, int] | None = None, *, upright: bool = False
) -> Image:
    """RGB pixels, uint8, (H, W, 3); greyscale, palette, CMYK and 16-bit files become RGB.

    A file whose EXIF orientation turns it (2 to 8) has two shapes, as stored and upright. Given
    ``shape``, the one that has it is taken; where both have it, nothing says which was meant.

    Args:
        content: of the file.
        name: of the image, for messages.
        shape: the (height, width) that it must have, by its annotation.
        upright: without ``shape``, turn it as its orientation says.

    Raises:
        BadInput: it can't be decoded, has another shape, two of them or more than `MAX_PIXELS`, or
            pixels whose brightness is not known (floating-point, 32 bits, 16 bits of which less
            than a quarter of the range is used).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise BadInput(
                        f"image {name} is {width}x{height}, more than "
                        f"{MAX_PIXELS // 10**6} megapixels"
                    )
                sixteen_bits = _has_16_bits(image)  # before it may be decoded for its EXIF
                stored, turned = shapes(image)
                _check_shape(name, shape, stored, turned)
                if turned is not None and (upright if shape is None else shape != stored):
                    return _rgb(_upright(image), sixteen_bits)
                return _rgb(_as_stored(image), sixteen_bits)
    except BadInput:
        raise
    except PIL.UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise BadInput(f"image {name} can't be decoded: it is none of {known}") from error
    except Exception as error:  # a damaged file makes decoders raise anything
        raise BadInput(f"image {name} can't be decoded: {first_line(error)}") from error


def shapes(image: PIL.Image.Image) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """(height, width) as stored, and upright if its EXIF orientation turns it.

    Args:
        image: opened, and not decoded yet.
    """
    orientation = _orientation(image)
    width, height = image.size
    if orientation >= 5 and _turns_itself(image):
        width, height = height, width
    if orientation == 1:
        return (height, width), None
    return (height, width), (width, height) if orientation >= 5 else (height, width)


def _check_shape(
    name: str,
    shape: tuple[int, int] | None,
    stored: tuple[int, int],
    turned: tuple[int, int] | None,
) -> None:
    if shape is None:
        return
    if shape not in (stored, turned):
        raise BadInput(
            f"image {name} is {stored[1]}x{stored[0]}, "
            f"but its annotation says {shape[1]}x{shape[0]}"
        )
    if stored == turned:
        raise BadInput(
            f"image {name} is stored turned or mirrored (EXIF orientation), and nothing says "
            "whether it was annotated as stored or upright: remove its orientation tag, or save it "
            "upright"
        )


def _orientation(image: PIL.Image.Image) -> int:
    """1 (as stored) to 8, as EXIF numbers them."""
    try:
        value = image.getexif().get(PIL.ExifTags.Base.Orientation, 1)
    except Exception:  # damaged, which viewers ignore as well
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turns_itself(image: PIL.Image.Image) -> bool:
    """Whether Pillow turns it upright on decoding, and says so in its size before."""
    return image.format == "TIFF"


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    if _turns_itself(image):
        return image
    return PIL.ImageOps.exif_transpose(image)


def _as_stored(image: PIL.Image.Image) -> PIL.Image.Image:
    if not _turns_itself(image) or (orientation := _orientation(image)) == 1:
        return image
    return image.transpose(_BACK[orientation])


BITS_PER_SAMPLE = 258
"""A tag of TIFF."""

_TURN = PIL.Image.Transpose
_BACK = {
    2: _TURN.FLIP_LEFT_RIGHT,
    3: _TURN.ROTATE_180,
    4: _TURN.FLIP_TOP_BOTTOM,
    5: _TURN.TRANSPOSE,
    6: _TURN.ROTATE_90,
    7: _TURN.TRANSVERSE,
    8: _TURN.ROTATE_270,
}
"""Orientation to what makes an upright image the stored one again."""


def _has_16_bits(image: PIL.Image.Image) -> bool:
    """Whether a channel has 16 bits, of which Pillow drops the lower 8 where there is colour."""
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        return 16 in tags.get(BITS_PER_SAMPLE, ())
    tiles = getattr(image, "tile", ())
    return image.mode.startswith("I;16") or any(";16" in str(tile) for tile in tiles)


def _rgb(image: PIL.Image.Image, sixteen_bits: bool) -> Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if image.mode == "I" and not sixteen_bits:
        raise ValueError("its pixels are integers of 32 bits, whose brightness is not known")
    if image.mode.startswith("I"):
        # Pillow's own conversion cuts off all that is above 255.
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        pixels = np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    else:
        pixels = np.asarray(image.convert("RGB"))
    if sixteen_bits and pixels.max() < DARK:
        raise ValueError(
            "it has 16 bits a channel and uses less than a quarter of their range, as files with "
            "values of 8 to 14 bits do: scale its values to 16 bits, or save it with 8"
        )
    return pixels
