from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import tests.tiny
from xai_core.engine import AutogradEngine, FusedEngine
from xai_core.types import Record

pytest_plugins = ("pytester",)

# A slow minute of the machine is no fault of an example.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

REFERENCE = ("uniform", "centre", "edges", "noise", "noise_grad_cam", "edges_grad_cam")
"""Methods whose made-up records are those of reference methods."""

SHARED = Path(os.environ.get("XAI_SHARED", Path(__file__).parents[2] / "shared"))


def shared(path: str) -> Path:
    found = SHARED / path
    if not found.exists():
        pytest.skip(f"real data: {path} is not in {SHARED.name}/ (set XAI_SHARED)")
    return found


@pytest.fixture(params=[AutogradEngine, FusedEngine], ids=lambda engine: engine.__name__)
def each_engine(request, monkeypatch):
    """Runs the test once with each engine behind `tests.tiny.explain`."""
    engine = request.param()
    monkeypatch.setattr(tests.tiny, "engine", engine)
    return engine


@pytest.fixture(scope="session")
def coco_dir() -> Path:
    """The real COCO subset; its tests carry the marker real_data."""
    return shared("coco")


@pytest.fixture(scope="session")
def imagenet_weights() -> Path:
    """Real ImageNet weights of squeezenet1_0."""
    return shared("weights/squeezenet1_0-imagenet.pth")


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """A plausible record; keyword arguments replace fields, P and energies included."""

    def make(
        concentration: float = 0.5, energy: float = 1.0, energy_total: float = 2.0, **fields: Any
    ) -> Record:
        metrics = {
            "concentration": concentration,
            "energy": energy,
            "energy_total": energy_total,
        }
        defaults: dict[str, Any] = {
            "net": "squeezenet1_0",
            "method": "grad_cam",
            "size": "224",
            "sample": "000000000001-orange",
            "image_id": 1,
            "category": "orange",
            "class_index": 950,
            "logit": 7.5,
            "probability": 0.9,
            "rank": 1,
            "height": 224,
            "width": 224,
            "channels": 1,
            "map_min": 0.0,
            "map_max": 1.0,
            "zero_energy": False,
            "dead_logit": False,
            "chance": 0.25,
            "mask_share": 0.2,
            "dilation": 0.2,
            "target_layer": "features.12",
            "weights": "scenes",
            "weights_sha256": "ab" * 32,
            "weights_random": False,
            "data": "scenes",
            "sample_sha256": "cd" * 32,
            "engine": "autograd",
            "device": "cpu",
            "dtype": "float32",
            "threads": 2,
            "batch_size": 1,
            "torch": "2.15.0",
            "seconds": 0.05,
            "reference": fields.get("method") in REFERENCE,
        }
        return Record(**(defaults | fields), metrics=metrics)

    return make
