from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.tiny import as_net, images, maps
from xai_core.methods import METHODS

BASELINES = ("centre", "edges", "edges_grad_cam", "noise", "noise_grad_cam", "uniform")


def small_net(channels):
    layers = nn.Conv2d(3, channels, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return as_net(nn.Sequential(*layers).double(), "0")


def test_these_are_the_baselines_and_methods_of_the_literature_are_not():
    assert tuple(m for m in METHODS if METHODS.get(m).baseline) == BASELINES


@pytest.mark.parametrize("size", [(8, 6), (9, 7), (1, 5)])
def test_what_never_looks_at_the_net_is_the_same_for_every_net_and_batch(size):
    x = images(3, 3, *size)
    ids = ("centre", "edges", "noise", "uniform")
    together, alone = maps(small_net(4), x, 0, *ids), maps(small_net(2), x[1:2], 1, *ids)
    for id in ids:
        assert torch.equal(together[id][1:2], alone[id])


def test_noise_is_the_same_on_each_image_of_a_size_and_has_no_favourite_place():
    x = images(2, 3, 64, 64)
    noise = maps(small_net(2), x, 0, "noise")["noise"]
    assert torch.equal(noise[0], noise[1])
    energy = noise[0].square().sum(dim=0)
    assert float(energy[:32].sum() / energy.sum()) == pytest.approx(0.5, abs=0.02)


def test_edges_of_a_ramp_are_its_slope_and_of_a_flat_image_nothing():
    ramp = torch.arange(10.0, dtype=torch.float64).expand(1, 3, 8, 10)
    edges = maps(small_net(2), ramp, 0, "edges")["edges"][0, 0]
    assert torch.equal(edges[:, 1:-1], torch.full((8, 8), 8.0, dtype=torch.float64))
    assert torch.equal(edges[:, 0], torch.full((8,), 4.0, dtype=torch.float64))
    assert not maps(small_net(2), torch.ones_like(ramp), 0, "edges")["edges"].any()
