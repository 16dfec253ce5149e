"""Image files to pixels."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import PIL.ImageOps

from xai_core.errors import BadInput

if TYPE_CHECKING:
    from xai_core.types import Image

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
"""Image formats that are read; Pillow would hand others, EPS say, to outside programs."""

MAX_PIXELS = 80_000_000
"""Images beyond it are refused before memory is taken for them."""


def decode(
    content: bytes, name: str, shape: tuple[int, int] | None = None, *, upright: bool = False
) -> Image:
    """RGB pixels, uint8, (H, W, 3); greyscale, palette, CMYK and 16-bit files become RGB.

    Args:
        content: of the file.
        name: of the image, for messages.
        shape: the (height, width) that it must have.
        upright: turn it as its EXIF orientation says; COCO's annotations don't.

    Raises:
        BadInput: it can't be decoded, has another shape or more than `MAX_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                fits = shape in (None, (height, width)) and height * width <= MAX_PIXELS
                turned = PIL.ImageOps.exif_transpose(image) if fits and upright else image
                pixels = _rgb(turned) if fits else None
    except PIL.UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise BadInput(f"image {name} can't be decoded: it is none of {known}") from error
    except Exception as error:  # a damaged file makes decoders raise anything
        raise BadInput(f"image {name} can't be decoded: {error}") from error
    if pixels is not None:
        return pixels
    if height * width > MAX_PIXELS:
        raise BadInput(
            f"image {name} is {width}x{height}, more than {MAX_PIXELS // 10**6} megapixels"
        )
    assert shape is not None
    raise BadInput(
        f"image {name} is {width}x{height}, but its annotation says {shape[1]}x{shape[0]}"
    )


def _rgb(image: PIL.Image.Image) -> Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if not image.mode.startswith("I"):
        return np.asarray(image.convert("RGB"))
    # 16 bits a pixel: Pillow's own conversion cuts off all that is above 255.
    grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
