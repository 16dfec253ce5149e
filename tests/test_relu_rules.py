"""Every spelling of a ReLU under every rule against twins; every other activation refused."""

from __future__ import annotations

import warnings
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference.relu import METHOD_OF, RULES, gradient, relu
from tests.tiny import RULE_METHODS, Act, as_net, explain, images, maps, seeded
from xai_core.relu_rules import ReluRule, relu_backward

pytestmark = [
    pytest.mark.usefixtures("each_engine"),
    pytest.mark.filterwarnings("ignore::xai_core.engine.FallsBack"),
]

MODULE, MODULE_IN_PLACE = nn.ReLU(), nn.ReLU(inplace=True)
OUT_OF_PLACE = {
    "nn.ReLU": MODULE,
    "F.relu": F.relu,
    "F.relu by keyword": lambda z: F.relu(input=z, inplace=False),
    "torch.relu": torch.relu,
    "Tensor.relu": lambda z: z.relu(),
}
IN_PLACE = {
    "nn.ReLU(inplace)": MODULE_IN_PLACE,
    "F.relu(inplace)": partial(F.relu, inplace=True),
    "F.relu positional": lambda z: F.relu(z, True),
    "F.relu_": F.relu_,
    "torch.relu_": torch.relu_,
    "Tensor.relu_": lambda z: z.relu_(),
}
ANY = OUT_OF_PLACE | IN_PLACE


def bare(act, z: Tensor) -> Tensor:
    act(z)  # as a statement: what counts is what happened to z
    return z


def part(act, z: Tensor) -> Tensor:
    act(z[:, 1:])
    return z


# How a net uses a ReLU: (with the spelling under test, the same with a twin that returns a new
# tensor). `f` is a convolution.
USES = {
    "chain": (lambda act, f, z: act(z), lambda relu, f, z: relu(z)),
    "reused": (
        lambda act, f, z: act(f(act(f(act(z))))),
        lambda relu, f, z: relu(f(relu(f(relu(z))))),
    ),
}
OUT_OF_PLACE_USES = {
    "skip reads z": (lambda act, f, z: z + f(act(z)), lambda relu, f, z: z + f(relu(z))),
    "twice in a row": (lambda act, f, z: act(act(z)), lambda relu, f, z: relu(relu(z))),
}
IN_PLACE_USES = {
    "skip reads relu(z)": (
        lambda act, f, z: f(act(z)).add(z),
        lambda relu, f, z: (lambda a: a + f(a))(relu(z)),
    ),
    "bare": (lambda act, f, z: bare(act, z), lambda relu, f, z: relu(z)),
    "part": (
        lambda act, f, z: part(act, z),
        lambda relu, f, z: torch.cat([z[:, :1], relu(z[:, 1:])], dim=1),
    ),
    "flattened": (
        lambda act, f, z: bare(act, z.flatten(2)).unsqueeze(-1),
        lambda relu, f, z: relu(z),
    ),
}
ALL_USES = USES | OUT_OF_PLACE_USES | IN_PLACE_USES
CASES = [
    pytest.param(act, *use, id=f"{spelling}-{name}")
    for spellings, uses in (
        (ANY, USES),
        (OUT_OF_PLACE, OUT_OF_PLACE_USES),
        (IN_PLACE, IN_PLACE_USES),
    )
    for spelling, act in spellings.items()
    for name, use in uses.items()
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("act", "use", "twin_use"), CASES)
def test_every_spelling_obeys_every_rule(act, use, twin_use, rule):
    net = seeded(Act(lambda z, f: use(act, f, z)))
    twin = seeded(Act(lambda z, f: twin_use(relu(rule), f, z)))
    x = images(1, 3, 6, 5)
    ours = maps(as_net(net), x, 1, METHOD_OF[rule])[METHOD_OF[rule]]
    expected = gradient(twin, x, 1)
    assert expected.abs().max() > 0
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("use", ALL_USES)
def test_the_rules_differ_in_every_use(use):
    twins = [seeded(Act(lambda z, f, r=rule: ALL_USES[use][1](relu(r), f, z))) for rule in RULES]
    gradients = [gradient(twin, images(1, 3, 6, 5), 1) for twin in twins]
    for a, b in combinations(gradients, 2):
        assert (a - b).abs().max() > 1e-2 * a.abs().max()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("act", IN_PLACE.values(), ids=IN_PLACE)
def test_a_relu_in_place_on_the_image_leaves_the_image_alone(act, rule):
    class OnImage(Act):
        def forward(self, x):
            act(x)
            return super().forward(x)

    net, x = seeded(OnImage(lambda z, f: z)), images(1, 3, 6, 5)
    before = x.clone()
    ours = maps(as_net(net), x, 0, METHOD_OF[rule])[METHOD_OF[rule]]
    linear = seeded(Act(lambda z, f: z))
    torch.testing.assert_close(ours, gradient(lambda x: linear(relu(rule)(x)), x, 0))
    assert torch.equal(x, before)


