"""In float64 the forward pass is the net's to the last bit, so that ties fall the same way."""

from __future__ import annotations

import pytest
import torch

from xai_core.data.sources import get_data_set
from xai_core.engine import AutogradEngine, FusedEngine
from xai_core.methods import METHODS
from xai_core.nets import get_spec, load_net
from xai_core.nets.preprocess import preprocess

ALL = [METHODS.get(id) for id in METHODS]


@pytest.mark.parametrize("name", ["squeezenet1_1", "densenet121"])
def test_maps_of_flat_regions_are_the_reference_engines(name):
    """Drawn images have many windows whose values are equal but for rounding."""
    data = get_data_set("scenes")
    net = load_net(get_spec(name), "random:0", dtype=torch.float64)
    for sample in list(data.samples())[:2]:
        x = preprocess(data.image(sample), "128", net)
        ours = FusedEngine()(net, x, [sample.class_indices], ALL)
        theirs = AutogradEngine()(net, x, [sample.class_indices], ALL)
        assert torch.equal(ours.logits, theirs.logits)
        for id, expected in theirs.maps.items():
            largest = float((ours.maps[id] - expected).abs().max())
            assert largest <= 1e-12 * float(expected.abs().max()), id
