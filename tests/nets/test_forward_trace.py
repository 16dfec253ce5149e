"""One forward pass is watched and leaves no trace: not in the net, not in the process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from xai_core.errors import BadInput
from xai_core.nets.forward_trace import trace_forward
from xai_core.nets.target_layer import find_target_layer


class Net(nn.Module):
    def __init__(self, step: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.step = step

    def forward(self, x):
        return self.fc(self.step(self, self.norm(self.conv(x))).mean((2, 3)))


def watched_gradient(net: nn.Module, f: Tensor) -> Tensor:
    f.register_hook(lambda gradient: None)
    return f


def counts(net: nn.Module, f: Tensor) -> Tensor:
    net.calls += 1
    net.norm.num_batches_tracked.add_(1)
    return f


def replaces_a_buffer(net: nn.Module, f: Tensor) -> Tensor:
    net.calls = net.calls + 1
    return f


def keeps(net: nn.Module, f: Tensor) -> Tensor:
    net.features = f
    net.conv.seen = f.shape
    return f


def forgets(net: nn.Module, f: Tensor) -> Tensor:
    del net.norm.eps
    del net.norm
    return f


def trains(net: nn.Module, f: Tensor) -> Tensor:
    net.train()
    return f


def draws(net: nn.Module, f: Tensor) -> Tensor:
    return f * torch.rand_like(f) + torch.nn.functional.dropout(f, 0.5, True)


def without_gradients(net: nn.Module, f: Tensor) -> Tensor:
    with torch.no_grad():
        return f * 2


def fails(net: nn.Module, f: Tensor) -> Tensor:
    counts(net, keeps(net, f))
    raise KeyError("the user's bug")


STEPS = [
    *(watched_gradient, counts, replaces_a_buffer, keeps, forgets, trains, draws),
    *(without_gradients, fails),
]


def state(net: nn.Module) -> dict[str, object]:
    """All that a net holds: objects by identity, tensors by value too."""
    held: dict[str, object] = {}
    for name, child in net.named_modules():
        for key, value in vars(child).items():
            table = value if isinstance(value, dict) else {"": value}
            held |= {f"{name}.{key}.{k}": id(v) for k, v in table.items()}
    values = {name: value.tolist() for name, value in net.state_dict().items()}
    return held | values | {f"{n}.grad": p.grad for n, p in net.named_parameters()}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("training", [False, True])
def test_the_net_and_the_generators_are_left_as_they_were(step, training):
    net = Net(step).train(training)
    net.fc.eval()
    before, seed = state(net), torch.get_rng_state()
    if step is fails:
        with pytest.raises(BadInput, match=r'^its forward pass failed at 8x8: "the user\'s bug"$'):
            trace_forward(net, 8)
    else:
        trace_forward(net, 8)
    assert state(net) == before
    assert torch.equal(torch.get_rng_state(), seed)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradients_are_on_whatever_the_caller_does(around):
    net = Net(watched_gradient)
    with around():
        enabled = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        assert find_target_layer(net, size=8) == "norm"
        assert enabled == (torch.is_grad_enabled(), torch.is_inference_mode_enabled())


@pytest.mark.parametrize("trainable", [False, True])
def test_a_net_may_work_in_place_on_its_image(trainable):
    class InPlace(Net):
        def forward(self, x):
            x.sub_(0.5)
            x[:, 0] /= 0.2
            return super().forward(x)

    assert find_target_layer(InPlace(keeps).requires_grad_(trainable), size=8) == "norm"


def test_a_module_that_gives_its_input_back_gives_nothing():
    net = Net(lambda net, f: net.same(net.same2(f)))
    net.same, net.same2 = nn.Identity(), nn.Sequential(nn.Dropout(), nn.Identity())
    assert find_target_layer(net.eval(), size=8) == "norm"


def test_a_view_of_what_is_changed_in_place_changes_too():
    def step(net, f):
        flat = f.view(1, 4, -1)
        net.relu(f)
        return flat.unflatten(2, (6, 6))

    net = Net(step)
    net.relu = nn.ReLU(inplace=True)
    logits = trace_forward(net, 8).logits
    assert logits is not None
    assert "relu" in {value.op for value in logits.above()}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script. is deprecated")
def test_the_pass_is_one_of_evaluation_whatever_the_mode():
    seen = []

    def step(net, f):
        seen.extend(child.training for child in net.modules())
        return f

    net = Net(step).train()
    net.scripted = torch.jit.script(nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout()))
    trace_forward(net, 8)
    assert not any(seen)
    assert all(child.training for child in net.modules())