@pytest.mark.parametrize("act", ANY.values(), ids=ANY)
@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("backprop", [0, 0, 2, 0, 0, -3]),
        ("deconvolution", [2, 2, 2, 0, 0, 0]),
        ("guided_backprop", [0, 0, 2, 0, 0, 0]),
    ],
)
def test_ties_at_zero_are_blocked(act, method, expected):
    class Tie(nn.Module):
        def forward(self, x):
            a = act(x[:, :1] + 0)
            return (a * a.new_tensor([2.0, 2, 2, -3, -3, -3])).sum(dim=(1, 2, 3))[:, None]

    x = torch.zeros(1, 3, 1, 6, dtype=torch.float64)
    x[:, 0] = torch.tensor([-1.0, 0, 1, -1, 0, 1])
    ours = maps(as_net(Tie()), x, 0, method)[method]
    assert ours[0, 0, 0].tolist() == expected


@pytest.mark.parametrize("rule", ReluRule)
def test_the_formula_of_each_rule(rule):
    z, g = np.meshgrid([-1.0, 0.0, 2.0], [-3.0, 0.0, 5.0])
    expected = {
        ReluRule.PLAIN: [[0, 0, -3], [0, 0, 0], [0, 0, 5]],
        ReluRule.DECONVOLUTION: [[0, 0, 0], [0, 0, 0], [5, 5, 5]],
        ReluRule.GUIDED: [[0, 0, 0], [0, 0, 0], [0, 0, 5]],
    }[rule]
    assert relu_backward(rule, torch.tensor(g), torch.tensor(z) > 0).tolist() == expected


def scripted(z: Tensor) -> Tensor:
    return F.relu(z) + 1


with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated, and in use
    SCRIPTED = torch.jit.script(scripted)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return 2 * g


def other_modules() -> dict[str, nn.Module]:
    """Every pointwise activation of torch.nn that is not a ReLU, so that none is forgotten."""
    not_pointwise = {"MultiheadAttention", "Softmin", "Softmax", "Softmax2d", "LogSoftmax"}
    arguments = {"Threshold": (0.0, 0.0)}
    names = set(nn.modules.activation.__all__) - not_pointwise - {"ReLU"}
    modules = {
        name: getattr(nn, name)(*arguments.get(name, ())).double().eval() for name in sorted(names)
    }
    return modules | {"GELU(tanh)": nn.GELU("tanh"), "GLU": nn.Sequential(nn.GLU(1), Twice())}


class Twice(nn.Module):
    def forward(self, z):
        return torch.cat([z, z], dim=1)


OTHERS = {
    **{name: lambda z, f, m=module: m(z) for name, module in other_modules().items()},
    "ReLU6(inplace)": lambda z, f: F.relu6(z, inplace=True),
    "ReLU6 in place on a part": lambda z, f: (F.relu6(z[:, :2], inplace=True), z)[1],
    "clamp": lambda z, f: z.clamp(min=0),
    "clamp_": lambda z, f: z.clamp_(min=0),
    "clamp_min": lambda z, f: z.clamp_min(0),
    "maximum": lambda z, f: torch.maximum(z, torch.zeros_like(z)),
    "where": lambda z, f: torch.where(z > 0, z, 0.0),
    "masked_fill": lambda z, f: z.masked_fill(z < 0, 0.0),
    "abs": lambda z, f: (z + z.abs()) / 2,
    "sigmoid gate beside a ReLU": lambda z, f: F.relu(z) * torch.sigmoid(f(z)),
    "GELU behind a ReLU": lambda z, f: F.gelu(f(F.relu(z))),
    "TorchScript": lambda z, f: SCRIPTED(z),
    "custom function": lambda z, f: Doubled.apply(z),
    "aten ReLU": lambda z, f: torch.ops.aten.relu(z),
    "assignment": lambda z, f: torch.index_put(z, (z < 0,), torch.zeros((), dtype=z.dtype)),
    "assignment to a part": lambda z, f: assigned(z),
    "fmax": lambda z, f: torch.fmax(z, z * 0),
    "clamp_max": lambda z, f: -torch.clamp_max(-z, 0.5),
    "masked_scatter": lambda z, f: z.masked_scatter(z > 0, z * 2),
    "largest of a stack": lambda z, f: torch.stack([z, z * 0], dim=-1).amax(-1),
    "largest of a stack, with its place": lambda z, f: torch.stack([z, 0 * z]).max(0).values,
    "mask in arithmetic": lambda z, f: z * (z > 0),
    "mask without gradient": lambda z, f: z * without_gradient(z),
    "detached gate": lambda z, f: f(z) * z.detach(),
    "chosen channels": lambda z, f: z[:, z[0].mean((1, 2)).argsort()],
    "gate in place on a part": lambda z, f: gated(z.clone()),
    "square": lambda z, f: z * z,
    "power": lambda z, f: z**3,
    "sine": lambda z, f: torch.sin(z),
    "SiLU by hand": lambda z, f: z / (1 + torch.exp(-z)),
    "softplus by hand": lambda z, f: torch.log1p(torch.exp(z)),
    "product of two maps": lambda z, f: z * f(z),
    "vmap": lambda z, f: torch.vmap(lambda one: F.relu(f(one[None]))[0])(z),
    "hand-made norm": lambda z, f: z / z.square().mean((1, 2, 3), keepdim=True).sqrt(),
}


