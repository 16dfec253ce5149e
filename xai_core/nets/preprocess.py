"""From a decoded image to what a net takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from xai_core.types import ORIGINAL, Net

if TYPE_CHECKING:
    from xai_core.types import Image


def size_of(image: Image, size: str) -> tuple[int, int]:
    """(height, width) of an image at a size: its own for ``original``, else N for both sides."""
    height, width = image.shape[:2]
    return (height, width) if size == ORIGINAL else (int(size), int(size))


def preprocess(image: Image, size: str, net: Net) -> Tensor:
    """Resize (bilinear with antialiasing, aspect ratio not kept) and normalise.

    Args:
        image: uint8 RGB, (H, W, 3).
        size: ``original`` or N.
        net: whose normalisation, dtype and device to use.

    Returns:
        (1, 3, H, W), or (1, 3, N, N).
    """
    parameter = next(net.module.parameters(), torch.zeros(()))
    # copy: torch can't take the read-only arrays that decoders give
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).unsqueeze(0)
    pixels = pixels.to(device=parameter.device, dtype=parameter.dtype) / 255
    target = size_of(image, size)
    if target != tuple(pixels.shape[-2:]):
        pixels = F.interpolate(
            pixels, size=target, mode="bilinear", align_corners=False, antialias=True
        )
    mean, std = (pixels.new_tensor(v).view(1, 3, 1, 1) for v in (net.mean, net.std))
    return (pixels - mean) / std
