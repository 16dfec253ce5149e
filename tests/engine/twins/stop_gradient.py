"""Gradients that are stopped, passed straight through or changed on their way."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.engine.twins.by_hand import average, avg_pool, layer, linear
from tests.engine.twins.harness import ending, ending_twin, features, features_twin, small


def middle(name, body, twin, layers=dict, **fields):
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


def frozen(value):
    """A constant of that value."""
    return torch.tensor(value.tolist(), dtype=torch.float64)


class Scaled(torch.autograd.Function):
    """The value as it is; its gradient by a factor."""

    @staticmethod
    def forward(ctx, z, factor):
        ctx.factor = factor
        return z.clone()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.factor, None


def hooked(h, hook=lambda g: g * 3):
    if h.requires_grad:
        h.register_hook(hook)
    return h


def node_hooked(h):
    if h.grad_fn is not None:
        h.grad_fn.register_prehook(lambda g: (g[0] * 3,))
    return h


def with_hook(register):
    """The module ``extra`` with a hook on its gradient."""

    def make():
        layers = extra()
        register(layers["extra"])
        return layers

    return make


def normalised(body):
    """The image normalised by constants first, which adds edges to the graph."""
    return lambda m, x: body(m, (x + 0.25) * 2)


def head(name, body, twin, layers=dict):
    return small(
        name,
        lambda m, x: body(m, features(m, x)),
        lambda r, w, x: twin(r, w, features_twin(r, w, x)),
        layers,
    )


CASES = [
    middle(
        "shortcut-detached",
        lambda m, h: m.extra(h) + h.detach(),
        lambda r, w, h: extra_twin(w, h) + frozen(h),
        extra,
    ),
    middle(
        "branch-detached",
        lambda m, h: m.extra(h).detach() + h,
        lambda r, w, h: frozen(extra_twin(w, h)) + h,
        extra,
    ),
    middle(
        "branch-of-a-detached-value",
        lambda m, h: h - m.extra(h.detach()),
        lambda r, w, h: h - frozen(extra_twin(w, h)),
        extra,
    ),
    middle(
        "concatenated-with-a-detached-half",
        lambda m, h: torch.cat([h[:, :2], h[:, 2:].detach()], 1),
        lambda r, w, h: torch.cat([h[:, :2], frozen(h[:, 2:])], 1),
    ),
    small(
        "hidden-by-constants",
        normalised(lambda m, x: (lambda h: ending(m, m.extra(h) + h.detach()))(F.relu(m.conv1(x)))),
        lambda r, w, x: (lambda h: ending_twin(r, w, extra_twin(w, h) + frozen(h)))(
            r.relu(layer(w, "conv1", 2 * x + 0.5, padding=1))
        ),
        extra,
    ),
    small(
        "hidden-by-constants-before-relu",
        lambda m, x: (lambda h: ending(m, F.relu(h + F.avg_pool2d(h.detach(), 3, 1, 1))))(
            F.relu(m.conv1(x) * 2 + 1)
        ),
        lambda r, w, x: (lambda h: ending_twin(r, w, r.relu(h + frozen(avg_pool(h, 3, 1, 1)))))(
            r.relu(layer(w, "conv1", x, padding=1) * 2 + 1)
        ),
    ),
    middle(
        "straight-through-rounding",
        lambda m, h: h + ((h * 4).round() / 4 - h).detach(),
        lambda r, w, h: h + frozen(torch.floor(h * 4 + 0.5) / 4 - h),
    ),
    middle(
        "straight-through-double",
        lambda m, h: h + h.detach() * 0.5,
        lambda r, w, h: h + frozen(h) * 0.5,
    ),
    middle(
        "gradient-halved",
        lambda m, h: h / 2 + (h / 2).detach(),
        lambda r, w, h: Scaled.apply(h, 0.5),
    ),
    middle("hook-on-a-tensor", lambda m, h: hooked(h), lambda r, w, h: Scaled.apply(h, 3.0)),
    middle("hook-on-a-node", lambda m, h: node_hooked(h), lambda r, w, h: Scaled.apply(h, 3.0)),
    middle(
        "hook-full-backward",
        lambda m, h: m.extra(h),
        lambda r, w, h: Scaled.apply(extra_twin(w, Scaled.apply(h, 3.0)), 1.0),
        with_hook(lambda c: c.register_full_backward_hook(lambda m, gi, go: (gi[0] * 3,))),
        refused="BackwardHook",
    ),
    middle(
        "hook-forward-scales",
        lambda m, h: m.extra(h),
        lambda r, w, h: extra_twin(w, h) * 2,
        with_hook(lambda c: c.register_forward_hook(lambda m, args, out: out * 2)),
    ),
    middle(
        "hook-forward-before-shifts",
        lambda m, h: m.extra(h),
        lambda r, w, h: extra_twin(w, h + 1),
        with_hook(lambda c: c.register_forward_pre_hook(lambda m, args: (args[0] + 1,))),
    ),
    head(
        "head-of-two-one-detached",
        lambda m, f: m.fc(f.mean((2, 3))) + m.side(f.mean((2, 3)).detach()),
        lambda r, w, f: linear(w, "fc", average(f)) + frozen(linear(w, "side", average(f))),
        lambda: {"side": nn.Linear(6, 5)},
    ),
    head(
        "mlp-with-a-detached-shortcut",
        lambda m, f: (lambda v: m.fc(F.relu(m.side(v)) + v.detach()))(f.mean((2, 3))),
        lambda r, w, f: (lambda v: linear(w, "fc", r.relu(linear(w, "side", v)) + frozen(v)))(
            average(f)
        ),
        lambda: {"side": nn.Linear(6, 6)},
    ),
    head(
        "logits-without-a-detached-maximum",
        lambda m, f: (lambda s: s - s.detach().amax(1, keepdim=True))(m.fc(f.mean((2, 3)))),
        lambda r, w, f: (lambda s: s - frozen(s).topk(1).values)(linear(w, "fc", average(f))),
    ),
    small(
        "weights-detached",
        lambda m, x: ending(
            m, F.relu(F.conv2d(x, m.conv1.weight.detach(), m.conv1.bias.data, padding=1))
        ),
        lambda r, w, x: ending_twin(r, w, r.relu(layer(w, "conv1", x, padding=1))),
    ),
]
