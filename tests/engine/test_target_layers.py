"""The signals at the target layer: in-place neighbours, shared graphs, CAM's form of net."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.reference import maps as twin
from tests.tiny import Act, ConvNet, as_net, explain, images, maps, seeded
from xai_core.errors import BadInput, Unsupported
from xai_core.methods import METHODS

pytestmark = [
    pytest.mark.usefixtures("each_engine"),
    pytest.mark.filterwarnings("ignore::xai_core.engine.FallsBack"),
]


class InPlaceBehindConv(nn.Module):
    """Like vgg's features.34: an in-place ReLU overwrites the convolution's output."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.conv2(self.relu(self.conv(x))).mean(dim=(2, 3)))


def grad_cam_by_hand(f, logit, size):
    """From the definition; ``f`` is in the graph of ``logit``."""
    gradient = torch.autograd.grad(logit, f)[0]
    alpha = gradient.mean(dim=(2, 3)).numpy()[0]
    coarse = twin.weighted_sum(alpha, f.detach().numpy()[0])
    return twin.min_max(twin.upsample(coarse, *size))


@pytest.mark.parametrize("with_others", [(), ("backprop",), ("guided_backprop", "backprop")])
def test_grad_cam_at_a_conv_before_an_in_place_relu_uses_what_the_conv_gave(with_others):
    net, x = seeded(InPlaceBehindConv()), images(1, 3, 6, 8)
    f = net.conv(x).requires_grad_()
    logit = net.fc(net.conv2(torch.relu(f)).mean(dim=(2, 3)))[0, 1]
    expected = grad_cam_by_hand(f, logit, (6, 8))
    ours = maps(as_net(net, "conv"), x, 1, "grad_cam", *with_others)["grad_cam"][0, 0]
    assert (f < 0).any()
    torch.testing.assert_close(ours, torch.tensor(expected), rtol=0, atol=1e-12)


class SkipAroundTarget(nn.Module):
    """The target layer works in place, so that the skip reads its output too."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        z = self.conv(x)
        return self.fc((z + torch.tanh(self.conv2(self.relu(z)))).mean(dim=(2, 3)))


@pytest.mark.parametrize("with_others", [(), ("backprop",)])
def test_a_skip_that_reads_the_in_place_target_layer_counts(with_others):
    net, x = seeded(SkipAroundTarget()), images(1, 3, 6, 8)
    f = torch.relu(net.conv(x)).requires_grad_()
    logit = net.fc((f + torch.tanh(net.conv2(f))).mean(dim=(2, 3)))[0, 2]
    expected = grad_cam_by_hand(f, logit, (6, 8))
    ours = maps(as_net(net, "relu"), x, 2, "grad_cam", *with_others)["grad_cam"][0, 0]
    torch.testing.assert_close(ours, torch.tensor(expected), rtol=0, atol=1e-12)


class OverwritesTarget(SkipAroundTarget):
    def forward(self, x):
        z = self.conv(x)
        z += torch.tanh(self.conv2(self.relu(z)))
        return self.fc(z.mean(dim=(2, 3)))


@pytest.mark.parametrize("with_others", [(), ("backprop",)])
def test_a_target_layer_that_is_overwritten_where_autograd_needs_it_is_bad_input(with_others):
    net = as_net(seeded(OverwritesTarget()), "relu")
    with pytest.raises(
        BadInput, match=r"tiny has no gradient: .* modified by an inplace operation"
    ):
        explain(net, images(1, 3, 6, 8), [[2]], "grad_cam", *with_others)


class AddsToTarget(SkipAroundTarget):
    def forward(self, x):
        f = self.conv(x)
        f += torch.tanh(self.conv2(f.clone()))
        return self.fc(f.mean(dim=(2, 3)))


@pytest.mark.parametrize("with_others", [(), ("backprop",)])
def test_a_target_layer_that_is_added_to_in_place_keeps_its_own_values(with_others):
    net, x = seeded(AddsToTarget()), images(1, 3, 6, 8)
    f = net.conv(x).requires_grad_()
    logit = net.fc((f + torch.tanh(net.conv2(f))).mean(dim=(2, 3)))[0, 2]
    expected = grad_cam_by_hand(f, logit, (6, 8))
    ours = maps(as_net(net, "conv"), x, 2, "grad_cam", *with_others)["grad_cam"][0, 0]
    torch.testing.assert_close(ours, torch.tensor(expected), rtol=0, atol=1e-12)


class TargetAside(SkipAroundTarget):
    """The target layer does not lead to the logits."""

    def forward(self, x):
        z = self.conv(x)
        self.relu(self.conv2(z))
        return self.fc(z.mean(dim=(2, 3)))


@pytest.mark.parametrize("trainable", [False, True])
def test_a_target_layer_that_does_not_lead_to_the_logits_is_bad_input(trainable):
    net = as_net(seeded(TargetAside()).requires_grad_(trainable), "relu")
    result = explain(net, images(1, 3, 6, 8), [[2]], "grad_cam", "backprop")
    assert set(result.maps) == {"backprop"}
    assert "no gradient reaches the target layer relu" in result.failed["grad_cam"]


def test_the_gradient_is_the_plain_one_whatever_else_is_computed():
    net = as_net(ConvNet(twin.random_parameters(5)), "features.0")
    x = images(1, 3, 8, 6)
    alone = maps(net, x, 0, "grad_cam")["grad_cam"]
    together = maps(net, x, 0, "deconvolution", "guided_backprop", "grad_cam")["grad_cam"]
    torch.testing.assert_close(alone, together, rtol=0, atol=0)


@pytest.mark.parametrize("seed", range(4))
def test_grad_cam_equals_cam_where_global_pooling_and_a_linear_layer_end_the_net(seed):
    net = as_net(ConvNet(twin.random_parameters(seed)), "features.4")
    ours = maps(net, images(2, 3, 8, 6, seed=seed), 1, "cam", "grad_cam")
    torch.testing.assert_close(ours["cam"], ours["grad_cam"], rtol=0, atol=1e-12)


class ConvClassifier(nn.Module):
    """SqueezeNet's form: 1x1 convolution, ReLU or not, global average."""

    def __init__(self, last):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.scores = nn.Conv2d(4, 3, 1)
        self.last = last

    def forward(self, x):
        return self.last(self.scores(self.features(x))).mean(dim=(2, 3))


