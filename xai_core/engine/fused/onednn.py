"""oneDNN operators that torch keeps private: faster on a CPU, and never needed.

They serve where they were measured to (docs/performance.md): linear layers with few rows, and
convolutions over so few positions that bringing the weights into oneDNN's layout, which the public
operator does in every call, costs as much as the arithmetic. `find` returns None wherever they are
absent or don't give what the public operators give; the walk then runs on those alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from xai_core.engine.fused.operators import (
    ClassRow,
    Convolution,
    Linear,
    Operator,
    Relu,
    Rules,
    pass_relu,
)

_FEW_POSITIONS = 1024
"""Output positions, batch included, up to which a convolution's weights are laid out in advance."""


def find() -> OneDnn | None:
    """The operators, if this torch has them and they are right on a small example."""
    return OneDnn() if _right() else None


@cache
def _right() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    numbers = torch.Generator().manual_seed(0)  # not the global one, which is the user's

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=numbers, dtype=torch.float32)

    try:
        x, weight = draw(2, 4, 5, 6), draw(3, 4, 3, 3)
        layout = _reorder(weight, (1, 1), (1, 1), x.shape)
        conv = _convolve(x, layout, None, (1, 1), (1, 1))
        rows, matrix, bias = draw(3, 16), draw(16, 32), draw(32)
        linear = _linear(rows, matrix.t(), bias)
        right = torch.allclose(conv, F.conv2d(x, weight, None, 1, 1), atol=1e-4)
        right &= torch.allclose(linear, F.linear(rows, matrix.t(), bias), atol=1e-4)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return right


def _reorder(
    weight: Tensor, padding: Sequence[int], stride: Sequence[int], size: Sequence[int]
) -> Tensor:
    """The weight in the layout that oneDNN wants for inputs of this size (B, C, H, W)."""
    layout: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
        weight, list(padding), list(stride), [1, 1], 1, list(size)
    )
    return layout


def _convolve(
    x: Tensor,
    layout: Tensor,
    bias: Tensor | None,
    padding: Sequence[int],
    stride: Sequence[int],
) -> Tensor:
    # Without its ReLU, which gives 0 for NaN.
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, layout, bias, list(padding), list(stride), [1, 1], 1, "none", [], ""
    )
    return result


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


class OneDnn:
    """Prepares the operators of one net. Layouts are shared while a plan holds them."""

    def __init__(self) -> None:
        self._layouts: WeakValueDictionary[tuple[Any, ...], Tensor] = WeakValueDictionary()

    def linear(self, linear: Linear) -> Operator:
        """The same, with oneDNN's matrix product; no weight is copied."""
        if not (linear.weight.is_contiguous() or linear.weight.t().is_contiguous()):
            return linear
        bias = linear.bias.contiguous() if linear.bias is not None else None
        return _Linear(linear.weight, bias)

    def convolution(
        self, conv: Convolution, relu: bool, ruled: bool, size: Sequence[int], rows: int
    ) -> Operator | None:
        """The same with its ReLU, or None where there is nothing to gain.

        Args:
            conv: the convolution.
            relu: whether a ReLU follows that alone reads its output.
            ruled: whether this ReLU applies the rules.
            size: of its input, (B, C, H, W).
            rows: rows of the gradient: rules times batch; 0 where none is wanted.
        """
        if conv.groups != 1 or conv.dilation != (1, 1):
            return None
        height, width = conv.output_size(size[2:])
        if size[0] * height * width > _FEW_POSITIONS:
            return None
        if conv.bias is not None:  # the operator reads it as if it were contiguous
            conv = replace(conv, bias=conv.bias.contiguous())
        forward = self._layout(conv.weight, conv.padding, conv.stride, size, flip=False)
        kernel = conv.weight.shape[2:]
        padding = (kernel[0] - 1 - conv.padding[0], kernel[1] - 1 - conv.padding[1])
        backward = None
        few = rows * height * width <= _FEW_POSITIONS
        if rows and few and conv.stride == (1, 1) and min(padding) >= 0:
            size = (rows, conv.weight.shape[0], height, width)
            backward = self._layout(conv.weight, padding, (1, 1), size, flip=True)
        return _Convolution(conv, relu, ruled, forward, backward, padding, rows)

    def _layout(
        self,
        weight: Tensor,
        padding: Sequence[int],
        stride: Sequence[int],
        size: Sequence[int],
        flip: bool,
    ) -> Tensor:
        key = (id(weight), flip, tuple(padding), tuple(stride), tuple(size))
        layout = self._layouts.get(key)
        if layout is None:
            if flip:
                weight = weight.flip(2, 3).transpose(0, 1).contiguous()
            layout = self._layouts[key] = _reorder(weight, padding, stride, size)
        return layout


@dataclass(frozen=True, eq=False)
class _Linear(Linear):
    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        return _linear(inputs[0], self.weight, self.bias), None

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        return (_linear(g, self.weight.t(), None),)


@dataclass(frozen=True, eq=False)
class _Convolution(Operator):
    """A convolution, perhaps with a ReLU, whose weights lie as oneDNN wants them."""

    conv: Convolution
    relu: bool
    ruled: bool
    layout: Tensor
    backward_layout: Tensor | None
    backward_padding: tuple[int, int]
    rows: int

    @property
    def gives_away(self) -> bool:
        return not self.relu

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        conv = self.conv
        output = _convolve(inputs[0], self.layout, conv.bias, conv.padding, conv.stride)
        if self.relu:
            output.relu_()
        return output, output if self.relu and self.ruled else None

    def cast(self, dtype: torch.dtype) -> Operator:
        return replace(self, conv=self.conv.cast(dtype), backward_layout=None)

    def backward_row(
        self, row: ClassRow, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules
    ) -> Tensor | ClassRow | None:
        if kept is not None:
            row = Relu().backward_row(row, kept, shapes, rules)
        return self.conv.backward_row(row, None, shapes, rules)

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        if kept is not None:
            g = pass_relu(g, kept, rules, owned)
        if self.backward_layout is None or g.shape[0] != self.rows:
            return self.conv.backward(g, None, shapes, rules, owned)
        return (_convolve(g, self.backward_layout, None, self.backward_padding, (1, 1)),)
