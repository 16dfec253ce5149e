"""However the last reduction is spelled, the layer is that of plain mean."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai_core.errors import Unsupported
from xai_core.nets.target_layer import find_target_layer

C, CLASSES, SIZE = 6, 4, 32


def block(channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, C, 3, stride, 1), nn.BatchNorm2d(C), nn.ReLU())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(C, C, 3, 1, 1), nn.Conv2d(C, C, 3, 1, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(x + self.conv2(self.relu(self.conv1(x))))


class Gated(nn.Module):
    """Squeeze and excitation: pools its own map on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.squeeze = block(C), nn.Conv2d(C, C, 1)

    def forward(self, x):
        f = self.body(x)
        return f * torch.sigmoid(self.squeeze(F.adaptive_avg_pool2d(f, 1)))


class GatedByLinear(Gated):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(C, 2), nn.Linear(2, C)

    def forward(self, x):
        f = self.body(x)
        gate = torch.sigmoid(self.fc2(F.relu(self.fc1(f.mean(dim=(2, 3))))))
        return f * gate[:, :, None, None]


class SharedReLU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, C, 3, 2, 1), nn.Conv2d(C, C, 3, 2, 1)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.conv2(F.max_pool2d(self.relu(self.conv1(x)), 2)))


class Functional(SharedReLU):
    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x), self.inplace), 2)
        return F.relu(self.conv2(x), self.inplace)


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = block(3, 2), block(C)
        self.transition = nn.Sequential(nn.Conv2d(2 * C, C, 1), nn.ReLU())

    def forward(self, x):
        f = self.first(x)
        return self.transition(torch.cat([f, self.second(f)], 1))


class ChannelsLast(nn.Module):
    """A ConvNeXt block: its layer norm and linear layers see (B, h, w, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(C, C, 3, 1, 1, groups=C), nn.LayerNorm(C)
        self.fc1, self.fc2 = nn.Linear(C, 8), nn.Linear(8, C)

    def forward(self, x):
        y = self.norm(self.conv(x).permute(0, 2, 3, 1))
        return x + self.fc2(F.gelu(self.fc1(y))).permute(0, 3, 1, 2)


class Backbone(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)

    def forward(self, x):
        return self.features(x)


class PooledInTheMiddle(nn.Module):
    """The deepest map by itself: the root module has no other layer around it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = block(3), block(C)

    def forward(self, x):
        return self.two(F.max_pool2d(self.one(x), 4))


BACKBONES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "an earlier max-pooling": (PooledInTheMiddle, "backbone"),
    "strided": (lambda: Backbone(block(3, 2), block(C, 2)), "backbone"),
    "residual": (lambda: Backbone(block(3, 2), nn.MaxPool2d(2), Residual()), "backbone"),
    "gated": (lambda: Backbone(block(3, 4), Gated(), Gated()), "backbone"),
    "gated by linear layers": (lambda: Backbone(block(3, 4), GatedByLinear()), "backbone"),
    "a shared nn.ReLU": (SharedReLU, "backbone"),
    "F.relu": (lambda: Functional(False), "backbone"),
    "F.relu in place": (lambda: Functional(True), "backbone"),
    "dense": (lambda: Backbone(nn.MaxPool2d(4), Dense()), "backbone"),
    "channels last inside": (lambda: Backbone(block(3, 4), ChannelsLast()), "backbone"),
    "ends in pooling": (
        lambda: Backbone(block(3, 2), block(C), nn.MaxPool2d(2)),
        "backbone.features.1",
    ),
    "ends in nn.Identity": (lambda: Backbone(block(3, 4), nn.Identity()), "backbone"),
}


