"""Normalisations of activations and of weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from tests.engine.twins.by_hand import affine, batch_norm, conv, group_norm, layer, over
from tests.engine.twins.harness import ending, ending_twin, small


def between(name, norm, twin, layers=dict, **fields):
    """conv1, the norm, ReLU, and the usual end."""
    return small(
        name,
        lambda m, x: ending(m, F.relu(norm(m, m.conv1(x)))),
        lambda r, w, x: ending_twin(r, w, r.relu(twin(w, layer(w, "conv1", x, padding=1)))),
        layers,
        **fields,
    )


def weighted(name, make, weight, bias=True):
    """The first convolution is ``p``, whose weight is computed from parameters."""
    return small(
        name,
        lambda m, x: ending(m, F.relu(m.p(x))),
        lambda r, w, x: ending_twin(
            r, w, r.relu(conv(x, weight(w), w["p.bias"] if bias else None, padding=1))
        ),
        lambda: {"p": make()},
    )


def conv1():
    return nn.Conv2d(3, 4, 3, padding=1)


class Standardised(nn.Conv2d):
    """Its kernels have zero mean and variance one when they are used."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, padding=1)


def standardised(w):
    k = w["p.weight"]
    k = k - k.sum((1, 2, 3), keepdim=True) / 27
    return k / (((k**2).sum((1, 2, 3), keepdim=True) / 26) ** 0.5 + 1e-5)


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight + weight.flip(3)


def parametrised(*by):
    c = conv1()
    for parametrization in by:
        parametrize.register_parametrization(c, "weight", parametrization)
    return c


def length(v, dims):
    return (v**2).sum(dims, keepdim=True) ** 0.5


def weight_normed(w):
    g, v = w["p.parametrizations.weight.original0"], w["p.parametrizations.weight.original1"]
    return g * v / length(v, (1, 2, 3))


def spectral(w):
    """In evaluation mode the singular vectors are those that are stored."""
    k = w["p.parametrizations.weight.original"]
    u, v = w["p.parametrizations.weight.0._u"], w["p.parametrizations.weight.0._v"]
    return k / torch.einsum("o,oi,i->", u, k.flatten(1), v)


def frozen(w, z):
    scale = w["n.weight"] / (w["n.running_var"] + 1e-5) ** 0.5
    return (z - w["n.running_mean"][:, None, None]) * scale[:, None, None] + w["n.bias"][
        :, None, None
    ]


class FrozenNorm(nn.Module):
    """Batch normalisation as detectors write it: all of it buffers."""

    def __init__(self):
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.full((4,), 0.75))

    def forward(self, x):
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        bias = self.bias - self.running_mean * scale
        return x * scale.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)


CASES = [
    between(
        "batch",
        lambda m, z: m.n(z),
        lambda w, z: batch_norm(w, "n", z),
        lambda: {"n": nn.BatchNorm2d(4)},
    ),
    between(
        "batch-large-eps",
        lambda m, z: m.n(z),
        lambda w, z: batch_norm(w, "n", z, 0.5),
        lambda: {"n": nn.BatchNorm2d(4, eps=0.5)},
    ),
    between(
        "batch-with-two-readers",
        lambda m, z: m.n(z) + m.o(z),
        lambda w, z: batch_norm(w, "n", z) + batch_norm(w, "o", z),
        lambda: {"n": nn.BatchNorm2d(4), "o": nn.BatchNorm2d(4)},
    ),
    between("batch-frozen-by-hand", lambda m, z: m.n(z), frozen, lambda: {"n": FrozenNorm()}),
    between(
        "batch-without-running-stats",
        lambda m, z: m.n(z),
        lambda w, z: affine(w, "n", over(z, (0, 2, 3))),
        lambda: {"n": nn.BatchNorm2d(4, track_running_stats=False)},
        sees_batch=True,
    ),
    between(
        "group",
        lambda m, z: m.n(z),
        lambda w, z: affine(w, "n", group_norm(z, 2)),
        lambda: {"n": nn.GroupNorm(2, 4)},
    ),
    between("instance-functional", lambda m, z: F.instance_norm(z), lambda w, z: over(z, (2, 3))),
    between(
        "instance-with-running-stats",
        lambda m, z: m.n(z),
        lambda w, z: batch_norm(w, "n", z),
        lambda: {"n": nn.InstanceNorm2d(4, affine=True, track_running_stats=True)},
    ),
    between(
        "root-mean-square",
        lambda m, z: F.rms_norm(z.permute(0, 2, 3, 1), (4,), eps=1e-3).permute(0, 3, 1, 2),
        lambda w, z: z / ((z**2).sum(1, keepdim=True) / 4 + 1e-3) ** 0.5,
    ),
    between("unit-length", lambda m, z: F.normalize(z, dim=1), lambda w, z: z / length(z, (1,))),
    between(
        "local-response",
        lambda m, z: F.local_response_norm(z, 3, alpha=0.5, beta=0.75, k=2.0),
        lambda w, z: (
            z
            / (
                2
                + 0.5
                / 3
                * torch.stack(
                    [sum(z[:, j] ** 2 for j in (i - 1, i, i + 1) if 0 <= j < 4) for i in range(4)],
                    1,
                )
            )
            ** 0.75
        ),
    ),
    weighted("weight-norm", lambda: parametrizations.weight_norm(conv1()), weight_normed),
    weighted("spectral-norm", lambda: parametrizations.spectral_norm(conv1()), spectral),
    weighted("weight-standardised", lambda: Standardised(3, 4, 3), standardised),
    weighted(
        "parametrised-symmetric-and-halved",
        lambda: parametrised(Symmetric(), Halved()),
        lambda w: (lambda k: (k + k.flip(3)) / 2)(w["p.parametrizations.weight.original"]),
    ),
]
