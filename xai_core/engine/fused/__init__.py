"""One forward pass without autograd, and one walk back that carries all rules at once."""

from xai_core.engine.fused.engine import FallsBack, FusedEngine, Precision

__all__ = ["FallsBack", "FusedEngine", "Precision"]
