"""The walk: one pass forwards without autograd, one backwards for all rules at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xai_core.engine.fused.operators import ClassRow, Rules, rules_apart
from xai_core.engine.fused.plan import Plan, Step
from xai_core.engine.fused.tape import IMAGE
from xai_core.relu_rules import ReluRule


@dataclass
class Forward:
    """A forward pass.

    Attributes:
        values: of the plan's observed slots.
        kept: what each step's backward pass needs, by the step's output slot.
    """

    values: Mapping[int, Tensor]
    kept: dict[int, Any]


@dataclass(frozen=True)
class Backward:
    """A backward pass.

    Attributes:
        at_image: gradient at the image under each wanted rule, (B, 3, H, W).
        at_target: plain gradient at the target layer, (B, K, h, w); None if not wanted, or if
            none reaches it.
    """

    at_image: Mapping[ReluRule, Tensor]
    at_target: Tensor | None


def forward(plan: Plan, images: Tensor) -> Forward:
    """Run the net.

    Args:
        plan: for images of this size.
        images: normalised, (B, 3, H, W); only read.
    """
    values: dict[int, Tensor] = {IMAGE: images}
    kept: dict[int, Any] = {}
    for step in plan.steps:
        node = step.node
        inputs = [values[slot] for slot in node.inputs]
        values[node.output], keep = node.operator.forward(inputs, step.in_place)
        if keep is not None and step.rules:
            kept[node.output] = _as(keep, plan.dtype)
        for slot in step.done:
            del values[slot]
    return Forward(values, kept)


def backward(plan: Plan, run: Forward, targets: Tensor) -> Backward:
    """Walk back from one logit of each image; what ``run`` kept is used up.

    Args:
        plan: the plan of ``run``.
        run: the forward pass.
        targets: the logit in each image, (B,).
    """
    gradients = _Gradients(plan, len(targets))
    logits = run.values[plan.tape.logits]
    one = torch.ones(len(targets), 1, dtype=plan.dtype or logits.dtype, device=logits.device)
    gradients.add(plan.tape.logits, ClassRow(one, targets), owned=False)
    target = plan.tape.targets[0] if plan.tape.targets and plan.target_gradient else None
    at_target: Tensor | None = None
    for step in reversed(plan.steps):
        if step.node.output not in gradients:
            continue
        if step.node.output == target:
            at_target = gradients.plain(target)
        if step.rules:
            _step_back(plan, step, gradients, run.kept.pop(step.node.output, None))
        else:
            gradients.take(step.node.output)
    if target == IMAGE and IMAGE in gradients:
        at_target = gradients.plain(IMAGE)
    at_image = {rule: g.to(logits.dtype) for rule, g in gradients.by_rule().items()}
    return Backward(at_image, None if at_target is None else at_target.to(logits.dtype))


def _as(keep: Any, dtype: torch.dtype | None) -> Any:
    """What is kept, its floating values in another type. A positive value stays positive."""
    if dtype is None:
        return keep
    if isinstance(keep, tuple):
        return tuple(_as(part, dtype) for part in keep)
    return keep.to(dtype) if isinstance(keep, Tensor) and keep.is_floating_point() else keep


def _step_back(plan: Plan, step: Step, gradients: _Gradients, kept: Any) -> None:
    node = step.node
    g, owned = gradients.take(node.output)
    input_shapes = [plan.shape(slot) for slot in node.inputs]
    if isinstance(g, ClassRow):
        shape = plan.shape(node.output)
        g = ClassRow(gradients.narrowed(g.values, step.rules), g.targets).over(shape)
        short_cut = step.backward.backward_row(g, kept, input_shapes, step.rules)
        if short_cut is not None:
            gradients.add(node.inputs[0], short_cut, owned=True)
            return
        g, owned = g.dense(shape), True
    else:
        g = gradients.narrowed(g, step.rules)
    results = step.backward.backward(g, kept, input_shapes, step.rules, owned)
    memory = g.untyped_storage().data_ptr()
    for slot, carried, result in zip(node.inputs, step.carried, results, strict=True):
        if not carried:
            continue
        alone = result.untyped_storage().data_ptr() != memory or (
            owned and sum(result is other for other in results) == 1
        )
        gradients.add(slot, gradients.narrowed(result, carried), owned=alone)


class _Gradients:
    """The gradients that wait at slots for their sums to be complete.

    Args:
        plan: the plan that is walked.
        batch: number of images.
    """

    def __init__(self, plan: Plan, batch: int) -> None:
        self._plan = plan
        self._batch = batch
        self._waiting: dict[int, tuple[Tensor | ClassRow, bool]] = {}

    def __contains__(self, slot: int) -> bool:
        return slot in self._waiting

    def take(self, slot: int) -> tuple[Tensor | ClassRow, bool]:
        """The gradient at a slot, which is then gone, and whether it may be overwritten."""
        return self._waiting.pop(slot)

    def add(self, slot: int, g: Tensor | ClassRow, owned: bool) -> None:
        """Add to the gradient at a slot; sums are made in memory that is free for it."""
        if slot not in self._waiting:
            self._waiting[slot] = g, owned
            return
        waiting, other_owned = self._waiting[slot]
        g, other = self._dense(slot, g), self._dense(slot, waiting)
        if g.shape[0] < other.shape[0]:
            g, owned, other, other_owned = other, other_owned, g, owned
        if other.shape[0] < g.shape[0]:  # all rules agree on one of them
            other = torch.cat([other] * (g.shape[0] // other.shape[0]))
            other_owned = True
        if owned:
            g += other
        elif other_owned:
            g = other.add_(g)
        else:
            g = g + other
        self._waiting[slot] = g, True

    def narrowed(self, g: Tensor, rules: Rules) -> Tensor:
        """Without the rules that are not carried on: plain alone can be, and it stands last."""
        most = self._batch * len(rules)
        return g[:most] if g.shape[0] > most else g

    def plain(self, slot: int) -> Tensor:
        """A copy of the plain gradient at a slot, which stays there."""
        g = self._dense(slot, self._waiting[slot][0])
        return g[g.shape[0] - self._batch :].clone()

    def by_rule(self) -> dict[ReluRule, Tensor]:
        """The gradient at the image, rule by rule."""
        rules = self._plan.image_rules
        if not rules or IMAGE not in self._waiting:
            return {}
        g = self._dense(IMAGE, self._waiting[IMAGE][0])
        if g.shape[0] == self._batch:  # all rules agree
            return dict.fromkeys(rules, g)
        return dict(zip(rules, rules_apart(g, self._batch), strict=True))

    def _dense(self, slot: int, g: Tensor | ClassRow) -> Tensor:
        return g if isinstance(g, Tensor) else g.dense(self._plan.shape(slot))
