"""From a tape to a plan: fewer operations for the same mathematics, and who needs what how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from xai_core.engine.fused.onednn import OneDnn
from xai_core.engine.fused.operators import (
    BatchNorm,
    Concatenate,
    Convolution,
    Linear,
    MaxPool,
    Operator,
    Relu,
    Rules,
    Stop,
)
from xai_core.engine.fused.tape import IMAGE, Node, Tape
from xai_core.relu_rules import ReluRule

_ORDER = (ReluRule.DECONVOLUTION, ReluRule.GUIDED, ReluRule.PLAIN)


@dataclass(frozen=True)
class Step:
    """A node with all that the walk has to know about it.

    Attributes:
        node: the operation and its slots.
        backward: the operation, as the backward pass computes it.
        in_place: whether it may overwrite its first input.
        done: slots that nothing reads any more once it has run.
        rules: those whose gradient its inputs need; empty: the backward pass leaves it out.
        carried: for each input, those that it carries on.
    """

    node: Node
    backward: Operator
    in_place: bool
    done: tuple[int, ...]
    rules: Rules
    carried: tuple[Rules, ...]


@dataclass(frozen=True)
class Plan:
    """What to do for one size of image and one choice of signals.

    Attributes:
        tape: what was planned.
        steps: in the order of the forward pass.
        rules: of each slot with a gradient, those that it carries.
        image_rules: rules whose gradient at the image is wanted.
        target_gradient: whether the plain gradient at the target layer is.
        dtype: of the backward pass; None for that of the forward pass.
        shapes: of each slot, without the batch.
    """

    tape: Tape
    steps: tuple[Step, ...]
    rules: Mapping[int, Rules]
    image_rules: Rules
    target_gradient: bool
    dtype: torch.dtype | None
    shapes: Mapping[int, tuple[int, ...]]

    def shape(self, slot: int) -> tuple[int, ...]:
        """A slot's shape, without the batch."""
        return self.shapes[slot]


class Layouts:
    """Operations in another form, each computed once per net."""

    def __init__(self) -> None:
        self._casts: dict[tuple[object, ...], tuple[Operator, tuple[object, ...]]] = {}
        self._known: dict[tuple[object, ...], tuple[Convolution, tuple[object, ...]]] = {}

    def folded(self, convolution: Convolution, norm: BatchNorm) -> Convolution:
        """One convolution for it and the batch normalisation behind it."""
        normalise = (norm.mean, norm.variance, norm.weight, norm.bias)
        parts = (convolution.weight, convolution.bias, *normalise)
        settings = ("folded", norm.eps, *convolution.geometry)
        return self._once(parts, settings, lambda: norm.folded_into(convolution))

    def in_phases(self, convolution: Convolution) -> Convolution:
        """See `Convolution.in_phases`."""
        parts, settings = (convolution.weight, convolution.bias), ("phases", *convolution.geometry)
        return self._once(parts, settings, convolution.in_phases)

    def cast(self, operator: Operator, dtype: torch.dtype) -> Operator:
        """The operation with weights of another type; see `Operator.cast`."""
        if not isinstance(operator, Convolution | Linear):
            return operator.cast(dtype)
        geometry = operator.geometry if isinstance(operator, Convolution) else ()
        key = (id(operator.weight), type(operator), geometry, dtype)
        if key not in self._casts:
            self._casts[key] = operator.cast(dtype), (operator.weight,)
        return self._casts[key][0]

    def _once(
        self,
        parts: tuple[object, ...],
        settings: tuple[object, ...],
        make: Callable[[], Convolution],
    ) -> Convolution:
        key = (*(id(part) for part in parts), *settings)
        if key not in self._known:
            self._known[key] = make(), parts  # held, so that the ids stay theirs
        return self._known[key][0]


def make_plan(
    tape: Tape,
    batch: int,
    image_rules: Iterable[ReluRule],
    target_gradient: bool,
    layouts: Layouts,
    onednn: OneDnn | None,
    dtype: torch.dtype | None = None,
    fold: bool = True,
) -> Plan:
    """Plan the walk.

    Args:
        tape: what the net does.
        batch: number of images.
        image_rules: rules whose gradient at the image is wanted.
        target_gradient: whether the plain gradient at the target layer is wanted.
        layouts: the net's convolutions in another form.
        onednn: the net's private operators; None for public ones alone.
        dtype: of the backward pass; None for that of the forward pass.
        fold: whether batch normalisation becomes part of the convolution before it.
    """
    wanted = set(image_rules)
    at_image = tuple(rule for rule in _ORDER if rule in wanted)
    observed = {tape.logits, *tape.targets}
    if tape.classifier:
        observed.update(tape.classifier[1:])
    nodes = list(tape.nodes)
    if fold:
        nodes = _fold(nodes, observed, layouts)
    nodes = [_in_phases(node, layouts) for node in nodes]
    shapes = dict(tape.shapes)
    nodes = _relu_after_concatenation(nodes, observed, shapes)
    nodes = _relu_before_pooling(nodes, observed)
    rules = _rules_of_slots(nodes, tape, at_image, target_gradient)
    if onednn is not None:
        nodes = _with_onednn(nodes, observed, shapes, rules, batch, onednn)
    return Plan(
        tape,
        tuple(_steps(nodes, observed, rules, layouts, dtype)),
        rules,
        at_image,
        target_gradient,
        dtype,
        shapes,
    )


