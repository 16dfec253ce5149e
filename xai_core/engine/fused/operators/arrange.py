"""Sums, constants, and other arrangements of the same values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from xai_core.engine.fused.operators.operator import ClassRow, Operator, Rules


@dataclass(frozen=True, eq=False)
class Add(Operator):
    """Sum of two tensors of one shape."""

    in_place: ClassVar[bool] = True

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        first, second = inputs
        return (first.add_(second) if in_place else first + second), None

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        return g, g


@dataclass(frozen=True, eq=False)
class Scale(Operator):
    """``factor * x``, where the factor does not depend on the image."""

    factor: Tensor | float

    def cast(self, dtype: torch.dtype) -> Operator:
        return Scale(self.factor.to(dtype)) if isinstance(self.factor, Tensor) else self

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        return inputs[0] * self.factor, None

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        return (g * self.factor,)


@dataclass(frozen=True, eq=False)
class Shift(Operator):
    """``x + offset``, where the offset does not depend on the image."""

    offset: Tensor | float

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        return inputs[0] + self.offset, None

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        return (g,)


@dataclass(frozen=True, eq=False)
class Stop(Operator):
    """The same values; no gradient passes (``detach``, ``torch.no_grad``)."""

    @property
    def gives_away(self) -> bool:
        return False

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        return inputs[0], None

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        return (torch.zeros_like(g),)


@dataclass(frozen=True, eq=False)
class Concatenate(Operator):
    """Concatenation along a dimension that is not the batch."""

    dim: int

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        return torch.cat(list(inputs), self.dim), None

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        return torch.split(g, [shape[self.dim - 1] for shape in shapes], self.dim)


@dataclass(frozen=True, eq=False)
class Reshape(Operator):
    """Another shape for the same values, (B, *shape)."""

    shape: tuple[int, ...]

    @property
    def gives_away(self) -> bool:
        return False

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        return inputs[0].reshape(inputs[0].shape[0], *self.shape), None

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        return (g.reshape(g.shape[0], *shapes[0]),)

    def backward_row(
        self, row: ClassRow, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules
    ) -> ClassRow | None:
        (before,) = shapes  # (classes, 1, ...) to (classes, 1, ...): each class stays a channel
        if not before[0] == math.prod(before) == self.shape[0] == math.prod(self.shape):
            return None
        return ClassRow(row.values.reshape(-1, 1, *before[1:]), row.targets)

    def outline(self) -> tuple[object, ...]:
        return ("Reshape", len(self.shape))


@dataclass(frozen=True, eq=False)
class Permute(Operator):
    """Another order of the dimensions; the batch stays first."""

    dims: tuple[int, ...]

    @property
    def gives_away(self) -> bool:
        return False

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        return inputs[0].permute(self.dims), None

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        return (g.permute([self.dims.index(i) for i in range(len(self.dims))]),)


@dataclass(frozen=True, eq=False)
class Slice(Operator):
    """A range along one dimension that is not the batch."""

    dim: int
    start: int
    length: int

    @property
    def gives_away(self) -> bool:
        return False

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        return inputs[0].narrow(self.dim, self.start, self.length), None

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        result = g.new_zeros(g.shape[0], *shapes[0])
        result.narrow(self.dim, self.start, self.length).copy_(g)
        return (result,)

    def outline(self) -> tuple[object, ...]:
        return ("Slice", self.dim)


@dataclass(frozen=True, eq=False)
class Select(Operator):
    """One place along a dimension that is not the batch; the dimension goes."""

    dim: int
    index: int

    @property
    def gives_away(self) -> bool:
        return False

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        return inputs[0].select(self.dim, self.index), None

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        result = g.new_zeros(g.shape[0], *shapes[0])
        result.select(self.dim, self.index).copy_(g)
        return (result,)
