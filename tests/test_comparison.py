"""Pairs of records against plain Python, and tests against scipy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from xai_core.comparison import FINGERPRINT, compare, paired
from xai_core.types import Record


@pytest.fixture
def records(make_record) -> list[Record]:
    generator = np.random.default_rng(0)
    return [
        make_record(p, sample=f"{image}-{category}", image_id=image, method=method)
        for image in range(10)
        for category in ("orange", "banana")
        for method, p in zip(("cam", "grad_cam"), generator.random(2), strict=True)
    ]


def moved(record: Record, by: float) -> Record:
    p = record.metrics["concentration"] + by
    return replace(record, metrics={**record.metrics, "concentration": p})


def test_the_same_records_are_the_same(records):
    found = compare(records, reversed(records))
    assert len(found.pairs) == 40
    assert (found.pairs["difference"] == 0).all()
    assert found.missing == found.new == found.changed == ()
    assert (paired(found.pairs, ["method"])["p"] == 1).all()


def test_what_only_one_has_is_listed(records):
    found = compare(records[1:], records[:-1])
    assert found.missing == (records[-1].cell,)
    assert found.new == (records[0].cell,)
    assert len(found.pairs) == 38


@pytest.mark.parametrize("field", FINGERPRINT)
def test_every_field_that_decides_p_is_watched(records, field):
    other = {int: 7, float: 0.7, str: "other"}[type(getattr(records[0], field))]
    found = compare(records, [*records[:-1], replace(records[-1], **{field: other})])
    assert found.changed == (field,)


def test_differences_are_tested_over_images(records):
    """Two categories of an image count as one: 2^9 sign flips are as extreme as none."""
    after = [moved(r, 0.01 * (1 + r.image_id)) if r.method == "cam" else r for r in records]
    table = paired(compare(records, after).pairs, ["method"]).set_index("method")
    assert table.loc["cam", "difference"] == pytest.approx(0.055)
    assert table.loc["cam", "after"] - table.loc["cam", "before"] == pytest.approx(0.055)
    assert table.loc["cam", ["pairs", "images"]].tolist() == [20, 10]
    sums = np.array([0.02 * (1 + image) for image in range(10)])
    alone = scipy.stats.permutation_test((sums,), np.sum, permutation_type="samples").pvalue
    assert table.loc["cam", "p"] == pytest.approx(2 * alone)  # Holm: the smaller of two
    assert table.loc["grad_cam", "p"] == 1
    assert table.loc["cam", "low"] < 0.055 < table.loc["cam", "high"]
