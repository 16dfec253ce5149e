"""Averages over rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xai_core.engine.fused.operators.operator import (
    ClassRow,
    Operator,
    Rules,
    empty_like_rows,
    memory_format,
)


@dataclass(frozen=True, eq=False)
class AveragePool(Operator):
    """Average pooling."""

    arguments: tuple[Any, ...]
    """kernel, stride, padding, ceil mode, whether padding counts, divisor"""

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        return torch.ops.aten.avg_pool2d(inputs[0], *self.arguments), None

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        layout = memory_format(g)
        like = empty_like_rows(g, g.shape[0], shapes[0], layout)
        g = g.contiguous(memory_format=layout)
        return (torch.ops.aten.avg_pool2d_backward(g, like, *self.arguments),)


@dataclass(frozen=True, eq=False)
class AdaptiveAveragePool(Operator):
    """Average pooling to a given size."""

    size: tuple[int, int]

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        return F.adaptive_avg_pool2d(inputs[0], self.size), None

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        if tuple(shapes[0][1:]) == self.size:
            return (g,)
        layout = memory_format(g)
        like = empty_like_rows(g, g.shape[0], shapes[0], layout)
        g = g.contiguous(memory_format=layout)
        return (torch.ops.aten._adaptive_avg_pool2d_backward(g, like),)


@dataclass(frozen=True, eq=False)
class Mean(Operator):
    """Mean over rows and columns.

    Attributes:
        keep: whether they stay as dimensions of length 1.
        count: how many values are averaged.
    """

    keep: bool
    count: int

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        return inputs[0].mean(dim=(2, 3), keepdim=self.keep), None

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        g = g.reshape(*g.shape[:2], 1, 1) / self.count
        return (empty_like_rows(g, g.shape[0], shapes[0], torch.channels_last).copy_(g),)

    def backward_row(
        self, row: ClassRow, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules
    ) -> ClassRow:
        values = row.values.reshape(*row.values.shape[:2], 1, 1) / self.count
        return ClassRow(values, row.targets)

    def outline(self) -> tuple[object, ...]:
        return ("Mean", self.keep)
