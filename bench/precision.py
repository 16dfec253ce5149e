"""What bfloat16 gradients save and what they do to P: ``python -m bench.precision``.

Both precisions explain the same scenes in turn, so that a slow minute is slow for both.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from tabulate import tabulate

from bench.contenders import STUDY
from xai_core.data.sources import get_data_set
from xai_core.engine import FusedEngine, Precision
from xai_core.methods import METHODS
from xai_core.nets import STUDY_NETS, get_spec, load_net
from xai_core.nets.weights import scenes_weights
from xai_core.study import Chunk, Scoring, run_chunk
from xai_core.types import Record


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--net", default=",".join(STUDY_NETS), help="nets, by commas")
    parser.add_argument("--size", default="224", help="original, or N")
    parser.add_argument("--samples", type=int, default=12, help="scenes")
    options = parser.parse_args()
    print(f"`{' '.join(['python -m bench.precision', *sys.argv[1:]])}`\n")
    rows = [compare(net, options.size, options.samples) for net in options.net.split(",")]
    print(tabulate(rows, headers="keys", tablefmt="github"))


def compare(name: str, size: str, number: int) -> dict[str, str]:
    """A row: time in full precision over time in bf16, and how far P moves per method."""
    data = get_data_set("scenes")
    net = load_net(get_spec(name), scenes_weights(name))
    engines = FusedEngine(), FusedEngine(precision=Precision.BF16)
    methods = [METHODS.get(id) for id in STUDY]
    ratios: list[float] = []
    moved: dict[str, list[float]] = {id: [] for id in STUDY}
    for i, sample in enumerate([*list(data.samples())[:1], *list(data.samples())[:number]]):
        chunk = Chunk(size, (sample,), STUDY)
        full, rounded = (
            {
                o.method: o
                for o in run_chunk(chunk, net, data, engine, methods, scoring=Scoring(0.2))
            }
            for engine in engines
        )
        if i == 0:  # records and plans the net, and is not counted
            continue
        for id in STUDY:
            exact, other = full[id], rounded[id]
            assert isinstance(exact, Record)
            assert isinstance(other, Record)
            moved[id].append(other.metrics["concentration"] - exact.metrics["concentration"])
        ratios.append(exact.seconds / other.seconds)
    print(f"{name} done", file=sys.stderr)
    return {
        "net": name,
        "full / bf16, time": f"{statistics.median(ratios):.2f}",
        **{id: f"{statistics.fmean(d):+.1e}, {max(map(abs, d)):.0e}" for id, d in moved.items()},
    }


if __name__ == "__main__":
    main()
