"""Which chip computes: the same numbers come from the same kernels only."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch


@cache
def processor(device: str) -> str:
    """Model and instruction set of a CPU, or the name of a GPU.

    Args:
        device: torch device type.
    """
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{_model() or platform.machine()} {capability}"


def _model() -> str:
    """As Linux tells it; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else ""
