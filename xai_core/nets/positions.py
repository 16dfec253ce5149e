"""Which axes of an activation are positions of the image, through every operation of a net.

A convolution's output (B, C, h, w) has positions at axes 2 and 3; ``flatten(2)`` has them at 2,
``permute(0, 2, 3, 1)`` at 1 and 2, ``mean((2, 3))`` nowhere. Operations are read by their schema
and shapes: reductions, permutations, views and products have rules, every other one that keeps
the shape keeps the positions, and the rest loses them until a convolution says where they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

PRODUCTS = {"mm": ("self", "mat2"), "bmm": ("self", "mat2"), "mv": ("self", "vec")} | {
    "addmm": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
    "linear": ("input", "weight"),
}
"""Matrix products, and what their two factors are called."""

RESHAPES = {"view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze"}
_KEEP_MAPS = ("batch_norm", "group_norm", "upsample", "grid_sampler", "pixel_", "_pad")


@dataclass(frozen=True)
class Axes:
    """Where a value has positions.

    Attributes:
        pure: axes of positions alone: (2, 3) in a map, (2,) after ``flatten(2)``.
        mixed: axes of positions and channels together, as after ``flatten(1)``.
        lost: it has positions, but nobody knows where.
        pairs: its pure axes are pairs of positions, as in an attention matrix.
    """

    pure: tuple[int, ...] = ()
    mixed: tuple[int, ...] = ()
    lost: bool = False
    pairs: bool = False

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self.lost or bool(self.pure or self.mixed)

    def moved(self, to: Mapping[int, int]) -> Axes:
        """The same ones elsewhere; those that go nowhere are gone."""
        pure = tuple(sorted(to[axis] for axis in self.pure if axis in to))
        mixed = tuple(sorted(to[axis] for axis in self.mixed if axis in to))
        return Axes(pure, mixed, self.lost, self.pairs and len(pure) > 1)


NOWHERE, LOST, MAP, CHANNELS_LAST = Axes(), Axes(lost=True), Axes((2, 3)), Axes((1, 2))


@dataclass(eq=False)
class Value:
    """One tensor that depends on the image, as one operation left it.

    Attributes:
        op: name of the operation without a trailing underscore; ``image`` for the image.
        shape: of the tensor.
        axes: where it has positions.
        inputs: what the operation read, by argument; of what depends on the image alone.
        weight: shape of a convolution's or product's constant factor.
        modules: names of those whose output it is, the outermost last.
        pooled_from: the input of a pooling module whose output it is.
    """

    op: str
    shape: tuple[int, ...]
    axes: Axes
    inputs: dict[str, Value] = field(default_factory=dict)
    weight: tuple[int, ...] = ()
    modules: list[str] = field(default_factory=list)
    pooled_from: Value | None = None

    @property
    def spatial(self) -> list[Value]:
        """The inputs that have positions, each once."""
        return list(dict.fromkeys(value for value in self.inputs.values() if value.axes))

    @property
    def is_map(self) -> bool:
        """Whether it is (B, C, h, w)."""
        return len(self.shape) == 4 and self.axes == MAP

    def above(self) -> Iterator[Value]:
        """All that it depends on, itself first, the nearest before the farther."""
        seen = {self}
        queue = [self]
        for value in queue:
            yield value
            new = [v for v in value.inputs.values() if v not in seen]
            seen.update(new)
            queue += dict.fromkeys(new)


def axes_of(
    op: str, arguments: Mapping[str, Any], inputs: Mapping[str, Value], shape: Sequence[int]
) -> Axes:
    """Where an operation's output has positions.

    Args:
        op: its name.
        arguments: by the schema's names, tensors as they are.
        inputs: those that depend on the image.
        shape: of the output.
    """
    spatial = {name: value for name, value in inputs.items() if value.axes}
    if not spatial:
        return NOWHERE
    first = next(iter(spatial.values()))
    rank = len(first.shape)
    if op in PRODUCTS:
        return _product(op, spatial, len(shape))
    if "scaled_dot_product" in op or "_attention_forward" in op:
        query = spatial.get("query")
        return NOWHERE if query is None else query.axes
    if "keepdim" in arguments or op in {"mean", "sum", "max", "min", "select", "unbind"}:
        return _reduced(first, arguments, rank)
    if op in {"permute", "transpose", "t"}:
        return first.axes.moved(_permutation(op, arguments, rank))
    if op in RESHAPES:
        return LOST if first.axes.lost else _reshaped(first, shape)
    if op == "stack":
        at = arguments.get("dim", 0) % len(shape)
        return _joined(first.axes.moved({i: i + (i >= at) for i in range(rank)}), spatial)
    if op == "convolution" or "pool2d" in op:
        return _convolved(first, arguments, op, shape)
    if any(part in op for part in _KEEP_MAPS) and rank == len(shape):
        return MAP if first.axes.lost and rank == 4 else first.axes
    return _elementwise(spatial.values(), shape)


def _product(op: str, spatial: Mapping[str, Value], rank: int) -> Axes:
    """The contracted axes are gone."""
    left, right = (spatial.get(name) for name in PRODUCTS[op])
    if any(factor is not None and factor.axes.lost for factor in (left, right)):
        return LOST
    axes = NOWHERE
    if left is not None:
        axes = left.axes.moved({i: i for i in range(len(left.shape) - 1)})
    if right is not None and op != "linear" and op != "mv":
        last = len(right.shape) - 1
        more = right.axes.moved({last: rank - 1} | ({0: 0} if last == 2 else {}))
        both = bool(axes.pure and set(more.pure) - set(axes.pure))
        axes = replace(_union(axes, more), pairs=both)
    return axes


def _reduced(value: Value, arguments: Mapping[str, Any], rank: int) -> Axes:
    given = arguments.get("dim")
    if given is None or given == []:
        gone = set(range(rank))
    else:
        gone = {axis % rank for axis in ([given] if isinstance(given, int) else given)}
    if value.axes.lost:
        if rank != 4 or not gone >= {2, 3}:
            return LOST if len(gone) < rank else NOWHERE
        value.axes = MAP  # nothing else is averaged over the last two axes of four
    kept = [axis for axis in range(rank) if axis not in gone]
    keepdim = arguments.get("keepdim", False)
    return value.axes.moved({axis: axis if keepdim else i for i, axis in enumerate(kept)})


def _permutation(op: str, arguments: Mapping[str, Any], rank: int) -> dict[int, int]:
    order = list(range(rank))
    if op == "permute":
        order = [axis % rank for axis in arguments["dims"]]
    elif rank > 1:
        a, b = arguments.get("dim0", 0) % rank, arguments.get("dim1", 1) % rank
        order[a], order[b] = order[b], order[a]
    return {old: new for new, old in enumerate(order)}


def _reshaped(value: Value, shape: Sequence[int]) -> Axes:
    """Axes of the smallest groups that hold equally many elements before and after."""
    if 0 in shape:
        return LOST
    pure: list[int] = []
    mixed: list[int] = []
    for before, after in _groups(value.shape, shape):
        wide = [i for i in before if value.shape[i] > 1] or before
        if any(i in value.axes.mixed for i in wide) or (
            any(i in value.axes.pure for i in wide) and not all(i in value.axes.pure for i in wide)
        ):
            if len([i for i in after if shape[i] > 1]) > 1:
                return LOST
            mixed += [i for i in after if shape[i] > 1] or after[-1:]
        elif all(i in value.axes.pure for i in wide) and wide:
            split = [i for i in after if shape[i] > 1] or after[-len(wide) :]
            if len(split) > 1 and (len(split) > 2 or len(wide) > 1 or len(value.axes.pure) > 1):
                return LOST  # windows: only one axis of all positions has two to be split into
            pure += split
    return Axes(tuple(pure), tuple(mixed), pairs=value.axes.pairs)


def _groups(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    i = j = 0
    while i < len(before) or j < len(after):
        left, right = [i] if i < len(before) else [], [j] if j < len(after) else []
        i, j = i + len(left), j + len(right)
        while (a := math.prod(before[k] for k in left)) != (
            b := math.prod(after[k] for k in right)
        ):
            if a < b:
                left.append(i)
                i += 1
            else:
                right.append(j)
                j += 1
        # Axes of one element join what is before them where the other side has none left.
        if j == len(after):
            left, i = [*left, *range(i, len(before))], len(before)
        if i == len(before):
            right, j = [*right, *range(j, len(after))], len(after)
        yield left, right


def _convolved(value: Value, arguments: Mapping[str, Any], op: str, shape: Sequence[int]) -> Axes:
    if len(shape) != len(value.shape) or len(shape) != 4:
        return value.axes if len(shape) == len(value.shape) else LOST
    if not value.axes.lost and (value.axes.mixed or min(value.axes.pure) < 2):
        return LOST
    if tuple(shape[2:]) == (1, 1) and _covers(value.shape[2:], arguments, op):
        return NOWHERE
    return MAP


def _covers(size: Sequence[int], arguments: Mapping[str, Any], op: str) -> bool:
    """Whether one window is the whole map, by design and not because the image is small."""
    if "adaptive" in op:
        return True
    if op == "convolution":
        weight: Tensor = arguments["weight"]
        alone = not any(arguments["padding"]) and all(s == 1 for s in arguments["stride"])
        return alone and math.prod(size) > 1 and tuple(weight.shape[2:]) == tuple(size)
    kernel, padding = arguments.get("kernel_size", [1]), arguments.get("padding", [0])
    return not any(padding) and all(
        k >= s for k, s in zip([*kernel, *kernel][:2], size, strict=True)
    )


def _elementwise(values: Iterable[Value], shape: Sequence[int]) -> Axes:
    """Broadcasting aligns the last axes; joins and slices change only sizes."""
    found = NOWHERE
    lost = False
    for value in values:
        shift = len(shape) - len(value.shape)
        aligned = zip(value.shape, shape[max(shift, 0) :], strict=False)
        if value.axes.lost:
            lost = True
        elif shift < 0 or (shift > 0 and any(a not in (1, b) for a, b in aligned)):
            return NOWHERE if math.prod(shape) <= 1 else LOST
        else:
            found = _union(found, value.axes.moved({i: i + shift for i in range(len(value.shape))}))
    return found or (LOST if lost else NOWHERE)


def _joined(axes: Axes, spatial: Mapping[str, Value]) -> Axes:
    return LOST if any(value.axes.lost for value in spatial.values()) else axes


def _union(a: Axes, b: Axes) -> Axes:
    mixed = tuple(sorted({*a.mixed, *b.mixed}))
    pure = tuple(sorted({*a.pure, *b.pure} - {*mixed}))
    return Axes(pure, mixed, pairs=a.pairs or b.pairs)
