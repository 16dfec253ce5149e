"""The fused engine: every method for the price of one forward pass and one walk back."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from xai_core.engine.autograd import AutogradEngine
from xai_core.engine.capture import Captured, class_weights
from xai_core.engine.engine import (
    Attributions,
    check_logits,
    choose_targets,
    combine,
    no_gradient_at_target,
)
from xai_core.engine.fused import walk
from xai_core.engine.fused.plan import Folded, Plan, make_plan
from xai_core.engine.fused.tape import NotRecordable, Tape, Twin
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


class FallsBack(UserWarning):
    """A net is explained by the simple engine, because the walk does not know it."""


class FusedEngine:
    """See the module. What the walk does not know goes to `AutogradEngine`, with a warning.

    A net is recorded once for each size of image, and again when its parameters, buffers, modules
    or target layer change.
    """

    id = "fused"

    def __init__(self) -> None:
        self._simple = AutogradEngine()
        self._prepared: WeakKeyDictionary[nn.Module, _Prepared] = WeakKeyDictionary()
        self._warned: set[tuple[str, str]] = set()

    def __call__(
        self, net: Net, images: Tensor, candidates: Sequence[Sequence[int]], methods: list[Method]
    ) -> Attributions:
        """See `Engine`."""
        needs = frozenset[Signal]().union(*(method.needs for method in methods))
        try:
            plan = self._plan(net, images, needs)
        except NotRecordable as reason:
            result = self._simple(net, images, candidates, methods)
            if (net.id, str(reason)) not in self._warned:
                self._warned.add((net.id, str(reason)))
                text = f"{net.id} is explained by the slower engine 'autograd': {reason}"
                warnings.warn(text, FallsBack, stacklevel=2)
            return result
        with torch.no_grad():
            return _explain(net, plan, images, candidates, methods, needs)

    def _plan(self, net: Net, images: Tensor, needs: frozenset[Signal]) -> Plan:
        state = _state(net)
        prepared = self._prepared.get(net.module)
        if prepared is None or prepared.state != state:
            prepared = self._prepared[net.module] = _Prepared(net, state)
        return prepared.plan(tuple(images.shape[1:]), images.dtype, needs)


def _state(net: Net) -> tuple[object, ...]:
    """Changes whenever the net does: its modules, hooks, parameters and buffers, in place too."""
    modules = [
        (id(child), len(child._forward_hooks), len(child._forward_pre_hooks))
        for child in net.module.modules()
    ]
    tensors = [
        (id(tensor), tensor.data_ptr(), tensor._version)
        for group in (net.module.parameters(), net.module.buffers())
        for tensor in group
    ]
    return net.target_layer, tuple(modules), tuple(tensors)


class _Prepared:
    """What is known of a net in one state.

    Args:
        net: the net.
        state: its state.
    """

    def __init__(self, net: Net, state: tuple[object, ...]) -> None:
        self.state = state
        self._target_layer = net.target_layer
        self._twin: Twin | NotRecordable
        try:
            self._twin = Twin(net.module)
        except NotRecordable as reason:
            self._twin = reason
        self._folded = Folded()
        self._tapes: dict[tuple[int, ...], Tape | NotRecordable] = {}
        self._plans: dict[tuple[tuple[int, ...], frozenset[Signal]], Plan] = {}

    def plan(
        self, shape: tuple[int, ...], dtype: torch.dtype, needs: frozenset[Signal]
    ) -> Plan:
        """The plan for images of a shape.

        Raises:
            NotRecordable: the walk does not know this net, or not at this size.
        """
        if (shape, needs) not in self._plans:
            rules = [rule for rule, signal in INPUT_GRADIENT.items() if signal in needs]
            tape = self._tape(shape, dtype)
            self._plans[shape, needs] = make_plan(
                tape, rules, ACTIVATION_GRADIENT in needs, self._folded
            )
        return self._plans[shape, needs]

    def _tape(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tape:
        if isinstance(self._twin, NotRecordable):
            raise self._twin
        if shape not in self._tapes:
            try:
                self._tapes[shape] = self._twin.record(shape, dtype, self._target_layer)
            except NotRecordable as reason:
                self._tapes[shape] = reason
        tape = self._tapes[shape]
        if isinstance(tape, NotRecordable):
            raise tape
        return tape


def _explain(
    net: Net,
    plan: Plan,
    images: Tensor,
    candidates: Sequence[Sequence[int]],
    methods: Sequence[Method],
    needs: frozenset[Signal],
) -> Attributions:
    run = walk.forward(plan, images.detach().contiguous(memory_format=torch.channels_last))
    logits = run.values[plan.tape.logits]
    check_logits(net, logits)
    targets = choose_targets(net, logits, candidates)
    signals: dict[Signal, Tensor] = {INPUT: images.detach(), LOGITS: logits}
    missing: dict[Signal, str] = {}
    if needs & {ACTIVATION, ACTIVATION_GRADIENT, CLASSIFIER_WEIGHTS}:
        captured = _captured(plan, run)
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
    return Attributions(maps, refused, failed, logits, targets, FusedEngine.id)


def _captured(plan: Plan, run: walk.Forward) -> Captured:
    captured = Captured(outputs=[run.values[slot] for slot in plan.tape.targets])
    if plan.tape.classifier is not None:
        captured.classifier, source, scores = plan.tape.classifier
        captured.classifier_input, captured.classifier_output = (
            run.values[source],
            run.values[scores],
        )
    return captured
