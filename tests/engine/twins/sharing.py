"""Weights and modules that are used more than once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.engine.twins.by_hand import average, batch_norm, conv, layer, linear, pad_by
from tests.engine.twins.harness import ending, ending_twin, features, features_twin, small


def again(name, body, twin, layers=dict, **fields):
    """``body`` begins behind conv1 and its ReLU."""
    return small(
        name,
        lambda m, x: ending(m, body(m, F.relu(m.conv1(x)))),
        lambda r, w, x: ending_twin(r, w, twin(r, w, r.relu(layer(w, "conv1", x, padding=1)))),
        layers,
        **fields,
    )


def one(**how):
    return lambda: {"s": nn.Conv2d(4, 4, 3, padding=1, **how)}


def s(w, h, **how):
    """The kernel of ``s``, in another convolution each time."""
    return conv(h, w["s.weight"], w["s.bias"], **how)


def by(m, h, **how):
    return F.conv2d(h, m.s.weight, m.s.bias, **how)


def pair(**how):
    """Modules ``s`` and ``t`` that share a kernel; ``t`` convolves in its own way."""

    def make():
        first, second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, **how)
        second.weight = first.weight
        return {"s": first, "t": second}

    return make


def two(name, **how):
    return again(
        f"kernel-in-two-modules-{name}",
        lambda m, h: m.t(F.relu(m.s(h))),
        lambda r, w, h: layer(w, "t", r.relu(layer(w, "s", h, padding=1)), **how),
        pair(**how),
    )


def tied_linear():
    """The hidden layer's weight is the classifier's, transposed by hand."""
    return {"hidden": nn.Linear(6, 6), "last": nn.Linear(6, 6)}


def same_linear():
    layers = tied_linear()
    layers["last"].weight = layers["hidden"].weight
    return layers


def same_norm():
    return {"s": nn.Conv2d(4, 4, 3, padding=1), "n": nn.BatchNorm2d(4)}


def aliased():
    """One module by two names."""
    c = nn.Conv2d(4, 4, 3, padding=1)
    return {"s": c, "t": c}


CASES = [
    two("stride-2", stride=2, padding=1),
    two("stride-3", stride=3, padding=0),
    two("dilated", dilation=2, padding=2),
    two("other-padding", padding=0),
    again(
        "module-twice",
        lambda m, h: m.s(F.relu(m.s(h))),
        lambda r, w, h: s(w, r.relu(s(w, h, padding=1)), padding=1),
        one(),
    ),
    again(
        "module-in-two-branches",
        lambda m, h: m.s(h) + m.s(-h),
        lambda r, w, h: s(w, h, padding=1) + s(w, -h, padding=1),
        one(),
    ),
    again(
        "module-by-two-names",
        lambda m, h: m.t(F.relu(m.s(h))),
        lambda r, w, h: layer(w, "t", r.relu(layer(w, "s", h, padding=1)), padding=1),
        aliased,
    ),
    again(
        "kernel-strided-both-ways",
        lambda m, h: by(m, by(m, h, stride=(2, 1)), stride=(1, 2)),
        lambda r, w, h: s(w, s(w, h, stride=(2, 1)), stride=(1, 2)),
        one(),
    ),
    again(
        "kernel-in-a-pyramid",
        lambda m, h: sum(by(m, h, padding=d, dilation=d) for d in (1, 2, 3)),
        lambda r, w, h: (
            s(w, h, padding=1) + s(w, h, padding=2, dilation=2) + s(w, h, padding=3, dilation=3)
        ),
        one(),
    ),
    again(
        "kernel-scaled-the-second-time",
        lambda m, h: m.s(h) + F.conv2d(h, m.s.weight * 0.5, padding=1),
        lambda r, w, h: s(w, h, padding=1) + 0.5 * conv(h, w["s.weight"], padding=1),
        one(),
    ),
    again(
        "kernel-transposed-the-second-time",
        lambda m, h: m.s(h) + F.conv_transpose2d(h, m.s.weight, padding=1),
        lambda r, w, h: (
            s(w, h, padding=1) + conv(h, w["s.weight"].flip(2, 3).transpose(0, 1), padding=1)
        ),
        one(),
    ),
    again(
        "padding-mode-of-the-second",
        lambda m, h: m.s(by(m, F.pad(h, (1,) * 4, "reflect"))),
        lambda r, w, h: s(w, s(w, pad_by("reflect", h, 1)), padding=1),
        one(),
    ),
    again(
        "norm-twice",
        lambda m, h: m.n(F.relu(m.n(m.s(h)))),
        lambda r, w, h: batch_norm(w, "n", r.relu(batch_norm(w, "n", s(w, h, padding=1)))),
        same_norm,
    ),
    small(
        "linear-tied",
        lambda m, x: m.last(F.relu(m.hidden(features(m, x).mean((2, 3))))),
        lambda r, w, x: linear(
            w, "last", r.relu(linear(w, "hidden", average(features_twin(r, w, x))))
        ),
        same_linear,
    ),
    small(
        "linear-tied-transposed",
        lambda m, x: F.relu(m.hidden(features(m, x).mean((2, 3)))) @ m.hidden.weight,
        lambda r, w, x: r.relu(linear(w, "hidden", average(features_twin(r, w, x)))).matmul(
            w["hidden.weight"]
        ),
        tied_linear,
    ),
    small(
        "conv-is-the-classifier-too",
        lambda m, x: (
            lambda f: m.c(f).mean((2, 3)) + F.linear(f.mean((2, 3)), m.c.weight.flatten(1))
        )(features(m, x)),
        lambda r, w, x: (
            lambda v: 2 * torch.einsum("oi,bi->bo", w["c.weight"][:, :, 0, 0], v) + w["c.bias"]
        )(average(features_twin(r, w, x))),
        lambda: {"c": nn.Conv2d(6, 5, 1)},
    ),
    small(
        "siamese-halves",
        lambda m, x: (
            m.fc(features(m, torch.cat([x[..., :11], x[..., 11:22]])).mean((2, 3)))
            .view(2, len(x), 5)
            .sum(0)
        ),
        lambda r, w, x: sum(
            linear(
                w,
                "fc",
                average(
                    r.relu(layer(w, "conv2", r.relu(layer(w, "conv1", half, padding=1)), padding=1))
                ),
            )
            for half in (x[..., :11], x[..., 11:22])
        ),
        target=None,
    ),
]
