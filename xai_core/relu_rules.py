"""How a ReLU passes a signal backwards: the three rules, and a guard that every ReLU obeys.

With ``z`` the input of a ReLU and ``g`` the signal that arrives from above, the ReLU passes on

- plain:         ``g * (z > 0)``          (the gradient; Simonyan et al. 2014, arXiv:1312.6034)
- deconvolution: ``relu(g)``              (Zeiler and Fergus 2014, arXiv:1311.2901)
- guided:        ``relu(g) * (z > 0)``    (Springenberg et al. 2015, arXiv:1412.6806, eq. 7)

The papers define the last two for nets whose only activation is ReLU: each rule replaces the
gradient of a ReLU, and neither says what a GELU, a Hardswish or the sigmoid of a gate should pass
on. A net that mixes ReLU with others (MobileNetV3, the gates of RegNetY) is therefore refused like
one without any ReLU: half a rule would be another method under the same name. A net without any
nonlinearity is linear, and all three rules agree on it.

Module hooks miss ``F.relu`` and ``Tensor.relu``, and hooks on a ReLU's input tensor also change the
gradient of everything else that reads this tensor. So the rule lives in an autograd function that
takes the place of each ReLU *call*, whatever its spelling, and `ReluRules.check` then reads the
recorded graph, which can't lie about what ran.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from xai_core.errors import Unsupported


class ReluRule(StrEnum):
    """What a ReLU does to the signal in the backward pass."""

    PLAIN = "plain"
    DECONVOLUTION = "deconvolution"
    GUIDED = "guided"


_OUT_OF_PLACE: frozenset[Callable[..., Tensor]] = frozenset({torch.relu, Tensor.relu})
_IN_PLACE: frozenset[Callable[..., Tensor]] = frozenset({torch.relu_, Tensor.relu_, F.relu_})

# In-place calls that are linear, and so may change a part of a tensor (see `_no_rule`).
_LINEAR_IN_PLACE = frozenset(
    {
        Tensor.__iadd__,
        Tensor.__imul__,
        Tensor.__setitem__,
        Tensor.add_,
        Tensor.copy_,
        Tensor.fill_,
        Tensor.mul_,
        Tensor.zero_,
    }
)

# Autograd nodes of pointwise nonlinearities that no rule is defined for. A `ReluBackward` here is a
# ReLU that ran below Python (in TorchScript, say), where no rule could be put in its place.
_NONLINEAR_NODES = {
    "Abs": "an absolute value",
    "Celu": "CELU",
    "Clamp": "a clamp (spell a ReLU as F.relu)",
    "ClampMin": "a clamp (spell a ReLU as F.relu)",
    "Elu": "ELU",
    "Erf": "an error function",
    "Gelu": "GELU",
    "Glu": "GLU",
    "Hardshrink": "hardshrink",
    "Hardsigmoid": "hardsigmoid",
    "Hardswish": "hardswish",
    "Hardtanh": "ReLU6 or hardtanh",
    "LeakyRelu": "leaky ReLU",
    "LogSigmoid": "log-sigmoid",
    "MaskedFill": "a masked fill (spell a ReLU as F.relu)",
    "Maximum": "a maximum (spell a ReLU as F.relu)",
    "Minimum": "a minimum",
    "Mish": "Mish",
    "PreluKernel": "PReLU",
    "Relu": "a ReLU inside compiled code, out of reach",
    "RreluWithNoise": "RReLU",
    "Sigmoid": "sigmoid",
    "Silu": "SiLU",
    "Softplus": "softplus",
    "Softshrink": "softshrink",
    "Tanh": "tanh",
    "Threshold": "a threshold (spell a ReLU as F.relu)",
    "Where": "torch.where (spell a ReLU as F.relu)",
}


class ReluRules(TorchFunctionMode):
    """Within this context every ReLU that is called obeys `rule`, which may change per backward.

    One forward pass then serves a backward pass under each rule. The forward values are those of
    the ReLU itself, in place where the caller asked for that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rule = ReluRule.PLAIN
        self._parts: set[Node] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace calls of ReLU, leave all others as they are."""
        kwargs = kwargs or {}
        if func is F.relu:
            return self._relu(*args, **kwargs)
        if func in _OUT_OF_PLACE or func in _IN_PLACE:
            return self._relu(*args, **kwargs | {"inplace": func in _IN_PLACE})
        result = func(*args, **kwargs)
        if func in _LINEAR_IN_PLACE:
            self._note_part(args[0])
        return result

    def _relu(self, input: Tensor, inplace: bool = False) -> Tensor:
        output = cast(Tensor, _RuledRelu.apply(input, self, inplace))
        if inplace:
            self._note_part(input)
        return output

    def _note_part(self, changed: Tensor) -> None:
        """Remember the node of a known call that changed a part of a tensor in place."""
        if changed._is_view() and changed._base is not None and changed._base.grad_fn is not None:
            self._parts.add(changed._base.grad_fn)

    def check(self, output: Tensor) -> None:
        """Raise `Unsupported` unless each nonlinearity behind ``output`` is a ReLU under a rule.

        Args:
            output: a tensor computed within this context, with its autograd graph.
        """
        seen: set[Node] = set()
        found: set[str] = set()
        stack = [output.grad_fn]
        while stack:
            node = stack.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            reason = None if node in self._parts else _no_rule(node)
            if reason:
                found.add(reason)
            stack.extend(parent for parent, _ in node.next_functions)
        if found:
            *others, last = sorted(found, key=str.casefold)
            names = f"{', '.join(others)} and {last}" if others else last
            raise Unsupported(f"the net uses {names}, for which no ReLU rule is defined")


class _RuledRelu(torch.autograd.Function):
    """ReLU whose backward asks `ReluRules.rule` at the time of the backward pass."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, rules: ReluRules, inplace: bool) -> Tensor:
        if inplace:
            ctx.mark_dirty(z)
        output = z.relu_() if inplace else z.relu()
        ctx.save_for_backward(output)
        ctx.rules = rules
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, None, None]:
        (g,) = grad_outputs
        (output,) = ctx.saved_tensors
        return relu_backward(ctx.rules.rule, g, output > 0), None, None


def relu_backward(rule: ReluRule, g: Tensor, active: Tensor) -> Tensor:
    """Pass the signal through one ReLU, by the formulas at the top of this module.

    Args:
        rule: one of the three.
        g: the signal from above, any shape.
        active: ``z > 0``, of the same shape.
    """
    if rule is ReluRule.DECONVOLUTION:
        return g.relu()
    if rule is ReluRule.GUIDED:
        return g.relu() * active
    return g * active


def _no_rule(node: Node) -> str | None:
    name = type(node).__name__
    if isinstance(node, torch.autograd.function.BackwardCFunction):
        if getattr(node, "_forward_cls", None) is _RuledRelu:
            return None
        return f"the custom autograd function {name.removesuffix('Backward')}"
    if name.startswith("torch::") or name == "CppFunction":
        return f"the compiled autograd function {node.name()}"
    if name == "CopySlices":  # its own node hides what was done to the part
        return "an in-place operation on a part of a tensor"
    return _NONLINEAR_NODES.get(name.split("Backward")[0])
