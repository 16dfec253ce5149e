"""What a metric is, and where metrics are registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from xai_core.errors import BadInput
from xai_core.registry import Registry
from xai_core.types import Record

Map = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
Measure = Callable[[Map, Mask], Mapping[str, float]]
"""(map (C, H, W), mask (H, W)) to column names and finite numbers."""

FIELDS = frozenset(field.name for field in fields(Record))
"""Columns that every record has, whatever is measured."""


@dataclass(frozen=True)
class Metric:
    """A pure function of a map and a mask.

    Attributes:
        id: name in options.
        columns: the numbers that it gives, each a column of the records.
        measure: what computes them.
    """

    id: str
    columns: tuple[str, ...]
    measure: Measure

    def __call__(self, map: Map, mask: Mask) -> dict[str, float]:
        """Measure and check the result: all columns that are declared, each a finite number.

        Raises:
            BadInput: the metric fails, or breaks what it declares.
        """
        try:
            found = {name: float(value) for name, value in self.measure(map, mask).items()}
        except Exception as error:  # a plug-in's metric may raise anything
            raise BadInput(f"the metric {self.id} failed: {error}") from error
        if tuple(sorted(found)) != tuple(sorted(self.columns)):
            raise BadInput(
                f"the metric {self.id} gave {', '.join(sorted(found)) or 'nothing'}, and declares "
                f"{', '.join(self.columns)}"
            )
        if not np.isfinite(list(found.values())).all():
            raise BadInput(f"the metric {self.id} gave a value that is no finite number")
        return found


METRICS: Registry[Metric] = Registry("metric", Metric)


def register_metric(id: str, *, columns: tuple[str, ...]) -> Callable[[Measure], Measure]:
    """Register the decorated function as the metric ``id``; see `Metric` for the arguments.

    Raises:
        BadInput: it has no column, or one that records or another metric have: a value would be
            written over another.
    """

    def register(measure: Measure) -> Measure:
        taken = dict.fromkeys(FIELDS, "every record")
        for metric in METRICS.registered():
            taken |= dict.fromkeys(metric.columns, f"the metric {metric.id}")
        if not columns or len(set(columns)) < len(columns):
            raise BadInput(f"the metric {id} must name its columns, each once")
        for name in columns:
            if name in taken:
                raise BadInput(
                    f"the metric {id} can't have a column {name!r}: {taken[name]} has one"
                )
        METRICS.register(id, Metric(id, columns, measure))
        return measure

    return register
