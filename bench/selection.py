"""Time and peak memory of the first selection from an annotation file, and of every later start.

``python -m bench.selection FILE`` runs each in a process of its own, with an empty folder for what
is kept; ``python tests/data/synthetic_coco.py FILE`` writes a file of train2017's size. The exit
code is 1 where a limit is passed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIRST_SECONDS, FIRST_MIB, LATER_SECONDS = 40.0, 1536.0, 1.0
"""Limits, on two cores."""


def main() -> int:
    """Measure, print, compare with the limits."""
    parser = argparse.ArgumentParser(prog="python -m bench.selection", description=__doc__)
    parser.add_argument("file", type=Path, help="annotation file in COCO's format")
    parser.add_argument("--kept", type=Path, help=argparse.SUPPRESS)  # one measurement
    asked = parser.parse_args()
    if asked.kept:
        measure(asked.file, asked.kept)
        return 0
    if not asked.file.is_file():
        parser.error(f"no annotation file at {asked.file}")
    size = asked.file.stat().st_size / 1e6
    print(f"{asked.file.name}, {size:,.0f} MB, the study's classes, 30 samples of each\n")
    print("| start | seconds | peak memory, MiB | samples |")
    print("| --- | --- | --- | --- |")
    passed = True
    with tempfile.TemporaryDirectory() as kept:
        for start in ("first", "later", "later"):
            command = [sys.executable, "-m", "bench.selection", str(asked.file), "--kept", kept]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds, mib, samples = (float(value) for value in done.stdout.split())
            print(f"| {start} | {seconds:.3f} | {mib:,.0f} | {samples:.0f} |", flush=True)
            limit = FIRST_SECONDS if start == "first" else LATER_SECONDS
            passed &= seconds < limit and mib < FIRST_MIB
    if not passed:
        print(
            f"\nA limit is passed: {FIRST_SECONDS:g} s and {FIRST_MIB:g} MiB for the first, "
            f"{LATER_SECONDS:g} s for a later start"
        )
    return 0 if passed else 1


def measure(file: Path, kept: Path) -> None:
    """Print seconds, peak memory in MiB and the number of samples of one selection."""
    from xai_core.data.classes import coco_to_imagenet
    from xai_core.data.manifest import chosen
    from xai_core.data.select import Selection

    began = time.perf_counter()
    data = chosen(file, file.parent, Selection(), coco_to_imagenet(), kept)
    samples = len(data.samples())
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(seconds, peak, samples)


if __name__ == "__main__":
    raise SystemExit(main())
