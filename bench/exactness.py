"""How far the fused engine's maps are from the reference engine's, net by net.

``python -m bench.exactness`` prints three tables. In float64 the difference is rounding. In
float32 a ReLU or a pooling window that is nearly tied falls one way or the other by rounding, in
every library: one such flip in a late layer moves a map by more than all other rounding. So the
second table says how often that happens, and how far either engine is from float64. The third says
what it means for P on the scenes.
"""

from __future__ import annotations

import argparse
import sys

import torch
from tabulate import tabulate
from torch import Tensor

from bench.contenders import STUDY
from xai_core.data.sources import get_data_set
from xai_core.engine import AutogradEngine, Engine, FusedEngine
from xai_core.methods import DEFAULT_METHODS, METHODS
from xai_core.nets import get_spec, load_net
from xai_core.nets.weights import scenes_weights
from xai_core.study import Chunk, Scoring, run_chunk
from xai_core.types import Net, Record

NETS = (
    *("alexnet", "squeezenet1_0", "vgg19", "resnet152", "densenet121"),
    *("googlenet", "resnet18", "vgg16_bn", "squeezenet1_1", "mnasnet0_5"),
)
CASES = ("97x131x1", "97x131x5", "224x224x1", "224x224x5", "480x640x1")


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--net", default=",".join(NETS), help="nets, by commas")
    parser.add_argument("--case", default=",".join(CASES), help="HEIGHTxWIDTHxBATCH, by commas")
    parser.add_argument("--images", type=int, default=8, help="of the float32 table, at 224")
    parser.add_argument("--samples", type=int, default=6, help="scenes of the third table")
    options = parser.parse_args()
    nets = options.net.split(",")
    print(f"`{' '.join(['python -m bench.exactness', *sys.argv[1:]])}`\n")
    print("float64: the largest difference of any method's map, divided by the map's maximum.\n")
    rows = [in_float64(name, options.case.split(",")) for name in nets]
    print(tabulate(rows, headers="keys", tablefmt="github"), "\n")
    print(
        f"float32, {options.images} images at 224x224, five methods: relative L2 norm of the "
        "difference, median\nand largest, and the share of maps within 1e-3.\n"
    )
    rows = [in_float32(name, options.images) for name in nets]
    print(tabulate(rows, headers="keys", tablefmt="github"), "\n")
    print(
        f"The largest difference of P between the engines, {options.samples} scenes, all methods.\n"
    )
    rows = [on_scenes(name, options.samples) for name in nets]
    print(tabulate(rows, headers="keys", tablefmt="github"))


def in_float64(name: str, cases: list[str]) -> dict[str, str]:
    """A row of the first table."""
    net = load_net(get_spec(name), "random:1", dtype=torch.float64)
    row = {"net": name}
    for case in cases:
        height, width, batch = (int(n) for n in case.split("x"))
        x = noise(0, batch, height, width).double()
        ours, theirs = (maps(engine, net, x) for engine in (FusedEngine(), AutogradEngine()))
        largest = max(
            float((ours[id] - theirs[id]).abs().max() / theirs[id].abs().max().clamp_min(1e-300))
            for id in theirs
        )
        row[case] = f"{largest:.0e}"
        print(f"{name} {case} done", file=sys.stderr)
    return row


def in_float32(name: str, images: int) -> dict[str, str]:
    """A row of the second table."""
    net = load_net(get_spec(name), "random:1")
    exact = load_net(get_spec(name), "random:1", dtype=torch.float64)
    pairs: dict[str, list[float]] = {
        "fused, reference": [],
        "fused, float64": [],
        "reference, float64": [],
    }
    fused, reference = FusedEngine(), AutogradEngine()
    for seed in range(images):
        x = noise(seed, 1, 224, 224)
        ours, theirs = maps(fused, net, x), maps(reference, net, x)
        truth = maps(reference, exact, x.double())
        for id in STUDY:
            pairs["fused, reference"].append(relative(ours[id], theirs[id]))
            pairs["fused, float64"].append(relative(ours[id], truth[id]))
            pairs["reference, float64"].append(relative(theirs[id], truth[id]))
    row = {"net": name}
    for pair, values in pairs.items():
        ordered, within = sorted(values), sum(value <= 1e-3 for value in values)
        middle = ordered[len(ordered) // 2]
        row[pair] = f"{middle:.0e}, {ordered[-1]:.0e}, {within / len(values):.0%}"
    print(f"{name} done", file=sys.stderr)
    return row


def on_scenes(name: str, samples: int) -> dict[str, str]:
    """A row of the third table."""
    data = get_data_set("scenes")
    methods = [METHODS.get(id) for id in DEFAULT_METHODS]
    row = {"net": name}
    for dtype in (torch.float64, torch.float32):
        net = load_net(get_spec(name), scenes_weights(name), dtype=dtype)
        for size in ("224", "original"):
            p: list[list[float]] = []
            for engine in (FusedEngine(), AutogradEngine()):
                outcomes = [
                    outcome
                    for sample in list(data.samples())[:samples]
                    for outcome in run_chunk(
                        Chunk(size, (sample,), tuple(DEFAULT_METHODS)),
                        net,
                        data,
                        engine,
                        methods,
                        scoring=Scoring(0.2),
                    )
                ]
                p.append([o.metrics["concentration"] for o in outcomes if isinstance(o, Record)])
            largest = max(abs(a - b) for a, b in zip(*p, strict=True))
            row[f"{str(dtype).removeprefix('torch.')}, {size}"] = f"{largest:.0e}"
    print(f"{name} scenes done", file=sys.stderr)
    return row


def maps(engine: Engine, net: Net, x: Tensor) -> dict[str, Tensor]:
    """The five methods' maps of the class with the highest logit in the first image."""
    with torch.no_grad():
        c = int(net.module(x[:1].clone())[0].argmax())
    result = engine(net, x, [[c]] * len(x), [METHODS.get(id) for id in STUDY])
    return dict(result.maps)


def noise(seed: int, batch: int, height: int, width: int) -> Tensor:
    """Images of noise, the same in both precisions."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def relative(a: Tensor, b: Tensor) -> float:
    """``|a - b| / |b|``."""
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-300))


if __name__ == "__main__":
    main()
