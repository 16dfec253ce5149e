"""How much of a map's energy lies inside the object: the study's P, with its two parts."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np

from xai_core.metrics.metric import METRICS, Map, Mask


def energy_concentration(map: Map, mask: Mask) -> Mapping[str, float]:
    """``P = E / E_total`` with ``E_total = sum_c,x,y |I|^2`` and ``E`` its part inside the mask.

    The map is scaled by its largest magnitude before squaring, which leaves P as it is and keeps
    values of any size from overflowing or vanishing; sums run in float64.

    Args:
        map: I, (C, H, W), finite.
        mask: M, (H, W).

    Returns:
        `concentration` (P in [0, 1]; 0 for a map that is zero everywhere), `energy` (E) and
        `energy_total` (E_total), both in squared units of the map, at most the largest float.

    Raises:
        ValueError: the shapes don't fit, or the map has NaN or infinite values.
    """
    if map.ndim != 3 or map.shape[1:] != mask.shape:
        raise ValueError(f"a map of shape {map.shape} does not fit a mask of shape {mask.shape}")
    scale = float(np.abs(map).max(initial=0.0))
    if not np.isfinite(scale):
        raise ValueError("the map has NaN or infinite values")
    if scale == 0.0:
        return {"concentration": 0.0, "energy": 0.0, "energy_total": 0.0}
    per_pixel = np.square(map.astype(np.float64) / scale).sum(axis=0)
    inside = float(per_pixel[mask].sum())
    # Inside plus outside rather than one sum over all: rounding then can't make E exceed E_total.
    total = inside + float(per_pixel[~mask].sum())
    return {
        "concentration": inside / total,
        "energy": _unscale(inside, scale),
        "energy_total": _unscale(total, scale),
    }


def _unscale(energy: float, scale: float) -> float:
    return min(energy * scale * scale, sys.float_info.max)


METRICS.register("concentration", energy_concentration)
