"""``python -m bench.silence``: does the gate stay silent where nothing is wrong?

Runs squeezenet1_0 on the scenes 20 times, with other batch sizes, threads, processes and orders of
tests, holds each run against the committed baseline and prints the verdicts. Exit code: 1 if any
run raised an alarm. It is also the pytest plugin that shuffles the tests of such a run.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile

import pytest
from tabulate import tabulate

BASELINE = "reports/baseline/main"
RULES = "mean:0.005,class:0.05,each:0.2,order,zero_energy:0"
SEED = "XAI_SHUFFLE"
RUNS = (
    *([f"--batch-size={n}"] for n in (2, 3, 4, 8, 16)),
    ["--threads=1"],
    ["--threads=1", "--batch-size=4"],
    ["-n1"],
    ["-n2"],
    ["-n2", "--batch-size=4"],
    ["-n2", "--dist=worksteal"],
    [],
    [],
    *(["-p", "bench.silence", f"--batch-size={n}"] for n in (1, 1, 1, 3, 4, 4, 8)),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests in another order."""
    random.Random(int(os.environ[SEED])).shuffle(items)


def _verdict(options: list[str], seed: int, reports: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "bench/test_concentration.py", "-q"]
    command += ["--net=squeezenet1_0", "--report=tables", f"--report-dir={reports}"]
    command += [f"--concentration-compare={BASELINE}", f"--concentration-compare-fail={RULES}"]
    environment = os.environ | {SEED: str(seed)}
    done = subprocess.run(
        [*command, "--accept-new", *options], capture_output=True, text=True, env=environment
    )
    lines = (done.stdout + done.stderr).splitlines()
    kinds = ("FAILED", "ERROR", "ok  exact comparison", "ok  comparison")
    said = [line for kind in kinds for line in lines if line.startswith(kind)]
    return done.returncode, said[0].split(":")[0] if said else "no verdict"


def main() -> int:
    """Run, print the table, and say by the exit code whether there was an alarm."""
    rows = []
    with tempfile.TemporaryDirectory() as reports:
        for seed, options in enumerate(RUNS):
            code, said = _verdict(options, seed, reports)
            rows.append((" ".join(options).replace("-p bench.silence", "shuffled"), code, said))
            print(f"{seed + 1} of {len(RUNS)}: exit code {code}", file=sys.stderr, flush=True)
    print(tabulate(rows, ["options", "exit code", "verdict"], tablefmt="github"))
    return int(any(code for _, code, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
