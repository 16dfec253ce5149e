"""The same five maps by other libraries, each as its documentation says; for comparisons only."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import captum.attr
import numpy as np
import torch
import torch.nn.functional as F
from pytorch_grad_cam import GradCAM, GuidedBackpropReLUModel
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from xai_core.engine import AutogradEngine, Engine, FusedEngine
from xai_core.methods import METHODS
from xai_core.methods.coarse_maps import min_max, upsample
from xai_core.types import Net

STUDY = ("backprop", "deconvolution", "guided_backprop", "grad_cam", "guided_grad_cam")
"""The five methods that every net has."""

Maps = dict[str, Tensor]
Explain = Callable[[Tensor, int], Maps]
"""Images and the class to explain in all of them, to maps by method."""


def with_engine(engine: Engine, net: Net, ids: tuple[str, ...] = STUDY) -> Explain:
    """One of our engines."""
    methods = [METHODS.get(id) for id in ids]
    return lambda x, c: dict(engine(net, x, [[c]] * len(x), methods).maps)


def with_captum(net: Net) -> Explain:
    """Captum: four forward and three backward passes, no parameter gradients."""
    module = _frozen(net.module)
    layer = module.get_submodule(net.target_layer)
    peers = captum.attr
    saliency, deconvolution = peers.Saliency(module), peers.Deconvolution(module)
    guided, grad_cam = peers.GuidedBackprop(module), peers.LayerGradCam(module, layer)

    def explain(x: Tensor, c: int) -> Maps:
        x = x.clone().requires_grad_()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it sets hooks
            by_guided = guided.attribute(x, c).detach()
            coarse = grad_cam.attribute(x, c, relu_attributions=True).detach()
            return _products(
                backprop=saliency.attribute(x, c, abs=False).detach(),
                deconvolution=deconvolution.attribute(x, c).detach(),
                guided_backprop=by_guided,
                grad_cam=min_max(upsample(coarse, x)),
            )

    return explain


def with_pytorch_grad_cam(net: Net) -> Explain:
    """pytorch-grad-cam has two of the five maps, one image at a time for the guided one."""
    module = _frozen(net.module).requires_grad_(True)
    guided = GuidedBackpropReLUModel(model=copy.deepcopy(module), device=torch.device("cpu"))
    layers = [module.get_submodule(net.target_layer)]

    def explain(x: Tensor, c: int) -> Maps:
        with GradCAM(model=module, target_layers=layers) as peer:
            coarse = peer(input_tensor=x, targets=[ClassifierOutputTarget(c)] * len(x))
        images = [guided(image[None], target_category=c) for image in x]
        return {
            "grad_cam": torch.from_numpy(coarse).unsqueeze(1),
            "guided_backprop": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
        }

    return explain


def with_naive_hooks(net: Net) -> Explain:
    """What many notebooks do: hooks on the modules and ``backward()``, once for each method."""
    module = _frozen(net.module).requires_grad_(True)
    relus = [child for child in module.modules() if isinstance(child, nn.ReLU)]
    layer = module.get_submodule(net.target_layer)

    def gradient(x: Tensor, c: int, hook: Callable[..., Any] | None = None) -> Tensor:
        handles = [relu.register_full_backward_hook(hook) for relu in relus] if hook else []
        x = x.clone().requires_grad_()
        module.zero_grad()
        module(x)[:, c].sum().backward()
        for handle in handles:
            handle.remove()
        assert x.grad is not None
        return x.grad

    def grad_cam(x: Tensor, c: int) -> Tensor:
        seen: list[Tensor] = []
        handle = layer.register_forward_hook(lambda module, args, output: seen.append(output))
        module.zero_grad()
        logits = module(x)
        seen[0].retain_grad()
        logits[:, c].sum().backward()
        handle.remove()
        activation, gradient = seen[0].detach(), seen[0].grad
        assert gradient is not None
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        return min_max(upsample((weights * activation).sum(dim=1, keepdim=True).relu(), x))

    def deconvolution_rule(module: nn.Module, inputs: Any, outputs: Any) -> tuple[Tensor]:
        return (F.relu(outputs[0]),)

    def guided_rule(module: nn.Module, inputs: Any, outputs: Any) -> tuple[Tensor]:
        return (F.relu(inputs[0]),)

    def explain(x: Tensor, c: int) -> Maps:
        return _products(
            backprop=gradient(x, c),
            deconvolution=gradient(x, c, deconvolution_rule),
            guided_backprop=gradient(x, c, guided_rule),
            grad_cam=grad_cam(x, c),
        )

    return explain


def _products(**maps: Tensor) -> Maps:
    return {**maps, "guided_grad_cam": maps["guided_backprop"] * maps["grad_cam"]}


def _frozen(module: nn.Module) -> nn.Module:
    """A copy without in-place ReLUs, which the peers' hooks don't stand."""
    module = copy.deepcopy(module).eval().requires_grad_(False)
    for child in module.modules():
        if isinstance(child, nn.ReLU):
            child.inplace = False
    return module


CONTENDERS: dict[str, Callable[[Net], Explain]] = {
    "fused": lambda net: with_engine(FusedEngine(), net),
    "fused, public operators": lambda net: with_engine(FusedEngine(onednn=False), net),
    "autograd": lambda net: with_engine(AutogradEngine(), net),
    "captum": with_captum,
    "pytorch-grad-cam (2 maps)": with_pytorch_grad_cam,
    "naive hooks": with_naive_hooks,
}
"""By name; "autograd" is our reference engine."""
