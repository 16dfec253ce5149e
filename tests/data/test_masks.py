from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from tests.reference import masks as twin
from xai_core.data.masks import dilate, resize_mask
from xai_core.errors import BadInput

SMALL = st.tuples(st.integers(1, 12), st.integers(1, 12))
MASKS = npst.arrays(bool, SMALL).filter(lambda mask: mask.any())


@given(MASKS, st.sampled_from([0.0, 0.2, 0.5, 1.0, 30.0]))
def test_dilation_equals_the_twin(mask, share):
    np.testing.assert_array_equal(dilate(mask, share), twin.dilate(mask, str(share)))


def test_dilation_on_a_large_mask_equals_scipys_distances():
    rng = np.random.default_rng(0)
    mask = ndimage.gaussian_filter(rng.normal(size=(300, 401)), 25) > 0.02
    squared = np.rint(ndimage.distance_transform_edt(~mask) ** 2)
    grown = dilate(mask, 0.2)
    threshold = squared[grown].max()
    np.testing.assert_array_equal(grown, squared <= threshold)
    target = 1.2 * mask.sum()
    assert (squared < threshold).sum() < target <= grown.sum()


@pytest.mark.parametrize(("area", "share"), [(15, 0.2), (50, 0.1), (90, 0.1), (100, 0.1)])
def test_a_whole_target_is_not_exceeded_by_rounding(area, share):
    """A strip grows at its end pixel by pixel; in floats 1.1 * 50 is more than 55."""
    strip = np.zeros((1, 200), bool)
    strip[0, :area] = True
    assert dilate(strip, share).sum() == area + round(share * area)


def test_dilation_stops_at_the_image():
    mask = np.ones((4, 5), bool)
    mask[0, 0] = False
    assert dilate(mask, 5.0).all()


def test_an_empty_mask_is_bad_input():
    with pytest.raises(BadInput, match="no pixel"):
        dilate(np.zeros((3, 3), bool), 0.2)


@given(
    MASKS,
    st.sampled_from(["u1", "i1", "i4", "u8", "f4", "f8"]),
    st.sampled_from([0.0, 0.2, 5.0]),
)
def test_0_and_1_of_any_type_are_a_mask(mask, dtype, share):
    other = mask.astype(dtype)
    assert dilate(other, share).dtype == bool
    np.testing.assert_array_equal(dilate(other, share), dilate(mask, share))
    np.testing.assert_array_equal(resize_mask(other, 5, 7), resize_mask(mask, 5, 7))


@pytest.mark.parametrize(
    "use",
    [partial(dilate, dilation=0.2), partial(resize_mask, height=3, width=3)],
    ids=["dilate", "resize"],
)
@pytest.mark.parametrize(
    "mask",
    [
        np.full((4, 5), 255, np.uint8),
        np.full((4, 5), -1),
        np.full((4, 5), 0.5),
        np.full((4, 5), np.nan),
        np.full((4, 5), "x"),
        np.ones((4, 5, 1), bool),
        np.ones(4, bool),
    ],
)
def test_anything_else_is_refused(use, mask):
    with pytest.raises(BadInput, match=r"the mask must be bool, or 0 and 1|the mask has the shape"):
        use(mask)


@given(npst.arrays(bool, SMALL), st.integers(1, 15), st.integers(1, 15))
def test_resizing_equals_the_twin(mask, height, width):
    np.testing.assert_array_equal(
        resize_mask(mask, height, width), twin.resize_nearest(mask, height, width)
    )


@given(npst.arrays(bool, SMALL), st.integers(1, 4))
def test_resizing_by_a_whole_factor_repeats_pixels(mask, factor):
    height, width = mask.shape
    expected = mask.repeat(factor, 0).repeat(factor, 1)
    np.testing.assert_array_equal(resize_mask(mask, factor * height, factor * width), expected)
