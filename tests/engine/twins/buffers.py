"""Constants of other types: normalisation inside the net, integer and float64 buffers, scalars."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tests.engine.twins.by_hand import conv
from tests.engine.twins.harness import (
    ending,
    ending_twin,
    features,
    plain_twin,
    small,
)


def on_image(name, body, twin, layers=dict, **fields):
    """``body`` changes the image, then the net is as usual."""
    return small(
        name,
        lambda m, x: ending(m, F.relu(m.conv1(body(m, x)))),
        lambda r, w, x: plain_twin(r, w, twin(w, x)),
        layers,
        **fields,
    )


def pixel(*values, dtype=torch.float64):
    return lambda: {"k": torch.tensor(values, dtype=dtype).view(1, -1, 1, 1)}


def of(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None, None]


def only_parameters(module, dtype):
    """Buffers keep their own type, as they do where they are set after ``.to``."""
    for m in module.modules():
        for name, p in m.named_parameters(recurse=False):
            setattr(m, name, nn.Parameter(p.detach().to(dtype)))
    return module


def on_logits(name, body, twin, layers=dict, **fields):
    return small(
        name,
        lambda m, x: body(m, m.fc(features(m, x).mean((2, 3)))),
        lambda r, w, x: twin(w, plain_twin(r, w, x)),
        layers,
        **fields,
    )


MASK = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)


class Masked(nn.Conv2d):
    """A kernel of which an integer mask takes a part away."""

    def __init__(self):
        super().__init__(3, 4, 3, padding=1)
        self.register_buffer("mask", torch.tensor([[1, 0, 1], [1, 1, 1], [0, 1, 0]]))

    def forward(self, x):
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=1)


CASES = [
    on_image(
        "mean-and-std",
        lambda m, x: (x - m.k) / m.d,
        lambda w, x: (x - w["k"]) / w["d"],
        lambda: {"k": torch.full((3, 1, 1), 0.5), "d": torch.full((3, 1, 1), 0.25)},
    ),
    on_image(
        "minus-uint8",
        lambda m, x: (x * 255 - m.k) / 60,
        lambda w, x: (x * 255 - of(123.0, 117.0, 104.0)) / 60,
        pixel(123, 117, 104, dtype=torch.uint8),
    ),
    on_image(
        "int16-minus-image",
        lambda m, x: m.k - x,
        lambda w, x: of(3.0, -2.0, 1.0) - x,
        pixel(3, -2, 1, dtype=torch.int16),
    ),
    on_image(
        "over-int64",
        lambda m, x: x * 99 / m.k,
        lambda w, x: x * 99 / of(58.0, 57.0, 49.0),
        pixel(58, 57, 49, dtype=torch.int64),
    ),
    on_image(
        "times-bool",
        lambda m, x: x * m.k,
        lambda w, x: x * of(1.0, 0.0, 1.0),
        pixel(True, False, True, dtype=torch.bool),
    ),
    on_image(
        "image-type-kept-by-a-scalar-tensor",
        lambda m, x: x * m.k,
        lambda w, x: x * w["k"],
        lambda: {"k": torch.tensor(0.375, dtype=torch.float64)},
        convert=only_parameters,
    ),
    on_image(
        "minus-uint8-scalar-tensor",
        lambda m, x: x * 255 - m.k,
        lambda w, x: x * 255 - 128,
        lambda: {"k": torch.tensor(128, dtype=torch.uint8)},
    ),
    on_image(
        "add-with-alpha",
        lambda m, x: torch.add(x, m.k, alpha=-2),
        lambda w, x: x - of(2.0, 4.0, 6.0),
        pixel(1, 2, 3, dtype=torch.uint8),
    ),
    on_image(
        "reversed-subtraction",
        lambda m, x: torch.rsub(x, m.k),
        lambda w, x: of(1.0, 2.0, 3.0) - x,
        pixel(1, 2, 3, dtype=torch.uint8),
    ),
    on_image(
        "numpy-scalar",
        lambda m, x: x * np.float64(0.5) - np.float32(0.25),
        lambda w, x: x / 2 - 0.25,
    ),
    on_image(
        "position-as-offset",
        lambda m, x: x + torch.arange(x.shape[3]) / 8,
        lambda w, x: x + torch.arange(x.shape[3]).double() / 8,
    ),
    on_image(
        "channels-reversed-by-index",
        lambda m, x: x[:, m.k],
        lambda w, x: x.flip(1),
        lambda: {"k": torch.tensor([2, 1, 0])},
    ),
    on_logits(
        "integer-prior-on-logits",
        lambda m, s: s - m.k,
        lambda w, s: s - torch.arange(5).double() * 50,
        lambda: {"k": torch.tensor([0, 50, 100, 150, 200], dtype=torch.uint8)},
    ),
    small(
        "kernel-masked-by-integers",
        lambda m, x: ending(m, F.relu(m.s(x))),
        lambda r, w, x: ending_twin(
            r, w, r.relu(conv(x, w["s.weight"] * MASK, w["s.bias"], padding=1))
        ),
        lambda: {"s": Masked()},
    ),
]