class Net(nn.Module):
    def __init__(
        self, backbone: nn.Module, head: Callable[[nn.Module, Tensor], Tensor], classes: int
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.fc, self.wide, self.square = (
            nn.Linear(C, classes),
            nn.LazyLinear(classes),
            nn.Linear(C * C, classes),
        )
        self.query = nn.Conv2d(C, 1, 1)
        self.attention = nn.MultiheadAttention(C, 2)
        self.place = nn.Parameter(torch.randn(65, 1, C))
        self.gem = GeM()
        self.norm, self.flat = nn.BatchNorm1d(C), nn.LazyBatchNorm1d()
        self.lp = nn.LPPool2d(2, 4)
        self.scores = nn.Conv2d(C, classes, 1)

    def forward(self, x):
        return self.head(self, self.backbone(x))


class GeM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.ones(1) * 3)

    def forward(self, x):
        return F.avg_pool2d(x.clamp(min=1e-6).pow(self.p), x.shape[-2:]).pow(1 / self.p)


def attention_of(net: nn.Module, f: Tensor) -> Tensor:
    return net.query(f).flatten(2).softmax(2).view(len(f), 1, *f.shape[2:])


def clip(net: nn.Module, f: Tensor, everywhere: bool) -> Tensor:
    x = f.flatten(2).permute(2, 0, 1)
    x = torch.cat([x.mean(0, keepdim=True), x]) + net.place[: len(x) + 1]
    y, _ = net.attention(x if everywhere else x[:1], x, x, need_weights=everywhere)
    return net.fc(y[0])


def over_rows(net: nn.Module, f: Tensor) -> Tensor:
    total = torch.zeros(f.shape[:2])
    for row in f.unbind(2):
        total = total + row.sum(2)
    return net.fc(total / f[0, 0].numel())


