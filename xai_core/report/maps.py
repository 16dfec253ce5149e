"""Maps as files: a grey picture, the raw values, and for one-channel maps an overlay."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from xai_core.files import file_name

if TYPE_CHECKING:
    from xai_core.types import Image

OVERLAY_WEIGHT = 0.5
"""Share of the heat map in an overlay; the rest is the image."""

Cell = tuple[str, str, str, str]


def map_files(folder: Path, cell: Cell, overlay: bool) -> list[Path]:
    """The files of one map: ``FOLDER/NET/SIZE/SAMPLE-METHOD.png``, ``.npy``, ``-overlay.png``."""
    net, size, sample, method = cell
    return _files(_folder(folder, net, size), f"{sample}-{method}", overlay)


def save_map(folder: Path, cell: Cell, values: npt.NDArray[np.floating], image: Image) -> None:
    """Write the files of a map of a run.

    Args:
        folder: of all maps of the run.
        cell: (net, size, sample, method).
        values: (C, H, W); one channel gets an overlay as well.
        image: uint8 RGB at its own size.

    Raises:
        OSError: a file can't be written.
    """
    net, size, sample, method = cell
    write(_folder(folder, net, size), f"{sample}-{method}", values, image)


def _folder(folder: Path, net: str, size: str) -> Path:
    return folder / file_name(net) / file_name(size)


def write(folder: Path, name: str, values: npt.NDArray[np.floating], image: Image) -> list[Path]:
    """Write ``FOLDER/NAME.png``, ``.npy`` and, of a one-channel map, ``-overlay.png``.

    Args:
        folder: made if it isn't there.
        name: of the map.
        values: (C, H, W).
        image: uint8 RGB at its own size.

    Raises:
        OSError: a file can't be written.
    """
    files = _files(folder, name, overlay=values.shape[0] == 1)
    folder.mkdir(parents=True, exist_ok=True)
    _write_png(files[0], grey(values))
    np.save(files[1], values)
    if len(files) > 2:
        _write_png(files[2], overlay(values[0], image))
    return files


def remove(folder: Path, names: Iterable[str]) -> bool:
    """Remove what `write` has written under these names; says whether anything was there."""
    there = [file for name in names for file in _files(folder, name, True) if file.exists()]
    for file in there:
        file.unlink()
    return bool(there)


def _files(folder: Path, name: str, overlay: bool) -> list[Path]:
    endings = [".png", ".npy"] + (["-overlay.png"] if overlay else [])
    return [folder / f"{file_name(name)}{ending}" for ending in endings]


def grey(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Largest magnitude over the channels, from black at 0 to white at the map's maximum."""
    magnitude = np.abs(values).max(axis=0)
    peak = magnitude.max(initial=0.0)
    scaled = magnitude / peak if peak > 0 else magnitude
    return np.asarray(np.rint(255 * scaled), dtype=np.uint8)


def overlay(values: npt.NDArray[np.floating], image: Image) -> npt.NDArray[np.uint8]:
    """The image under the map as heat, BGR: red speaks for the class, blue does not.

    Args:
        values: (H, W) in [0, 1].
        image: uint8 RGB, resized to the map.
    """
    heat = cv2.applyColorMap(grey(values[np.newaxis]), cv2.COLORMAP_JET)
    height, width = values.shape
    below = cv2.resize(image[..., ::-1], (width, height), interpolation=cv2.INTER_AREA)
    mixed = cv2.addWeighted(heat, OVERLAY_WEIGHT, below, 1 - OVERLAY_WEIGHT, 0.0)
    return np.asarray(mixed, dtype=np.uint8)


def _write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    done, encoded = cv2.imencode(".png", pixels)
    if not done:
        raise OSError(f"{path.name} can't be encoded as PNG")
    path.write_bytes(encoded.tobytes())
