"""The tape: every operation that a net really runs on an image of one size, in order.

A copy of the net that has shapes but no values (torch's meta device) runs once, and is watched
below all spellings of an operation, so ``nn.ReLU``, ``F.relu``, ``x.relu_()`` and a reused module
are one and the same here. A net whose path depends on the values it sees can't run without values,
and is found out that way. The user's net is not touched.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from xai_core.engine.fused.operators import Operator, Stop
from xai_core.engine.fused.readers import BATCH, READERS, SAME, NotRecordable
from xai_core.engine.fused.state import hooked
from xai_core.errors import first_line

IMAGE = 0
"""The slot of the image."""


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

    @cached_property
    def outline(self) -> tuple[object, ...]:
        """What is done, apart from the size of the image: the same for most sizes."""
        steps = ((n.operator.outline(), n.inputs, n.output) for n in self.nodes)
        return (*steps, self.logits, self.targets, self.classifier)


class Twin:
    """A net's copy without values.

    Args:
        module: the net, in evaluation mode; only read.

    Raises:
        NotRecordable: the net can't be copied, or has hooks, whose effect a copy can't share.
    """

    def __init__(self, module: nn.Module) -> None:
        if hooked(module):
            raise NotRecordable("it has hooks")
        tensors = [*module.parameters(), *module.buffers()]
        stand_ins: dict[int, Any] = {id(t): torch.empty_like(t, device="meta") for t in tensors}
        self._constants = {id(stand_ins[id(t)]): t.detach() for t in tensors}
        try:
            self._module = copy.deepcopy(module, stand_ins)
        except Exception as error:  # a user's module may raise anything
            raise NotRecordable(f"it can't be copied: {first_line(error)}") from error
        self._names = {id(child): name for name, child in self._module.named_modules()}

    def record(self, shape: Sequence[int], dtype: torch.dtype, target_layer: str | None) -> Tape:
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
            if target_layer is not None:
                target = self._module.get_submodule(target_layer)
                handles.append(target.register_forward_hook(on_target))
            # With gradients, though none are computed: the graph shows what the tape can't.
            with torch.enable_grad(), recorder:
                output = self._module(image.requires_grad_().clone())
            logits = recorder.slot_of(output)
        except NotRecordable:
            raise
        except Exception as error:  # a user's module may raise anything
            raise NotRecordable(f"it can't run without values: {first_line(error)}") from error
        finally:
            for handle in handles:
                handle.remove()
        if len(recorder.shapes[logits]) != 1:
            raise NotRecordable("its output is not (batch, classes)")
        if _own_gradient(output):
            raise NotRecordable("it has an autograd function of its own")
        if recorder.any_gradient_hook():
            raise NotRecordable("it hooks itself into the gradient")
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


def _own_gradient(output: Tensor) -> bool:
    """Whether a gradient on the way to the image is the net's own, not that of an operation."""
    seen: set[Any] = set()
    stack = [output.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            return True
        stack.extend(parent for parent, _ in node.next_functions)
    return False


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down each operation on the image or what came of it."""

    def __init__(self, image: Tensor, constants: Mapping[int, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes: list[Node] = []
        self.shapes: dict[int, tuple[int, ...]] = {IMAGE: tuple(image.shape[1:])}
        self._slots: dict[int, int | None] = {}  # None: overwritten through a view
        self._constants = dict(constants)
        self._alive: dict[int, list[Tensor]] = {}  # by memory; an id is unique among the living
        self._bind(image, IMAGE)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
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
        if func in SAME:
            self._bind(result, self.slot_of(args[0]))
            return
        read = READERS.get(func)
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
            if not torch.is_grad_enabled():
                if overwritten is not None:
                    raise NotRecordable("it works in place where it wants no gradient")
                self.nodes.append(Node(Stop(), (slot,), slot + 1))
                slot += 1
                self.shapes[slot] = tuple(output.shape[1:])
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
