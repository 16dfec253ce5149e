"""Nonlinearities without a ReLU rule: refused by name, while the gradient is exact."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from tests.engine.twins.by_hand import average, layer, linear
from tests.engine.twins.harness import ending, ending_twin, small


def act(name, body, twin, refused, layers=dict, **fields):
    """``body`` in place of the first ReLU."""
    return small(
        name,
        lambda m, x: ending(m, body(m, m.conv1(x))),
        lambda r, w, x: ending_twin(r, w, twin(r, w, layer(w, "conv1", x, padding=1))),
        layers,
        refused=refused,
        **fields,
    )


def e(z):
    return math.e**z


def sigmoid(z):
    return 1 / (1 + e(-z))


def plain_relu(r, w, z):
    """The ReLU as arithmetic: its gradient is the plain one whatever the rule."""
    return z * (z.detach() > 0)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z**3

    @staticmethod
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0] ** 2 * g


def zeroed(m, z):
    z = z.clone()
    z[z < 0] = 0
    return z


def scattered(m, z):
    return z.masked_scatter(z < 0, torch.zeros_like(z))


def gated(m, h):
    return h * torch.sigmoid(m.gate(h.mean((2, 3), keepdim=True)))


def gated_twin(r, w, h):
    pooled = average(h)[:, :, None, None]
    return h * sigmoid(layer(w, "gate", pooled))


def gate():
    return {"gate": nn.Conv2d(4, 4, 1)}


def recurrent(m, x):
    rows = F.relu(m.conv1(x)).mean(2).transpose(1, 2)
    return m.last(m.rnn(rows)[0][:, -1])


def recurrent_twin(r, w, x):
    h = r.relu(layer(w, "conv1", x, padding=1))
    rows = h.sum(2) / h.shape[2]
    state = cell = x.new_zeros(len(x), 6)
    for t in range(rows.shape[2]):
        z = rows[:, :, t] @ w["rnn.weight_ih_l0"].T + w["rnn.bias_ih_l0"]
        z = z + state @ w["rnn.weight_hh_l0"].T + w["rnn.bias_hh_l0"]
        i, f, g, o = z.split(6, 1)
        cell = sigmoid(f) * cell + sigmoid(i) * tanh(g)
        state = sigmoid(o) * tanh(cell)
    return linear(w, "last", state)


def tanh(z):
    return (e(z) - e(-z)) / (e(z) + e(-z))


def erf_slope():
    return 2 / math.pi**0.5


class Erf(torch.autograd.Function):
    """Its value from Python's own, its derivative as it is defined."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        values = [math.erf(v) for v in z.flatten().tolist()]
        return torch.tensor(values, dtype=z.dtype).reshape(z.shape)

    @staticmethod
    def backward(ctx, g):
        return g * erf_slope() * e(-(ctx.saved_tensors[0] ** 2))


def gelu(z):
    return z * (1 + Erf.apply(z / 2**0.5)) / 2


def zero(z):
    return torch.zeros_like(z)


REFUSED = [
    act("zeroed-by-a-mask", zeroed, plain_relu, "chosen places"),
    act("fmax", lambda m, z: torch.fmax(z, zero(z)), plain_relu, "maximum"),
    act("clamp", lambda m, z: z.clamp(min=0), plain_relu, "clamp"),
    act("where", lambda m, z: torch.where(z > 0, z, 0.0), plain_relu, "where"),
    act("masked-scatter", scattered, plain_relu, "masked scatter"),
    act("threshold", lambda m, z: F.threshold(z, 0.0, 0.0), plain_relu, "threshold"),
    act("stacked-with-zero", lambda m, z: torch.stack([z, zero(z)]).amax(0), plain_relu, "max"),
    act("times-a-mask", lambda m, z: z * (z > 0), plain_relu, "gate"),
    act("sin", lambda m, z: torch.sin(z), lambda r, w, z: ((1j * z).exp()).imag, "sin"),
    act("square", lambda m, z: z**2, lambda r, w, z: z * z, "pow"),
    act("square-by-product", lambda m, z: z * z, lambda r, w, z: z**2, "product"),
    act("relu-squared", lambda m, z: F.relu(z) ** 2, lambda r, w, z: r.relu(z) * r.relu(z), "pow"),
    act("root", lambda m, z: torch.sqrt(z * z + 1), lambda r, w, z: (z**2 + 1) ** 0.5, "root"),
    act(
        "silu-by-hand", lambda m, z: z / (1 + torch.exp(-z)), lambda r, w, z: z * sigmoid(z), "exp"
    ),
    act("gelu", lambda m, z: F.gelu(z), lambda r, w, z: gelu(z), "GELU"),
    act(
        "softplus-by-hand",
        lambda m, z: torch.log1p(torch.exp(z)),
        lambda r, w, z: -sigmoid(-z).log(),
        "log",
    ),
    act("custom-function", lambda m, z: Cube.apply(z / 2), lambda r, w, z: (z / 2) ** 3, "Cube"),
    act(
        "gate-by-sigmoid",
        lambda m, z: gated(m, F.relu(z)),
        lambda r, w, z: gated_twin(r, w, r.relu(z)),
        "sigmoid",
        gate,
    ),
    small(
        "lstm",
        recurrent,
        recurrent_twin,
        lambda: {"rnn": nn.LSTM(4, 6, batch_first=True), "last": nn.Linear(6, 5)},
        target=None,
        refused="sigmoid and tanh|recurrent",
    ),
]