SPELLINGS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "mean((2, 3))": lambda n, f: n.fc(f.mean((2, 3))),
    "mean of the negative axes, kept": lambda n, f: n.fc(f.mean((-2, -1), keepdim=True)[..., 0, 0]),
    "mean(2).mean(2)": lambda n, f: n.fc(f.mean(2).mean(2)),
    "mean(3, keepdim).mean(2, keepdim)": lambda n, f: n.fc(
        f.mean(3, True).mean(2, True).flatten(1)
    ),
    "adaptive_avg_pool2d": lambda n, f: n.fc(F.adaptive_avg_pool2d(f, 1).flatten(1)),
    "adaptive_avg_pool2d, then squeeze": lambda n, f: n.fc(
        F.adaptive_avg_pool2d(f, 1).squeeze()[None]
    ),
    "adaptive_avg_pool1d": lambda n, f: n.fc(F.adaptive_avg_pool1d(f.flatten(2), 1).squeeze(2)),
    "adaptive_max_pool2d": lambda n, f: n.fc(F.adaptive_max_pool2d(f, 1).flatten(1)),
    "with indices": lambda n, f: n.fc(
        F.adaptive_max_pool2d(f, 1, return_indices=True)[0].flatten(1)
    ),
    "avg_pool2d of the whole map": lambda n, f: n.fc(F.avg_pool2d(f, f.shape[2:]).view(len(f), -1)),
    "max_pool2d of the whole map": lambda n, f: n.fc(F.max_pool2d(f, f.shape[2:]).view(len(f), -1)),
    "flatten(2).mean(2)": lambda n, f: n.fc(f.flatten(2).mean(2)),
    "view().mean(-1)": lambda n, f: n.fc(f.reshape(*f.shape[:2], -1).mean(-1)),
    "flatten(2).max(2)": lambda n, f: n.fc(f.flatten(2).max(2).values),
    "channels last, then mean": lambda n, f: n.fc(f.permute(0, 2, 3, 1).mean((1, 2))),
    "tokens, then mean": lambda n, f: n.fc(f.flatten(2).transpose(1, 2).mean(1)),
    "sum / n": lambda n, f: n.fc(f.sum((2, 3)) / (f.shape[2] * f.shape[3])),
    "row by row": over_rows,
    "amax": lambda n, f: n.fc(f.amax((2, 3))),
    "amin": lambda n, f: n.fc(f.amin((2, 3))),
    "logsumexp": lambda n, f: n.fc(f.logsumexp((2, 3))),
    "log of the mean of exp": lambda n, f: n.fc(f.exp().mean((2, 3)).log()),
    "median": lambda n, f: n.fc(f.flatten(2).median(2).values),
    "topk": lambda n, f: n.fc(f.flatten(2).topk(5, 2).values.mean(2)),
    "standard deviation": lambda n, f: n.fc(f.std((2, 3))),
    "norm": lambda n, f: n.fc(f.norm(dim=(2, 3))),
    "einsum": lambda n, f: n.fc(torch.einsum("bchw->bc", f)),
    "einsum with weights": lambda n, f: n.fc(
        torch.einsum("bchw,bhw->bc", f, attention_of(n, f)[:, 0])
    ),
    "matmul with a constant": lambda n, f: n.fc(
        (f.flatten(2) @ torch.full((f[0, 0].numel(), 1), 0.1))[..., 0]
    ),
    "lp_pool2d": lambda n, f: n.fc(F.lp_pool2d(f, 2, f.shape[2:]).flatten(1)),
    "GeM": lambda n, f: n.fc(n.gem(f).flatten(1)),
    "nn.LPPool2d, then mean": lambda n, f: n.fc(n.lp(f).mean((2, 3))),
    "mean and maximum": lambda n, f: n.fc(f.mean((2, 3)) + f.amax((2, 3))),
    "mean, maximum and deviation joined": lambda n, f: n.fc(
        torch.cat([f.mean((2, 3)), f.amax((2, 3)), f.std((2, 3))], 1)[:, ::3]
    ),
    "softmax attention": lambda n, f: n.fc((f * attention_of(n, f)).sum((2, 3))),
    "attention by sigmoid": lambda n, f: n.fc((f * torch.sigmoid(n.query(f))).mean((2, 3))),
    "attention, normalised afterwards": lambda n, f: n.fc(
        (f * n.query(f).exp()).sum((2, 3)) / n.query(f).exp().sum((2, 3))
    ),
    "attention by bmm": lambda n, f: n.fc(
        (f.flatten(2) @ attention_of(n, f).flatten(2).transpose(1, 2))[..., 0]
    ),
    "CLIP's attention pooling": lambda n, f: clip(n, f, everywhere=False),
    "CLIP's first": lambda n, f: clip(n, f, everywhere=True),
    "bilinear": lambda n, f: n.square(
        torch.bmm(f.flatten(2), f.flatten(2).transpose(1, 2)).flatten(1)
    ),
    "bilinear by einsum": lambda n, f: n.square(torch.einsum("bchw,bdhw->bcd", f, f).flatten(1)),
    "masked": lambda n, f: n.fc((f * (f > 0)).sum((2, 3)) / (f > 0).sum((2, 3)).clamp(min=1)),
    "gated channels, then mean": lambda n, f: n.fc(
        (f * torch.sigmoid(f.mean((2, 3), True))).mean((2, 3))
    ),
    "mean, then gated": lambda n, f: n.fc(f.mean((2, 3)) * torch.sigmoid(f.amax((2, 3)))),
    "unit channels, then mean": lambda n, f: n.fc(F.normalize(f, dim=1).mean((2, 3))),
    "dropout, then mean": lambda n, f: n.fc(F.dropout(f, 0.2, True).mean((2, 3))),
    "pooled twice": lambda n, f: n.fc(F.max_pool2d(f, 2).mean((2, 3))),
    "pooled maps are pooled": lambda n, f: n.fc(
        F.adaptive_max_pool2d(F.adaptive_avg_pool2d(f, 1), 1).flatten(1)
    ),
    "every other position": lambda n, f: n.fc(f[:, :, ::2, ::2].mean((2, 3))),
    "the middle position": lambda n, f: n.fc(f[:, :, f.shape[2] // 2, f.shape[3] // 2]),
    "flatten, linear": lambda n, f: n.wide(f.flatten(1)),
    "flatten, relu, linear": lambda n, f: n.wide(f.flatten(1).relu()),
    "flatten, norm, linear": lambda n, f: n.wide(n.flat(f.flatten(1))),
    "scores, mean as a product": lambda n, f: (
        n.scores(f).flatten(2) @ torch.full((f[0, 0].numel(), 1), 0.1)
    )[..., 0],
    "pooled to 2x2, flatten, linear": lambda n, f: n.wide(F.adaptive_avg_pool2d(f, 2).flatten(1)),
    "max-pooling, flatten, linear": lambda n, f: n.wide(F.max_pool2d(f, 2).flatten(1)),
    "mean, norm, linear": lambda n, f: n.fc(n.norm(f.mean((2, 3)))),
    "linear at each position, then mean": lambda n, f: n.fc(f.permute(0, 2, 3, 1)).mean((1, 2)),
    "scores, then mean": lambda n, f: n.scores(f).mean((2, 3)),
    "scores, relu, flatten(2), mean": lambda n, f: n.scores(f).relu().flatten(2).mean(2),
    "dropout, scores, mean": lambda n, f: n.scores(F.dropout2d(f, 0.5, False)).mean((2, 3)),
    "mean, scores as a convolution": lambda n, f: n.scores(f.mean((2, 3), keepdim=True)).flatten(1),
    "log-softmax behind": lambda n, f: n.fc(f.mean((2, 3))).log_softmax(1),
}


def found_in(backbone: nn.Module, head: Callable[[nn.Module, Tensor], Tensor], **options) -> str:
    net = Net(backbone, head, options.pop("classes", CLASSES)).eval()
    try:
        return find_target_layer(net, **{"size": SIZE, **options})
    except Unsupported as reason:
        return str(reason)


EXPECTED = {name: layer for name, (_, layer) in BACKBONES.items()}


@pytest.mark.parametrize("head", SPELLINGS.values(), ids=SPELLINGS)
def test_the_layer_is_that_of_plain_global_average_pooling(head):
    found = {name: found_in(build(), head) for name, (build, _) in BACKBONES.items()}
    assert found == EXPECTED


@pytest.mark.parametrize(
    "spelling",
    [
        "mean((2, 3))",
        "flatten, linear",
        "scores, then mean",
        "linear at each position, then mean",
    ],
)
def test_as_many_channels_as_classes_change_nothing(spelling):
    head = SPELLINGS[spelling]
    found = {name: found_in(build(), head, classes=C) for name, (build, _) in BACKBONES.items()}
    assert found == EXPECTED


NEED_SEVERAL = {
    *("pooled twice", "nn.LPPool2d, then mean", "max-pooling, flatten, linear", "topk"),
    *("standard deviation", "mean, maximum and deviation joined"),
}


@pytest.mark.parametrize("spelling", sorted({*SPELLINGS} - NEED_SEVERAL))
def test_a_map_of_one_position_is_still_the_last_map(spelling):
    build, layer = BACKBONES["strided"]
    assert found_in(build(), SPELLINGS[spelling], size=4) == layer


class Custom(nn.Module):
    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.one, self.two, self.fc = block(3, 2), block(C, 2), nn.Linear(C, CLASSES)
        self.conv, self.relu = nn.Conv2d(C, C, 3, 1, 1), nn.ReLU()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.run = run

    def forward(self, x):
        return self.run(self, x)


def gap(f: Tensor) -> Tensor:
    return f.flatten(2).mean(2)


def window_means(f: Tensor) -> Tensor:
    return f.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)).flatten(2).mean(2)


