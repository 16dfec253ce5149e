"""Nets whose path depends on the image's shape, on the batch, or on values."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.engine.twins.by_hand import average, avg_pool, layer, linear, max_pool
from tests.engine.twins.harness import ending, ending_twin, features, features_twin, small


def middle(name, body, twin, layers=dict, **fields):
    """``body`` stands between conv1 + ReLU and the usual end."""
    return small(
        name,
        lambda m, x: ending(m, body(m, F.relu(m.conv1(x)))),
        lambda r, w, x: ending_twin(r, w, twin(r, w, r.relu(layer(w, "conv1", x, padding=1)))),
        layers,
        **fields,
    )


def extra():
    return {"extra": nn.Conv2d(4, 4, 3, padding=1)}


def extra_twin(w, h):
    return layer(w, "extra", h, padding=1)


def repeated(m, h):
    while h.shape[-1] > 6:
        h = F.avg_pool2d(h, 2)
    return h


def repeated_twin(r, w, h):
    for _ in range(2):  # 24 and 23 columns become 6 and 5
        h = avg_pool(h, 2)
    return h


def hidden_by_try(m, h):
    try:
        return m.extra(h[:, :3])
    except RuntimeError:
        return m.extra(h)


def stripes(m, h):
    for i in range(4):
        h = h + m.extra(h) / (i + 2) if i % 2 else h
    return h


def stripes_twin(r, w, h):
    h = h + extra_twin(w, h) / 3
    return h + extra_twin(w, h) / 5


def by_largest(m, h):
    """Which of two paths the whole batch takes is seen in a value."""
    return m.extra(h) if float(h.sum()) > 0 else h


CASES = [
    middle("pool-until-small", repeated, repeated_twin),
    middle(
        "if-wide",
        lambda m, h: m.extra(h) if h.shape[3] == 24 else h,
        lambda r, w, h: extra_twin(w, h) if h.shape[3] == 24 else h,
        extra,
    ),
    middle(
        "if-odd-then-pad",
        lambda m, h: F.max_pool2d(F.pad(h, (0, h.shape[3] % 2, 0, h.shape[2] % 2)), 2),
        lambda r, w, h: (
            max_pool(r, h, 2) if h.shape[3] == 24 else max_pool(r, F.pad(h, (0, 1, 0, 1)), 2)
        ),
    ),
    middle(
        "cropped-to-a-square",
        lambda m, h: h[..., : min(h.shape[2:]), : min(h.shape[2:])],
        lambda r, w, h: h[..., :20] if h.shape[2] == 20 else h[..., :17],
    ),
    middle("a-loop-over-python-numbers", stripes, stripes_twin, extra),
    middle("an-error-that-is-caught", hidden_by_try, lambda r, w, h: extra_twin(w, h), extra),
    middle(
        "if-training-explained-while-training",
        lambda m, h: m.extra(h) if m.training else h,
        lambda r, w, h: h,
        extra,
        training=True,
    ),
    middle(
        "checkpointed",
        lambda m, h: checkpoint(m.extra, h, use_reentrant=False),
        lambda r, w, h: extra_twin(w, h),
        extra,
    ),
    middle("if-a-sum-is-positive", by_largest, lambda r, w, h: extra_twin(w, h), extra),
    middle(
        "if-a-weight-is-positive",
        lambda m, h: h if float(m.extra.weight.detach()[0, 0, 0, 0]) > 0 else m.extra(h),
        lambda r, w, h: h if w["extra.weight"][0, 0, 0, 0] > 0 else extra_twin(w, h),
        extra,
    ),
    small(
        "one-image-at-a-time",
        lambda m, x: torch.cat([m.fc(features(m, one).mean((2, 3))) for one in x.split(1)]),
        lambda r, w, x: linear(w, "fc", average(features_twin(r, w, x))),
        target=None,
    ),
    small(
        "rows-stacked",
        lambda m, x: torch.stack(list(m.fc(features(m, x).mean((2, 3))))),
        lambda r, w, x: linear(w, "fc", average(features_twin(r, w, x))),
    ),
    small(
        "over-the-batch-size",
        lambda m, x: m.fc(features(m, x).mean((2, 3))) / len(x),
        lambda r, w, x: linear(w, "fc", average(features_twin(r, w, x))) / len(x),
        sees_batch=True,
    ),
    small(
        "if-alone",
        lambda m, x: (lambda s: s * 3 if len(x) == 1 else s)(m.fc(features(m, x).mean((2, 3)))),
        lambda r, w, x: (
            linear(w, "fc", average(features_twin(r, w, x))) * (3 if len(x) == 1 else 1)
        ),
        sees_batch=True,
    ),
    small(
        "without-the-mean-of-the-batch",
        lambda m, x: (lambda s: s - 0.5 * s.mean(0, keepdim=True))(
            m.fc(features(m, x).mean((2, 3)))
        ),
        lambda r, w, x: (lambda s: s - 0.5 * s.sum(0) / len(x))(
            linear(w, "fc", average(features_twin(r, w, x)))
        ),
        sees_batch=True,
    ),
    small(
        "neighbours-in-the-batch-added",
        lambda m, x: (lambda f: m.fc((f + f.roll(1, 0)).mean((2, 3))))(features(m, x)),
        lambda r, w, x: (lambda f: linear(w, "fc", average(f + torch.cat([f[-1:], f[:-1]]))))(
            features_twin(r, w, x)
        ),
        sees_batch=True,
    ),
    small(
        "dropout-while-training",
        lambda m, x: m.fc(m.drop(features(m, x)).mean((2, 3))),
        lambda r, w, x: linear(w, "fc", average(features_twin(r, w, x))),
        lambda: {"drop": nn.Dropout(0.5)},
        training=True,
    ),
]