def soft(values, dim):
    return e(values) / e(values).sum(dim, keepdim=True)


def defined(name, body, twin, layers=dict, **fields):
    """Not refused: ``body`` stands between conv1 + ReLU and the usual end."""
    return small(
        name,
        lambda m, x: ending(m, body(m, F.relu(m.conv1(x)))),
        lambda r, w, x: ending_twin(r, w, twin(r, w, r.relu(layer(w, "conv1", x, padding=1)))),
        layers,
        **fields,
    )


def written(m, h):
    out = torch.zeros_like(h)
    out[:, 1:3] = h[:, :2]
    out[..., 4:] += h[..., :-4]
    return out


def written_twin(r, w, h):
    first = torch.cat([0 * h[:, :1], h[:, :2], 0 * h[:, :1]], 1)
    return first + torch.cat([0 * h[..., :4], h[..., :-4]], 3)


def attended(m, h):
    weights = m.q(h).flatten(2).softmax(2).view(len(h), 1, *h.shape[2:])
    return h * weights * 100


def attended_twin(r, w, h):
    scores = layer(w, "q", h)
    return h * soft(scores.flatten(2), 2).reshape(scores.shape) * 100


def parameter(*shape):
    return lambda: {"k": nn.Parameter(torch.zeros(*shape))}


DEFINED = [
    defined(
        "sigmoid-of-a-parameter",
        lambda m, h: h * torch.sigmoid(m.k),
        lambda r, w, h: h * sigmoid(w["k"]),
        parameter(4, 1, 1),
    ),
    defined("softmax-attention", attended, attended_twin, lambda: {"q": nn.Conv2d(4, 1, 1)}),
    defined("slices-assigned", written, written_twin),
    defined(
        "unit-length-over-positions",
        lambda m, h: F.normalize(h + 0.1, dim=(2, 3)),
        lambda r, w, h: (h + 0.1) / ((h + 0.1) ** 2).sum((2, 3), keepdim=True) ** 0.5,
    ),
    defined(
        "circular-padding",
        lambda m, h: F.pad(h, (2, 2, 2, 2), "circular"),
        lambda r, w, h: torch.cat([h[:, :, -2:], h, h[:, :, :2]], 2)[
            :, :, :, [-2, -1, *range(h.shape[3]), 0, 1]
        ],
    ),
    defined(
        "channels-shuffled",
        lambda m, h: h.view(len(h), 2, 2, *h.shape[2:]).transpose(1, 2).flatten(1, 2),
        lambda r, w, h: h[:, [0, 2, 1, 3]],
    ),
    defined(
        "rolled-and-flipped",
        lambda m, h: h.roll(3, 2).flip(3),
        lambda r, w, h: torch.cat([h[:, :, -3:], h[:, :, :-3]], 2)[
            :, :, :, list(range(h.shape[3] - 1, -1, -1))
        ],
    ),
    defined(
        "bilinear-upsampling-to-the-same-size",
        lambda m, h: F.interpolate(h, size=h.shape[2:], mode="bilinear"),
        lambda r, w, h: h,
    ),
]

CASES = REFUSED + DEFINED
