"""Intervals and tests whose unit is the image: one image appears in many records.

Records of one image (its nets, sizes and classes) resemble each other; treating them as independent
would make every interval too narrow. All sums below are therefore per image.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

Floats = npt.NDArray[np.float64]

RESAMPLES = 4000
FLIPS = 9999
FEW_IMAGES = 20
"""Below so many, `bootstrap_interval` covers the mean less often than its level says."""

TIE = 1e-6
"""Difference of P up to which two methods tie: CAM and Grad-CAM of a net may differ by rounding."""

_EXACT_UP_TO = 13
"""Images whose sign flips are all tried: 2^13 is about as many as `FLIPS`."""
_AT_ONCE = 1000


def tied(values: Floats) -> Floats:
    """The values, but equal where neighbours in their order differ by `TIE` at most.

    Args:
        values: (..., methods), no NaN; along the last axis each becomes the least of its group.
    """
    order = values.argsort(axis=-1, kind="stable")
    ascending = np.take_along_axis(values, order, axis=-1)
    gaps = np.diff(ascending, axis=-1, prepend=-np.inf)
    least = np.maximum.accumulate(np.where(gaps > TIE, ascending, -np.inf), axis=-1)
    result = np.empty_like(values)
    np.put_along_axis(result, order, least, axis=-1)
    return result


class Interval(NamedTuple):
    """Lower and upper ends, one for each group; NaN where a group has fewer than two images."""

    low: Floats
    high: Floats


def bootstrap_interval(
    sums: Floats, counts: Floats, *, level: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of ``sum(sums) / sum(counts)``, by resampling images.

    The percentile interval, expanded by the factor by which a t interval is wider than a normal
    one that divides by n: without it, few images give intervals that are narrower still (Hesterberg
    2015, arXiv:1411.5279, section 4.2). Below `FEW_IMAGES` they stay too narrow, the more so the
    more skewed the values are: docs/report.md has the coverage.

    Args:
        sums: (images, groups), of the values of each image.
        counts: (images, groups), their number; 0 where an image has none.
        level: probability that the interval covers the mean.
        seed: of the resamples.
    """
    generator = np.random.default_rng(seed)
    images = len(sums)
    draws = generator.multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    with np.errstate(invalid="ignore"):
        means = (draws @ sums) / (draws @ counts)  # NaN: no image of this group was drawn
    low, high = np.full((2, sums.shape[1]), np.nan)
    for group in range(sums.shape[1]):
        n = int((counts[:, group] > 0).sum())
        if n < 2:
            continue
        tail = ndtr(np.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - level) / 2))
        low[group], high[group] = np.nanquantile(means[:, group], [tail, 1 - tail])
    return Interval(low, high)


def sign_flip_test(differences: Floats, seed: int = 0, flips: int | None = None) -> float:
    """Two-sided p of paired differences under random signs; 1 where all are zero.

    Args:
        differences: (images,), summed over each image's pairs.
        seed: of the signs, where there are too many to try them all.
        flips: how many signs are drawn then; `FLIPS` where None.
    """
    d = differences[differences != 0]
    if len(d) == 0:
        return 1.0
    observed = abs(d.sum()) * (1 - 1e-12)  # equal but for rounding is as extreme
    if len(d) <= _EXACT_UP_TO:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(d))))
        return float((np.abs(signs @ d) >= observed).mean())
    generator = np.random.default_rng(seed)
    extreme, flips = 0, flips or FLIPS
    for start in range(0, flips, _AT_ONCE):
        rows = min(_AT_ONCE, flips - start)
        signs = 2.0 * generator.integers(0, 2, size=(rows, len(d)), dtype=np.int8) - 1
        extreme += int((np.abs(signs @ d) >= observed).sum())
    return (extreme + 1) / (flips + 1)


def holm(p: Floats) -> Floats:
    """Holm's adjustment: p values that hold for all tests of a family together (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def friedman(blocks: Floats) -> float | None:
    """The p of Friedman's test that all methods rank alike; None where it is not defined.

    Args:
        blocks: (images, methods).
    """
    from scipy.stats import friedmanchisquare  # here: it takes a second

    if blocks.shape[0] < 2 or blocks.shape[1] < 3 or bool((blocks == blocks[:, :1]).all()):
        return None
    return float(friedmanchisquare(*blocks.T).pvalue)


def order_stability(sums: Floats, counts: Floats, seed: int = 0) -> tuple[float, Floats]:
    """Share of resamples of images in which the order of the means is that of all images.

    Args:
        sums: (images, methods).
        counts: (images, methods).
        seed: of the resamples.

    Returns:
        The share for the whole order, and for each method the share in which it keeps its place;
        methods that tie but for rounding keep theirs.
    """
    generator = np.random.default_rng(seed)
    images = len(sums)
    draws = generator.multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    total = draws @ counts
    means = np.divide(draws @ sums, total, out=np.zeros_like(total, dtype=float), where=total > 0)
    places = (-tied(means)).argsort(axis=1, kind="stable").argsort(axis=1)
    own = (-tied(sums.sum(axis=0) / counts.sum(axis=0))).argsort(kind="stable").argsort()
    same = places == own
    return float(same.all(axis=1).mean()), same.mean(axis=0)
