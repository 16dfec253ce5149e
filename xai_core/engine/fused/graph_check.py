"""Whether a net's gradient is that of the operations that it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from xai_core.engine.fused.operators import (
    Add,
    Concatenate,
    Convolution,
    MaxPool,
    Operator,
    Relu,
    Scale,
)
from xai_core.engine.fused.readers import NotRecordable

_GRADIENT_NODES = {
    Add: ("Add",),
    Concatenate: ("Cat",),
    Convolution: ("Convolution",),
    MaxPool: ("MaxPool2DWithIndices",),
    Relu: ("Relu",),
    Scale: ("Mul", "Div"),
}


def check_graph(output: Tensor, operations: Sequence[tuple[type[Operator], int]]) -> None:
    """Compare torch's autograd graph with the recorded operations.

    Args:
        output: the net's output, with its graph.
        operations: kind and number of inputs of each that leads to the output.

    Raises:
        NotRecordable: the net's gradient is not that of its operations: it stops it somewhere, or
            brings its own.
    """
    edges: Counter[str] = Counter()  # along which a gradient flows, by the operation's name
    seen: set[Any] = set()
    stack = [output.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            raise NotRecordable("it has an autograd function of its own")
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        edges[type(node).__name__.split("Backward")[0]] += len(parents)
        stack.extend(parents)
    for kind, spellings in _GRADIENT_NODES.items():
        expected = sum(inputs for operation, inputs in operations if operation is kind)
        # Fewer, not other: a sum with a constant is a `Shift` here and an "Add" there.
        if sum(edges[spelling] for spelling in spellings) < expected:
            raise NotRecordable("it stops the gradient on its way")
