from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tests.reference import metrics as twin
from xai_core.metrics import energy_concentration

SHAPES = st.tuples(st.sampled_from([1, 3]), st.integers(1, 8), st.integers(1, 8))
FLOATS = st.floats(-1e3, 1e3, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-3)


@st.composite
def maps_and_masks(draw, dtype=np.float64):
    shape = draw(SHAPES)
    values = draw(npst.arrays(dtype, shape, elements=FLOATS.map(lambda x: float(dtype(x)))))
    return values, draw(npst.arrays(bool, shape[1:]))


def p(values, mask):
    return energy_concentration(values, mask)["concentration"]


@given(maps_and_masks())
def test_equals_the_twin(pair):
    result = energy_concentration(*pair)
    assert result == pytest.approx(twin.concentration(*pair), rel=1e-12)


@given(maps_and_masks())
def test_is_a_share_and_the_rest_lies_outside(pair):
    values, mask = pair
    assert 0 <= p(values, mask) <= 1
    if values.any():
        assert p(values, mask) + p(values, ~mask) == pytest.approx(1)
    else:
        assert p(values, mask) == p(values, ~mask) == 0


@given(maps_and_masks(np.float32), st.sampled_from([1e-30, 1e-20, 1e30]))
def test_float32_of_any_size_neither_overflows_nor_vanishes(pair, scale):
    values, mask = pair
    scaled = (values.astype(np.float64) * scale).astype(np.float32)
    assert p(scaled, mask) == pytest.approx(p(values, mask), abs=1e-6)


@given(maps_and_masks(), st.sampled_from([1e-200, 1e200, -1.0]))
def test_scale_and_sign_do_not_matter(pair, scale):
    values, mask = pair
    assert p(values * scale, mask) == pytest.approx(p(values, mask), rel=1e-12, abs=1e-15)


def test_energy_saturates_instead_of_becoming_infinite():
    result = energy_concentration(np.full((1, 2, 2), 1e300), np.eye(2, dtype=bool))
    assert result == {
        "concentration": 0.5,
        "energy": sys.float_info.max,
        "energy_total": sys.float_info.max,
    }


@given(npst.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_a_uniform_map_has_chance_level(mask):
    assert p(np.full((3, *mask.shape), 0.7), mask) == pytest.approx(mask.mean())


@given(maps_and_masks(), st.data())
def test_a_larger_mask_never_has_less(pair, data):
    values, mask = pair
    larger = mask | data.draw(npst.arrays(bool, mask.shape))
    assert p(values, larger) >= p(values, mask) - 1e-12


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_number_is_an_error(value):
    values = np.ones((1, 2, 2))
    values[0, 0, 0] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        p(values, np.eye(2, dtype=bool))


def test_shapes_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match="does not fit"):
        p(np.ones((1, 2, 3)), np.ones((3, 2), bool))
