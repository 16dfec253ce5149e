"""What stands around a net, or in it in place of a plain module."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import nn

from tests.engine.twins.by_hand import average, batch_norm, conv, layer, linear
from tests.engine.twins.harness import Case, ending, ending_twin, features, plain_twin, small
from tests.engine.twins.wrapped import (
    Cached,
    CachedOutside,
    Counter,
    Holding,
    LazilyBuilt,
    LowRank,
    Normalised,
    UnitNorm,
    plain,
)


def inside(prefix):
    """The plain twin, with names that begin with a prefix."""
    return lambda r, w, x: plain_twin(r, {n.removeprefix(prefix): v for n, v in w.items()}, x)


def held_to(m, dtype):
    m.inner[0].to(dtype).eval()
    return m


def holding(name, hold):
    return Case(
        name,
        lambda: Holding(hold),
        plain_twin,
        target=None,
        inner=lambda m: m.inner[0],
        convert=held_to,
    )


def unit_norm(w):
    return w["s.weight"] / (w["s.weight"] ** 2).sum((1, 2, 3), keepdim=True) ** 0.5


def with_stem(name, make, kernel, **fields):
    """The stem ``s``, whose kernel the twin computes."""
    return small(
        name,
        lambda m, x: ending(m, F.relu(m.s(x))),
        lambda r, w, x: ending_twin(r, w, r.relu(conv(x, kernel(w), w["s.bias"], padding=1))),
        lambda: {"s": make()},
        **fields,
    )


def own_kernel(w):
    return w["s.weight"]


def sequential():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(True),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


def sequential_twin(r, w, x):
    h = r.relu(layer(w, "0", x, padding=1))
    return linear(w, "6", average(r.at(r.relu(layer(w, "2", h, padding=1)))))


def monkey_patched():
    net = plain()
    net.forward = functools.partial(lambda m, x: m.fc(features(m, 2 * x).mean((2, 3))), net)
    return net


def scripted():
    return torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()))


def blocks():
    return {"blocks": nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))}


def through_blocks(m, h):
    for block in m.blocks:
        h = h + block(h) / 4
    return h


def through_blocks_twin(w, h):
    for i in range(3):
        h = h + layer(w, f"blocks.{i}", h, padding=1) / 4
    return h


CASES = [
    Case("sequential", sequential, sequential_twin, target="3"),
    Case(
        "data-parallel-without-gpus",
        lambda: nn.DataParallel(plain()),
        inside("module."),
        target="module.keep",
    ),
    Case(
        "wrapped-with-normalisation",
        lambda: Normalised(plain()),
        lambda r, w, x: inside("net.")(r, w, (x - w["mean"]) * 2),
        target="net.keep",
    ),
    holding("held-in-a-lambda", lambda net: lambda x: net(x)),
    holding("held-in-a-partial", lambda net: functools.partial(net.forward)),
    Case(
        "cache-in-the-net",
        Cached,
        lambda r, w, x: inside("net.")(r, w, x * (torch.arange(x.shape[3]).double() / x.shape[3])),
        target="net.keep",
    ),
    Case(
        "cache-outside-the-net",
        CachedOutside,
        lambda r, w, x: inside("net.")(r, w, x * (torch.arange(x.shape[3]).double() / x.shape[3])),
        target="net.keep",
    ),
    Case(
        "lazily-built",
        LazilyBuilt,
        lambda r, w, x: inside("net.")(r, w, 1.5 * x),
        target="net.keep",
    ),
    Case("forward-replaced", monkey_patched, lambda r, w, x: plain_twin(r, w, 2 * x)),
    with_stem("low-rank-update-merged", LowRank, own_kernel),
    with_stem(
        "low-rank-update-while-training",
        LowRank,
        lambda w: (
            w["s.weight"]
            + torch.einsum("or,ri->oi", w["s.b"], w["s.a"]).reshape(w["s.weight"].shape)
        ),
        training=True,
    ),
    with_stem("kernel-set-in-forward", lambda: UnitNorm(3, 4, 3, padding=1), unit_norm),
    small(
        "calls-counted",
        lambda m, x: m.fc(m.count(features(m, x)).mean((2, 3))),
        plain_twin,
        lambda: {"count": Counter()},
    ),
    small(
        "module-list",
        lambda m, x: ending(m, through_blocks(m, F.relu(m.conv1(x)))),
        lambda r, w, x: ending_twin(
            r, w, through_blocks_twin(w, r.relu(layer(w, "conv1", x, padding=1)))
        ),
        blocks,
    ),
    small(
        "norm-while-training",
        lambda m, x: ending(m, F.relu(m.n(m.conv1(x)))),
        lambda r, w, x: ending_twin(
            r, w, r.relu(batch_norm(w, "n", layer(w, "conv1", x, padding=1)))
        ),
        lambda: {"n": nn.BatchNorm2d(4)},
        training=True,
    ),
    small(
        "scripted-submodule",
        lambda m, x: ending(m, m.s(x)),
        lambda r, w, x: ending_twin(r, w, r.relu(layer(w, "s.0", x, padding=1))),
        lambda: {"s": scripted()},
        refused="compiled",
    ),
    small(
        "parameters-need-gradients-off",
        lambda m, x: m.fc(features(m.requires_grad_(False), x).mean((2, 3))),
        plain_twin,
    ),
]
