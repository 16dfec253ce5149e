"""The study itself: one item, and one record, for each net, size, sample and method."""

from __future__ import annotations

import sys

import pytest

from bench.conftest import record_of
from xai_core.methods import METHODS
from xai_core.types import ORIGINAL, Outcome


def test_concentration(outcome: Outcome | OSError) -> None:
    """The record keeps to the definitions of map, energy and concentration."""
    record = record_of(outcome)
    method = METHODS.get(record.method)
    assert record.channels == method.channels
    if record.size != ORIGINAL:
        assert (record.height, record.width) == (int(record.size), int(record.size))
    if method.non_negative:
        assert record.map_min >= 0
    if method.id in {"cam", "grad_cam"}:
        assert record.zero_energy or (record.map_min, record.map_max) == (0.0, 1.0)

    p, e, e_total = (record.metrics[n] for n in ("concentration", "energy", "energy_total"))
    assert 0 <= p <= 1
    assert 0 <= e <= e_total
    assert record.zero_energy == (record.map_min == record.map_max == 0)
    if record.zero_energy:
        assert p == e == e_total == 0
    elif 1e-300 < e_total < sys.float_info.max:  # else E has lost digits, or is cut off; P has not
        assert p == pytest.approx(e / e_total, rel=1e-9, abs=1e-300)

    assert 0 < record.mask_share <= record.chance <= 1
    assert record.chance >= min(1, (1 + record.dilation) * record.mask_share) * (1 - 1e-9)
    assert record.rank >= 1
    assert 0 <= record.probability <= 1
