"""The simple engine: torch's autograd, one shared forward, one backward per ReLU rule.

It is the definition in code: slower than it could be, and the reference that faster engines are
held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from xai_core.engine.capture import Captured, class_weights, evaluation_mode, watch
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
        check_size(net, images)
        needs, missing = available(net, methods)
        rules = ReluRules()
        gradients = {rule: signal for rule, signal in INPUT_GRADIENT.items() if signal in needs}
        at_target = bool(needs & AT_TARGET)
        any_gradient = bool(gradients) or ACTIVATION_GRADIENT in needs
        with (
            evaluation_mode(net.module),
            watch(
                net,
                activation=at_target,
                classifier=CLASSIFIER_WEIGHTS in needs,
            ) as captured,
            torch.set_grad_enabled(any_gradient),
        ):
            images = images.detach().requires_grad_(any_gradient)
            logits = _forward(net, images, rules if set(gradients) - {ReluRule.PLAIN} else None)
            targets = choose_targets(net, logits, candidates)
            signals: dict[Signal, Tensor] = {INPUT: images.detach(), LOGITS: logits.detach()}
            if at_target:
                signals[ACTIVATION] = captured.activation(net)
            if CLASSIFIER_WEIGHTS in needs:
                try:
                    signals[CLASSIFIER_WEIGHTS] = class_weights(net, captured, logits, targets)
                except Unsupported as reason:
                    missing[CLASSIFIER_WEIGHTS] = str(reason)
            if any_gradient:
                missing |= _drop_rules_without_definition(logits, gradients, rules)
                score = logits.gather(1, targets.unsqueeze(1)).sum()
                signals |= _backward(net, score, images, captured, gradients, rules, needs)
        maps, refused, failed = combine(methods, signals, missing)
        return Attributions(maps, refused, failed, logits.detach(), targets, self.id)


def _forward(net: Net, images: Tensor, rules: ReluRules | None) -> Tensor:
    """Logits (B, classes), or `BadInput` with torch's own reason in one line."""
    try:
        with rules or nullcontext():
            # A copy, because a net may work in place on its input.
            logits = net.module(images.clone())
    except XaiError:
        raise
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        height, width = images.shape[-2:]
        reason = first_line(error)
        raise BadInput(f"{net.id} can't take a {width}x{height} image: {reason}") from error
    return check_logits(net, logits)


def _drop_rules_without_definition(
    logits: Tensor, gradients: dict[ReluRule, Signal], rules: ReluRules
) -> dict[Signal, str]:
    """Remove rules that this net's activations don't have from ``gradients``; say why."""
    ruled = [rule for rule in gradients if rule is not ReluRule.PLAIN]
    if not ruled:
        return {}
    try:
        rules.check(logits)
    except Unsupported as reason:
        return {gradients.pop(rule): str(reason) for rule in ruled}
    return {}


def _backward(
    net: Net,
    score: Tensor,
    images: Tensor,
    captured: Captured,
    gradients: dict[ReluRule, Signal],
    rules: ReluRules,
    needs: frozenset[Signal],
) -> dict[Signal, Tensor]:
    """One backward pass per rule; the plain one also yields the gradient at the target layer."""
    wanted: dict[ReluRule, dict[Signal, GradientEdge]] = {
        rule: {signal: get_gradient_edge(images)} for rule, signal in gradients.items()
    }
    if ACTIVATION_GRADIENT in needs:
        if not captured.edges:
            raise no_gradient_at_target(net)
        wanted.setdefault(ReluRule.PLAIN, {})[ACTIVATION_GRADIENT] = captured.edges[0]
    result: dict[Signal, Tensor] = {}
    for i, (rule, inputs) in enumerate(wanted.items(), start=1):
        rules.rule = rule
        try:
            values = torch.autograd.grad(score, list(inputs.values()), retain_graph=i < len(wanted))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise BadInput(f"{net.id} has no gradient: {first_line(error)}") from error
        result |= dict(zip(inputs, values, strict=True))
    return result
