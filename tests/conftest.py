from __future__ import annotations

import os
from pathlib import Path

import pytest

import tests.tiny
from xai_core.engine import AutogradEngine, FusedEngine

pytest_plugins = ("pytester",)

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
