"""Where the time of a run goes: ``python -m bench.profile_run [options of pytest bench]``.

Runs ``pytest bench`` in this process under cProfile and prints one markdown table. The profiler
slows Python down and torch's operators not at all, so every share but the engine's is an upper
bound. Timing tests are left out: pytest-benchmark does not time under a profiler.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import time

import pytest
from tabulate import tabulate

PARTS = (
    ("engine", "fused/engine.py", "__call__"),
    ("scoring", "study.py", "_score"),
    ("decoding, resizing, dilation (waited for)", "pytest_plugin/run.py", "_prepared"),
    ("writing parts", "xai_core/store.py", "write"),
    ("loading nets", "pytest_plugin/run.py", "load"),
    ("checking that the net is unchanged", "bench/test_invariants.py", "state"),
    ("report", "pytest_plugin/aggregate.py", "pytest_sessionfinish"),
    ("importing torch and the suite", "_pytest/config/__init__.py", "_prepareconfig"),
)


def main() -> None:
    """Run and print."""
    profile = cProfile.Profile()
    start = time.perf_counter()
    profile.enable()
    status = pytest.main(["bench", "-q", "--deselect", "bench/test_timing.py", *sys.argv[1:]])
    profile.disable()
    total = time.perf_counter() - start
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    rows, known = [], 0.0
    for label, file, name in PARTS:
        seconds = sum(
            cumulative
            for (path, _, function), (_, _, _, cumulative, _) in stats.items()
            if path.endswith(file) and function == name
        )
        known += seconds
        rows.append((label, f"{seconds:.1f}", f"{seconds / total:.1%}"))
    rest = total - known
    rows.append(("pytest itself, and all else", f"{rest:.1f}", f"{rest / total:.1%}"))
    rows.append(("**together**", f"{total:.1f}", "100%"))
    print(f"\n`{' '.join(['python -m bench.profile_run', *sys.argv[1:]])}`, exit code {status}\n")
    print(tabulate(rows, headers=("part", "seconds", "share"), tablefmt="github"))


if __name__ == "__main__":
    main()
