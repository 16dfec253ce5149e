"""How much of a map's energy lies inside the object: the study's P, with its two parts."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np

from xai_core.metrics.metric import Map, Mask, register_metric


@register_metric("concentration", columns=("concentration", "energy", "energy_total"))
def energy_concentration(map: Map, mask: Mask) -> Mapping[str, float]:
    """``P = E / E_total`` with ``E_total = sum_c,x,y |I|^2`` and ``E`` its part inside the mask.

    Squares and sums are float64. Where those would overflow or vanish the map is first divided by
    its largest magnitude, which leaves P as it is.

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
    values, scale = map.astype(np.float64, order="K"), 1.0
    total = _energy(values)
    if not 1e-280 < total < 1e280:  # squares vanish or overflow, or the map is not finite
        scale = float(np.abs(values).max(initial=0.0))
        if not np.isfinite(scale):
            raise ValueError("the map has NaN or infinite values")
        if scale == 0.0:
            return {"concentration": 0.0, "energy": 0.0, "energy_total": 0.0}
        values /= scale
        total = _energy(values)
    inside = _energy(values[:, mask])
    total = max(total, inside)  # summed in another order, the whole may round to less
    return {
        "concentration": inside / total,
        "energy": _unscale(inside, scale),
        "energy_total": _unscale(total, scale),
    }


def _energy(values: Map) -> float:
    flat = values.ravel(order="K")
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.dot(flat, flat))


def _unscale(energy: float, scale: float) -> float:
    return min(energy * scale * scale, sys.float_info.max)