def assigned(z: Tensor) -> Tensor:
    part = z.clone()[:, 1:3]
    part[part < 0] = 0
    return torch.cat([part, part], 1)


def gated(z: Tensor) -> Tensor:
    z[:, :2].mul_(z[:, 2:].clone())
    return z


def without_gradient(z: Tensor) -> Tensor:
    with torch.no_grad():
        return (z > 0).to(z)


@pytest.mark.parametrize("act", OTHERS.values(), ids=OTHERS)
def test_an_unknown_activation_is_refused_for_the_rules_and_serves_the_others(act):
    net, x = seeded(Act(act)), images(2, 3, 6, 4)
    for _ in range(3):  # TorchScript compiles anew after its first runs
        result = explain(as_net(net, "conv1"), x, [[0]] * 2, *RULE_METHODS, "backprop", "grad_cam")
        assert set(result.refused) == set(RULE_METHODS)
        sentence = "under ReLU rules" if act is OTHERS["vmap"] else "no ReLU rule is defined"
        assert all(sentence in reason for reason in result.refused.values())
        assert not result.failed
    alone = maps(as_net(net, "conv1"), x, 0, "backprop", "grad_cam")
    for method, expected in alone.items():
        torch.testing.assert_close(result.maps[method], expected, rtol=0, atol=1e-12)


def halves(z: Tensor) -> Tensor:
    out = torch.zeros_like(z)
    out[:, :2] = F.relu(z[:, :2])
    out[:, 2:] = z[:, 2:]
    return out


@pytest.mark.parametrize(
    "forward",
    [
        lambda z, f: F.dropout(F.max_pool2d(F.relu(f(z)), 2)),
        lambda z, f: torch.cat([F.avg_pool2d(z, 2), F.max_pool2d(z, 2)], 2),
        lambda z, f: F.relu(F.batch_norm(z, z.new_zeros(4), z.new_ones(4))),
        lambda z, f: F.relu(F.layer_norm(z, z.shape[1:])),
        lambda z, f: F.interpolate(F.relu(z), scale_factor=2, mode="bilinear"),
        lambda z, f: F.normalize(f(F.relu(z))),
        lambda z, f: F.relu(f(F.pad(F.relu(z), (1, 1, 2, 2), mode="circular"))),
        lambda z, f: halves(z),
        lambda z, f: F.local_response_norm(F.relu(z), 3),
        lambda z, f: F.lp_pool2d(F.relu(z), 2, 2),
        lambda z, f: F.relu(z) * torch.sigmoid(f.weight[:, :1, 0, :1]).view(1, 4, 1, 1),
        lambda z, f: F.relu(z) * f(z).flatten(2).softmax(2).view(z.shape),
        lambda z, f: F.relu(z).amax((2, 3), keepdim=True),
        lambda z, f: F.relu(z) + z.detach(),
        lambda z, f: F.relu(z) * torch.ones_like(z) * z.new_tensor(2.0),
    ],
    ids=[
        *("max-pool, dropout", "cat, avg-pool", "batch norm", "layer norm", "upsampling"),
        *("normalize", "circular padding", "assigned halves", "response norm", "LP pooling"),
        *("gate of a parameter", "softmax attention", "largest position", "stop-gradient"),
        "constants of its shape",
    ],
)
@pytest.mark.parametrize("trainable", [False, True])
def test_what_is_no_activation_is_not_refused(forward, trainable):
    net = as_net(seeded(Act(forward)).requires_grad_(trainable), "conv1")
    assert not explain(net, images(1, 3, 6, 4), [[0]], *RULE_METHODS).refused


def test_all_other_activations_are_named_whether_or_not_there_is_a_relu_too():
    def forward(z, f):
        return F.hardswish(f(F.relu(z))) * torch.sigmoid(f(F.silu(z)))

    result = explain(as_net(seeded(Act(forward))), images(1, 3, 6, 4), [[0]], *RULE_METHODS[:2])
    assert set(result.refused.values()) == {
        "the net uses hardswish, sigmoid and SiLU, for which no ReLU rule is defined"
    }


def test_one_net_explained_with_and_without_other_methods_gives_the_same_maps():
    net = as_net(seeded(Act(lambda z, f: F.relu(f(F.relu(z))))), "conv2")
    ids = ("backprop", "deconvolution", "guided_backprop", "grad_cam", "guided_grad_cam", "cam")
    x = images(2, 3, 6, 4)
    together = explain(net, x, [[0], [1]], *ids)
    for method in ids:
        alone = explain(net, x, [[0], [1]], method)
        assert alone.refused.keys() == together.refused.keys() & {method}
        if method in alone.maps:
            torch.testing.assert_close(
                alone.maps[method], together.maps[method], rtol=0, atol=1e-13
            )
