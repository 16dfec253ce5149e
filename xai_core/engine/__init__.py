"""Engines: from a net, images and methods to maps, in the fewest passes that they know how."""

from xai_core.engine.autograd import AutogradEngine
from xai_core.engine.engine import Attributions, DependsOnBatch, Engine
from xai_core.engine.fused import FallsBack, FusedEngine, Precision

__all__ = [
    "Attributions",
    "AutogradEngine",
    "DependsOnBatch",
    "Engine",
    "FallsBack",
    "FusedEngine",
    "Precision",
]
