"""From a map at the target layer's size to one at the image's size, scaled to [0, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDING = 16
"""Units in the last place below which a difference of sums is taken for rounding."""


def upsample(maps: Tensor, like: Tensor) -> Tensor:
    """Bilinear upsampling with half-pixel centres (corners not aligned).

    Args:
        maps: (B, 1, h, w).
        like: an image batch (B, 3, H, W) whose size to take.

    Returns:
        (B, 1, H, W).
    """
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)


def over_image(coarse: Tensor, image: Tensor) -> Tensor:
    """A coarse map over the whole image, in [0, 1]: `upsample`, then `min_max`.

    Whether a map is constant is asked before upsampling, whose rounding would give it a contrast;
    a span of 16 units in the last place is none.

    Args:
        coarse: (B, 1, h, w) at the target layer's size.
        image: (B, 3, H, W).

    Returns:
        (B, 1, H, W); all zero for an image whose coarse map is constant.
    """
    low = coarse.amin(dim=(1, 2, 3), keepdim=True)
    high = coarse.amax(dim=(1, 2, 3), keepdim=True)
    largest = torch.maximum(low.abs(), high.abs())
    constant = high - low <= ROUNDING * torch.finfo(coarse.dtype).eps * largest
    return min_max(upsample(coarse.masked_fill(constant, 0.0), image))


def min_max(maps: Tensor) -> Tensor:
    """``(L - min L) / (max L - min L)`` for each image: the extremes become exactly 0 and 1.

    A constant map has no contrast to scale: it becomes (and an all-zero map stays) all zero.
    """
    low = maps.amin(dim=(1, 2, 3), keepdim=True)
    span = maps.amax(dim=(1, 2, 3), keepdim=True) - low
    # Not `span > 0`: NaN must stay NaN, so that it is refused and not shown as an empty map.
    return torch.where(span == 0, 0.0, (maps - low) / span)
