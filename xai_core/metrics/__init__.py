"""Metrics: pure functions of a map and a mask. Importing this package registers each module."""

from xai_core.metrics.concentration import energy_concentration
from xai_core.metrics.metric import METRICS, Metric

__all__ = ["METRICS", "Metric", "energy_concentration"]
