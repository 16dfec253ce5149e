"""Metrics: pure functions of a map and a mask. Importing this package registers each module."""

from xai_core.metrics.concentration import energy_concentration
from xai_core.metrics.metric import METRICS, Metric, register_metric

DEFAULT_METRICS = ("concentration",)
"""What every run measures, whatever else is installed; others are added by name."""

__all__ = ["DEFAULT_METRICS", "METRICS", "Metric", "energy_concentration", "register_metric"]