@pytest.mark.parametrize("last", [nn.ReLU(inplace=True), nn.Identity()], ids=["relu", "none"])
def test_cam_takes_the_rows_of_a_convolutional_classifier(last):
    net, x = seeded(ConvClassifier(last)), images(2, 3, 6, 8)
    ours = maps(as_net(net, "features"), x, 2, "cam")["cam"]
    f = net.features(x).numpy()
    for i in range(2):
        coarse = twin.weighted_sum(net.scores.weight[2, :, 0, 0].numpy(), f[i])
        expected = twin.min_max(twin.upsample(coarse, 6, 8))
        torch.testing.assert_close(ours[i, 0], torch.tensor(expected), rtol=0, atol=1e-12)


OTHER_FORMS = {
    "two linear layers": (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)), "conv1"),
    "GELU between": (nn.Sequential(nn.GELU(), nn.Linear(4, 3)), "conv1"),
    "not the last layer": (nn.Linear(4, 3), "conv1"),
}


@pytest.mark.parametrize(("classifier", "layer"), OTHER_FORMS.values(), ids=OTHER_FORMS)
def test_cam_is_refused_for_nets_of_another_form(classifier, layer):
    module = Act(lambda z, f: F.relu(z))  # the target layer is in front of this ReLU
    module.fc = classifier
    result = explain(as_net(seeded(module), layer), images(1, 3, 6, 4), [[0]], "cam", "grad_cam")
    assert "global average pooling" in result.refused["cam"]
    assert set(result.maps) == {"grad_cam"}


def test_a_map_without_positive_evidence_is_zero_and_finite():
    net = ConvNet(twin.random_parameters(0))
    net.fc.weight[0] = -net.fc.weight[0].abs()
    ours = maps(as_net(net, "features.4"), images(1, 3, 8, 6), 0, "grad_cam", "cam")
    assert all(not values.any() for values in ours.values())
    assert maps(as_net(net, "features.4"), images(1, 3, 8, 6), 1, "grad_cam")["grad_cam"].any()


def test_without_a_target_layer_only_what_needs_one_is_refused():
    module = seeded(Act(lambda z, f: F.relu(f(F.relu(z)))))
    x = images(1, 3, 6, 4)
    net = replace(as_net(module, "conv1"), target_layer=None, no_target_layer="tiny has none")
    result = explain(net, x, [[0]], *METHODS)
    needing = {"cam", "grad_cam", "guided_grad_cam", "noise_grad_cam", "edges_grad_cam"}
    assert result.refused == dict.fromkeys(needing, "tiny has none")
    assert set(result.maps) == {*METHODS} - needing
    others = ("backprop", "deconvolution", "guided_backprop")
    expected = maps(as_net(module, "conv1"), x, 0, *others)
    assert all(torch.equal(result.maps[name], expected[name]) for name in others)


def test_images_of_another_size_than_the_nets_own_are_unsupported():
    net = as_net(seeded(Act(lambda z, f: F.relu(z))), "conv1")
    fixed = replace(net, input_size=6)
    for height, width in ((6, 4), (4, 6), (7, 7)):
        with pytest.raises(Unsupported, match=r"^tiny takes images of 6x6 pixels only$"):
            explain(fixed, images(1, 3, height, width), [[0]], "backprop", "uniform")
        assert explain(net, images(1, 3, height, width), [[0]], "backprop").maps
    assert explain(fixed, images(1, 3, 6, 6), [[0]], "backprop").maps


def test_a_target_layer_that_does_not_exist_is_bad_input():
    net = as_net(seeded(Act(lambda z, f: f(f(z)))), "nowhere")
    with pytest.raises(BadInput, match="no layer called 'nowhere'"):
        explain(net, images(1, 3, 6, 4), [[0]], "grad_cam")
    assert not explain(net, images(1, 3, 6, 4), [[0]], "backprop").failed


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        ("fc", "needs (batch, channels, height, width)"),
        ("conv2", "ran 2 times"),
    ],
)
def test_a_target_layer_that_is_no_single_spatial_map_fails_its_methods_alone(layer, sentence):
    net = as_net(seeded(Act(lambda z, f: f(f(z)))), layer)
    result = explain(net, images(1, 3, 6, 4), [[0]], "grad_cam", "cam", "backprop")
    assert set(result.failed) == {"grad_cam", "cam"}
    assert all(sentence in reason for reason in result.failed.values())
    assert set(result.maps) == {"backprop"}


class Grid(nn.Module):
    """Gives its map as a view of other memory."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, z):
        return self.linear(z.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def test_a_target_layer_that_gives_a_view_which_is_overwritten_has_its_gradient():
    def made(inplace):
        net = Act(lambda z, f: F.relu(net.grid(F.relu(z)), inplace=inplace))
        net.grid = Grid()
        return as_net(seeded(net), "grid")

    x = images(2, 3, 6, 4)
    ours = maps(made(True), x, 1, "grad_cam", "backprop")
    expected = maps(made(False), x, 1, "grad_cam", "backprop")
    for method, values in expected.items():
        assert values.any()
        assert torch.equal(ours[method], values)
