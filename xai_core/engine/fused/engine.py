"""The fused engine: every method for the price of one forward pass and one walk back."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from xai_core.engine.autograd import AutogradEngine
from xai_core.engine.capture import Captured, class_weights
from xai_core.engine.engine import (
    AT_TARGET,
    Attributions,
    available,
    check_logits,
    check_size,
    choose_targets,
    combine,
    no_gradient_at_target,
)
from xai_core.engine.fused import walk
from xai_core.engine.fused.onednn import find
from xai_core.engine.fused.plan import Plan, Prepared, make_plan
from xai_core.engine.fused.readers import NotRecordable
from xai_core.engine.fused.tape import Tape, Twin
from xai_core.errors import Unsupported
from xai_core.methods import Method
from xai_core.signals import (
    ACTIVATION,
    ACTIVATION_GRADIENT,
    CLASSIFIER_WEIGHTS,
    INPUT,
    INPUT_GRADIENT,
    LOGITS,
    Signal,
)
from xai_core.types import Net

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Precision(StrEnum):
    """How exact the arithmetic is.

    FULL is that of the net's own type, also on GPUs, where torch would round convolutions to TF32.
    TF32 lets GPUs do so. BF16 walks back in bfloat16, from a forward pass in full precision: all
    ReLU masks and pooling switches are exact, gradients carry 8 significant bits.
    """

    FULL = "full"
    TF32 = "tf32"
    BF16 = "bf16"


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 within; torch's own default allows it for convolutions."""
    if not torch.cuda.is_available():
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = allowed
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


class FallsBack(UserWarning):
    """A net is explained by the simple engine, because the walk does not know it."""


class FusedEngine:
    """See the module. What the walk does not know goes to `AutogradEngine`, with a warning.

    Args:
        onednn: whether torch's private oneDNN operators may serve where they are faster.
        precision: of the arithmetic.

    A net is recorded once for each size of image, and again when its parameters, buffers, modules
    or target layer change.
    """

    def __init__(self, onednn: bool = True, precision: Precision = Precision.FULL) -> None:
        self.id = "fused" if precision is Precision.FULL else f"fused-{precision}"
        self._onednn = onednn
        self._precision = precision
        self._simple = AutogradEngine()
        self._prepared: WeakKeyDictionary[nn.Module, _Prepared] = WeakKeyDictionary()
        self._warned: set[tuple[str, str]] = set()

    def __call__(
        self, net: Net, images: Tensor, candidates: Sequence[Sequence[int]], methods: list[Method]
    ) -> Attributions:
        """See `Engine`."""
        check_size(net, images)
        needs, missing = available(net, methods)
        try:
            plan = self._plan(net, images, needs)
        except NotRecordable as reason:
            with _tf32(self._precision is Precision.TF32):
                result = self._simple(net, images, candidates, methods)
            if (net.id, str(reason)) not in self._warned:
                self._warned.add((net.id, str(reason)))
                text = f"{net.id} is explained by the slower engine 'autograd': {reason}"
                warnings.warn(text, FallsBack, stacklevel=2)
            return result
        with torch.no_grad(), _tf32(self._precision is Precision.TF32):
            return _explain(self.id, net, plan, images, candidates, methods, needs, missing)

    def _plan(self, net: Net, images: Tensor, needs: frozenset[Signal]) -> Plan:
        prepared = self._prepared.get(net.module)
        if prepared is None or not prepared.state.is_of(net):
            onednn = self._onednn and images.dtype == torch.float32 and images.device.type == "cpu"
            prepared = _Prepared(net, onednn, self._precision)
            self._prepared[net.module] = prepared
        return prepared.plan(images, needs)


class _State:
    """What a net consisted of; tells whether it still does.

    Holds on to all but the net itself, so that ids stay theirs and the net can still be freed.

    Args:
        net: the net.
    """

    def __init__(self, net: Net) -> None:
        self._target_layer = net.target_layer
        self._modules = list(net.module.modules())[1:]
        self._tensors = [*net.module.parameters(), *net.module.buffers()]
        self._seen = self._look(net.module)

    def is_of(self, net: Net) -> bool:
        """Whether modules, hooks, parameters and buffers are the same, their values too."""
        return net.target_layer == self._target_layer and self._look(net.module) == self._seen

    def _look(self, root: nn.Module) -> list[object]:
        found: list[object] = []
        for module in (root, *self._modules):
            found += map(id, module._modules.values())
            found += map(id, module._parameters.values())
            found += map(id, module._buffers.values())
            found += (len(module._forward_hooks), len(module._forward_pre_hooks))
        for tensor in self._tensors:
            found += (tensor.data_ptr(), tensor._version)
        return found


