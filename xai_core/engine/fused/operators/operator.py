"""What an operation of the walk is: its forward pass and its input gradient, batched.

In a backward pass the gradients of several ReLU rules travel as one tensor, rule after rule along
the batch dimension: (R * B, ...) for R rules and B images, or (B, ...) while all rules still agree.
Every operation but `Relu` and `MaxPool` is linear, so it treats that as any other batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from xai_core.relu_rules import ReluRule

Rules = tuple[ReluRule, ...]
"""In this order: deconvolution, guided, plain; so those that clamp and those that mask are each
one contiguous part of the batch."""


@dataclass(frozen=True, eq=False)
class ClassRow:
    """A gradient that is zero but at one channel of each image: where every walk begins.

    Attributes:
        values: the gradient at this channel, (B, 1, ...) or, rule after rule, (R * B, 1, ...);
            where it is the same at all positions of a map, these may have length 1.
        targets: the channel in each image, (B,).
    """

    values: Tensor
    targets: Tensor

    @property
    def repeats(self) -> int:
        """Rows per image: 1, or R."""
        return self.values.shape[0] // self.targets.shape[0]

    def over(self, shape: Sequence[int]) -> ClassRow:
        """The same over a whole map: what is one value for all its positions is repeated.

        Args:
            shape: of the gradient, without the batch.
        """
        return ClassRow(self.values.expand(-1, -1, *shape[1:]), self.targets)

    def dense(self, shape: Sequence[int]) -> Tensor:
        """The gradient with all its channels, (R * B, *shape) or (B, *shape)."""
        values = self.over(shape).values
        index = self.channels_of(values.shape[0]).expand_as(values)
        return values.new_zeros(values.shape[0], *shape).scatter_(1, index, values)

    def channels_of(self, rows: int) -> Tensor:
        """`targets` for each of ``rows`` rows, with as many dimensions as `values`."""
        repeated = self.targets.repeat(rows // self.targets.shape[0])
        return repeated.view(-1, *(1 for _ in self.values.shape[1:]))


class Operator(ABC):
    """One operation. The defaults are those of an operation that keeps nothing."""

    in_place: ClassVar[bool] = False
    """Whether `forward` may be told to overwrite its first input."""

    @property
    def gives_away(self) -> bool:
        """Whether the output is memory that others may overwrite: new, and not kept."""
        return True

    @abstractmethod
    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        """The output, and what `backward` will need (None: nothing)."""

    @abstractmethod
    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        """The gradient at each input.

        Args:
            g: the gradient at the output, (R * B, ...) or (B, ...).
            kept: what `forward` kept.
            shapes: of each input, without the batch.
            rules: the rules that ``g`` carries.
            owned: whether ``g`` may be overwritten.

        Returns:
            New memory, ``g``, or parts of ``g`` that don't overlap.
        """

    def cast(self, dtype: torch.dtype) -> Operator:
        """The same with weights of another type, for the backward pass."""
        return self

    def backward_row(
        self, row: ClassRow, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules
    ) -> Tensor | ClassRow | None:
        """`backward` for a gradient at one channel; None where that has no short cut.

        Args:
            row: the gradient at the output, over its whole map.
            kept: what `forward` kept.
            shapes: of each input, without the batch.
            rules: the rules that ``row`` carries.
        """
        return None

    def outline(self) -> tuple[object, ...]:
        """What it does apart from the values of its weights and the size of the image."""
        return (type(self).__name__, *(_outline(getattr(self, f.name)) for f in fields(self)))  # type: ignore[arg-type]


def _outline(value: object) -> object:
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    return tuple(map(_outline, value)) if isinstance(value, list | tuple) else value


def rules_apart(g: Tensor, batch: int) -> Tensor:
    """The gradient with the rules along a dimension of their own, (R, B, ...)."""
    return g.view(-1, batch, *g.shape[1:])


def memory_format(tensor: Tensor) -> torch.memory_format:
    """The layout that a gradient of this tensor should have."""
    if tensor.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def empty_like_rows(
    g: Tensor, rows: int, shape: Sequence[int], layout: torch.memory_format
) -> Tensor:
    """Memory of the kind of ``g``; as "input" of a backward operator only its shape is asked."""
    return torch.empty((rows, *shape), dtype=g.dtype, device=g.device, memory_format=layout)
