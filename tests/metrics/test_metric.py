"""A metric's columns are its own: no value is written over another."""

from __future__ import annotations

import numpy as np
import pytest

from xai_core.errors import BadInput
from xai_core.metrics import DEFAULT_METRICS, METRICS, Metric, register_metric
from xai_core.metrics import metric as module
from xai_core.registry import Registry

MAP, MASK = np.ones((1, 2, 2)), np.ones((2, 2), bool)


@pytest.fixture
def metrics(monkeypatch) -> Registry[Metric]:
    """A registry of its own, with the built-in metrics in it."""
    own: Registry[Metric] = Registry("metric", Metric)
    for name in DEFAULT_METRICS:
        own.register(name, METRICS.get(name))
    monkeypatch.setattr(module, "METRICS", own)
    return own


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (("rank",), "the metric own can't have a column 'rank': every record has one"),
        (("a", "energy"), "a column 'energy': the metric concentration has one"),
        ((), "must name its columns, each once"),
        (("a", "a"), "must name its columns, each once"),
    ],
)
def test_a_column_that_is_taken_is_refused_at_registration(metrics, columns, sentence):
    with pytest.raises(BadInput) as refused:
        register_metric("own", columns=columns)(lambda map, mask: {})
    assert sentence in str(refused.value)
    assert list(metrics) == list(DEFAULT_METRICS)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"x": 1.0, "rank": 3.0}, "the metric own gave rank, x, and declares x"),
        ({}, "the metric own gave nothing, and declares x"),
        ({"x": float("nan")}, "gave a value that is no finite number"),
        ({"x": "a"}, "the metric own failed: could not convert"),
        (None, "the metric own failed: "),
    ],
)
def test_a_metric_is_held_to_what_it_declares(metrics, given, sentence):
    register_metric("own", columns=("x",))(lambda map, mask: given)
    with pytest.raises(BadInput) as refused:
        metrics.get("own")(MAP, MASK)
    assert sentence in str(refused.value)


def test_a_metric_gives_floats(metrics):
    register_metric("own", columns=("x",))(lambda map, mask: {"x": np.float32(2)})
    assert metrics.get("own")(MAP, MASK) == {"x": 2.0}
