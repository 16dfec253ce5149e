"""Which chip computes: the same numbers come from the same kernels only."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from pathlib import Path

import torch


@cache
def processor(device: str) -> str:
    """Model, features and caches of a CPU, or the name of a GPU.

    Args:
        device: torch device type.
    """
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{_model() or platform.machine()} {capability}"


def _model() -> str:
    """As Linux tells it, with what kernels are chosen by; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        caches = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
        sizes = [path.read_text("utf-8").strip() for path in caches]
    except (OSError, ValueError):
        return ""
    pairs = (line.partition(":") for line in reversed(lines))
    facts = {name.strip(): value.strip() for name, _, value in pairs}  # of the first core
    if "model name" not in facts:
        return ""
    numbers = [facts.get(name, "?") for name in ("cpu family", "model", "stepping")]
    features = hashlib.sha256(facts.get("flags", "").encode()).hexdigest()[:6]
    return f"{facts['model name']} {'.'.join(numbers)} {features} {' '.join(sizes)}".strip()
