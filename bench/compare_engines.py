"""Our engine against captum, pytorch-grad-cam and naive hooks: time, memory, and what is left.

``python -m bench.compare_engines > part.md`` prints markdown tables; docs/performance.md holds
them. All contenders run in one process, interleaved, so that a slow minute of the machine is slow
for all of them. Weights are random, inputs noise: neither changes the work. Needs the extra
``peers``.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor, nn

from bench.contenders import CONTENDERS, STUDY, with_engine
from xai_core.engine import FusedEngine
from xai_core.engine.allocator import keep_freed_memory
from xai_core.nets import STUDY_NETS, get_spec, load_net
from xai_core.types import Net

CASES = ("224x224x1", "480x640x1", "224x224x8")
REFERENCE = "fused"


def main() -> None:
    """Parse the command line and print the tables that it asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--net", default=",".join(STUDY_NETS), help="nets, by commas")
    parser.add_argument("--case", default=",".join(CASES), help="HEIGHTxWIDTHxBATCH, by commas")
    parser.add_argument("--who", default=";".join(CONTENDERS), help="contenders, by semicolons")
    parser.add_argument("--seconds", type=float, default=40, help="for each net and case")
    parser.add_argument("--threads", type=int, help="torch threads (torch's own number)")
    parser.add_argument(
        "--keep-memory", action="store_true", help="reuse freed memory, as pytest bench does"
    )
    parser.add_argument("--no-memory", action="store_true", help="leave the memory table out")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    nets, cases = options.net.split(","), options.case.split(",")
    if options.memory_of:
        print(peak_memory(options.memory_of, nets[0], cases[0]))
        return
    if options.keep_memory:
        keep_freed_memory()
    print(
        f"`{' '.join(['python -m bench.compare_engines', *sys.argv[1:]])}` on "
        f"{torch.get_num_threads()} threads of {cpu()}, torch {torch.__version__}, float32.\n"
    )
    peak = convolution_rate()
    print_times(nets, cases, options.who.split(";"), options.seconds, peak)
    if not options.no_memory:
        print_memory(nets, "480x640x1")


def print_times(
    nets: list[str], cases: list[str], who: list[str], seconds: float, peak: float
) -> None:
    """Ratios to our time, our time, and how near it comes to the arithmetic limit."""
    ratios, limits = [], []
    for name in nets:
        net = load_net(get_spec(name), "random:1")
        for case in cases:
            times = measure(net, case, who, seconds)
            ours = times[REFERENCE]
            row = {"net": name, "case": case, "rounds": len(ours)}
            row["ours, ms"] = f"{1e3 * statistics.median(ours):.1f}"
            for other in who:
                if other != REFERENCE:
                    row[other] = spread(times[other], ours)
            ratios.append(row)
            limits.append(limit_row(net, name, case, times, peak))
            print(f"{name} {case} done", file=sys.stderr)
    print("Time of each, divided by ours in the same round: median (quartiles).\n")
    print(tabulate(ratios, headers="keys", tablefmt="github"), "\n")
    print(
        "What is left: the bare forward pass; the arithmetic limit, which is the forward pass's "
        "and three\ninput gradients' multiplications at the best convolution rate measured here, "
        f"{peak / 1e9:.0f} GFLOP/s; ours\ndivided by each; Grad-CAM alone divided by the forward "
        "pass; six methods divided by five.\n"
    )
    print(tabulate(limits, headers="keys", tablefmt="github"), "\n")


def measure(net: Net, case: str, who: list[str], seconds: float) -> dict[str, list[float]]:
    """Seconds of each contender, round by round, in turn."""
    x, c = inputs(net, case)
    engine = FusedEngine()
    todo: dict[str, Callable[[], object]] = {}
    for name in {REFERENCE: None} | dict.fromkeys(who):
        explain = CONTENDERS[name](net)
        todo[name] = lambda explain=explain: explain(x, c)  # type: ignore[misc]
    for label, ids in (("Grad-CAM", ("grad_cam",)), ("six", (*STUDY, "cam"))):
        some = with_engine(engine, net, ids)
        todo[label] = lambda some=some: some(x, c)  # type: ignore[misc]
    todo["forward"] = lambda: forward(net.module, x)
    for run in todo.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in todo}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[REFERENCE]) < 3:
        for name, run in todo.items():
            gc.collect()  # the garbage of one is not to be the next one's work
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def inputs(net: Net, case: str) -> tuple[Tensor, int]:
    """Noise images, and the class with the highest logit in the first."""
    height, width, batch = (int(n) for n in case.split("x"))
    x = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    return x, int(forward(net.module, x)[0].argmax())


