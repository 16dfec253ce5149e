"""Every classification net of torchvision: target layer, methods, sizes, engine.

``python -m bench.survey_nets > docs/nets.md`` builds each net with random weights, explains one
scene at 224x224 with each engine, and writes the page. Progress goes to stderr. Exit code: 1 if a
method failed, or if the two engines don't agree on the methods that a net has.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torchvision
from tabulate import tabulate
from torch import nn

from xai_core.data.sources import SCENES, get_data_set
from xai_core.engine import AutogradEngine, FallsBack, FusedEngine
from xai_core.methods import DEFAULT_METHODS, METHODS, Method
from xai_core.nets import get_spec, load_net
from xai_core.nets.preprocess import preprocess
from xai_core.nets.torchvision_nets import names
from xai_core.types import Net

SIZE = 224

INTRODUCTION = """\
# torchvision's nets

`python -m bench.survey_nets > docs/nets.md` wrote this page in {minutes} minutes, with
torch {torch} and torchvision {torchvision}: it built each of the {count} classification
nets with random weights and explained one scene at 224x224 with both engines, which agreed on what
each net has. A test holds layers and sizes against the code.

- **Target layer**: found by the rule of [adding-a-net.md](adding-a-net.md), or named by the study
  (its four nets); the shape is that at 224x224.
- **Sizes**: the smallest square image that the net takes ("any": 1x1), or the only one.
- **Engine**: of `pytest bench`; where it is not the fused one, what the walk does not know.
"""


@dataclass(frozen=True)
class Found:
    """What was found out about one net."""

    layer: str
    shape: str
    refused: Mapping[str, str]
    sizes: str
    engine: str
    wrong: str


def main() -> int:
    """Survey, print, and say by the exit code whether anything went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--net", help="nets, by commas (all)")
    options = parser.parse_args()
    nets = options.net.split(",") if options.net else sorted(names())
    methods = [METHODS.get(m) for m in DEFAULT_METHODS if not METHODS.get(m).baseline]
    start = time.perf_counter()
    found = {}
    for net in nets:
        found[net] = survey(load_net(get_spec(net), "random"), methods)
        gc.collect()  # the largest nets take 2.6 GB each
        said = found[net].wrong or "ok"
        print(f"{time.perf_counter() - start:5.0f} s  {net}: {said}", file=sys.stderr, flush=True)
    minutes = f"{(time.perf_counter() - start) / 60:.0f}"
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    print(INTRODUCTION.format(minutes=minutes, count=len(nets), **versions))
    print(page(found, methods))
    return int(any(entry.wrong for entry in found.values()))


def survey(net: Net, methods: list[Method]) -> Found:
    """Explain one scene with each engine; the net's values are gone afterwards."""
    data = get_data_set(SCENES)
    sample = data.samples()[0]
    pixels = preprocess(data.image(sample), str(SIZE), net)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fused = FusedEngine()(net, pixels, [sample.class_indices], methods)
    reference = AutogradEngine()(net, pixels, [sample.class_indices], methods)
    wrong = "; ".join(fused.failed.values())
    if fused.refused != reference.refused:
        wrong = f"the engines differ: {fused.refused} and {reference.refused}"
    why = [str(w.message).split(": ", 1)[1] for w in caught if w.category is FallsBack]
    module = net.module.to("meta")
    return Found(
        layer=f"`{net.target_layer}`" if net.target_layer else "-",
        shape=_shape(module, net.target_layer),
        refused={method: _general(text, net) for method, text in fused.refused.items()},
        sizes=f"{net.input_size} only" if net.input_size else _smallest(module),
        engine=f"reference: {why[0]}" if why else fused.engine,
        wrong=wrong,
    )


def _general(reason: str, net: Net) -> str:
    """The same for all nets."""
    reason = reason.replace(net.id, "the net")
    return reason.replace(f"behind {net.target_layer}", "behind its target layer")


def _shape(module: nn.Module, layer: str | None) -> str:
    if layer is None:
        return "-"
    shapes: list[torch.Size] = []
    hook = module.get_submodule(layer).register_forward_hook(
        lambda module, args, output: shapes.append(output.shape[1:])
    )
    _runs(module, SIZE)
    hook.remove()
    return "x".join(map(str, shapes[0]))


def _smallest(module: nn.Module) -> str:
    low, high = 0, SIZE  # fails, runs
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _runs(module, middle) else (middle, high)
    return "any" if high == 1 else f"{high} and more"


def _runs(module: nn.Module, size: int) -> bool:
    try:
        with torch.no_grad():
            module(torch.zeros(1, 3, size, size, device="meta"))
    except RuntimeError:
        return False
    return True


def page(found: Mapping[str, Found], methods: Iterable[Method]) -> str:
    """The table, and below it the reasons."""
    marks: dict[str, str] = {}

    def cell(refused: Mapping[str, str], method: str) -> str:
        reason = refused.get(method)
        if reason is None:
            return "yes"
        # A product of two methods is refused for the reasons of both.
        parts = sorted({r for r in refused.values() if r in reason and r != reason}) or [reason]
        for part in parts:
            marks.setdefault(part, str(len(marks) + 1))
        return f"- ({', '.join(sorted(marks[part] for part in parts))})"

    methods = list(methods)
    header = ["Net", "Target layer", "Shape", *(m.title for m in methods), "Sizes", "Engine"]
    rows = [
        [net, f.layer, f.shape, *(cell(f.refused, m.id) for m in methods), f.sizes, f.engine]
        for net, f in found.items()
    ]
    reasons = "\n".join(f"{mark}. {reason}" for reason, mark in marks.items())
    table = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    return f"{table}\n\nWhy methods are skipped:\n\n{reasons}"


if __name__ == "__main__":
    sys.exit(main())
