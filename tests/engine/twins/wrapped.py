"""Modules that stand around a net, or remember something: the nets of `wrappers`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.engine.twins.harness import Small, features


def plain():
    return Small(lambda m, x: m.fc(features(m, x).mean((2, 3))))


class Wrapper(nn.Module):
    """Hands everything on, as DataParallel does."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


class Normalised(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor([0.5, 0.25, 0.125]).view(3, 1, 1))

    def forward(self, x):
        return self.net((x - self.mean) / 0.5)


class Holding(nn.Module):
    """The net isn't one of its modules."""

    def __init__(self, hold):
        super().__init__()
        inner = plain()
        self.hold, self.inner = hold(inner), (inner,)

    def forward(self, x):
        return self.hold(x)


class Cached(nn.Module):
    """Remembers a mask by the image's size."""

    def __init__(self):
        super().__init__()
        self.net, self.masks = plain(), {}

    def forward(self, x):
        key = x.shape[-2:], x.dtype, x.device
        if key not in self.masks:
            columns = torch.arange(x.shape[3], dtype=x.dtype, device=x.device)
            self.masks[key] = columns / x.shape[3]
        return self.net(x * self.masks[key])


GLOBAL: dict = {}


class CachedOutside(nn.Module):
    """As `Cached`, but for all nets together, and without the device."""

    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, x):
        key = x.shape[-1], x.dtype
        if key not in GLOBAL:
            GLOBAL[key] = torch.arange(x.shape[3], dtype=x.dtype, device=x.device) / x.shape[3]
        return self.net(x * GLOBAL[key])


class LazilyBuilt(nn.Module):
    """Its second part is made when the first image comes."""

    def __init__(self):
        super().__init__()
        self.net, self.scale = plain(), None

    def forward(self, x):
        if self.scale is None:
            self.scale = torch.full((), 1.5, dtype=x.dtype, device=x.device)
        return self.net(x * self.scale)


class LowRank(nn.Conv2d):
    """Adds B A to its kernel; in evaluation mode the sum is stored in the kernel itself."""

    def __init__(self):
        super().__init__(3, 4, 3, padding=1)
        self.a, self.b = nn.Parameter(torch.zeros(2, 27)), nn.Parameter(torch.zeros(4, 2))
        self.merged = False

    def train(self, mode=True):
        super().train(mode)
        if mode == self.merged:
            sign = -1 if mode else 1
            self.weight.data += sign * (self.b @ self.a).view(self.weight.shape)
            self.merged = not mode
        return self

    def forward(self, x):
        if self.merged:
            return super().forward(x)
        update = (self.b @ self.a).view(self.weight.shape)
        return super().forward(x) + F.conv2d(x, update, padding=1)


class UnitNorm(nn.Conv2d):
    """Sets its kernels to length one, anew in each forward pass."""

    def forward(self, x):
        self.weight.data = F.normalize(self.weight.data.flatten(1)).view_as(self.weight)
        return super().forward(x)


class Counter(nn.Module):
    """Counts its calls, and does nothing else."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.calls += 1
        return x
