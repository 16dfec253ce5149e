"""Where a ReLU, a branch or the target layer stands."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.engine.twins.by_hand import average, layer, linear, max_pool
from tests.engine.twins.harness import ending, ending_twin, features, features_twin, small


def c1(w, x):
    return layer(w, "conv1", x, padding=1)


def c2(w, x):
    return layer(w, "conv2", x, padding=1)


def out(w, f):
    return linear(w, "fc", average(f))


def same():
    return {"extra": nn.Conv2d(4, 4, 3, padding=1)}


def more():
    return {"extra": nn.Conv2d(6, 6, 1)}


CASES = [
    small(
        "relu-on-pooled",
        lambda m, x: m.fc(F.relu(m.keep(m.conv2(m.conv1(x))).mean((2, 3)))),
        lambda r, w, x: linear(w, "fc", r.relu(average(r.at(c2(w, c1(w, x)))))),
    ),
    small(
        "relu-on-logits",
        lambda m, x: F.relu(m.fc(features(m, x).mean((2, 3))) + 5),
        lambda r, w, x: r.relu(out(w, features_twin(r, w, x)) + 5),
    ),
    small(
        "pre-activation-block",
        lambda m, x: (lambda h: ending(m, h + m.extra(F.relu(h))))(m.conv1(x)),
        lambda r, w, x: (lambda h: ending_twin(r, w, h + layer(w, "extra", r.relu(h), padding=1)))(
            c1(w, x)
        ),
        same,
    ),
    small(
        "residual-in-place-add",
        lambda m, x: (lambda h: ending(m, m.extra(h).add_(h).relu_()))(F.relu(m.conv1(x))),
        lambda r, w, x: (lambda h: ending_twin(r, w, r.relu(layer(w, "extra", h, padding=1) + h)))(
            r.relu(c1(w, x))
        ),
        same,
    ),
    small(
        "branch-weighted",
        lambda m, x: (lambda h: ending(m, torch.add(h, m.extra(h), alpha=-0.5)))(
            F.relu(m.conv1(x))
        ),
        lambda r, w, x: (lambda h: ending_twin(r, w, h - layer(w, "extra", h, padding=1) / 2))(
            r.relu(c1(w, x))
        ),
        same,
    ),
    small(
        "dense-concatenation",
        lambda m, x: (lambda h: m.fc(m.keep(torch.cat([m.a(h), h[:, 1:]], 1)).mean((2, 3))))(
            F.relu(m.conv1(x))
        ),
        lambda r, w, x: (lambda h: out(w, r.at(torch.cat([layer(w, "a", h), h[:, 1:]], 1))))(
            r.relu(c1(w, x))
        ),
        lambda: {"a": nn.Conv2d(4, 3, 1)},
    ),
    small(
        "crelu",
        lambda m, x: (lambda z: m.fc(m.keep(m.a(F.relu(torch.cat([z, -z], 1)))).mean((2, 3))))(
            m.conv1(x)
        ),
        lambda r, w, x: (
            lambda z: out(w, r.at(layer(w, "a", torch.cat([r.relu(z), r.relu(-z)], 1))))
        )(c1(w, x)),
        lambda: {"a": nn.Conv2d(8, 6, 1)},
    ),
    small(
        "target-in-front-of-relu",
        lambda m, x: m.fc(F.relu(m.keep(m.conv2(F.relu(m.conv1(x))))).mean((2, 3))),
        lambda r, w, x: out(w, r.relu(r.at(c2(w, r.relu(c1(w, x)))))),
    ),
    small(
        "target-is-a-conv-with-in-place-relu",
        lambda m, x: m.fc(F.relu_(m.conv2(F.relu(m.conv1(x)))).mean((2, 3))),
        lambda r, w, x: out(w, r.relu(r.at(c2(w, r.relu(c1(w, x)))))),
        target="conv2",
    ),
    small(
        "target-in-front-of-max-pool",
        lambda m, x: m.fc(F.max_pool2d(features(m, x), 2).mean((2, 3))),
        lambda r, w, x: out(w, max_pool(r, features_twin(r, w, x), 2)),
    ),
    small(
        "target-with-two-readers",
        lambda m, x: (lambda f: m.fc((f + m.extra(f)).mean((2, 3))))(features(m, x)),
        lambda r, w, x: (lambda f: out(w, f + layer(w, "extra", f)))(features_twin(r, w, x)),
        more,
    ),
    small(
        "target-in-a-branch",
        lambda m, x: (lambda h: m.fc((m.keep(m.conv2(h)) + m.b(h)).mean((2, 3))))(
            F.relu(m.conv1(x))
        ),
        lambda r, w, x: (lambda h: out(w, r.at(c2(w, h)) + layer(w, "b", h)))(r.relu(c1(w, x))),
        lambda: {"b": nn.Conv2d(4, 6, 1)},
    ),
    small(
        "target-is-a-view",
        lambda m, x: m.fc(
            F.relu(m.keep(m.lin(F.relu(m.conv1(x)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))).mean(
                (2, 3)
            )
        ),
        lambda r, w, x: out(
            w,
            r.relu(
                r.at(linear(w, "lin", r.relu(c1(w, x)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
            ),
        ),
        lambda: {"lin": nn.Linear(4, 6)},
    ),
    small(
        "image-is-read-twice",
        lambda m, x: ending(m, F.relu(m.conv1(x)) + m.skip(x)),
        lambda r, w, x: ending_twin(r, w, r.relu(c1(w, x)) + layer(w, "skip", x)),
        lambda: {"skip": nn.Conv2d(3, 4, 1)},
    ),
    small(
        "image-reaches-the-head",
        lambda m, x: m.fc(features(m, x).mean((2, 3))) + m.side(x.mean((2, 3))),
        lambda r, w, x: out(w, features_twin(r, w, x)) + linear(w, "side", average(x)),
        lambda: {"side": nn.Linear(3, 5)},
    ),
    small(
        "without-target-layer",
        lambda m, x: m.fc(F.relu(m.conv2(F.relu(m.conv1(x)))).mean((2, 3))),
        lambda r, w, x: out(w, r.relu(c2(w, r.relu(c1(w, x))))),
        target=None,
    ),
    small(
        "image-normalised-in-place",
        lambda m, x: ending(m, F.relu(m.conv1(x.sub_(0.5).div_(0.25)))),
        lambda r, w, x: ending_twin(r, w, r.relu(c1(w, (x - 0.5) * 4))),
    ),
]
