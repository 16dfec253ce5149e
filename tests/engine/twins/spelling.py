"""How a ReLU, and what stands around it, is spelled."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.engine.twins.by_hand import average, layer, linear
from tests.engine.twins.harness import ending, features, features_twin, plain_twin, small

relu_of = {
    "functional": F.relu,
    "functional-in-place": lambda z: F.relu(z, inplace=True),
    "tensor-relu-in-place": lambda z: z.relu_(),
    "relu-of-a-relu": lambda z: F.relu(F.relu(z)),
    "on-a-view": lambda z: F.relu(z.flatten(2)).view_as(z),
    "in-place-on-a-permuted-view": lambda z: z.permute(0, 2, 3, 1).relu_().permute(0, 3, 1, 2),
    "by-channel-halves": lambda z: torch.cat([F.relu(part) for part in z.chunk(2, 1)], 1),
}


def conv_by(spell):
    """The first convolution spelled otherwise, the rest as usual."""
    return lambda m, x: ending(m, F.relu(spell(m.conv1, x)))


def by_unfold(c, x):
    columns = F.unfold(x, 3, padding=1)
    z = c.weight.flatten(1) @ columns + c.bias[:, None]
    return z.view(len(x), -1, *x.shape[2:])


convolutions = {
    "torch-conv-by-keyword": lambda c, x: torch.conv2d(
        input=x, weight=c.weight, bias=c.bias, stride=1, padding="same"
    ),
    "bias-added-later": lambda c, x: F.conv2d(x, c.weight, None, 1, 1) + c.bias[:, None, None],
    "pad-then-conv": lambda c, x: F.conv2d(F.pad(x, (1, 1, 1, 1)), c.weight, c.bias),
    "unfold-and-matmul": by_unfold,
    "conv3d-of-depth-one": lambda c, x: F.conv3d(
        x.unsqueeze(2), c.weight.unsqueeze(2), c.bias, padding=(0, 1, 1)
    ).squeeze(2),
    "transposed-conv-of-the-flipped-kernel": lambda c, x: F.conv_transpose2d(
        x, c.weight.transpose(0, 1).flip(2, 3), c.bias, padding=1
    ),
}

linears = {
    "matmul-plus-bias": lambda fc, v: v @ fc.weight.t() + fc.bias,
}

CASES = [
    *(
        small(
            f"relu-{name}",
            lambda m, x, relu=relu: m.fc(m.keep(relu(m.conv2(relu(m.conv1(x))))).mean((2, 3))),
            plain_twin,
        )
        for name, relu in relu_of.items()
    ),
    *(small(f"conv-{name}", conv_by(spell), plain_twin) for name, spell in convolutions.items()),
    *(
        small(
            f"linear-{name}",
            lambda m, x, spell=spell: spell(m.fc, features(m, x).mean((2, 3))),
            plain_twin,
        )
        for name, spell in linears.items()
    ),
    small(
        "relu-one-module-for-both",
        lambda m, x: m.fc(m.keep(m.act(m.conv2(m.act(m.conv1(x))))).mean((2, 3))),
        plain_twin,
        lambda: {"act": nn.ReLU()},
    ),
    small(
        "relu-of-the-negative",
        lambda m, x: ending(m, -F.relu(-m.conv1(x))),
        lambda r, w, x: linear(
            w,
            "fc",
            average(
                r.at(
                    r.relu(layer(w, "conv2", -r.relu(-layer(w, "conv1", x, padding=1)), padding=1))
                )
            ),
        ),
    ),
    small(
        "sum-by-python",
        lambda m, x: m.fc(sum(part for part in features(m, x).sum(2).unbind(2)) / x[0, 0].numel()),
        lambda r, w, x: linear(w, "fc", average(features_twin(r, w, x))),
    ),
]
