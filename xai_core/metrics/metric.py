"""What a metric is, and where metrics are registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from xai_core.registry import Registry

Map = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
Metric = Callable[[Map, Mask], Mapping[str, float]]
"""(map (C, H, W), mask (H, W)) to column names and finite numbers; each becomes a column."""

METRICS: Registry[Metric] = Registry("metric")
