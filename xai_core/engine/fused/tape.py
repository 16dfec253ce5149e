"""The tape: every operation that a net really runs on an image of one size, in order.

The net runs once on a copy of itself that has shapes but no values (torch's meta device), below all
spellings of an operation, so ``nn.ReLU``, ``F.relu``, ``x.relu_()`` and a reused module are one and
the same here. A net whose path depends on the values it sees can't run without values, and is found
out that way. The user's net is never run nor touched.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

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
)

aten = torch.ops.aten

IMAGE = 0
"""The slot of the image."""

BATCH = 7
"""Images in the recorded batch: a number that is no other length, so that it can be told apart."""


class NotRecordable(Exception):
    """The walk does not know this net; the message says what of it."""


@dataclass(frozen=True)
class Node:
    """One operation between slots, each of which is written once.

    Attributes:
        operator: what is done.
        inputs: slots that are read.
        output: slot that is written.
    """

    operator: Operator
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True)
class Tape:
    """What a net does with an image of one size.

    Attributes:
        nodes: in the order in which they ran.
        shapes: of each slot, without the batch.
        logits: slot of the net's output.
        targets: slots of the target layer's outputs, one per call.
        classifier: name, input slot and output slot of the last linear layer or 1x1 convolution
            that ran as a module; None where there is none.
    """

    nodes: tuple[Node, ...]
    shapes: Mapping[int, tuple[int, ...]]
    logits: int
    targets: tuple[int, ...]
    classifier: tuple[str, int, int] | None


class Twin:
    """A net's copy without values.

    Args:
        module: the net; only read.

    Raises:
        NotRecordable: the net can't be copied, or has hooks, whose effect a copy can't share.
    """

    def __init__(self, module: nn.Module) -> None:
        if any(_hooks(child) for child in module.modules()):
            raise NotRecordable("it has hooks")
        tensors = [*module.parameters(), *module.buffers()]
        stand_ins: dict[int, Any] = {id(t): torch.empty_like(t, device="meta") for t in tensors}
        self._constants = {id(stand_ins[id(t)]): t.detach() for t in tensors}
        try:
            self._module = copy.deepcopy(module, stand_ins).eval()
        except Exception as error:  # a user's module may raise anything
            raise NotRecordable(f"it can't be copied: {_first_line(error)}") from error
        self._names = {id(child): name for name, child in self._module.named_modules()}

    def record(self, shape: Sequence[int], dtype: torch.dtype, target_layer: str) -> Tape:
        """Run on images of a shape (C, H, W).

        Raises:
            NotRecordable: it can't run without values, or uses an operation that the walk lacks.
        """
        image = torch.empty(BATCH, *shape, dtype=dtype, device="meta")
        recorder = _Recorder(image, self._constants)
        targets: list[int] = []
        classifiers: list[tuple[str, int, int]] = []

        def on_target(module: nn.Module, args: Any, output: Any) -> None:
            targets.append(recorder.slot_of(output))

        def on_classifier(module: nn.Module, args: Any, output: Any) -> None:
            slots = recorder.slot_of(args[0]), recorder.slot_of(output)
            classifiers.append((self._names[id(module)], *slots))

        handles = [
            child.register_forward_hook(on_classifier)
            for child in self._module.modules()
            if isinstance(child, nn.Linear)
            or (isinstance(child, nn.Conv2d) and child.kernel_size == (1, 1))
        ]
        try:
            handles.append(
                self._module.get_submodule(target_layer).register_forward_hook(on_target)
            )
            # With gradients, though none are computed: the graph shows what the tape can't.
            with torch.enable_grad(), recorder:
                output = self._module(image.requires_grad_().clone())
            logits = recorder.slot_of(output)
        except NotRecordable:
            raise
        except Exception as error:  # a user's module may raise anything
            raise NotRecordable(f"it can't run without values: {_first_line(error)}") from error
        finally:
            for handle in handles:
                handle.remove()
        if len(recorder.shapes[logits]) != 1:
            raise NotRecordable("its output is not (batch, classes)")
        nodes = _leading_to({logits}, recorder.nodes)
        _check_graph(output, nodes, recorder)
        observed = {logits, *targets, *(slot for _, *slots in classifiers[-1:] for slot in slots)}
        return Tape(
            _leading_to(observed, recorder.nodes),
            recorder.shapes,
            logits,
            tuple(targets),
            classifiers[-1] if classifiers else None,
        )


def _leading_to(outputs: set[int], nodes: Sequence[Node]) -> tuple[Node, ...]:
    needed, found = set(outputs), []
    for node in reversed(nodes):
        if node.output in needed:
            needed.update(node.inputs)
            found.append(node)
    return tuple(reversed(found))


_GRADIENT_NODES = {
    Add: ("Add",),
    Concatenate: ("Cat",),
    Convolution: ("Convolution",),
    MaxPool: ("MaxPool2DWithIndices",),
    Relu: ("Relu",),
    Scale: ("Mul", "Div"),
}


def _check_graph(output: Tensor, nodes: Sequence[Node], recorder: _Recorder) -> None:
    """Refuse a net whose gradient is not that of its operations: torch's own graph tells."""
    edges: Counter[str] = Counter()  # along which a gradient flows, by the operation's name
    seen: set[Any] = set()
    stack = [output.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            raise NotRecordable("it has an autograd function of its own")
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        edges[type(node).__name__.split("Backward")[0]] += len(parents)
        stack.extend(parents)
    for kind, spellings in _GRADIENT_NODES.items():
        expected = sum(len(node.inputs) for node in nodes if type(node.operator) is kind)
        # Fewer, not other: a sum with a constant is a `Shift` here and an "Add" there.
        if sum(edges[spelling] for spelling in spellings) < expected:
            raise NotRecordable("it stops the gradient on its way")
    if recorder.any_gradient_hook():
        raise NotRecordable("it hooks itself into the gradient")


def _hooks(module: nn.Module) -> bool:
    return any(
        getattr(module, name)
        for name in (
            "_forward_hooks",
            "_forward_pre_hooks",
            "_backward_hooks",
            "_backward_pre_hooks",
        )
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class _Recorder(TorchDispatchMode):
    """Writes down each operation on the image or what came of it."""

    def __init__(self, image: Tensor, constants: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.shapes: dict[int, tuple[int, ...]] = {IMAGE: tuple(image.shape[1:])}
        self._slots: dict[int, int | None] = {}  # None: overwritten through a view
        self._constants = dict(constants)
        self._alive: dict[int, list[Tensor]] = {}  # by memory; an id is unique among the living
        self._bind(image, IMAGE)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the operation on shapes, and note it."""
        result = func(*args, **(kwargs or {}))
        self._note(func, args, kwargs or {}, result)
        return result

    def slot_of(self, value: Any) -> int:
        """The slot that holds a tensor.

        Raises:
            NotRecordable: it is not what came of the image, or it changed behind our back.
        """
        slot = self._slots.get(id(value))
        if slot is None:
            raise NotRecordable("it changes a part of a tensor in place, or makes its own tensors")
        return slot

    def _note(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        tensors = _tensors((args, kwargs))
        if not tensors:
            return
        if all(id(tensor) in self._constants for tensor in tensors):
            self._note_constant(func, args, kwargs, result)
            return
        if not any(id(tensor) in self._slots for tensor in tensors):
            return  # on a tensor that the net made; reading it later is refused
        if func in _SAME:
            self._bind(result, self.slot_of(args[0]))
            return
        read = _READERS.get(func)
        if read is None:
            raise NotRecordable(f"it uses {func.name().removeprefix('aten::')}")
        overwritten = args[0] if func._schema.is_mutable else None
        steps = read(self, *args, **kwargs)
        outputs = _tensors(result)[: len(steps)]
        for (operator, inputs), output in zip(steps, outputs, strict=True):
            if output.ndim < 2 or output.shape[0] != BATCH:
                raise NotRecordable("it mixes the images of a batch")
            slot = len(self.shapes)
            self.nodes.append(Node(operator, tuple(self.slot_of(i) for i in inputs), slot))
            self.shapes[slot] = tuple(output.shape[1:])
            if overwritten is not None:
                self._forget_views_of(overwritten)
            self._bind(output, slot)

    def _note_constant(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        if func._schema.is_mutable:
            raise NotRecordable("it changes its own parameters")
        values = func(*_replaced(args, self._constants), **_replaced(kwargs, self._constants))
        for stand_in, value in zip(_tensors(result), _tensors(values), strict=True):
            self._constants[id(stand_in)] = value
            self._hold(stand_in)

    def _bind(self, tensor: Tensor, slot: int) -> None:
        self._slots[id(tensor)] = slot
        self._hold(tensor)

    def _hold(self, tensor: Tensor) -> None:
        self._alive.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)

    def _forget_views_of(self, changed: Tensor) -> None:
        for other in self._alive[changed.untyped_storage()._cdata]:
            if other is not changed:
                self._slots[id(other)] = None

    def any_gradient_hook(self) -> bool:
        """Whether the net hooks itself into the gradient of a tensor."""
        return any(tensor._backward_hooks for held in self._alive.values() for tensor in held)

    def constant(self, value: Any) -> Any:
        """The values behind a parameter's stand-in; numbers and None as they are."""
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self._constants:
            raise NotRecordable("it computes with weights that depend on the image")
        return self._constants[id(value)]

    def is_constant(self, value: Any) -> bool:
        """Whether a value does not depend on the image."""
        return not isinstance(value, Tensor) or id(value) in self._constants


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in _tensors(part)]
    return []


def _replaced(value: Any, by: Mapping[int, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return by[id(value)]
    if isinstance(value, Mapping):
        return {name: _replaced(part, by) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_replaced(part, by) for part in value)
    return value


# How each operation of torch is read: (operator, the tensors it reads) for each output.
_Steps = list[tuple[Operator, list[Tensor]]]


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values if len(values) == 2 else (values[0], values[0])
    return first, second


def _maps(x: Tensor) -> Tensor:
    if x.ndim != 4:
        raise NotRecordable(f"it convolves or pools {x.ndim - 2} dimensions")
    return x


def _convolution(
    r: _Recorder,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> _Steps:
    if transposed:
        raise NotRecordable("it uses a transposed convolution")
    operator = Convolution(
        r.constant(weight), r.constant(bias), _pair(stride), _pair(padding), _pair(dilation), groups
    )
    return [(operator, [_maps(x)])]


def _batch_norm(
    r: _Recorder,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> _Steps:
    if training:
        raise NotRecordable("its batch normalisation uses the batch's statistics")
    values = (r.constant(part) for part in (mean, variance, weight, bias))
    return [(BatchNorm(*values, eps), [_maps(x)])]


def _legit_batch_norm(
    r: _Recorder,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    momentum: float,
    eps: float,
) -> _Steps:
    return _batch_norm(r, x, weight, bias, mean, variance, False, momentum, eps)


def _max_pool(
    r: _Recorder,
    x: Tensor,
    kernel: list[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil: bool = False,
) -> _Steps:
    sizes = (_pair(values) for values in (kernel, stride or kernel, padding, dilation))
    return [(MaxPool(*sizes, ceil), [_maps(x)])]


def _average_pool(
    r: _Recorder,
    x: Tensor,
    kernel: list[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil: bool = False,
    count_padding: bool = True,
    divisor: int | None = None,
) -> _Steps:
    arguments = (kernel, stride or kernel, padding, ceil, count_padding, divisor)
    return [(AveragePool(arguments), [_maps(x)])]


def _mean(r: _Recorder, x: Tensor, dims: list[int] | None, keep: bool = False) -> _Steps:
    if x.ndim != 4 or sorted(d % 4 for d in dims or ()) != [2, 3]:
        raise NotRecordable("it averages over dimensions other than rows and columns")
    return [(Mean(keep, x.shape[2] * x.shape[3]), [x])]


def _addmm(r: _Recorder, bias: Tensor, x: Tensor, weight: Tensor) -> _Steps:
    if not r.is_constant(bias):
        raise NotRecordable("it uses addmm")
    return [(Linear(r.constant(weight).t(), r.constant(bias)), [x])]


def _mm(r: _Recorder, x: Tensor, weight: Tensor) -> _Steps:
    return [(Linear(r.constant(weight).t(), None), [x])]


def _relu(r: _Recorder, x: Tensor) -> _Steps:
    return [(Relu(), [x])]


def _add(r: _Recorder, x: Any, y: Any, alpha: float = 1) -> _Steps:
    if alpha != 1:
        raise NotRecordable("it adds a multiple of a tensor")
    if r.is_constant(x):
        x, y = y, x
    if r.is_constant(y):
        offset = r.constant(y)
        _broadcasts(offset, x)
        return [(Shift(offset), [x])]
    if x.shape != y.shape:
        raise NotRecordable("it adds tensors of different shapes")
    return [(Add(), [x, y])]


def _multiply(r: _Recorder, x: Any, y: Any) -> _Steps:
    if r.is_constant(x):
        x, y = y, x
    if not r.is_constant(y):
        raise NotRecordable("it multiplies tensors that both depend on the image")
    factor = r.constant(y)
    _broadcasts(factor, x)
    return [(Scale(factor), [x])]


def _divide(r: _Recorder, x: Any, y: Any) -> _Steps:
    if not r.is_constant(y):
        raise NotRecordable("it divides by what depends on the image")
    divisor = r.constant(y)
    _broadcasts(divisor, x)
    return [(Scale(1 / divisor), [x])]


def _subtract(r: _Recorder, x: Any, y: Any, alpha: float = 1) -> _Steps:
    if alpha != 1 or not r.is_constant(y):
        raise NotRecordable("it subtracts what depends on the image")
    offset = r.constant(y)
    _broadcasts(offset, x)
    return [(Shift(-offset), [x])]


def _broadcasts(constant: Any, x: Tensor) -> None:
    """Refuse a constant that has a batch of its own, or makes the result larger."""
    if isinstance(constant, Tensor) and (
        constant.ndim >= x.ndim and constant.shape[0] != 1
        or torch.broadcast_shapes(constant.shape, x.shape) != x.shape
    ):
        raise NotRecordable("it combines each image of a batch with a tensor of its own")


def _concatenate(r: _Recorder, parts: list[Tensor], dim: int = 0) -> _Steps:
    return [(Concatenate(_not_batch(dim, parts[0])), list(parts))]


def _view(r: _Recorder, x: Tensor, shape: list[int]) -> _Steps:
    # Only if the batch stays the first dimension: torch has already worked out every -1.
    rest = [length for length in shape[1:] if length != -1]
    if shape[0] not in (BATCH, -1) or (shape[0] == -1 and -1 in shape[1:]):
        raise NotRecordable("it reshapes the batch")
    known = 1
    for length in rest:
        known *= length
    inferred = x[0].numel() // known if known else 0
    return [(Reshape(tuple(inferred if n == -1 else n for n in shape[1:])), [x])]


def _unsqueeze(r: _Recorder, x: Tensor, dim: int) -> _Steps:
    dim %= x.ndim + 1
    if dim == 0:
        raise NotRecordable("it reshapes the batch")
    shape = list(x.shape[1:])
    shape.insert(dim - 1, 1)
    return [(Reshape(tuple(shape)), [x])]


def _squeeze(r: _Recorder, x: Tensor, dims: int | list[int]) -> _Steps:
    gone = {d % x.ndim for d in ([dims] if isinstance(dims, int) else dims)}
    shape = tuple(n for i, n in enumerate(x.shape) if i > 0 and not (i in gone and n == 1))
    return [(Reshape(shape), [x])]


def _permute(r: _Recorder, x: Tensor, dims: list[int]) -> _Steps:
    order = tuple(d % x.ndim for d in dims)
    if order[0] != 0:
        raise NotRecordable("it moves the batch")
    return [(Permute(order), [x])]


def _transpose(r: _Recorder, x: Tensor, first: int, second: int) -> _Steps:
    order = list(range(x.ndim))
    order[first], order[second] = order[second], order[first]
    return _permute(r, x, order)


def _select(r: _Recorder, x: Tensor, dim: int, index: int) -> _Steps:
    dim = _not_batch(dim, x)
    return [(Select(dim, index % x.shape[dim]), [x])]


def _slice(
    r: _Recorder,
    x: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> _Steps:
    if step != 1:
        raise NotRecordable("it takes every so many of a dimension")
    first, last, _ = slice(start, end).indices(x.shape[dim])
    if dim % x.ndim == 0 and last - first == x.shape[0]:  # x[:, ...]: the whole batch
        return [(Reshape(tuple(x.shape[1:])), [x])]
    return [(Slice(_not_batch(dim, x), first, last - first), [x])]


def _split(r: _Recorder, x: Tensor, sizes: int | list[int], dim: int = 0) -> _Steps:
    dim = _not_batch(dim, x)
    if isinstance(sizes, int):
        sizes = [min(sizes, x.shape[dim] - i) for i in range(0, x.shape[dim], sizes)]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [(Slice(dim, start, size), [x]) for start, size in zip(starts, sizes, strict=True)]


def _adaptive(r: _Recorder, x: Tensor, size: list[int]) -> _Steps:
    return [(AdaptiveAveragePool(_pair(size)), [_maps(x)])]


def _not_batch(dim: int, x: Tensor) -> int:
    dim %= x.ndim
    if dim == 0:
        raise NotRecordable("it cuts or joins the batch")
    return dim


# Operations that give the same values again. (Where a net detaches, `_check_graph` sees it.)
_SAME = {aten.alias.default, aten.clone.default, aten.detach.default}

_READERS: dict[Any, Callable[..., _Steps]] = {
    aten._adaptive_avg_pool2d.default: _adaptive,
    aten._native_batch_norm_legit_no_training.default: _legit_batch_norm,
    aten._unsafe_view.default: _view,
    aten.add.Tensor: _add,
    aten.add_.Tensor: _add,
    aten.addmm.default: _addmm,
    aten.avg_pool2d.default: _average_pool,
    aten.cat.default: _concatenate,
    aten.convolution.default: _convolution,
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
