"""What recording and checking a net costs: ``python -m bench.recording [NET ...]``.

For each net, at 224x224: the first image, which is recorded and explained by both engines,
the median of those after it, and the comparison of values that each call begins with.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings

import torch
from tabulate import tabulate

from xai_core.engine import FusedEngine
from xai_core.engine.fused.state import State
from xai_core.methods import METHODS
from xai_core.nets import get_spec, load_net

STUDY = ("alexnet", "squeezenet1_0", "resnet152", "vgg19")
LATER = 5


def seconds_of(name: str) -> list[object]:
    """A row of the table."""
    net = load_net(get_spec(name), "random:0")
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    methods, engine = [METHODS.get(id) for id in METHODS], FusedEngine()
    with torch.no_grad():
        net.module(image)  # its pages are in memory then
    times: list[float] = []
    for _ in range(1 + LATER):
        start = time.perf_counter()
        result = engine(net, image, [[1]], methods)
        times.append(time.perf_counter() - start)
    later, state = statistics.median(times[1:]), State(net)
    start = time.perf_counter()
    for _ in range(LATER):
        state.is_of(net)
    look = (time.perf_counter() - start) / LATER
    return [name, result.engine, times[0], later, times[0] - later, f"{1000 * look:.1f} ms"]


def main(names: list[str]) -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    headers = ("net", "engine", "first, s", "later, s", "recording and check, s", "comparison")
    rows = [seconds_of(name) for name in names or STUDY]
    print(tabulate(rows, headers, "github", floatfmt=".3f"))


if __name__ == "__main__":
    main(sys.argv[1:])
