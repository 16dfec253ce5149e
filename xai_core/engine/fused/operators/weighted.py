"""The operations with weights: convolution, batch normalisation, linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xai_core.engine.fused.operators.arrange import Scale
from xai_core.engine.fused.operators.operator import ClassRow, Operator, Rules


@dataclass(frozen=True, eq=False)
class Convolution(Operator):
    """Two-dimensional convolution."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        return (
            F.conv2d(
                inputs[0],
                self.weight,
                self.bias,
                self.stride,
                self.padding,
                self.dilation,
                self.groups,
            ),
            None,
        )

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        size = shapes[0][1:]
        # Rows and columns at the far edge that no window reaches: stride leaves them over.
        left_over = tuple(
            size[i]
            + 2 * self.padding[i]
            - self.dilation[i] * (self.weight.shape[2 + i] - 1)
            - 1
            - self.stride[i] * (g.shape[2 + i] - 1)
            for i in (0, 1)
        )
        return (
            F.conv_transpose2d(
                g,
                self.weight,
                None,
                self.stride,
                self.padding,
                left_over,
                self.groups,
                self.dilation,
            ),
        )

    @property
    def geometry(self) -> tuple[object, ...]:
        """All that a convolution is but its weights."""
        return self.stride, self.padding, self.dilation, self.groups

    def output_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of the output for an input's rows and columns."""
        height, width = (
            (size[i] + 2 * self.padding[i] - self.dilation[i] * (self.weight.shape[2 + i] - 1) - 1)
            // self.stride[i]
            + 1
            for i in (0, 1)
        )
        return height, width

    def backward_row(
        self, row: ClassRow, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules
    ) -> Tensor | None:
        if self.weight.shape[2:] != (1, 1) or self.groups != 1 or self.stride != (1, 1):
            return None
        if self.padding != (0, 0):
            return None
        weights = self.weight[row.targets].repeat(row.repeats, 1, 1, 1)
        shape = (*weights.shape[:2], *row.values.shape[2:])
        result = row.values.new_empty(shape).to(memory_format=torch.channels_last)
        return torch.mul(row.values, weights, out=result)

    def cast(self, dtype: torch.dtype) -> Convolution:
        return replace(self, weight=self.weight.to(dtype), bias=None)

    def in_phases(self) -> Convolution:
        """The same; its gradient, if it is one with few outputs (slow), as a faster convolution."""
        (stride, across), (kernel, width) = self.stride, self.weight.shape[2:]
        few = self.weight.shape[1] <= 4 and self.groups == 1
        if not few or stride != across or stride == 1 or kernel != width or self.dilation != (1, 1):
            return self
        taps = -(-kernel // stride)
        padded = F.pad(self.weight, (0, taps * stride - kernel) * 2)
        outputs, inputs = padded.shape[:2]
        parts = padded.view(outputs, inputs, taps, stride, taps, stride).flip(2, 4)
        phases = parts.permute(3, 5, 1, 0, 2, 4).reshape(-1, outputs, taps, taps)
        return PhasedConvolution(
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            phases.contiguous(memory_format=torch.channels_last),
        )


@dataclass(frozen=True, eq=False)
class PhasedConvolution(Convolution):
    """``dx[s*q + r - p] = sum_t g[q - t] w[r + s*t]``: one stride-1 convolution for all r.

    The phases r are outputs of their own, in the order in which pixels lie in memory.

    Attributes:
        phases: its weights, (s * s * channels, outputs, taps, taps).
    """

    phases: Tensor

    def cast(self, dtype: torch.dtype) -> PhasedConvolution:
        return replace(self, weight=self.weight.to(dtype), phases=self.phases.to(dtype))

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        size = shapes[0][1:]
        images = F.conv2d(g, self.phases, None, 1, self.phases.shape[2] - 1)
        batch, _, height, width = images.shape
        stride = self.stride[0]
        blocks = images.permute(0, 2, 3, 1).reshape(batch, height, width, stride, -1)
        images = blocks.transpose(2, 3).reshape(batch, height * stride, width * stride, -1)
        images = images.permute(0, 3, 1, 2)
        # Rows and columns that no window reaches have no phase: they are zero.
        missing = [max(0, size[i] + self.padding[i] - images.shape[2 + i]) for i in (0, 1)]
        if any(missing):
            images = F.pad(images, (0, missing[1], 0, missing[0]))
        top, left = self.padding
        return (images[:, :, top : top + size[0], left : left + size[1]],)


@dataclass(frozen=True, eq=False)
class BatchNorm(Operator):
    """Batch normalisation in evaluation mode: ``scale * x + shift`` for each channel."""

    mean: Tensor
    variance: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        result = F.batch_norm(
            inputs[0], self.mean, self.variance, self.weight, self.bias, eps=self.eps
        )
        return result, None

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        scale = self.scale().view(-1, 1, 1)
        return (g.mul_(scale) if owned else g * scale,)

    def cast(self, dtype: torch.dtype) -> Operator:
        return Scale(self.scale().to(dtype).view(-1, 1, 1))

    def scale(self) -> Tensor:
        """``weight / sqrt(variance + eps)``, (C,)."""
        scale = (self.variance + self.eps).rsqrt()
        return scale if self.weight is None else scale * self.weight

    def folded_into(self, convolution: Convolution) -> Convolution:
        """One convolution that does what the two do."""
        weight, scale = convolution.weight, (self.variance.double() + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight.double()
        bias = -self.mean.double()
        if convolution.bias is not None:
            bias = bias + convolution.bias.double()
        bias = bias * scale
        if self.bias is not None:
            bias = bias + self.bias.double()
        return Convolution(
            weight * scale.to(weight.dtype).view(-1, 1, 1, 1),
            bias.to(weight.dtype),
            convolution.stride,
            convolution.padding,
            convolution.dilation,
            convolution.groups,
        )


@dataclass(frozen=True, eq=False)
class Linear(Operator):
    """``x @ weight.T + bias``."""

    weight: Tensor
    bias: Tensor | None

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        return F.linear(inputs[0], self.weight, self.bias), None

    def cast(self, dtype: torch.dtype) -> Operator:
        return Linear(self.weight.to(dtype), None)

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        if g.is_cuda or g.shape[0] > 4 or g.dtype == torch.bfloat16:
            return (g @ self.weight,)
        # A few rows: row by row is memory-bound, while a small matrix product is slower than that.
        return (torch.bmm(g.unsqueeze(1), self.weight.expand(g.shape[0], -1, -1)).squeeze(1),)

    def backward_row(
        self, row: ClassRow, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules
    ) -> Tensor:
        weights = self.weight[row.targets].repeat(row.repeats, 1)
        return row.values * weights
