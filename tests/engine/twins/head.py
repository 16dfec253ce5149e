"""From the last feature map to the logits: order and spelling of pooling and classifier."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from tests.engine.twins.by_hand import (
    adaptive,
    average,
    batch_norm,
    largest,
    layer,
    linear,
    max_pool,
)
from tests.engine.twins.harness import features, features_twin, plain_twin, small


def scored(**how):
    """A convolution to five class scores."""
    kernel = how.pop("kernel", 1)
    return lambda: {"s": nn.Conv2d(6, 5, kernel, **how)}


def on_f(name, body, twin, layers=dict, **fields):
    """A case whose body and twin begin at the target layer."""
    return small(
        name,
        lambda m, x: body(m, features(m, x)),
        lambda r, w, x: twin(r, w, features_twin(r, w, x)),
        layers,
        **fields,
    )


def gap(name, pooled, **fields):
    """Global average pooling, spelled otherwise; CAM is defined."""
    return small(name, lambda m, x: m.fc(pooled(features(m, x))), plain_twin, cam=True, **fields)


def fc_of(w, f):
    return linear(w, "fc", average(f))


def two_linears():
    return {"hidden": nn.Linear(6, 6)}


CASES = [
    gap("gap-mean", lambda f: f.mean((2, 3))),
    gap("gap-mean-twice", lambda f: f.mean(3).mean(2)),
    gap("gap-flatten-mean", lambda f: f.flatten(2).mean(2)),
    gap("gap-avg-pool-of-the-whole", lambda f: F.avg_pool2d(f, f.shape[2:]).flatten(1)),
    gap("gap-sum-by-number", lambda f: f.sum((2, 3)) / f[0, 0].numel()),
    on_f(
        "max-over-positions",
        lambda m, f: m.fc(f.amax((2, 3))),
        lambda r, w, f: linear(w, "fc", largest(r, f)),
    ),
    on_f(
        "scores-then-mean",
        lambda m, f: m.s(f).mean((2, 3)),
        lambda r, w, f: average(layer(w, "s", f)),
        scored(),
    ),
    on_f(
        "scores-relu-mean",
        lambda m, f: F.relu(m.s(f)).mean((2, 3)),
        lambda r, w, f: average(r.relu(layer(w, "s", f))),
        scored(),
    ),
    on_f(
        "scores-of-3x3",
        lambda m, f: m.s(f).mean((2, 3)),
        lambda r, w, f: average(layer(w, "s", f, padding=1)),
        scored(kernel=3, padding=1),
    ),
    on_f(
        "scores-dilated-beyond-the-map",
        lambda m, f: m.s(f).mean((2, 3)),
        lambda r, w, f: average(layer(w, "s", f, padding=18, dilation=18)),
        scored(kernel=3, padding=18, dilation=18),
    ),
    on_f(
        "scores-normalised",
        lambda m, f: m.n(m.s(f)).mean((2, 3)),
        lambda r, w, f: average(batch_norm(w, "n", layer(w, "s", f))),
        lambda: {"s": nn.Conv2d(6, 5, 1), "n": nn.BatchNorm2d(5)},
    ),
    on_f(
        "scores-adaptive-4x3-mean",
        lambda m, f: F.adaptive_avg_pool2d(m.s(f), (4, 3)).mean((2, 3)),
        lambda r, w, f: average(adaptive(layer(w, "s", f), 4, 3)),
        scored(),
    ),
    on_f(
        "scores-max-pool-mean",
        lambda m, f: F.max_pool2d(m.s(f), 2).mean((2, 3)),
        lambda r, w, f: average(max_pool(r, layer(w, "s", f), 2)),
        scored(),
    ),
    on_f(
        "linear-then-view",
        lambda m, f: m.fc(f.mean((2, 3))).view(-1, 5),
        lambda r, w, f: fc_of(w, f),
        cam=True,
    ),
    on_f(
        "linear-on-a-list-of-one",
        lambda m, f: m.fc(f.mean((2, 3)).unsqueeze(1)).squeeze(1),
        lambda r, w, f: fc_of(w, f),
    ),
    on_f(
        "linear-in-channels-last",
        lambda m, f: m.fc(f.mean((2, 3), keepdim=True).permute(0, 2, 3, 1)).flatten(1),
        lambda r, w, f: fc_of(w, f),
    ),
    on_f(
        "tokens-then-mean",
        lambda m, f: m.fc(f.flatten(2).transpose(1, 2)).mean(1),
        lambda r, w, f: fc_of(w, f),
    ),
    on_f(
        "conv-1x1-on-pooled",
        lambda m, f: m.s(f.mean((2, 3), keepdim=True)).flatten(1),
        lambda r, w, f: layer(w, "s", average(f)[:, :, None, None])[:, :, 0, 0],
        scored(),
    ),
    on_f(
        "two-linears-then-view",
        lambda m, f: m.fc(m.hidden(f.mean((2, 3))).relu_()).view(-1, 5),
        lambda r, w, f: linear(w, "fc", r.relu(linear(w, "hidden", average(f)))),
        two_linears,
    ),
    on_f(
        "flatten-of-a-pooled-grid",
        lambda m, f: m.big(F.adaptive_avg_pool2d(f, 3).flatten(1)),
        lambda r, w, f: linear(w, "big", adaptive(f, 3, 3).flatten(1)),
        lambda: {"big": nn.Linear(54, 5)},
    ),
    on_f(
        "logits-without-their-mean",
        lambda m, f: (lambda s: s - s.mean(1, keepdim=True))(m.fc(f.mean((2, 3)))),
        lambda r, w, f: (lambda s: s - s.sum(1, keepdim=True) / 5)(fc_of(w, f)),
    ),
]
