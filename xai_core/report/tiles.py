"""One map as a coloured picture: signed maps on a diverging scale, heat over the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from xai_core.report.previews import Preview

if TYPE_CHECKING:
    from xai_core.types import Image, Mask

NEGATIVE, ZERO, POSITIVE = (33, 102, 172), (247, 247, 247), (178, 24, 43)
"""Ends and middle of the diverging scale, RGB: ColorBrewer's RdBu, safe for the colour-blind."""

OUTLINE, HALO = (255, 255, 255), (0, 0, 0)
HEAT_WEIGHT = 0.75
"""Share of the heat in an overlay where it is strongest."""


def colour(preview: Preview, image: Image) -> Image:
    """(h, w, 3) uint8 RGB.

    Heat is laid over the grey image, the more opaque the stronger. A signed map goes from blue
    (-scale) over white (0) to red (+scale).
    """
    if preview.heat:
        return overlay(preview.values, image)
    return diverging(preview.values)


def diverging(values: npt.NDArray[np.floating]) -> Image:
    """Values in [-1, 1] from blue over white to red."""
    at = np.array([-1.0, 0.0, 1.0])
    ends = np.array([NEGATIVE, ZERO, POSITIVE], dtype=float)
    channels = [np.interp(values, at, ends[:, channel]) for channel in range(3)]
    return np.asarray(np.rint(np.stack(channels, axis=-1)), dtype=np.uint8)


def overlay(values: npt.NDArray[np.floating], image: Image) -> Image:
    """Heat in [0, 1] over the image in grey, the more opaque the stronger."""
    level = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    heat = cv2.applyColorMap(level, cv2.COLORMAP_INFERNO)[..., ::-1].astype(float)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., np.newaxis].astype(float)
    opacity = HEAT_WEIGHT * np.clip(values, 0, 1)[..., np.newaxis] ** 0.5
    return np.asarray(np.rint(opacity * heat + (1 - opacity) * grey), dtype=np.uint8)


def outlined(picture: Image, mask: Mask) -> Image:
    """The picture with the mask's contour: white in a black halo, seen on any ground."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    drawn = np.ascontiguousarray(picture)
    cv2.drawContours(drawn, contours, -1, HALO, 3)
    cv2.drawContours(drawn, contours, -1, OUTLINE, 1)
    return drawn
