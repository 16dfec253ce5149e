"""The operations that the walk knows: each one's forward pass and its input gradient, batched.

In a backward pass the gradients of several ReLU rules travel as one tensor, rule after rule along
the batch dimension: (R * B, ...) for R rules and B images, or (B, ...) while all rules still agree.
Every operation here but `Relu` and `MaxPool` is linear, so it treats that as any other batch.

Only public operators of torch are used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from xai_core.relu_rules import ReluRule

Rules = tuple[ReluRule, ...]
"""In this order: deconvolution, guided, plain; so those that clamp and those that mask are each
one contiguous part of the batch."""


@dataclass(frozen=True, eq=False)
class ClassRow:
    """A gradient that is zero but at one channel of each image: where every walk begins.

    Attributes:
        values: the gradient at this channel, (B, 1, ...) or, rule after rule, (R * B, 1, ...).
        targets: the channel in each image, (B,).
    """

    values: Tensor
    targets: Tensor

    def dense(self, channels: int) -> Tensor:
        """The gradient with all its channels."""
        index = self.channels_of(self.values.shape[0]).expand_as(self.values)
        shape = (self.values.shape[0], channels, *self.values.shape[2:])
        return self.values.new_zeros(shape).scatter_(1, index, self.values)

    def channels_of(self, rows: int) -> Tensor:
        """`targets` for each of ``rows`` rows, with as many dimensions as `values`."""
        repeated = self.targets.repeat(rows // self.targets.shape[0])
        return repeated.view(-1, *(1 for _ in self.values.shape[1:]))


class Operator:
    """One operation. The defaults are those of an operation that keeps nothing."""

    in_place: ClassVar[bool] = False
    """Whether `forward` may be told to overwrite its first input."""

    @property
    def gives_away(self) -> bool:
        """Whether the output is memory that others may overwrite: new, and not kept."""
        return True

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        """The output, and what `backward` will need (None: nothing)."""
        raise NotImplementedError

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
        raise NotImplementedError

    def backward_row(self, row: ClassRow, kept: Any, rules: Rules) -> Tensor | ClassRow | None:
        """`backward` for a gradient at one channel; None where that has no short cut."""
        return None


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

    def output_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of the output for an input's rows and columns."""
        height, width = (
            (size[i] + 2 * self.padding[i] - self.dilation[i] * (self.weight.shape[2 + i] - 1) - 1)
            // self.stride[i]
            + 1
            for i in (0, 1)
        )
        return height, width

    def backward_row(self, row: ClassRow, kept: Any, rules: Rules) -> Tensor | None:
        if self.weight.shape[2:] != (1, 1) or self.groups != 1 or self.stride != (1, 1):
            return None
        if self.padding != (0, 0):
            return None
        weights = self.weight[row.targets].repeat(row.values.shape[0] // row.targets.shape[0], 1, 1, 1)
        shape = (*weights.shape[:2], *row.values.shape[2:])
        result = row.values.new_empty(shape).to(memory_format=torch.channels_last)
        return torch.mul(row.values, weights, out=result)

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
        phases = parts.permute(1, 3, 5, 0, 2, 4).reshape(-1, outputs, taps, taps)
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

    Its s * s outputs per channel are the phases r, which `pixel_shuffle` interleaves.

    Attributes:
        phases: its weights, (channels * s * s, outputs, taps, taps).
    """

    phases: Tensor

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        size = shapes[0][1:]
        images = F.conv2d(g, self.phases, None, 1, self.phases.shape[2] - 1)
        images = F.pixel_shuffle(images, self.stride[0])
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

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        if g.is_cuda or g.shape[0] > 4:
            return (g @ self.weight,)
        # A few rows: row by row is memory-bound, while a small matrix product is slower than that.
        return (torch.bmm(g.unsqueeze(1), self.weight.expand(g.shape[0], -1, -1)).squeeze(1),)

    def backward_row(self, row: ClassRow, kept: Any, rules: Rules) -> Tensor:
        weights = self.weight[row.targets].repeat(row.values.shape[0] // row.targets.shape[0], 1)
        return row.values * weights


@dataclass(frozen=True, eq=False)
class Relu(Operator):
    """ReLU, whose backward pass is the rules'.

    Attributes:
        ruled: False where the pooling behind it applies the rules for it.
    """

    ruled: bool = True
    in_place: ClassVar[bool] = True

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        output = inputs[0].relu_() if in_place else inputs[0].relu()
        return output, output if self.ruled else None

    @property
    def gives_away(self) -> bool:
        return False

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        return (pass_relu(g, kept, rules, owned) if self.ruled else g,)

    def backward_row(self, row: ClassRow, kept: Tensor, rules: Rules) -> ClassRow:
        index = row.channels_of(kept.shape[0]).expand(-1, -1, *kept.shape[2:])
        values = row.values.expand(-1, -1, *kept.shape[2:])
        return ClassRow(pass_relu(values, kept.gather(1, index), rules, False), row.targets)


def pass_relu(g: Tensor, output: Tensor, rules: Rules, owned: bool) -> Tensor:
    """Pass a gradient through a ReLU under all rules at once; see `xai_core.relu_rules`.

    Args:
        g: (R * B, ...) or, while all rules agree, (B, ...).
        output: the ReLU's output, (B, ...); ``z > 0`` where it is positive.
        rules: those that ``g`` carries, R of them.
        owned: whether ``g`` may be overwritten.

    Returns:
        (R * B, ...).
    """
    g = _spread(g, output.shape[0], rules, owned)
    _mask(g, output, rules)
    _clamp(g, output.shape[0], rules)
    return g


def _spread(g: Tensor, batch: int, rules: Rules, owned: bool) -> Tensor:
    """A tensor to overwrite with a part for each rule."""
    if g.shape[0] < batch * len(rules):
        return torch.cat([g] * len(rules))
    return g if owned else g.clone()


def _mask(g: Tensor, output: Tensor, rules: Rules) -> None:
    """In place: ``g * (z > 0)`` for the rules that have it."""
    masking = sum(rule is not ReluRule.DECONVOLUTION for rule in rules)
    if masking:
        masked = g[g.shape[0] - masking * output.shape[0] :].unflatten(0, (masking, output.shape[0]))
        torch.ops.aten.threshold_backward.grad_input(
            masked, output.expand(masked.shape), 0, grad_input=masked
        )


def _clamp(g: Tensor, batch: int, rules: Rules) -> None:
    """In place: ``relu(g)`` for the rules that have it."""
    clamping = sum(rule is not ReluRule.PLAIN for rule in rules)
    if clamping:
        g[: clamping * batch].relu_()


@dataclass(frozen=True, eq=False)
class MaxPool(Operator):
    """Max-pooling; its switches are the forward pass's for every rule.

    Attributes:
        after_relu: the input is the output of a ReLU that nothing else reads. The maximum is
            positive where, and only where, the ReLU was active at the switch, so masks apply to
            the fewer values behind the pooling; so does clamping if windows don't overlap.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    ceil: bool
    after_relu: bool = False

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        output, switches = torch.ops.aten.max_pool2d_with_indices(
            inputs[0], self.kernel, self.stride, self.padding, self.dilation, self.ceil
        )
        return output, (switches, output if self.after_relu else None)

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        switches, output = kept
        batch = switches.shape[0]
        if output is not None:
            g = _spread(g, batch, rules, owned)
            _mask(g, output, rules)
            if self._disjoint():
                _clamp(g, batch, rules)
        result = self._unpool(g, switches, shapes[0])
        if output is not None and not self._disjoint():
            _clamp(result, batch, rules)
        return (result,)

    @property
    def gives_away(self) -> bool:
        return not self.after_relu

    def _disjoint(self) -> bool:
        return self.dilation == (1, 1) and all(
            k <= s for k, s in zip(self.kernel, self.stride, strict=True)
        )

    def _unpool(self, g: Tensor, switches: Tensor, shape: Sequence[int]) -> Tensor:
        batch, layout = switches.shape[0], memory_format(switches)
        g = g.contiguous(memory_format=layout)
        result = _empty(g, g.shape[0], shape, layout)
        like = _empty(g, batch, shape, layout)
        for part, above in zip(result.split(batch), g.split(batch), strict=True):
            torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
                above,
                like,
                self.kernel,
                self.stride,
                self.padding,
                self.dilation,
                self.ceil,
                switches,
                grad_input=part,
            )
        return result


