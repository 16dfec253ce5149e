"""Layers written out in float64 from slices, sums and products: none of torch's own layers.

All take and give (B, C, H, W) unless they say otherwise. Gradients are autograd's of these slices,
except at a ReLU, which obeys a rule, and at a maximum, which goes to the first of equals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

Values = dict[str, Tensor]
"""Parameters and buffers by name, in float64."""


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, run: Run) -> Tensor:
        ctx.save_for_backward(z.clone())
        ctx.run = run
        return torch.where(z > 0, z, torch.zeros_like(z))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        passes = {
            "plain": z > 0,
            "deconvolution": g > 0,
            "guided": (z > 0) & (g > 0),
        }[ctx.run.rule]
        return torch.where(passes, g, torch.zeros_like(g)), None


class Run:
    """One forward pass of a twin, whose ReLUs obey one rule after the other on the way back.

    Attributes:
        rule: of `tests.reference.relu.RULES`; may change from one backward pass to the next.
        f: what the twin marked as the output of the target layer.
        margin: how near the nearest value came to a switch, relative to the size of such values.
    """

    def __init__(self) -> None:
        self.rule = "plain"
        self.f: Tensor | None = None
        self.margin = float("inf")

    def at(self, f: Tensor) -> Tensor:
        self.f = f
        return f

    def relu(self, z: Tensor) -> Tensor:
        self._near(z)
        return _Relu.apply(z, self)

    def first_max(self, values: Tensor, dim: int = 0) -> Tensor:
        """The maximum over a dimension; its gradient goes to the first of equals."""
        largest = values.amax(dim, keepdim=True)
        equal = values == largest
        first = equal & (equal.cumsum(dim) == 1)
        if values.shape[dim] > 1:
            two = values.topk(2, dim).values
            self._near(torch.where(two.isfinite(), two, 0).diff(dim=dim))
        return torch.where(first, values, 0).sum(dim)

    def _near(self, z: Tensor) -> None:
        size = z.detach().abs()
        size = size[size > 0]
        if size.numel():
            self.margin = min(self.margin, float(size.min() / size.mean()))


def two(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def pad(x: Tensor, rows: tuple[int, int], columns: tuple[int, int], value: float = 0) -> Tensor:
    b, c, h, w = x.shape
    out = x.new_full((b, c, h + sum(rows), w + sum(columns)), value)
    out[:, :, rows[0] : rows[0] + h, columns[0] : columns[0] + w] = x
    return out


def pad_by(mode: str, x: Tensor, n: int) -> Tensor:
    """Continues the image by reflection, by its edge or by its other side."""

    def index(i: int, size: int) -> int:
        if mode == "circular":
            return i % size
        if mode == "replicate":
            return min(max(i, 0), size - 1)
        return -i if i < 0 else (2 * (size - 1) - i if i >= size else i)

    h, w = x.shape[2:]
    x = x[:, :, [index(i, h) for i in range(-n, h + n)]]
    return x[:, :, :, [index(i, w) for i in range(-n, w + n)]]


def windows(
    x: Tensor, kernel: int | Sequence[int], stride: int | Sequence[int], dilation: int = 1
) -> Iterator[tuple[int, int, Tensor]]:
    """For each cell of the window, what it sees at all positions."""
    (kh, kw), (sh, sw) = two(kernel), two(stride)
    h, w = x.shape[2:]
    rows = (h - dilation * (kh - 1) - 1) // sh + 1
    columns = (w - dilation * (kw - 1) - 1) // sw + 1
    for dy in range(kh):
        for dx in range(kw):
            y, z = dy * dilation, dx * dilation
            yield (
                dy,
                dx,
                x[:, :, y : y + (rows - 1) * sh + 1 : sh, z : z + (columns - 1) * sw + 1 : sw],
            )


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    ph, pw = two(padding)
    x = pad(x, (ph, ph), (pw, pw))
    inputs, outputs = x.shape[1] // groups, weight.shape[0] // groups
    parts = []
    for g in range(groups):
        own, kernel = x[:, g * inputs : (g + 1) * inputs], weight[g * outputs : (g + 1) * outputs]
        seen = torch.stack([s for _, _, s in windows(own, kernel.shape[2:], stride, dilation)], 2)
        parts.append(torch.einsum("oik,bikhw->bohw", kernel.flatten(2), seen))
    out = torch.cat(parts, 1)
    return out if bias is None else out + bias[:, None, None]


def layer(w: Values, name: str, x: Tensor, **how) -> Tensor:
    """The convolution of that name."""
    return conv(x, w[f"{name}.weight"], w.get(f"{name}.bias"), **how)


def linear(w: Values, name: str, x: Tensor) -> Tensor:
    """The linear layer of that name, over the last dimension."""
    out = torch.einsum("oi,...i->...o", w[f"{name}.weight"], x)
    return out + w[f"{name}.bias"] if f"{name}.bias" in w else out


def average(f: Tensor) -> Tensor:
    """(B, C): the sum over positions by their number."""
    return f.sum(3).sum(2) / (f.shape[2] * f.shape[3])


def largest(r: Run, f: Tensor) -> Tensor:
    """(B, C): the largest value of all positions."""
    return r.first_max(f.flatten(2), 2)


def max_pool(
    r: Run, x: Tensor, kernel: int, stride: int | None = None, padding: int = 0, dilation: int = 1
) -> Tensor:
    x = pad(x, (padding, padding), (padding, padding), float("-inf")) if padding else x
    cells = [seen for _, _, seen in windows(x, kernel, stride or kernel, dilation)]
    return r.first_max(torch.stack(cells))


def avg_pool(x: Tensor, kernel: int, stride: int | None = None, padding: int = 0) -> Tensor:
    """Divides by the size of the window, zeros beyond the border included."""
    kh, kw = two(kernel)
    x = pad(x, (padding, padding), (padding, padding))
    return sum(seen for _, _, seen in windows(x, kernel, stride or kernel)) / (kh * kw)


def cells(size: int, n: int) -> list[slice]:
    """The windows of adaptive pooling."""
    return [slice(i * size // n, -(-(i + 1) * size // n)) for i in range(n)]


def adaptive(x: Tensor, rows: int, columns: int) -> Tensor:
    """Averages over windows of rows, then over windows of columns."""
    x = torch.stack([x[:, :, y].mean(2) for y in cells(x.shape[2], rows)], 2)
    return torch.stack([x[..., z].mean(3) for z in cells(x.shape[3], columns)], 3)


def normalise(x: Tensor, mean: Tensor, var: Tensor, eps: float = 1e-5) -> Tensor:
    return (x - mean) / (var + eps) ** 0.5


def affine(w: Values, name: str, x: Tensor) -> Tensor:
    return x * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]


def batch_norm(w: Values, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    x = normalise(x, mean[:, None, None], var[:, None, None], eps)
    return affine(w, name, x) if f"{name}.weight" in w else x


def over(x: Tensor, dims: Sequence[int], eps: float = 1e-5) -> Tensor:
    """Zero mean and variance one over these dimensions."""
    n = 1
    for d in dims:
        n *= x.shape[d]
    mean = x.sum(dims, keepdim=True) / n
    return normalise(x, mean, ((x - mean) ** 2).sum(dims, keepdim=True) / n, eps)


def group_norm(x: Tensor, groups: int, eps: float = 1e-5) -> Tensor:
    b, c, h, w = x.shape
    return over(x.reshape(b, groups, c // groups, h, w), (2, 3, 4), eps).reshape(x.shape)