def _only_reader(nodes: Iterable[Node], observed: Iterable[int]) -> dict[int, Node]:
    """Of each slot that exactly one node reads, and no one observes: that node."""
    reads = Counter(slot for node in nodes for slot in node.inputs)
    reads.update(observed)
    return {
        slot: node for node in nodes for slot in node.inputs if reads[slot] == 1 and slot != IMAGE
    }


def _fold(nodes: list[Node], observed: set[int], layouts: Layouts) -> list[Node]:
    """Convolution -> batch normalisation becomes one, unless what lies between is observed."""
    reader = _only_reader(nodes, observed)
    result: dict[int, Node] = {}  # by output
    for node in nodes:
        before = result.get(node.inputs[0])
        if (
            isinstance(node.operator, BatchNorm)
            and before is not None
            and isinstance(before.operator, Convolution)
            and reader.get(before.output) is node
        ):
            del result[before.output]
            node = Node(layouts.folded(before.operator, node.operator), before.inputs, node.output)
        result[node.output] = node
    return list(result.values())


def _in_phases(node: Node, layouts: Layouts) -> Node:
    if isinstance(node.operator, Convolution):
        return replace(node, operator=layouts.in_phases(node.operator))
    return node


def _relu_after_concatenation(
    nodes: list[Node], observed: set[int], shapes: dict[int, tuple[int, ...]]
) -> list[Node]:
    """``cat(relu(a), relu(b))`` becomes ``relu(cat(a, b))``: one pass over contiguous memory."""
    reader = _only_reader(nodes, observed)
    by_output = {node.output: node for node in nodes}
    gone: set[int] = set()
    result = []
    for node in nodes:
        parts = [by_output.get(slot) for slot in node.inputs]
        if isinstance(node.operator, Concatenate) and all(
            part is not None and isinstance(part.operator, Relu) and reader.get(part.output) is node
            for part in parts
        ):
            gone.update(node.inputs)
            fresh = len(shapes)
            shapes[fresh] = shapes[node.output]
            bare = tuple(part.inputs[0] for part in parts if part is not None)
            result.append(Node(node.operator, bare, fresh))
            result.append(Node(Relu(), (fresh,), node.output))
        else:
            result.append(node)
    return [node for node in result if node.output not in gone]


def _relu_before_pooling(nodes: list[Node], observed: set[int]) -> list[Node]:
    """Max-pooling that alone reads a ReLU applies the rules for it, to fewer values."""
    reader = _only_reader(nodes, observed)
    pooled = {
        node.output
        for node in nodes
        if isinstance(node.operator, Relu)
        and node.output in reader
        and isinstance(reader[node.output].operator, MaxPool)
    }
    result = []
    for node in nodes:
        if node.output in pooled:
            node = replace(node, operator=Relu(ruled=False))
        elif isinstance(node.operator, MaxPool) and node.inputs[0] in pooled:
            node = replace(node, operator=replace(node.operator, after_relu=True))
        result.append(node)
    return result


def _rules_of_slots(
    nodes: list[Node], tape: Tape, at_image: Rules, target_gradient: bool
) -> dict[int, Rules]:
    """Which rules' gradients each slot needs: those for the image, and plain above the target."""
    above = set(tape.targets[:1])
    for node in nodes:
        if above.intersection(node.inputs):
            above.add(node.output)
    with_plain = tuple(r for r in _ORDER if r in at_image or r is ReluRule.PLAIN)
    slots = {IMAGE, *(node.output for node in nodes)}
    return {slot: with_plain if target_gradient and slot in above else at_image for slot in slots}


def _with_onednn(
    nodes: list[Node],
    observed: set[int],
    shapes: Mapping[int, tuple[int, ...]],
    rules: Mapping[int, Rules],
    batch: int,
    onednn: OneDnn,
) -> list[Node]:
    """Replace what oneDNN's private operators do faster."""
    reader = _only_reader(nodes, observed)
    result = []
    swallowed: dict[int, Node] = {}  # by the slot of a ReLU that its convolution does
    for node in nodes:
        if node.output in swallowed:
            node = swallowed[node.output]
        elif isinstance(node.operator, Linear):
            node = replace(node, operator=onednn.linear(node.operator))
        elif isinstance(node.operator, Convolution):
            following = reader.get(node.output)
            relu = following.operator if following else None
            size = (batch, *shapes[node.inputs[0]])
            carried = len(rules[node.inputs[0]]) * batch
            is_relu = isinstance(relu, Relu)
            ruled = isinstance(relu, Relu) and relu.ruled
            operator = onednn.convolution(node.operator, is_relu, ruled, size, carried)
            if operator is not None:
                node = replace(node, operator=operator)
                if is_relu and following is not None:
                    swallowed[following.output] = Node(operator, node.inputs, following.output)
                    continue
        result.append(node)
    return result


def _steps(
    nodes: list[Node],
    observed: set[int],
    rules: Mapping[int, Rules],
    layouts: Layouts,
    dtype: torch.dtype | None,
) -> Iterable[Step]:
    reader = _only_reader(nodes, observed)
    by_output = {node.output: node for node in nodes}
    last = {slot: node.output for node in nodes for slot in node.inputs}
    for node in nodes:
        first = node.inputs[0]
        producer = by_output.get(first)
        stops = isinstance(node.operator, Stop)
        carried = tuple(() if stops else rules[slot] for slot in node.inputs)
        needed = any(carried)
        yield Step(
            node,
            layouts.cast(node.operator, dtype) if dtype and needed else node.operator,
            in_place=node.operator.in_place
            and first in reader
            and producer is not None
            and producer.operator.gives_away,
            done=tuple({s for s in node.inputs if last[s] == node.output and s not in observed}),
            rules=max(carried, key=len),
            carried=carried,
        )
