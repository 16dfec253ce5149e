"""Watching a forward pass: the target layer's output, the classifier call, the evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from xai_core.errors import BadInput, Unsupported
from xai_core.types import Net


@dataclass
class Captured:
    """What was seen during one forward pass.

    Attributes:
        outputs: outputs of the target layer, one per call, detached.
        edges: where their gradients are read; none for outputs that no gradient reaches.
        classifier: the last linear layer or 1x1 convolution that ran.
        classifier_input: its input.
        classifier_output: its output.
        no_tensor: type of what the target layer gives, where that is no tensor.
        is_view: whether the target layer's output shares the memory of another tensor.
    """

    outputs: list[Tensor] = field(default_factory=list)
    edges: list[GradientEdge] = field(default_factory=list)
    classifier: nn.Linear | nn.Conv2d | None = None
    classifier_input: Tensor | None = None
    classifier_output: Tensor | None = None
    no_tensor: str = ""
    is_view: bool = False

    def activation(self, net: Net) -> Tensor:
        """The target layer's output, (B, K, h, w).

        Raises:
            BadInput: the layer did not run exactly once, or its output is no spatial map.
        """
        layer = f"target layer {net.target_layer} of {net.id}"
        if self.no_tensor:
            raise BadInput(f"{layer} gives a {self.no_tensor}, not a tensor")
        if len(self.outputs) != 1:
            raise BadInput(
                f"{layer} ran {len(self.outputs)} times in one forward pass; "
                "name a layer that runs once"
            )
        if self.outputs[0].ndim != 4:
            raise BadInput(
                f"{layer} has an output of shape {tuple(self.outputs[0].shape)}; "
                "the CAM family needs (batch, channels, height, width)"
            )
        return self.outputs[0]


@contextmanager
def watch(
    net: Net, *, activation: bool, classifier: bool, apart: bool = False
) -> Iterator[Captured]:
    """Record the forward passes within; every hook is gone afterwards.

    Args:
        net: the net to watch.
        activation: whether to record the target layer's output.
        classifier: whether to record the classifier call.
        apart: whether the net goes on with a copy of the target layer's output. Where that is a
            view of other memory and something works on it in place, it has no place in the graph.
    """
    captured = Captured()

    def on_target(module: nn.Module, args: Any, output: Any) -> Tensor | None:
        if not isinstance(output, Tensor):
            captured.no_tensor = type(output).__name__
            return None
        if apart:
            output = output.clone()
        # What follows may work in place on the output, and the layer itself may have done so on its
        # input, which others read: a copy of the value and the place in the graph are safe.
        captured.outputs.append(output.detach().clone())
        captured.is_view |= output._is_view()
        if output.requires_grad:
            captured.edges.append(get_gradient_edge(output))
        return output if apart else None

    def on_classifier(module: nn.Module, args: Any, output: Any) -> None:
        assert isinstance(module, nn.Linear | nn.Conv2d)
        captured.classifier = module
        captured.classifier_input, captured.classifier_output = args[0].detach(), output.detach()

    handles = []
    try:
        if activation:
            target = _submodule(net)
            handles.append(target.register_forward_hook(on_target))
        if classifier:
            handles += [
                module.register_forward_hook(on_classifier)
                for module in net.module.modules()
                if isinstance(module, nn.Linear)
                or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1))
            ]
        yield captured
    finally:
        for handle in handles:
            handle.remove()


def _submodule(net: Net) -> nn.Module:
    assert net.target_layer is not None, "the caller asks for what needs none"
    try:
        return net.module.get_submodule(net.target_layer)
    except AttributeError:
        raise BadInput(f"{net.id} has no layer called {net.target_layer!r}") from None


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Run the body in evaluation mode and give each submodule its own mode back afterwards.

    By the modules' own ``eval()`` and ``train()``: some nets merge weights there, and take them
    apart again. A net that is in evaluation mode is not touched.
    """
    modes = [(child, child.training) for child in module.modules()]
    if not any(training for _, training in modes):
        yield
        return
    module.eval()
    try:
        yield
    finally:
        for child, training in modes:  # parents stand before their children
            if child.training != training:
                child.train(training)


@contextmanager
def left_alone(module: nn.Module) -> Iterator[None]:
    """Run the body as a net is explained: in evaluation mode, with gradients at hand.

    Torch's random state is given back, so that a net that draws numbers changes no one else's.
    """
    devices = {p.device for p in module.parameters() if p.is_cuda}
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.random.fork_rng(devices=list(devices)),
        evaluation_mode(module),
    ):
        yield


def class_weights(net: Net, captured: Captured, logits: Tensor, targets: Tensor) -> Tensor:
    """The class's row of the classifier behind global average pooling, (B, K).

    Two forms have one: ``linear(mean(f))`` and ``mean(relu(conv1x1(f)))``, the ReLU optional.
    Whether the net has it is decided by its numbers, not by the names of its layers.

    Raises:
        Unsupported: the net is of another form.
    """
    layer, f, logits = captured.classifier, captured.activation(net), logits.detach()
    source, scores = captured.classifier_input, captured.classifier_output
    if layer is not None and source is not None and scores is not None:
        weights = layer.weight.detach().flatten(1)
        fed_by_pooling = gives_logits = False
        if source.ndim == 2:
            fed_by_pooling = _same(source, f.mean(dim=(2, 3)))
            gives_logits = _same(scores, logits)
        elif scores.ndim == 4:
            fed_by_pooling = _same(source, f)
            gives_logits = _same(scores.mean(dim=(2, 3)), logits) or _same(
                scores.relu().mean(dim=(2, 3)), logits
            )
        if fed_by_pooling and gives_logits and weights.shape[1] == f.shape[1]:
            return weights[targets]
    raise Unsupported(
        "CAM needs global average pooling of the target layer and one linear (or 1x1 convolution) "
        f"classifier; {net.id} does not end so behind {net.target_layer}"
    )


def _same(a: Tensor, b: Tensor) -> bool:
    if a is b:
        return True
    if a.shape != b.shape:
        return False
    tolerance = 1e-3 * float(b.abs().max())
    return bool(((a - b).abs() <= tolerance).all())
