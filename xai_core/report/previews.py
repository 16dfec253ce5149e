"""Small copies of a sample's maps, kept during a run, so that reports show them without torch.

``FOLDER/SAMPLE.jpg`` is the image, ``FOLDER/SAMPLE.png`` its mask (0 outside, 1 dilated only, 2
mask), ``FOLDER/NET/SAMPLE.jpg`` the maps one below the other, 128 = 0, and ``FOLDER/NET/
SAMPLE.json`` what the grey values mean. Kept at one size of image per run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from xai_core.files import file_name, write_atomically
from xai_core.types import Name, Positive, Size

if TYPE_CHECKING:
    from xai_core.types import Image, Mask

FOLDER = "previews"
"""Of all previews, within the run's."""

LONGEST_SIDE = 160
"""Of a preview, in pixels; larger maps are averaged down to it."""

PERCENTILE = 99.5
"""Of a map's magnitudes, is shown at full colour: a handful of peaks would blacken the rest."""

PROMINENT = 0.5
"""A percentile below this share of the peak means that peaks stand out."""

JPEG_QUALITY = 80
_ZERO, _LEVELS = 128, 127


@dataclass(frozen=True)
class Preview:
    """One map, small.

    Attributes:
        values: (h, w) in [-1, 1]: the map divided by `scale` and clipped. Of three channels the
            one of largest magnitude, with its sign.
        scale: the magnitude that is shown at full colour, in the map's own units; 0 for a map
            of zeros.
        peak: the map's largest magnitude.
        heat: whether it has one channel and is shown as heat over the image; others are signed.
    """

    values: npt.NDArray[np.float32]
    scale: float
    peak: float
    heat: bool


@dataclass(frozen=True)
class Pictures:
    """What there is to be seen of one sample with one net.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        mask: (h, w), not dilated.
        dilated: (h, w), the mask that maps are scored against.
        maps: method id to its map.
        size: of the image as the net saw it: ``original`` or N.
    """

    image: Image
    mask: Mask
    dilated: Mask
    maps: Mapping[str, Preview]
    size: str


@dataclass(frozen=True)
class _Legend:
    method: Name
    scale: Positive
    peak: Positive
    heat: bool


@dataclass(frozen=True)
class _Meaning:
    size: Size
    maps: list[_Legend]


def files(folder: Path, net: str, sample: str) -> tuple[Path, Path, Path, Path]:
    """Image, mask, maps and what they mean; the last is written last."""
    own, name = folder / file_name(net), file_name(sample)
    return (
        folder / f"{name}.jpg",
        folder / f"{name}.png",
        own / f"{name}.jpg",
        own / f"{name}.json",
    )


def shrink(values: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.float32], float]:
    """A map's signed magnitude at preview size, and its largest magnitude before.

    Args:
        values: (C, H, W).
    """
    strongest = np.abs(values).argmax(axis=0)[np.newaxis]
    flat = np.take_along_axis(values, strongest, axis=0)[0]
    peak = float(np.abs(flat).max(initial=0.0))
    # Scaled first: float32 can't hold the squares and sums of every float64 map.
    unit = (flat / peak if peak > 0 else flat).astype(np.float32)
    height, width = _small(*unit.shape)
    return cv2.resize(unit, (width, height), interpolation=cv2.INTER_AREA), peak


def full_colour(unit: npt.NDArray[np.floating]) -> float:
    """The magnitude shown at full colour, as a share of the peak, in (0, 1].

    1 unless a handful of peaks stand out, and where all but a handful of pixels are zero.
    """
    scale = float(np.percentile(np.abs(unit), PERCENTILE))
    return scale if 0 < scale < PROMINENT else 1.0


def save(
    folder: Path,
    net: str,
    size: str,
    sample: str,
    maps: Mapping[str, npt.NDArray[np.floating]],
    image: Image,
    mask: Mask,
    dilated: Mask,
) -> None:
    """Write the previews of one sample with one net.

    Args:
        folder: of all previews of the run.
        net: id of the net.
        size: ``original`` or N.
        sample: id of the sample.
        maps: method id to map, (C, H, W); at least one.
        image: uint8 RGB, at its own size.
        mask: (H, W).
        dilated: (H, W).

    Raises:
        OSError: a file can't be written.
    """
    image_file, mask_file, maps_file, legend_file = files(folder, net, sample)
    height, width = _small(*mask.shape)
    small = cv2.resize(image[..., ::-1], (width, height), interpolation=cv2.INTER_AREA)
    levels = mask.astype(np.uint8) + dilated
    nearest = cv2.resize(levels, (width, height), interpolation=cv2.INTER_NEAREST)
    write_atomically(image_file, _encoded(".jpg", small))
    write_atomically(mask_file, _encoded(".png", nearest))
    tiles, legends = [], []
    for method, values in maps.items():
        unit, peak = shrink(values)
        heat = values.shape[0] == 1
        scale = full_colour(unit)
        shown = np.clip(unit / scale, -1, 1)
        tiles.append(np.rint(_ZERO + _LEVELS * shown).astype(np.uint8))
        legends.append(asdict(_Legend(method, scale * peak, peak, heat)))
    write_atomically(maps_file, _encoded(".jpg", np.concatenate(tiles)))
    write_atomically(legend_file, (json.dumps({"size": size, "maps": legends}) + "\n").encode())


def load(folder: Path, net: str, sample: str) -> Pictures | None:
    """What `save` wrote; None where it is missing or damaged."""
    paths = files(folder, net, sample)
    if not all(path.is_file() for path in paths):
        return None
    image_file, mask_file, maps_file, legend_file = paths
    try:
        meaning = msgspec.json.decode(legend_file.read_bytes(), type=_Meaning)
        legends, size = meaning.maps, meaning.size
        image = _decoded(image_file, cv2.IMREAD_COLOR)[..., ::-1]
        levels = _decoded(mask_file, cv2.IMREAD_GRAYSCALE)
        grey = _decoded(maps_file, cv2.IMREAD_GRAYSCALE)
        tiles = np.split(grey, len(legends))
    except (OSError, ValueError, RecursionError, ZeroDivisionError, cv2.error):
        return None
    if any(tile.shape != levels.shape for tile in tiles) or image.shape[:2] != levels.shape:
        return None
    maps = {
        legend.method: Preview(
            np.clip((tile.astype(np.float32) - _ZERO) / _LEVELS, 0.0 if legend.heat else -1.0, 1.0)
            if legend.peak > 0
            else np.zeros(tile.shape, np.float32),
            legend.scale,
            legend.peak,
            legend.heat,
        )
        for legend, tile in zip(legends, tiles, strict=True)
    }
    return Pictures(np.ascontiguousarray(image), levels == 2, levels >= 1, maps, size)


def _small(height: int, width: int) -> tuple[int, int]:
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _encoded(kind: str, pixels: npt.NDArray[Any]) -> bytes:
    done, data = cv2.imencode(kind, pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise OSError(f"a preview can't be encoded as {kind}")
    return data.tobytes()


def _decoded(path: Path, how: int) -> npt.NDArray[np.uint8]:
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), how)
    if pixels is None:
        raise ValueError(f"{path.name} is no picture")
    return np.asarray(pixels, dtype=np.uint8)


def shrunk_image(image: Image, height: int, width: int) -> Image:
    """The image at another size, averaged."""
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