def residual_by_hand(net: nn.Module, x: Tensor) -> Tensor:
    f = net.two(net.one(x))
    return net.fc(gap(F.relu(f + net.conv(f))))


def tokens(net: nn.Module, x: Tensor) -> Tensor:
    """A Vision Transformer's end: tokens that were mixed, normalised and activated."""
    t = net.two(net.one(x)).flatten(2).transpose(1, 2)
    t = t + net.attention(t, t, t, need_weights=False)[0]
    return net.fc((t + net.mlp(net.norm(t))).mean(1))


MLP = nn.Sequential(nn.Linear(C, C), nn.ReLU(), nn.Linear(C, C))
REFUSED: dict[str, tuple[nn.Module, str]] = {
    "two stages joined": (
        Custom(
            lambda n, x: n.wide(torch.cat([gap(f := n.one(x)), gap(n.two(f))], 1)),
            wide=nn.LazyLinear(4),
        ),
        "its logits read several layers: (one, two|two, one)",
    ),
    "two stages added": (
        Custom(lambda n, x: n.fc(gap(f := n.one(x)) + gap(n.two(f)))),
        "its logits read several layers: (one, two|two, one)",
    ),
    "two branches joined, no module around them": (
        Custom(
            lambda n, x: n.wide(gap(torch.cat([n.two(f := n.one(x)), f[:, :, ::2, ::2]], 1))),
            wide=nn.LazyLinear(4),
        ),
        "its logits read several layers: (one, two|two, one)",
    ),
    "two streams, bilinear": (
        Custom(
            lambda n, x: n.wide(
                torch.einsum("bchw,bdhw->bcd", n.conv(f := n.one(x)), n.conv2(f)).flatten(1)
            ),
            conv2=nn.Conv2d(C, C, 1),
            wide=nn.LazyLinear(4),
        ),
        "its logits read several layers: (conv, conv2|conv2, conv)",
    ),
    "a residual sum by hand": (Custom(residual_by_hand), "several layers: (two, conv|conv, two)"),
    "a shared block": (
        Custom(lambda n, x: n.fc(gap(n.conv(n.conv(n.one(x)))))),
        "of conv, which runs 2 times; near it: one",
    ),
    "a constant is added": (
        Custom(lambda n, x: n.fc(gap(n.two(n.one(x)) + 1))),
        "is no module's output; near it: two, two.1",
    ),
    "a functional convolution": (
        Custom(
            lambda n, x: n.fc(gap(F.conv2d(n.one(x), n.kernel))),
            kernel=nn.Parameter(torch.randn(C, C, 3, 3)),
        ),
        "is no module's output; near it: one",
    ),
    "class scores of 3x3": (
        Custom(lambda n, x: gap(n.last(n.one(x)).relu()), last=nn.Conv2d(C, 4, 3)),
        "class scores of no 1x1 convolution; near it: last, one",
    ),
    "normalised with its channels last": (
        Custom(
            lambda n, x: n.fc(n.norm(n.one(x).permute(0, 2, 3, 1)).mean((1, 2))),
            norm=nn.LayerNorm(C),
        ),
        "has its channels last; near it: one",
    ),
    "windows by hand": (
        Custom(lambda n, x: n.fc(window_means(n.one(x)))),
        "can't be followed; near it: one",
    ),
    "tokens": (
        Custom(
            tokens,
            attention=nn.MultiheadAttention(C, 2, batch_first=True),
            norm=nn.LayerNorm(C),
            mlp=MLP,
        ),
        "^nothing spatial is pooled before its logits$",
    ),
    "no pooling at all": (Custom(lambda n, x: n.one(x).flatten(1)), "nothing spatial is pooled"),
    "the image alone": (
        Custom(lambda n, x: n.wide(x.flatten(1)), wide=nn.LazyLinear(4)),
        "nothing spatial",
    ),
    "a constant": (Custom(lambda n, x: n.fc(torch.ones(1, C))), "nothing spatial is pooled"),
}


