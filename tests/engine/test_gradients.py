"""The gradient signals: central differences, linear nets, nets whose ReLUs are functions."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from tests.reference.relu import METHOD_OF, RULES, gradient, patched
from tests.tiny import Act, as_net, images, maps, seeded

pytestmark = [
    pytest.mark.usefixtures("each_engine"),
    pytest.mark.filterwarnings("ignore::xai_core.engine.FallsBack"),
]

BACKWARD_METHODS = tuple(METHOD_OF.values())


def test_backprop_agrees_with_central_differences():
    net, x, c, step = seeded(Act(lambda z, f: F.relu(f(F.relu(z))))), images(1, 3, 5, 4), 2, 1e-6
    ours = maps(as_net(net), x, c, "backprop")["backprop"]
    differences = torch.zeros_like(x)
    for i in range(x.numel()):
        delta = torch.zeros_like(x)
        delta.view(-1)[i] = step
        differences.view(-1)[i] = (net(x + delta)[0, c] - net(x - delta)[0, c]) / (2 * step)
    assert ours.abs().max() > 1e-3
    torch.testing.assert_close(ours, differences, rtol=0, atol=1e-8)


def test_without_a_relu_the_three_backward_methods_agree():
    net = as_net(seeded(Act(lambda z, f: F.max_pool2d(f(z), 2))))
    ours = maps(net, images(2, 3, 6, 4), 1, *BACKWARD_METHODS)
    for method in BACKWARD_METHODS:
        torch.testing.assert_close(ours[method], ours["backprop"], rtol=0, atol=0)


def test_the_backward_pass_starts_at_the_logit_not_at_the_probability():
    net = seeded(Act(lambda z, f: F.relu(z)))
    x = images(1, 3, 5, 4)
    ours = maps(as_net(net), x, 0, "backprop")["backprop"]
    shifted = seeded(Act(lambda z, f: F.relu(z)))
    shifted.fc.bias += 50.0  # the softmax of these logits is flat or saturated; they still differ
    shifted.fc.bias[0] += 50.0
    torch.testing.assert_close(ours, maps(as_net(shifted), x, 0, "backprop")["backprop"])


def densenet() -> nn.Module:
    """DenseNet's own code with few layers: its last ReLU is a function, in place."""
    return torchvision.models.DenseNet(8, (2, 2), 12, num_classes=5)


def trained_like(module: nn.Module) -> nn.Module:
    """Running statistics of batch norms away from 0 and 1, so that ReLUs see either sign."""
    generator = torch.Generator().manual_seed(1)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.running_mean.normal_(0, 0.2, generator=generator)
            child.running_var.uniform_(0.5, 1.5, generator=generator)
    return module


@pytest.mark.parametrize(
    "build",
    [
        densenet,
        torchvision.models.densenet121,
        lambda: torchvision.models.googlenet(
            weights=None, aux_logits=False, transform_input=True, init_weights=False
        ),
    ],
    ids=["small densenet", "densenet121", "googlenet"],
)
def test_nets_that_call_relu_as_a_function_are_their_patched_twins(build):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = trained_like(build().double().eval().requires_grad_(False))
    x = images(1, 3, 64, 72)
    ours = maps(as_net(module), x, 4, *BACKWARD_METHODS)
    twins = {}
    for rule in RULES:
        with patched(rule):
            twins[rule] = gradient(module, x, 4)
    for rule, twin in twins.items():
        tolerance = 1e-11 * float(twin.abs().max())
        torch.testing.assert_close(ours[METHOD_OF[rule]], twin, rtol=0, atol=tolerance)
    for a, b in combinations(twins.values(), 2):  # the net tells the rules apart
        assert (a - b).norm() > 0.05 * a.norm() > 0
