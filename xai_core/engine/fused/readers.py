"""How each operation of torch is read: which operation of the walk it is, and what it works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from xai_core.engine.fused.operators import (
    AdaptiveAveragePool,
    Add,
    AveragePool,
    BatchNorm,
    Concatenate,
    Convolution,
    Linear,
    MaxPool,
    Mean,
    Operator,
    Permute,
    Relu,
    Reshape,
    Scale,
    Select,
    Shift,
    Slice,
    Stop,
)

aten = torch.ops.aten

BATCH = 7
"""Images in the recorded batch: a number that is no other length, so that it can be told apart."""


class NotRecordable(Exception):
    """The walk does not know this net; the message says what of it."""


class Constants(Protocol):
    """What does not depend on the image."""

    def constant(self, value: Any) -> Any:
        """The values behind a parameter's stand-in; numbers and None as they are.

        Raises:
            NotRecordable: it depends on the image.
        """

    def is_constant(self, value: Any) -> bool:
        """Whether a value does not depend on the image."""


Steps = list[tuple[Operator, list[Tensor]]]
"""(operator, the tensors that it reads) for each output."""


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values if len(values) == 2 else (values[0], values[0])
    return first, second


def _maps(x: Tensor) -> Tensor:
    if x.ndim != 4:
        raise NotRecordable(f"it convolves or pools {x.ndim - 2} dimensions")
    return x


def _convolution(
    r: Constants,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Steps:
    if transposed:
        raise NotRecordable("it uses a transposed convolution")
    operator = Convolution(
        r.constant(weight), r.constant(bias), _pair(stride), _pair(padding), _pair(dilation), groups
    )
    return [(operator, [_maps(x)])]


def _batch_norm(
    r: Constants,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> Steps:
    if training:
        raise NotRecordable("its batch normalisation uses the batch's statistics")
    operator = BatchNorm(
        r.constant(mean), r.constant(variance), r.constant(weight), r.constant(bias), eps
    )
    return [(operator, [_maps(x)])]


def _legit_batch_norm(
    r: Constants,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    momentum: float,
    eps: float,
) -> Steps:
    return _batch_norm(r, x, weight, bias, mean, variance, False, momentum, eps)


def _max_pool(
    r: Constants,
    x: Tensor,
    kernel: list[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil: bool = False,
) -> Steps:
    operator = MaxPool(
        _pair(kernel), _pair(stride or kernel), _pair(padding), _pair(dilation), ceil
    )
    return [(operator, [_maps(x)])]


def _average_pool(
    r: Constants,
    x: Tensor,
    kernel: list[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil: bool = False,
    count_padding: bool = True,
    divisor: int | None = None,
) -> Steps:
    arguments = (kernel, stride or kernel, padding, ceil, count_padding, divisor)
    return [(AveragePool(arguments), [_maps(x)])]


def _mean(r: Constants, x: Tensor, dims: list[int] | None, keep: bool = False) -> Steps:
    if x.ndim != 4 or sorted(d % 4 for d in dims or ()) != [2, 3]:
        raise NotRecordable("it averages over dimensions other than rows and columns")
    return [(Mean(keep, x.shape[2] * x.shape[3]), [x])]


def _addmm(r: Constants, bias: Tensor, x: Tensor, weight: Tensor) -> Steps:
    if not r.is_constant(bias):
        raise NotRecordable("it uses addmm")
    return [(Linear(r.constant(weight).t(), r.constant(bias)), [x])]


def _mm(r: Constants, x: Tensor, weight: Tensor) -> Steps:
    return [(Linear(r.constant(weight).t(), None), [x])]


def _detach(r: Constants, x: Tensor) -> Steps:
    return [(Stop(), [x])]


def _relu(r: Constants, x: Tensor) -> Steps:
    return [(Relu(), [x])]


def _add(r: Constants, x: Any, y: Any, alpha: float = 1) -> Steps:
    if alpha != 1:
        raise NotRecordable("it adds a multiple of a tensor")
    if r.is_constant(x):
        x, y = y, x
    if r.is_constant(y):
        return [(Shift(_operand(r, y, x)), [x])]
    if x.shape != y.shape:
        raise NotRecordable("it adds tensors of different shapes")
    return [(Add(), [x, y])]


def _multiply(r: Constants, x: Any, y: Any) -> Steps:
    if r.is_constant(x):
        x, y = y, x
    if not r.is_constant(y):
        raise NotRecordable("it multiplies tensors that both depend on the image")
    return [(Scale(_operand(r, y, x)), [x])]


def _divide(r: Constants, x: Any, y: Any) -> Steps:
    if not r.is_constant(y):
        raise NotRecordable("it divides by what depends on the image")
    return [(Scale(1 / _operand(r, y, x)), [x])]


def _subtract(r: Constants, x: Any, y: Any, alpha: float = 1) -> Steps:
    if alpha != 1 or not r.is_constant(y):
        raise NotRecordable("it subtracts what depends on the image")
    return [(Shift(-_operand(r, y, x)), [x])]


def _operand(r: Constants, value: Any, x: Tensor) -> Any:
    """A constant that a tensor is combined with, in floating point as torch computes it.

    Raises:
        NotRecordable: it has a batch of its own, or makes the result larger.
    """
    constant = r.constant(value)
    if isinstance(constant, Tensor) and (
        (constant.ndim >= x.ndim and constant.shape[0] != 1)
        or np.broadcast_shapes(constant.shape, x.shape) != tuple(x.shape)
    ):
        raise NotRecordable("it combines each image of a batch with a tensor of its own")
    if isinstance(constant, Tensor) and not constant.is_floating_point():
        constant = constant.to(x.dtype)
    return constant


def _concatenate(r: Constants, parts: list[Tensor], dim: int = 0) -> Steps:
    return [(Concatenate(_not_batch(dim, parts[0])), list(parts))]


def _view(r: Constants, x: Tensor, shape: list[int]) -> Steps:
    # Only if the batch stays the first dimension: torch has already worked out every -1.
    rest = [length for length in shape[1:] if length != -1]
    if shape[0] not in (BATCH, -1) or (shape[0] == -1 and -1 in shape[1:]):
        raise NotRecordable("it reshapes the batch")
    known = 1
    for length in rest:
        known *= length
    inferred = x[0].numel() // known if known else 0
    return [(Reshape(tuple(inferred if n == -1 else n for n in shape[1:])), [x])]


def _unsqueeze(r: Constants, x: Tensor, dim: int) -> Steps:
    dim %= x.ndim + 1
    if dim == 0:
        raise NotRecordable("it reshapes the batch")
    shape = list(x.shape[1:])
    shape.insert(dim - 1, 1)
    return [(Reshape(tuple(shape)), [x])]


def _squeeze(r: Constants, x: Tensor, dims: int | list[int]) -> Steps:
    gone = {d % x.ndim for d in ([dims] if isinstance(dims, int) else dims)}
    shape = tuple(n for i, n in enumerate(x.shape) if i > 0 and not (i in gone and n == 1))
    return [(Reshape(shape), [x])]


def _permute(r: Constants, x: Tensor, dims: list[int]) -> Steps:
    order = tuple(d % x.ndim for d in dims)
    if order[0] != 0:
        raise NotRecordable("it moves the batch")
    return [(Permute(order), [x])]


def _transpose(r: Constants, x: Tensor, first: int, second: int) -> Steps:
    order = list(range(x.ndim))
    order[first], order[second] = order[second], order[first]
    return _permute(r, x, order)


def _select(r: Constants, x: Tensor, dim: int, index: int) -> Steps:
    dim = _not_batch(dim, x)
    return [(Select(dim, index % x.shape[dim]), [x])]


def _slice(
    r: Constants,
    x: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Steps:
    if step != 1:
        raise NotRecordable("it takes every so many of a dimension")
    first, last, _ = slice(start, end).indices(x.shape[dim])
    if dim % x.ndim == 0 and last - first == x.shape[0]:  # x[:, ...]: the whole batch
        return [(Reshape(tuple(x.shape[1:])), [x])]
    return [(Slice(_not_batch(dim, x), first, last - first), [x])]


def _split(r: Constants, x: Tensor, sizes: int | list[int], dim: int = 0) -> Steps:
    dim = _not_batch(dim, x)
    if isinstance(sizes, int):
        sizes = [min(sizes, x.shape[dim] - i) for i in range(0, x.shape[dim], sizes)]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [(Slice(dim, start, size), [x]) for start, size in zip(starts, sizes, strict=True)]


def _adaptive(r: Constants, x: Tensor, size: list[int]) -> Steps:
    return [(AdaptiveAveragePool(_pair(size)), [_maps(x)])]


def _not_batch(dim: int, x: Tensor) -> int:
    dim %= x.ndim
    if dim == 0:
        raise NotRecordable("it cuts or joins the batch")
    return dim


# Operations that give the same values again.
SAME = {aten.alias.default, aten.clone.default}

READERS: dict[Any, Callable[..., Steps]] = {
    aten._adaptive_avg_pool2d.default: _adaptive,
    aten._native_batch_norm_legit_no_training.default: _legit_batch_norm,
    aten._unsafe_view.default: _view,
    aten.add.Tensor: _add,
    aten.add_.Tensor: _add,
    aten.addmm.default: _addmm,
    aten.avg_pool2d.default: _average_pool,
    aten.cat.default: _concatenate,
    aten.convolution.default: _convolution,
    aten.detach.default: _detach,
    aten.div.Tensor: _divide,
    aten.max_pool2d_with_indices.default: _max_pool,
    aten.mean.dim: _mean,
    aten.mm.default: _mm,
    aten.mul.Tensor: _multiply,
    aten.mul_.Tensor: _multiply,
    aten.native_batch_norm.default: _batch_norm,
    aten.permute.default: _permute,
    aten.relu.default: _relu,
    aten.relu_.default: _relu,
    aten.select.int: _select,
    aten.slice.Tensor: _slice,
    aten.split.Tensor: _split,
    aten.split_with_sizes.default: _split,
    aten.squeeze.dim: _squeeze,
    aten.squeeze.dims: _squeeze,
    aten.sub.Tensor: _subtract,
    aten.transpose.int: _transpose,
    aten.unsqueeze.default: _unsqueeze,
    aten.view.default: _view,
}