def memory_format(tensor: Tensor) -> torch.memory_format:
    """The layout that a gradient of this tensor should have."""
    if tensor.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def _empty(g: Tensor, rows: int, shape: Sequence[int], layout: torch.memory_format) -> Tensor:
    """Memory of the kind of ``g``; as "input" of a backward operator only its shape is asked."""
    return torch.empty((rows, *shape), dtype=g.dtype, device=g.device, memory_format=layout)


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
        like = _empty(g, g.shape[0], shapes[0], layout)
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
        like = _empty(g, g.shape[0], shapes[0], layout)
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
        return (_empty(g, g.shape[0], shapes[0], torch.channels_last).copy_(g),)

    def backward_row(self, row: ClassRow, kept: Any, rules: Rules) -> ClassRow:
        values = row.values.reshape(*row.values.shape[:2], 1, 1) / self.count
        return ClassRow(values, row.targets)


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
class Concatenate(Operator):
    """Concatenation along a dimension that is not the batch."""

    dim: int

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        return torch.cat(list(inputs), self.dim), None

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        return g.split([shape[self.dim - 1] for shape in shapes], self.dim)


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

    def backward_row(self, row: ClassRow, kept: Any, rules: Rules) -> ClassRow | None:
        if math.prod(self.shape) != self.shape[0]:
            return None
        return ClassRow(row.values.reshape(row.values.shape[0], 1, 1, 1), row.targets)


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
