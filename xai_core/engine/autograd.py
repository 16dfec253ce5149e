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
    passes = _Passes(question, apart=False)
    computed = passes.run(during or nullcontext())
    if passes.is_view and ACTIVATION_GRADIENT in computed.missing:
        again = _Passes(question, apart=True).run(nullcontext())
        if torch.equal(again.logits, computed.logits):
            return again
    return computed


class _Passes:
    """The forward pass and the backward passes for one question.

    Args:
        question: what is wanted.
        apart: see `watch`.
    """

    def __init__(self, question: Question, apart: bool) -> None:
        self._net, self._question = question.net, question
        self._needs, self._missing = question.needs, dict(question.missing)
        self._rules, self._apart = ReluRules(), apart
        self._gradients = {r: s for r, s in INPUT_GRADIENT.items() if s in question.needs}
        images = question.images.detach()
        self._images = images.clone() if images.is_inference() else images
        self.is_view = False

    def run(self, during: AbstractContextManager[object]) -> Computed:
        """All signals that this net has; the forward pass runs within ``during``."""
        alone = self._last_alone() if len(self._images) > 1 else None
        logits, captured = self._forward(during)
        depends = alone is not None and not same_to_rounding(logits.detach()[-1:], alone)
        targets = choose_targets(self._net, logits, self._question.candidates)
        signals: dict[Signal, Tensor] = {INPUT: self._images.detach(), LOGITS: logits.detach()}
        if self._needs & AT_TARGET:
            signals |= self._at_target(captured, logits, targets)
        if set(self._gradients) - {ReluRule.PLAIN}:
            self._drop_rules_without_definition(logits)
        if self._gradients or ACTIVATION_GRADIENT in self._needs:
            scores = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
            wanted = _wanted(self._images, captured, self._gradients, self._needs)
            found = _backward(self._net, scores if depends else scores.sum(), wanted, self._rules)
            signals |= {signal: value for signal, value in found.items() if value is not None}
            if ACTIVATION_GRADIENT in self._needs - signals.keys():
                self._missing[ACTIVATION_GRADIENT] = no_gradient_at_target(self._net)
        return Computed(signals, self._missing, logits.detach(), targets, depends)

    def _last_alone(self) -> Tensor:
        """The logits of the last image without the others; none at all where the net refuses it."""
        try:
            with torch.no_grad():
                logits = self._net.module(self._images[-1:].clone())
        except torch.OutOfMemoryError:
            raise
        except Exception:  # if the net is to blame, the whole batch says why
            return self._images.new_empty(0)
        return logits if isinstance(logits, Tensor) else self._images.new_empty(0)

    def _forward(self, during: AbstractContextManager[object]) -> tuple[Tensor, Captured]:
        needs = self._needs
        any_gradient = bool(self._gradients) or ACTIVATION_GRADIENT in needs
        rules = self._rules if set(self._gradients) - {ReluRule.PLAIN} else None
        with (
            watch(
                self._net,
                activation=bool(needs & AT_TARGET),
                classifier=CLASSIFIER_WEIGHTS in needs,
                apart=self._apart,
            ) as captured,
            torch.set_grad_enabled(any_gradient),
            during,
        ):
            self._images.requires_grad_(any_gradient)
            try:
                logits = _forward(self._net, self._images, rules)
            except BadInput as error:
                if rules is None:
                    raise
                captured.outputs, captured.edges = [], []
                logits = _forward(self._net, self._images, None)  # under torch.vmap, say
                reason = Unsupported(f"the net can't run under ReLU rules: {error}")
                self._drop_rules(reason)
        self.is_view = captured.is_view
        return logits, captured

    def _at_target(
        self, captured: Captured, logits: Tensor, targets: Tensor
    ) -> dict[Signal, Tensor]:
        found: dict[Signal, Tensor] = {}
        try:
            found[ACTIVATION] = captured.activation(self._net)
            if CLASSIFIER_WEIGHTS in self._needs:
                weights = class_weights(self._net, captured, logits, targets)
                found[CLASSIFIER_WEIGHTS] = weights
        except Unsupported as reason:
            self._missing[CLASSIFIER_WEIGHTS] = reason
        except BadInput as wrong:
            self._missing |= dict.fromkeys(self._needs & AT_TARGET, wrong)
            self._needs -= AT_TARGET
        return found

    def _drop_rules_without_definition(self, logits: Tensor) -> None:
        try:
            self._rules.check(logits, self._images)
        except Unsupported as reason:
            self._drop_rules(reason)

    def _drop_rules(self, reason: Unsupported) -> None:
        for rule in set(self._gradients) - {ReluRule.PLAIN}:
            self._missing[self._gradients.pop(rule)] = reason


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
