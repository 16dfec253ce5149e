"""The operations that the ReLU rules concern: ReLU, and the max-pooling behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from xai_core.engine.fused.operators.operator import (
    ClassRow,
    Operator,
    Rules,
    empty_like_rows,
    memory_format,
)
from xai_core.relu_rules import ReluRule


@dataclass(frozen=True, eq=False)
class Relu(Operator):
    """ReLU, whose backward pass is the rules'.

    Attributes:
        ruled: False where the pooling behind it applies the rules for it.
    """

    ruled: bool = True
    in_place: ClassVar[bool] = True

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        output = inputs[0].relu_() if in_place else inputs[0].relu()
        return output, output if self.ruled else None

    @property
    def gives_away(self) -> bool:
        return False

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        return (pass_relu(g, kept, rules, owned) if self.ruled else g,)

    def backward_row(
        self, row: ClassRow, kept: Tensor | None, shapes: Sequence[Sequence[int]], rules: Rules
    ) -> ClassRow:
        if kept is None:  # the pooling behind it applied the rules
            return row
        index = row.channels_of(kept.shape[0]).expand(-1, -1, *kept.shape[2:])
        return ClassRow(pass_relu(row.values, kept.gather(1, index), rules, False), row.targets)


def pass_relu(g: Tensor, output: Tensor, rules: Rules, owned: bool) -> Tensor:
    """Pass a gradient through a ReLU under all rules at once; see `xai_core.relu_rules`.

    Args:
        g: (R * B, ...) or, while all rules agree, (B, ...).
        output: the ReLU's output, (B, ...); ``z > 0`` where it is positive.
        rules: those that ``g`` carries, R of them.
        owned: whether ``g`` may be overwritten.

    Returns:
        (R * B, ...).
    """
    g = _spread(g, output.shape[0], rules, owned)
    _mask(g, output, rules)
    _clamp(g, output.shape[0], rules)
    return g


def _spread(g: Tensor, batch: int, rules: Rules, owned: bool) -> Tensor:
    """A tensor to overwrite with a part for each rule."""
    if g.shape[0] < batch * len(rules):
        return torch.cat([g] * len(rules))
    return g if owned else g.clone()


def _mask(g: Tensor, output: Tensor, rules: Rules) -> None:
    """In place: ``g * (z > 0)`` for the rules that have it."""
    masking = sum(rule is not ReluRule.DECONVOLUTION for rule in rules)
    if masking:
        last = g[g.shape[0] - masking * output.shape[0] :]
        masked = last.view(masking, *output.shape)
        torch.ops.aten.threshold_backward.grad_input(
            masked, output.expand(masked.shape), 0, grad_input=masked
        )


def _clamp(g: Tensor, batch: int, rules: Rules) -> None:
    """In place: ``relu(g)`` for the rules that have it."""
    clamping = sum(rule is not ReluRule.PLAIN for rule in rules)
    if clamping:
        g[: clamping * batch].relu_()


@dataclass(frozen=True, eq=False)
class MaxPool(Operator):
    """Max-pooling; its switches are the forward pass's for every rule.

    Attributes:
        after_relu: the input is the output of a ReLU that nothing else reads. The maximum is
            positive where, and only where, the ReLU was active at the switch, so masks apply to
            the fewer values behind the pooling; so does clamping if windows don't overlap.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    ceil: bool
    after_relu: bool = False

    def forward(self, inputs: Sequence[Tensor], in_place: bool) -> tuple[Tensor, Any]:
        output, switches = torch.ops.aten.max_pool2d_with_indices(
            inputs[0], self.kernel, self.stride, self.padding, self.dilation, self.ceil
        )
        return output, (switches, output if self.after_relu else None)

    def backward(
        self, g: Tensor, kept: Any, shapes: Sequence[Sequence[int]], rules: Rules, owned: bool
    ) -> Sequence[Tensor]:
        switches, output = kept
        batch = switches.shape[0]
        if output is not None:
            g = _spread(g, batch, rules, owned)
            _mask(g, output, rules)
            if self._disjoint():
                _clamp(g, batch, rules)
        result = self._unpool(g, switches, shapes[0])
        if output is not None and not self._disjoint():
            _clamp(result, batch, rules)
        return (result,)

    @property
    def gives_away(self) -> bool:
        return not self.after_relu

    def _disjoint(self) -> bool:
        return self.dilation == (1, 1) and all(
            k <= s for k, s in zip(self.kernel, self.stride, strict=True)
        )

    def _unpool(self, g: Tensor, switches: Tensor, shape: Sequence[int]) -> Tensor:
        batch, layout = switches.shape[0], memory_format(switches)
        g = g.contiguous(memory_format=layout)
        result = empty_like_rows(g, g.shape[0], shape, layout)
        like = empty_like_rows(g, batch, shape, layout)
        for part, above in zip(torch.split(result, batch), torch.split(g, batch), strict=True):
            torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
                above,
                like,
                self.kernel,
                self.stride,
                self.padding,
                self.dilation,
                self.ceil,
                switches,
                grad_input=part,
            )
        return result