class _Prepared:
    """What is known of a net in one state.

    Args:
        net: the net.
        onednn: whether to look for oneDNN's private operators.
        precision: of the arithmetic.
    """

    def __init__(self, net: Net, onednn: bool, precision: Precision) -> None:
        self._dtype = torch.bfloat16 if precision is Precision.BF16 else None
        self.state = _State(net)
        self._target_layer = net.target_layer
        self._twin: Twin | NotRecordable
        try:
            self._twin = Twin(net.module)
        except NotRecordable as reason:
            self._twin = reason
        self._prepared = Prepared()
        self._onednn = find() if onednn else None
        self._tapes = _Recent[tuple[int, ...], Tape | NotRecordable]()
        self._plans = _Recent[tuple[torch.Size, frozenset[Signal]], Plan]()

    def plan(self, images: Tensor, needs: frozenset[Signal]) -> Plan:
        """The plan for a batch of images.

        Raises:
            NotRecordable: the walk does not know this net, or not at this size.
        """

        def make() -> Plan:
            rules = [rule for rule, signal in INPUT_GRADIENT.items() if signal in needs]
            at_target = ACTIVATION_GRADIENT in needs
            tape = self._tape(tuple(images.shape[1:]), images.dtype)
            kernels = self._prepared, self._onednn
            fold = images.dtype != torch.float64  # see _layout
            return make_plan(tape, len(images), rules, at_target, *kernels, self._dtype, fold)

        return self._plans.get((images.shape, needs), make)

    def _tape(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tape:
        def record() -> Tape | NotRecordable:
            if isinstance(self._twin, NotRecordable):
                return self._twin
            try:
                return self._twin.record(shape, dtype, self._target_layer)
            except NotRecordable as reason:
                return reason

        tape = self._tapes.get(shape, record)
        if isinstance(tape, NotRecordable):
            raise tape
        return tape


class _Recent(Generic[_Key, _Value]):
    """The values that were used last; others are made anew, so that memory stays flat."""

    _AT_MOST = 16

    def __init__(self) -> None:
        self._values: OrderedDict[_Key, _Value] = OrderedDict()

    def get(self, key: _Key, make: Callable[[], _Value]) -> _Value:
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        while len(self._values) > self._AT_MOST:
            self._values.popitem(last=False)
        return self._values[key]


def _explain(
    engine: str,
    net: Net,
    plan: Plan,
    images: Tensor,
    candidates: Sequence[Sequence[int]],
    methods: Sequence[Method],
    needs: frozenset[Signal],
    missing: dict[Signal, str],
) -> Attributions:
    run = walk.forward(plan, images.detach().contiguous(memory_format=_layout(images.dtype)))
    logits = run.values[plan.tape.logits]
    check_logits(net, logits)
    targets = choose_targets(net, logits, candidates)
    signals: dict[Signal, Tensor] = {INPUT: images.detach(), LOGITS: logits}
    if needs & AT_TARGET:
        captured = _captured(net, plan, run)
        signals[ACTIVATION] = captured.activation(net)
        if CLASSIFIER_WEIGHTS in needs:
            try:
                signals[CLASSIFIER_WEIGHTS] = class_weights(net, captured, logits, targets)
            except Unsupported as reason:
                missing[CLASSIFIER_WEIGHTS] = str(reason)
    if plan.image_rules or plan.target_gradient:
        found = walk.backward(plan, run, targets)
        signals |= {INPUT_GRADIENT[rule]: value for rule, value in found.at_image.items()}
        if plan.target_gradient:
            if found.at_target is None:
                raise no_gradient_at_target(net)
            signals[ACTIVATION_GRADIENT] = found.at_target
    maps, refused, failed = combine(methods, signals, missing)
    return Attributions(maps, refused, failed, logits, targets, engine)


def _layout(dtype: torch.dtype) -> torch.memory_format:
    """channels_last is faster; in float64 every last bit is that of the net's own forward pass.

    Where values tie but for rounding (flat regions under max-pooling), the last bit decides.
    """
    return torch.contiguous_format if dtype == torch.float64 else torch.channels_last


def _captured(net: Net, plan: Plan, run: walk.Forward) -> Captured:
    captured = Captured(outputs=[run.values[slot] for slot in plan.tape.targets])
    if plan.tape.classifier is not None:
        name, source, scores = plan.tape.classifier
        layer = net.module.get_submodule(name)
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        captured.classifier = layer
        captured.classifier_input = run.values[source]
        captured.classifier_output = run.values[scores]
    return captured
