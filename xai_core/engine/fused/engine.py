"""The fused engine: every method for the price of one forward pass and one walk back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from xai_core.engine import autograd as reference
from xai_core.engine.autograd import AutogradEngine, Question
from xai_core.engine.capture import Captured, class_weights, left_alone
from xai_core.engine.engine import (
    AT_TARGET,
    Attributions,
    Computed,
    available,
    check_input,
    check_logits,
    choose_targets,
    no_gradient_at_target,
    same_to_rounding,
    warn_of_batch,
)
from xai_core.engine.fused import walk
from xai_core.engine.fused.check import mismatch, to_compare
from xai_core.engine.fused.plan import Plan
from xai_core.engine.fused.prepared import Prepared
from xai_core.engine.fused.readers import NotRecordable
from xai_core.engine.fused.scan import Scan
from xai_core.engine.fused.state import State, same_values
from xai_core.errors import BadInput, Unsupported, XaiError, first_line
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
    """A net is explained by the reference engine, because the walk does not know it."""


class FusedEngine:
    """See the module. What the walk can't vouch for goes to the reference engine, with a warning.

    A net is recorded once for each size of image, and again when its parameters, buffers, modules,
    hooks, plain attributes or target layer change. When it is recorded, one image is explained by
    both engines, and what differs beyond rounding is not shown.

    Args:
        onednn: whether torch's private oneDNN operators may serve where they are faster.
        precision: of the arithmetic.
    """

    def __init__(self, onednn: bool = True, precision: Precision = Precision.FULL) -> None:
        self.id = "fused" if precision is Precision.FULL else f"fused-{precision}"
        self._onednn = onednn
        self._precision = precision
        self._prepared: WeakKeyDictionary[nn.Module, Prepared] = WeakKeyDictionary()
        self._warned: set[tuple[str, str]] = set()

    def __call__(
        self, net: Net, images: Tensor, candidates: Sequence[Sequence[int]], methods: list[Method]
    ) -> Attributions:
        """See `Engine`."""
        check_input(net, images)
        needs, missing = available(net, methods)
        if images.is_inference():
            images = images.clone()
        question = Question(net, images.detach(), candidates, needs, missing)
        with left_alone(net.module), _tf32(self._precision is Precision.TF32):
            try:
                engine, computed = self.id, self._compute(question)
            except NotRecordable as reason:
                engine, computed = AutogradEngine.id, reference.compute(question)
                self._warn(net, images, reason)
        if computed.depends_on_batch and (net.id, "batch") not in self._warned:
            self._warned.add((net.id, "batch"))
            warn_of_batch(net)
        return computed.attributions(engine, methods)

    def _warn(self, net: Net, images: Tensor, reason: NotRecordable) -> None:
        kind = str(reason).partition(" differs by ")[0]
        if (net.id, kind) in self._warned:
            return
        self._warned.add((net.id, kind))
        height, width = images.shape[-2:]
        warnings.warn(
            f"{net.id} is explained by the slower reference engine 'autograd' "
            f"(first at {width}x{height}): {reason}",
            FallsBack,
            stacklevel=3,
        )

    def _compute(self, question: Question) -> Computed:
        """What the walk gives, checked.

        Raises:
            NotRecordable: the walk does not know this net, or not at this size, or is wrong.
        """
        net, images = question.net, question.images
        if torch.is_autocast_enabled(images.device.type):
            raise NotRecordable("its caller computes under autocast")
        prepared, theirs = self._prepared.get(net.module), None
        if prepared is None or not prepared.state.is_of(net):
            prepared, theirs = self._look(question)
        plan = prepared.plan(images, question.needs)
        try:
            ours = _explain(question, plan, None)
            if prepared.is_due(plan, images, question.needs):
                self._check(question, plan, ours, theirs)
                prepared.vouch(plan, images, question.needs)
        except NotRecordable as reason:
            prepared.refuse(images, reason)
            raise
        prepared.count(plan, len(images))
        return ours

    def _look(self, question: Question) -> tuple[Prepared, Computed]:
        """Run a net that is new, or has changed, by the definition; then see what it consists of.

        The definition comes first: what a net sets up in its first forward pass has values then.
        """
        net, scan = question.net, Scan()
        before = State(net)
        theirs = reference.compute(_last(question, question.candidates[-1]), scan)
        state, changes = State(net), ""
        if not same_values(before.values, state.values):
            with torch.no_grad():
                net.module(question.images[-1:].clone())
            again = State(net)
            if not same_values(again.values, state.values):
                changes = "its forward pass changes its own parameters or buffers"
            state = again
            theirs = reference.compute(_last(question, question.candidates[-1]))
        images = question.images
        onednn = self._onednn and images.dtype == torch.float32 and images.device.type == "cpu"
        bf16 = torch.bfloat16 if self._precision is Precision.BF16 else None
        prepared = Prepared(net, state, onednn, bf16, scan.reason or changes)
        self._prepared[net.module] = prepared
        return prepared, theirs

    def _check(
        self, question: Question, plan: Plan, ours: Computed, theirs: Computed | None
    ) -> None:
        """Compare with the reference engine on one image.

        Raises:
            NotRecordable: something differs beyond rounding.
        """
        target = int(ours.targets[-1])
        if theirs is None or int(theirs.targets[0]) != target:
            theirs = reference.compute(_last(question, [target]))
        self._compare(ours, theirs)
        best = int(theirs.logits[0].argmax())
        gradients = [theirs.signals[s] for s in INPUT_GRADIENT.values() if s in theirs.signals]
        if best != target and gradients and not all(bool(g.any()) for g in gradients):
            # A dead logit has no gradient to compare: that of the net's first choice has.
            targets = ours.targets.clone()
            targets[-1] = best
            theirs = reference.compute(_last(question, [best]))
            self._compare(_explain(question, plan, targets), theirs)
        if len(question.images) > 1:
            with torch.no_grad():
                together = question.net.module(question.images.clone())
            if not same_to_rounding(ours.logits, together):
                raise NotRecordable("the images of a batch influence each other")

    def _compare(self, ours: Computed, theirs: Computed) -> None:
        reason = mismatch(ours, theirs, rounded=self._precision is not Precision.FULL)
        if reason:
            raise NotRecordable(reason)


def _last(question: Question, candidates: Sequence[int]) -> Question:
    """What the check asks the reference engine: the last image alone."""
    return Question(
        question.net,
        question.images[-1:],
        [candidates],
        to_compare(question.needs),
        dict(question.missing),
    )


def _explain(question: Question, plan: Plan, targets: Tensor | None) -> Computed:
    """Walk forwards and back.

    Args:
        question: what is wanted.
        plan: for images of this size and these signals.
        targets: the output to explain in each image; None chooses among the candidates.

    Raises:
        NotRecordable: the walk failed, whatever the reason.
    """
    try:
        with torch.no_grad():
            return _walk(question, plan, targets)
    except (XaiError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the net can still be explained
        raise NotRecordable(f"the walk fails: {first_line(error)}") from error


def _walk(question: Question, plan: Plan, targets: Tensor | None) -> Computed:
    net, images, needs = question.net, question.images, question.needs
    missing = dict(question.missing)
    run = walk.forward(plan, images.contiguous(memory_format=_layout(images.dtype)))
    logits = run.values[plan.tape.logits]
    check_logits(net, logits)
    if targets is None:
        targets = choose_targets(net, logits, question.candidates)
    signals: dict[Signal, Tensor] = {INPUT: images, LOGITS: logits}
    if needs & AT_TARGET:
        captured = _captured(net, plan, run)
        try:
            signals[ACTIVATION] = captured.activation(net)
            if CLASSIFIER_WEIGHTS in needs:
                signals[CLASSIFIER_WEIGHTS] = class_weights(net, captured, logits, targets)
        except Unsupported as reason:
            missing[CLASSIFIER_WEIGHTS] = reason
        except BadInput as wrong:
            missing |= dict.fromkeys(needs & AT_TARGET, wrong)
    if plan.image_rules or plan.target_gradient:
        found = walk.backward(plan, run, targets)
        signals |= {INPUT_GRADIENT[rule]: value for rule, value in found.at_image.items()}
        if plan.image_rules and not found.at_image:
            raise BadInput(f"{net.id} has no gradient: none reaches the image")
        if plan.target_gradient and found.at_target is None:
            missing.setdefault(ACTIVATION_GRADIENT, no_gradient_at_target(net))
        elif found.at_target is not None and ACTIVATION in signals:
            signals[ACTIVATION_GRADIENT] = found.at_target
    return Computed(signals, missing, logits, targets)


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
