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
recorded graph: what is neither such a ReLU nor in the lists of `xai_core.linearity` is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from xai_core.errors import Unsupported
from xai_core.linearity import PRODUCT, Operands, depending_on, why_not_linear


class ReluRule(StrEnum):
    """What a ReLU does to the signal in the backward pass."""

    PLAIN = "plain"
    DECONVOLUTION = "deconvolution"
    GUIDED = "guided"


_OUT_OF_PLACE: frozenset[Callable[..., Tensor]] = frozenset({torch.relu, Tensor.relu})
_IN_PLACE: frozenset[Callable[..., Tensor]] = frozenset({torch.relu_, Tensor.relu_, F.relu_})

# In-place calls that are linear, and so may change a part of a tensor; products only with what does
# not depend on the image.
_LINEAR_IN_PLACE = frozenset(
    {
        Tensor.__iadd__,
        Tensor.__isub__,
        Tensor.__setitem__,
        Tensor.add_,
        Tensor.copy_,
        Tensor.fill_,
        Tensor.sub_,
        Tensor.zero_,
    }
)
_PRODUCT_IN_PLACE = frozenset(
    {Tensor.__imul__, Tensor.__itruediv__, Tensor.div_, Tensor.mul_},
)

# Calls of torch's own that consist of many operations, and are linear, a normalisation or a pooling
# as a whole.
_WHOLE = frozenset(
    {
        F.group_norm,
        F.instance_norm,
        F.layer_norm,
        F.local_response_norm,
        F.lp_pool1d,
        F.lp_pool2d,
        F.normalize,
        F.pad,
        F.rms_norm,
    }
)

# Calls to which a value that was computed from the image, and carries no gradient, is a summand, or
# the switches of a pooling.
_ADDITIVE = frozenset(
    {
        F.max_unpool2d,
        Tensor.__add__,
        Tensor.__iadd__,
        Tensor.__isub__,
        Tensor.__radd__,
        Tensor.__rsub__,
        Tensor.__sub__,
        Tensor.add,
        Tensor.add_,
        Tensor.copy_,
        Tensor.sub,
        Tensor.sub_,
        torch.add,
        torch.cat,
        torch.concat,
        torch.stack,
        torch.sub,
    }
)


class ReluRules(TorchFunctionMode):
    """Within this context every ReLU that is called obeys `rule`, which may change per backward.

    One forward pass then serves a backward pass under each rule. The forward values are those of
    the ReLU itself, in place where the caller asked for that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rule = ReluRule.PLAIN
        self._known: set[Node] = set()
        self._gated: set[Node] = set()
        # What came of the image: whether it carries a gradient. Masks, places and detached values
        # don't, though they depend on the image.
        self._from_image = WeakIdKeyDictionary()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace calls of ReLU, leave all others as they are."""
        kwargs = kwargs or {}
        inputs = list(_tensors((args, kwargs)))
        came = [self._from_image[t] for t in inputs if t in self._from_image]
        if func is F.relu:
            result = self._relu(*args, **kwargs)
        elif func in _OUT_OF_PLACE or func in _IN_PLACE:
            result = self._relu(*args, **kwargs | {"inplace": func in _IN_PLACE})
        else:
            before = {t.grad_fn for t in inputs} if func in _WHOLE else set()
            result = func(*args, **kwargs)
            linear = func in _LINEAR_IN_PLACE
            if linear or (func in _PRODUCT_IN_PLACE and not self._depends(args[1:], kwargs)):
                self._note_part(args[0])
            if func in _WHOLE and isinstance(result, Tensor):
                self._known |= _between(result.grad_fn, before)
        if came and not _only_shape(func):
            changed = inputs[:1] if func is Tensor.__setitem__ else []
            self._note(func, frozen=not all(came), results=[*_tensors(result), *changed])
        return result

    def watch(self, images: Tensor) -> None:
        """Follow what is computed from these images, of which the logits will be."""
        self._from_image[images] = True

    def _depends(self, *values: Any) -> bool:
        return any(tensor in self._from_image for tensor in _tensors(values))

    def _note(self, func: Callable[..., Any], frozen: bool, results: list[Tensor]) -> None:
        for tensor in results:
            self._from_image[tensor] = tensor.requires_grad
            if frozen and tensor.grad_fn is not None and func not in _ADDITIVE:
                self._gated.add(tensor.grad_fn)

    def _relu(self, input: Tensor, inplace: bool = False) -> Tensor:
        output = cast(Tensor, _RuledRelu.apply(input, self, inplace))
        if inplace:
            self._note_part(input)
        return output

    def _note_part(self, changed: Tensor) -> None:
        """Remember the node of a known call that changed a part of a tensor in place."""
        whole = changed._base if changed._is_view() else changed
        if whole is not None and type(whole.grad_fn).__name__ == "CopySlices":
            self._known.add(cast(Node, whole.grad_fn))

    def check(self, output: Tensor, image: Tensor) -> None:
        """Raise `Unsupported` unless each operation between image and output has a rule.

        Those are ReLUs that ran within this context, and what `xai_core.linearity` lists.

        Args:
            output: a tensor computed within this context, with its autograd graph.
            image: the leaf that it was computed from.
        """
        nodes = depending_on(image, output)
        reasons = (_no_rule(n, ops, nodes) for n, ops in nodes.items() if n not in self._known)
        found = {reason for reason in reasons if reason}
        if len(found) > 1:
            found.discard(PRODUCT)  # that of a gate whose sigmoid is named
        if not found and self._gated & nodes.keys():
            found.add("a gate or choice that is computed from the image")
        if found:
            *others, last = sorted(found, key=str.casefold)
            names = f"{', '.join(others)} and {last}" if others else last
            raise Unsupported(f"the net uses {names}, for which no ReLU rule is defined")


def _only_shape(func: Callable[..., Any]) -> bool:
    """Whether a call takes no values of its tensors, as ``zeros_like`` and ``new_zeros`` do."""
    name = getattr(func, "__name__", "")
    return name.startswith("new_") or name.endswith("_like")


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))


def _between(last: Node | None, before: set[Node | None]) -> set[Node]:
    """The nodes from one back to some that ran earlier."""
    found: set[Node] = set()
    stack = [last]
    while stack:
        node = stack.pop()
        if node is None or node in before or node in found:
            continue
        found.add(node)
        stack.extend(parent for parent, _ in node.next_functions)
    return found


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


def _no_rule(node: Node, operands: Operands, nodes: Mapping[Node, Operands]) -> str | None:
    if isinstance(node, torch.autograd.function.BackwardCFunction):
        if getattr(node, "_forward_cls", None) is _RuledRelu:
            return None
        return f"the custom autograd function {type(node).__name__.removesuffix('Backward')}"
    return why_not_linear(node, operands, nodes)