@pytest.mark.parametrize(("net", "reason"), REFUSED.values(), ids=REFUSED)
def test_where_no_layer_or_several_would_do_the_reason_names_them(net, reason):
    with pytest.raises(Unsupported, match=reason):
        find_target_layer(net.eval(), size=SIZE)


def self_attention(net: nn.Module, x: Tensor) -> Tensor:
    f = net.two(net.one(x)).flatten(2)
    t = f.unflatten(1, (2, C // 2)).transpose(2, 3)  # two heads
    return net.fc((net.soft(t @ t.transpose(2, 3)) @ t).mean(2).flatten(1))


def asked(net: nn.Module, x: Tensor) -> Tensor:
    f = net.one(x)
    query, key = (m.flatten(2).permute(2, 0, 1) for m in (f, net.two(f)))
    return net.fc(net.attention(query, key, key, need_weights=False)[0].mean(0))


def depth_of_space(net: nn.Module, x: Tensor) -> Tensor:
    f = net.two(net.one(x)).reshape(1, C, 4, 2, 4, 2).permute(0, 1, 3, 5, 2, 4)
    return net.fc(gap(net.last(f.reshape(1, 4 * C, 4, 4))))


def in_parts(pooled: Tensor) -> Tensor:
    values = torch.zeros(1, C)
    values[:, :2] = pooled[:, :2]
    values[:, 2:].add_(pooled[:, 2:]).relu_()
    return values


FOUND: dict[str, tuple[nn.Module, str]] = {
    "a shared ReLU in a block that runs once": (
        Custom(
            lambda n, x: n.fc(gap(n.block(n.relu(n.one(x))))),
            block=nn.Sequential(nn.Conv2d(C, C, 3), shared := nn.ReLU()),
            relu=shared,
        ),
        "block",
    ),
    "an attention of named parts": (
        Custom(
            lambda n, x: n.fc(
                (f := n.two(n.one(x)))
                .flatten(2)
                .bmm(n.soft(n.query(f).flatten(2)).transpose(1, 2))[..., 0]
            ),
            query=nn.Conv2d(C, 1, 1),
            soft=nn.Softmax(2),
        ),
        "two",
    ),
    "self-attention with a named softmax": (
        Custom(self_attention, soft=nn.Softmax(-1)),
        "two",
    ),
    "attention that another stage asks for": (
        Custom(asked, attention=nn.MultiheadAttention(C, 2)),
        "two",
    ),
    "a convolution behind positions that nobody can follow": (
        Custom(depth_of_space, last=nn.Conv2d(4 * C, C, 1)),
        "last",
    ),
    "pooled features are written into a buffer": (
        Custom(lambda n, x: n.fc(torch.zeros(1, C).copy_(gap(n.two(n.one(x)))))),
        "two",
    ),
    "pooled features are written in parts": (
        Custom(lambda n, x: n.fc(in_parts(gap(n.two(n.one(x)))))),
        "two",
    ),
    "an auxiliary head that is not used": (
        Custom(lambda n, x: (n.fc(gap(n.one(x))), n.fc(gap(n.two(n.one(x)))))[1]),
        "two",
    ),
    "a global convolution": (
        Custom(
            lambda n, x: n.fc(n.last(n.two(n.one(x))).flatten(1)), last=nn.Conv2d(C, C, 8, groups=C)
        ),
        "two",
    ),
    "a head of convolutions behind the pooling": (
        Custom(
            lambda n, x: F.adaptive_avg_pool2d(
                n.last(n.two(n.one(x)).mean((2, 3), True)).relu(), 1
            ).flatten(1),
            last=nn.Conv2d(C, 4, 1),
        ),
        "two",
    ),
}


@pytest.mark.parametrize(("net", "layer"), FOUND.values(), ids=FOUND)
def test_what_is_not_the_last_map_is_not_taken_for_it(net, layer):
    assert find_target_layer(net.eval(), size=SIZE) == layer
