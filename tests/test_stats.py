"""Intervals and tests against scipy and statsmodels, and in simulations whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from xai_core import stats

REPORT = (Path(__file__).parents[1] / "docs" / "report.md").read_text("utf-8")


def test_the_interval_is_scipys_bootstrap_expanded():
    """With one value an image and many images, the two agree but for the expansion."""
    values = np.random.default_rng(0).beta(2, 3, size=400)
    low, high = stats.bootstrap_interval(values[:, None], np.ones((400, 1)))
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert low[0] == pytest.approx(theirs.low, abs=0.04 * width)
    assert high[0] == pytest.approx(theirs.high, abs=0.04 * width)


def simulated(generator, images):
    """Skewed P: 1 to 3 records an image, which share half of their spread. True mean 0.2."""
    counts = generator.integers(1, 4, size=images)
    common = generator.beta(0.5, 2.0, size=images)
    sums = [
        0.5 * n * c + 0.5 * generator.beta(0.5, 2.0, n).sum()
        for n, c in zip(counts, common, strict=True)
    ]
    return np.array(sums)[:, None], counts.astype(float)[:, None]


def skewed(generator, images):
    """One record an image; most P are near 0, as those of small objects are. True mean 1/11."""
    return generator.beta(0.2, 2.0, size=(images, 1)), np.ones((images, 1))


@pytest.mark.parametrize(
    ("images", "of_clustered", "of_skewed"),
    [(5, 0.91, 0.77), (10, 0.93, 0.85), (20, 0.94, 0.9), (34, 0.95, 0.92), (120, 0.95, 0.94)],
)
def test_the_documented_share_of_intervals_covers_the_mean(
    images, of_clustered, of_skewed, monkeypatch
):
    """1000 runs: the standard error of a coverage is 0.7 to 1.3 points."""
    monkeypatch.setattr(stats, "RESAMPLES", 500)
    for draw, mean, documented in ((simulated, 0.2, of_clustered), (skewed, 1 / 11, of_skewed)):
        generator = np.random.default_rng(images)
        runs = [draw(generator, images) for _ in range(1000)]
        sums, counts = (np.hstack(part) for part in zip(*runs, strict=True))
        low, high = stats.bootstrap_interval(sums, counts)
        assert ((low <= mean) & (high >= mean)).mean() == pytest.approx(documented, abs=0.02)
        row = [f"| {images} |", f"{100 * of_clustered:.0f} %", f"{100 * of_skewed:.0f} %"]
        assert any(all(cell in line for cell in row) for line in REPORT.splitlines())


def test_records_of_one_image_are_not_independent():
    """Ten copies of each record say nothing new: the interval stays as wide."""
    generator = np.random.default_rng(3)
    sums, counts = simulated(generator, 30)
    once = stats.bootstrap_interval(sums, counts)
    often = stats.bootstrap_interval(10 * sums, 10 * counts)
    np.testing.assert_allclose(once, often, rtol=1e-12)


def test_one_image_has_no_interval_and_an_absent_group_does_not_disturb():
    sums = np.array([[0.5, 0.4, 0.0], [0.7, 0.0, 0.0]])
    counts = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    low, high = stats.bootstrap_interval(sums, counts)
    assert 0.5 <= low[0] < high[0] <= 0.7
    assert np.isnan([low[1], high[1], low[2], high[2]]).all()


@pytest.mark.parametrize("images", [3, 8, 12])
def test_the_sign_flip_test_is_scipys_where_all_flips_are_tried(images):
    d = np.random.default_rng(images).normal(0.4, 1, size=images)
    theirs = scipy.stats.permutation_test((d,), np.sum, permutation_type="samples").pvalue
    assert stats.sign_flip_test(d) == pytest.approx(theirs, rel=1e-12)


def test_the_sign_flip_test_is_scipys_where_flips_are_drawn():
    d = np.random.default_rng(0).normal(0.12, 1, size=300)
    theirs = scipy.stats.permutation_test(
        (d,), np.sum, permutation_type="samples", n_resamples=9999, rng=np.random.default_rng(1)
    ).pvalue
    assert 0.01 < theirs < 0.2
    assert stats.sign_flip_test(d) == pytest.approx(theirs, abs=0.015)


def test_no_difference_has_p_1_and_zeros_say_nothing():
    assert stats.sign_flip_test(np.zeros(5)) == 1.0
    d = np.array([0.3, 0.2, 0.4, -0.1])
    assert stats.sign_flip_test(np.append(d, np.zeros(7))) == stats.sign_flip_test(d)


@pytest.mark.parametrize(("effect", "least", "most"), [(0.0, 0.0, 0.07), (0.06, 0.85, 1.0)])
def test_false_alarms_and_power(effect, least, most, monkeypatch):
    """400 runs of 34 images; 5 % false alarms have a standard error of 1.1 points."""
    monkeypatch.setattr(stats, "FLIPS", 499)
    generator = np.random.default_rng(7)
    p = [
        stats.sign_flip_test(generator.normal(effect, 0.1, size=34), seed=run) for run in range(400)
    ]
    assert least <= np.mean(np.array(p) <= 0.05) <= most


def test_holm_by_hand():
    p = np.array([0.04, 0.01, 0.03])
    np.testing.assert_allclose(stats.holm(p), [0.06, 0.03, 0.06])
    assert stats.holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert len(stats.holm(np.array([]))) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_only_raises(values):
    p = np.array(values)
    adjusted = stats.holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= 1).all()
    assert adjusted.min() == pytest.approx(min(1.0, len(p) * p.min()))
    order = p.argsort(kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


def test_friedman_is_defined_where_there_is_something_to_rank():
    blocks = np.random.default_rng(0).normal([0, 0, 1], 1, size=(20, 3))
    assert stats.friedman(blocks) == pytest.approx(scipy.stats.friedmanchisquare(*blocks.T).pvalue)
    assert stats.friedman(blocks[:, :2]) is None
    assert stats.friedman(blocks[:1]) is None
    assert stats.friedman(np.zeros((5, 3))) is None


def test_an_order_is_stable_where_every_image_has_it_and_shaky_where_methods_tie():
    generator = np.random.default_rng(0)
    sums = generator.normal(0.5, 0.1, size=(40, 1)) + np.array([0.0, 0.2, 0.4])
    whole, each = stats.order_stability(sums, np.ones_like(sums))
    assert whole == 1
    assert (each == 1).all()
    sums[:, 2] = generator.permutation(sums[:, 1]) + 0.001
    whole, each = stats.order_stability(sums, np.ones_like(sums))
    assert 0.4 < whole < 0.8
    assert each[0] > 0.99


def test_methods_that_tie_but_for_rounding_keep_their_places():
    generator = np.random.default_rng(0)
    sums = generator.normal(0.5, 0.1, size=(40, 1)) + np.array([0.3, 0.0, 0.0])
    sums[:, 2] += 1e-9 * generator.normal(size=40)
    whole, each = stats.order_stability(sums, np.ones_like(sums))
    assert whole == 1
    assert (each == 1).all()


@given(st.lists(st.sampled_from([0.0, 4e-7, 8e-7, 3e-6, 0.5, 0.5 + 1e-7, 1.0]), min_size=1))
def test_ties_are_groups_of_neighbours(values):
    p = np.array(values)
    tied = stats.tied(p)
    in_order = np.sort(p)
    groups = np.split(in_order, np.flatnonzero(np.diff(in_order) > stats.TIE) + 1)
    least = {value: group[0] for group in groups for value in group}
    assert tied.tolist() == [least[value] for value in values]
    assert np.array_equal(stats.tied(np.stack([p, p[::-1]])), np.stack([tied, tied[::-1]]))
