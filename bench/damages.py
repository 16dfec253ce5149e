"""Damages the folder of a run in every way that `bench.damage_kinds` knows, and looks what is said.

``python -m bench.damages [--seed N] [--n2 WHICH] [WORD ...]``: a small net on four scenes; each
damage on a copy of its own for ``python -m xai_core report`` and ``gate``, for ``pytest bench
--resume`` and, as it takes seconds, for some of them the same with ``-n2``; of those whose name
holds one of the words, if there are any. Right are the records of the run that nobody damaged, or
one sentence; a traceback never is. Exits 1 on any miss.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from tabulate import tabulate
from torch import nn

from bench.damage_kinds import FILES, PARTS, Damage, parts_alone
from xai_core.cli import main as command
from xai_core.nets import NetSpec

ROOT = Path(__file__).parents[1]
METHODS = "backprop,cam,grad_cam,uniform"
EVERY = 16
"""Of so many folders one is resumed with ``-n2`` too, unless all are."""


class Small(nn.Module):
    """Two convolutions, pooling, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU()),
        )
        self.classifier = nn.Linear(8, 1000)

    def forward(self, x):  # noqa: D102
        return self.classifier(self.features(x).mean(dim=(2, 3)))


SPEC = NetSpec("small", Small, "features.4", weights="random:0")


@dataclass(frozen=True)
class Said:
    """What a command did.

    Attributes:
        code: its exit code.
        text: all that it printed.
        records: of the folder afterwards, without their times; None without a file of records.
        partial: whether the report says that records are missing.
    """

    code: int
    text: str
    records: list[dict] | None
    partial: bool


def records_of(run: Path) -> list[dict] | None:
    """The records of a run but for how long they took."""
    path = run / "records.jsonl"
    if not path.is_file():
        return None
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError:
        return None
    return [{name: v for name, v in row.items() if name != "seconds"} for row in rows]


@contextmanager
def heard() -> Iterator[io.StringIO]:
    """All that is printed meanwhile."""
    text = io.StringIO()
    with redirect_stdout(text), redirect_stderr(text):
        yield text


def said(run: Path, call: Callable[[], int]) -> Said:
    """Call a command; what it raises is a traceback for its user."""
    with heard() as text:
        try:
            code = int(call())
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception as error:
            code = -1
            print(f"Traceback: {type(error).__name__}: {error}", file=text)
    report = run / "concentration.md"
    partial = report.is_file() and "**PARTIAL**" in report.read_text()
    return Said(code, text.getvalue(), records_of(run), partial)


def bench(run: Path | None, reports: Path, *options: str) -> int:
    """``pytest bench`` on four scenes, here."""
    resume = [f"--resume={run}"] if run else []
    return pytest.main(
        [
            *(f"--rootdir={ROOT}", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"),
            *("--net=bench.damages:SPEC", "--image-ids=1,2,3,4", "--size=32", "--threads=1"),
            *(f"--method={METHODS}", "--report=tables", f"--report-dir={reports}"),
            *(*resume, *options, str(ROOT / "bench" / "test_concentration.py")),
        ]
    )


def judged(what: str, found: Said, right: list[dict]) -> str:
    """``right``, what was said instead, or ``MISS``."""
    last = [line for line in found.text.splitlines() if line.strip()][-6:]
    if "Traceback" in found.text or "INTERNALERROR" in found.text or found.code < 0:
        return f"MISS: a traceback: {last[-1] if last else ''}"
    sentence = [line for line in last if "ERROR: " in line or "python -m xai_core: " in line]
    if what.startswith("resume"):
        if found.code == pytest.ExitCode.OK and found.records == right and not found.partial:
            return "right"
        failed = found.code == pytest.ExitCode.TESTS_FAILED and "can't be written" in found.text
        refused = found.code == pytest.ExitCode.USAGE_ERROR and sentence
        return f"sentence, exit {found.code}" if refused or failed else f"MISS: {last}"
    if found.code == 2:
        return "sentence, exit 2" if len(found.text.splitlines()) == 1 else f"MISS: {last}"
    if what == "gate":
        if found.code == 0:
            return "right" if f"{len(right)} records compared" in found.text else f"MISS: {last}"
        return "failed: said" if "# Gate: FAILED" in found.text else f"MISS: {last}"
    if found.code == 0 and found.records == right:
        return "right"
    cells = [] if found.records is None else found.records
    fewer = found.code == 0 and found.partial and all(row in right for row in cells)
    return "fewer: said" if fewer else f"MISS: {last}"


def tried(
    damage: Damage, seed: str, whole: Path, alone: bool, right: list[dict], workers: bool
) -> list[str]:
    """One damage under each command, each time on a fresh copy."""
    calls: dict[str, Callable[[Path], int]] = {
        "report": lambda run: command(["report", str(run)]),
        "gate": lambda run: command(["gate", str(run), str(whole.parent / "baseline" / "main")]),
        "resume": lambda run: bench(run, run.parent),
        **({"resume -n2": lambda run: bench(run, run.parent, "-n2")} if workers else {}),
    }
    row = []
    for what, call in calls.items():
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / whole.name
            shutil.copytree(whole, run)
            if alone:
                parts_alone(run)
            damage(run, random.Random(seed))
            row.append(judged(what, said(run, lambda call=call, run=run: call(run)), right))
    return row


def main() -> None:
    """Print a table; exit 1 where anything is not right."""
    parser = argparse.ArgumentParser(description="Damage run folders, and look what is said.")
    parser.add_argument("--seed", type=int, default=0, help="of what is damaged where (0)")
    parser.add_argument("--n2", choices=("none", "some", "all"), default="some", help="(some)")
    parser.add_argument("words", nargs="*", help="only damages whose names hold one of these (all)")
    arguments = parser.parse_args()
    kinds: dict[str, tuple[Damage, bool]] = {
        "whole": (lambda run, dice: None, False),
        "parts alone": (lambda run, dice: None, True),
        **{name: (damage, False) for name, damage in PARTS.items()},
        **{f"alone, {name}": (damage, True) for name, damage in PARTS.items()},
        **{name: (damage, False) for name, damage in FILES.items()},
    }
    words = arguments.words
    chosen = {n: k for n, k in kinds.items() if not words or any(word in n for word in words)}
    with tempfile.TemporaryDirectory() as folder:
        reports = Path(folder)
        with heard() as text:
            code = bench(None, reports, "--concentration-save=main")
        assert code == 0, text.getvalue()
        (whole,) = (path for path in reports.iterdir() if path.name != "baseline")
        right = records_of(whole)
        assert right
        rows = []
        for name, (damage, alone) in chosen.items():
            some = len(rows) < 2 or len(rows) % EVERY == 0
            workers = {"none": False, "some": some, "all": True}[arguments.n2]
            seed = f"{arguments.seed} {name}"
            rows.append([name, *tried(damage, seed, whole, alone, right, workers)])
            print(f"{len(rows)} of {len(chosen)}: {rows[-1]}", file=sys.stderr, flush=True)
    print(tabulate(rows, ["Damage", "report", "gate", "--resume", "--resume -n2"], "github"))
    missed = sum(any(cell.startswith("MISS") for cell in row) for row in rows)
    print(f"\n{len(rows)} folders, {missed} missed")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
