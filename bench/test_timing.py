"""How long each method takes alone, with pytest-benchmark; judges nothing but time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.conftest import Explain
from xai_core.pytest_plugin import TIMING_PROPERTY
from xai_core.pytest_plugin.run import Run
from xai_core.types import Net


def test_time(
    run: Run,
    net: Net,
    size: str,
    method: str,
    explain: Explain,
    benchmark: Any,
    record_property: Any,
) -> None:
    """One forward pass, the backward passes that the method needs, and its map; one image."""
    if run.place.xdist:
        reason = "pytest-benchmark can't time under pytest-xdist; run with -n0"
        record_property(TIMING_PROPERTY, reason)
        pytest.skip(reason)
    warm_up = explain(method)
    if method in warm_up.refused:
        pytest.skip(warm_up.refused[method])

    def timed() -> None:
        explain(method)
        if run.device.type == "cuda":
            torch.cuda.synchronize()

    benchmark.group = f"{net.id} {size}"
    benchmark.pedantic(timed, rounds=run.options.rounds, iterations=1)
    if not benchmark.enabled:
        record_property(TIMING_PROPERTY, "pytest-benchmark is disabled")
        return
    stats = benchmark.stats.stats
    figures = {"median": stats.median, "iqr": stats.iqr, "rounds": stats.rounds}
    record_property(TIMING_PROPERTY, {"net": net.id, "size": size, "method": method, **figures})