@torch.no_grad()
def forward(module: nn.Module, x: Tensor) -> Tensor:
    """The bare forward pass."""
    return module(x)  # type: ignore[no-any-return]


def spread(times: list[float], ours: list[float]) -> str:
    """Median and quartiles of the ratio, round by round."""
    ratios = [theirs / mine for theirs, mine in zip(times, ours, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def limit_row(
    net: Net, name: str, case: str, times: dict[str, list[float]], peak: float
) -> dict[str, object]:
    """Our time against the forward pass and the arithmetic limit."""
    median = {who: statistics.median(values) for who, values in times.items()}
    flops = 4 * forward_flops(net.module, inputs(net, case)[0])
    return {
        "net": name,
        "case": case,
        "forward, ms": f"{1e3 * median['forward']:.1f}",
        "limit, ms": f"{1e3 * flops / peak:.1f}",
        "ours / forward": f"{median[REFERENCE] / median['forward']:.2f}",
        "limit / ours": f"{flops / peak / median[REFERENCE]:.0%}",
        "Grad-CAM / forward": f"{median['Grad-CAM'] / median['forward']:.2f}",
        "six / five": f"{median['six'] / median[REFERENCE]:.3f}",
    }


def forward_flops(module: nn.Module, x: Tensor) -> float:
    """Multiplications and additions of the convolutions and linear layers."""
    total = 0.0

    def count(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer.weight, Tensor)
        total += 2.0 * output.numel() * layer.weight[0].numel()

    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    forward(module, x)
    for handle in handles:
        handle.remove()
    return total


def convolution_rate() -> float:
    """The best rate that float32 convolutions of a few shapes reach here, FLOP/s."""
    best = 0.0
    for channels, size in ((64, 112), (128, 56), (256, 56), (512, 28)):
        x = torch.randn(3, channels, size, size).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(channels, channels, 3, 3)
        flops = 2.0 * x.numel() * weight[0].numel()
        for _ in range(12):
            start = time.perf_counter()
            F.conv2d(x, weight, None, 1, 1)
            best = max(best, flops / (time.perf_counter() - start))
    return best


def print_memory(nets: list[str], case: str) -> None:
    """Peak memory of each contender, each in a process of its own."""
    rows = []
    for name in nets:
        row: dict[str, object] = {"net": name}
        for who in CONTENDERS:
            command = [sys.executable, "-m", "bench.compare_engines", "--memory-of", who]
            done = subprocess.run(
                [*command, "--net", name, "--case", case], capture_output=True, text=True
            )
            row[who] = f"{float(done.stdout):.0f}" if done.returncode == 0 else "failed"
        rows.append(row)
    print(
        f"Peak memory at {case} above that of the loaded net, MiB, with the system's own "
        "allocator settings.\nThe copy of the net that the peers need is not counted.\n"
    )
    print(tabulate(rows, headers="keys", tablefmt="github"), "\n")


def peak_memory(who: str, name: str, case: str) -> float:
    """MiB that three explanations need at most, beyond what was resident before."""
    net = load_net(get_spec(name), "random:1")
    _, c = inputs(net, "64x64x1")
    height, width, batch = (int(n) for n in case.split("x"))
    x = torch.randn(batch, 3, height, width)
    explain = CONTENDERS[who](net)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else what loading freed would serve for nothing
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    for _ in range(3):
        explain(x, c)
    return status("VmHWM") - before


def status(field: str) -> float:
    """A field of /proc/self/status, MiB."""
    found = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor()


if __name__ == "__main__":
    main()
