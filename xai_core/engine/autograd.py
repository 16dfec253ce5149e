"""The reference engine: torch's autograd, one shared forward, one backward per ReLU rule.

It is the definition in code: slower than it could be, and the reference that faster engines are
held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from xai_core.engine.capture import Captured, class_weights, left_alone, watch
from xai_core.engine.engine import (
    AT_TARGET,
    Attributions,
    Computed,
    Missing,
    available,
    check_input,
    check_logits,
    choose_targets,
    no_gradient_at_target,
    same_to_rounding,
    warn_of_batch,
)
from xai_core.errors import BadInput, Unsupported, XaiError, first_line
from xai_core.methods import Method
from xai_core.relu_rules import ReluRule, ReluRules
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


class AutogradEngine:
    """See the module. No parameter gradients are ever computed."""

    id = "autograd"

    def __call__(
        self, net: Net, images: Tensor, candidates: Sequence[Sequence[int]], methods: list[Method]
    ) -> Attributions:
        """See `Engine`."""
        check_input(net, images)
        needs, missing = available(net, methods)
        with left_alone(net.module):
            computed = compute(Question(net, images, candidates, needs, missing))
        if computed.depends_on_batch:
            warn_of_batch(net)
        return computed.attributions(self.id, methods)


@dataclass(frozen=True)
class Question:
    """What is to be computed.

    Attributes:
        net: which net explains.
        images: normalised, (B, 3, H, W).
        candidates: see `Engine`.
        needs: the signals wanted.
        missing: those that this net can't have.
    """

    net: Net
    images: Tensor
    candidates: Sequence[Sequence[int]]
    needs: frozenset[Signal]
    missing: Missing


def compute(question: Question, during: AbstractContextManager[object] | None = None) -> Computed:
    """All signals that are wanted, by the definition; the caller has made the net ready.

    Args:
        question: what is wanted.
        during: entered for the time of the forward pass alone.
    """
    computed, is_view = _compute(question, during or nullcontext(), apart=False)
    if is_view and ACTIVATION_GRADIENT in computed.missing:
        again, _ = _compute(question, nullcontext(), apart=True)
        if torch.equal(again.logits, computed.logits):
            return again
    return computed


def _compute(
    question: Question, during: AbstractContextManager[object], apart: bool
) -> tuple[Computed, bool]:
    """The signals, and whether the target layer gives a view of other memory."""
    net, needs, missing = question.net, question.needs, dict(question.missing)
    rules = ReluRules()
    gradients = {rule: signal for rule, signal in INPUT_GRADIENT.items() if signal in needs}
    at_target, classifier = bool(needs & AT_TARGET), CLASSIFIER_WEIGHTS in needs
    any_gradient = bool(gradients) or ACTIVATION_GRADIENT in needs
    images = question.images.detach()
    if images.is_inference():
        images = images.clone()
    alone = _last_alone(net, images) if len(images) > 1 else None
    with (
        watch(net, activation=at_target, classifier=classifier, apart=apart) as captured,
        torch.set_grad_enabled(any_gradient),
    ):
        images = images.requires_grad_(any_gradient)
        ruled = rules if set(gradients) - {ReluRule.PLAIN} else None
        with during:
            try:
                logits = _forward(net, images, ruled)
            except BadInput as error:
                if ruled is None:
                    raise
                ruled, captured.outputs, captured.edges = None, [], []
                logits = _forward(net, images, None)  # in torch.vmap, say, no rule can be put
                reason = Unsupported(f"the net can't run under ReLU rules: {error}")
                for rule in set(gradients) - {ReluRule.PLAIN}:
                    missing[gradients.pop(rule)] = reason
    together = alone is None or same_to_rounding(logits.detach()[-1:], alone)
    targets = choose_targets(net, logits, question.candidates)
    signals: dict[Signal, Tensor] = {INPUT: images.detach(), LOGITS: logits.detach()}
    if at_target:
        try:
            signals[ACTIVATION] = captured.activation(net)
            if classifier:
                signals[CLASSIFIER_WEIGHTS] = class_weights(net, captured, logits, targets)
        except Unsupported as reason:
            missing[CLASSIFIER_WEIGHTS] = reason
        except BadInput as wrong:
            missing |= dict.fromkeys(needs & AT_TARGET, wrong)
            needs -= AT_TARGET
    if ruled:
        missing |= _drop_rules_without_definition(logits, images, gradients, rules)
    if gradients or ACTIVATION_GRADIENT in needs:
        scores = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
        wanted = _wanted(images, captured, gradients, needs)
        found = _backward(net, scores.sum() if together else scores, wanted, rules)
        signals |= {signal: value for signal, value in found.items() if value is not None}
        if ACTIVATION_GRADIENT in needs and ACTIVATION_GRADIENT not in signals:
            missing[ACTIVATION_GRADIENT] = no_gradient_at_target(net)
    computed = Computed(signals, missing, logits.detach(), targets, not together)
    return computed, captured.is_view


def _last_alone(net: Net, images: Tensor) -> Tensor | None:
    """The logits of the last image without the others; None where the net refuses it."""
    try:
        with torch.no_grad():
            logits = net.module(images[-1:].clone())
    except torch.OutOfMemoryError:
        raise
    except Exception:  # the whole batch will say why
        return None
    return logits if isinstance(logits, Tensor) else None


def _forward(net: Net, images: Tensor, rules: ReluRules | None) -> Tensor:
    """Logits (B, classes), or `BadInput` with torch's own reason in one line."""
    try:
        with rules or nullcontext():
            if rules:
                rules.watch(images)
            # A copy, because a net may work in place on its input.
            logits = net.module(images.clone())
    except (XaiError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a user's net may raise anything
        height, width = images.shape[-2:]
        reason = first_line(error)
        raise BadInput(f"{net.id} can't take a {width}x{height} image: {reason}") from error
    return check_logits(net, logits)


def _drop_rules_without_definition(
    logits: Tensor, images: Tensor, gradients: dict[ReluRule, Signal], rules: ReluRules
) -> Missing:
    """Remove rules that this net's activations don't have from ``gradients``; say why."""
    ruled = [rule for rule in gradients if rule is not ReluRule.PLAIN]
    try:
        rules.check(logits, images)
    except Unsupported as reason:
        return {gradients.pop(rule): reason for rule in ruled}
    return {}


_Wanted = dict[ReluRule, dict[Signal, GradientEdge]]
"""For each backward pass, the gradients that it yields and where they are read."""


def _wanted(
    images: Tensor,
    captured: Captured,
    gradients: dict[ReluRule, Signal],
    needs: frozenset[Signal],
) -> _Wanted:
    wanted = {rule: {signal: get_gradient_edge(images)} for rule, signal in gradients.items()}
    if ACTIVATION_GRADIENT in needs and captured.edges:
        wanted.setdefault(ReluRule.PLAIN, {})[ACTIVATION_GRADIENT] = captured.edges[0]
    return wanted


def _backward(
    net: Net, scores: Tensor, wanted: _Wanted, rules: ReluRules
) -> dict[Signal, Tensor | None]:
    """One backward pass per rule; the plain one also yields the gradient at the target layer.

    Args:
        net: for messages.
        scores: the sum of the explained logits or, where images of a batch influence each other,
            these logits, (B,): one pass for each image then.
        wanted: see `_Wanted`.
        rules: those of the forward pass.
    """
    parts = scores.reshape(1) if scores.ndim == 0 else scores
    passes = [(rule, part) for rule in wanted for part in parts]
    values: dict[ReluRule, list[tuple[Tensor | None, ...]]] = {rule: [] for rule in wanted}
    for i, (rule, part) in enumerate(passes, start=1):
        rules.rule = rule
        edges = list(wanted[rule].values())
        try:
            found = torch.autograd.grad(
                part, edges, retain_graph=i < len(passes), allow_unused=True
            )
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise BadInput(f"{net.id} has no gradient: {first_line(error)}") from error
        values[rule].append(found)
    result: dict[Signal, Tensor | None] = {}
    for rule, edges_of in wanted.items():
        for signal, columns in zip(edges_of, zip(*values[rule], strict=True), strict=True):
            result[signal] = _own(columns, scores.ndim > 0)
            if result[signal] is None and signal is not ACTIVATION_GRADIENT:
                raise BadInput(f"{net.id} has no gradient: none reaches the image")
    return result


def _own(passes: Sequence[Tensor | None], one_each: bool) -> Tensor | None:
    """The gradient of each image; of many passes, each one's own row."""
    if not one_each or any(g is None for g in passes):
        return passes[0]
    return torch.stack([g[i] for i, g in enumerate(passes) if g is not None])
