"""The metrics by loops over pixels in exact rational arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np


def concentration(values: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """P = E / E_total, where Python's fractions neither round, overflow nor underflow."""
    inside = total = Fraction(0)
    for channel in values:
        for (y, x), value in np.ndenumerate(channel):
            energy = Fraction(float(value)) ** 2
            total += energy
            if mask[y, x]:
                inside += energy
    return {
        "concentration": float(inside / total) if total else 0.0,
        "energy": float(inside),
        "energy_total": float(total),
    }


TWINS: dict[str, Callable[[np.ndarray, np.ndarray], dict[str, float]]] = {
    "concentration": concentration
}
"""One for each built-in metric."""
