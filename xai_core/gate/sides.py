"""A baseline and a run, cell by cell, and whether they can be compared at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from xai_core.comparison import CELL
from xai_core.gate.baseline import Baseline, Entry
from xai_core.gate.finding import LISTED, Cell, Finding

EXACT = 1e-6
"""Largest difference of P where everything that decides it is the same."""

HEADER = ("Net", "Size", "Sample", "Method", "Before", "After")


@dataclass(frozen=True)
class Sides:
    """A baseline and a run, without what can't be compared.

    Iterating gives (cell, before, after) of the cells that both have, sorted.

    Attributes:
        before: the baseline.
        after: the run.
        redrawn: nets left out, because they were never trained and their random weights are others.
    """

    before: Baseline
    after: Baseline
    redrawn: tuple[str, ...]

    @classmethod
    def of(cls, before: Baseline, after: Baseline) -> Sides:
        """Leave out what says nothing: nets whose random weights were drawn anew."""
        drawn = {
            entry.net: entry.weights_sha256 for entry in before.values() if entry.weights_random
        }
        redrawn = {
            entry.net
            for entry in after.values()
            if entry.weights_random
            and drawn.get(entry.net, entry.weights_sha256) != entry.weights_sha256
        }

        def without(side: Baseline) -> Baseline:
            return {cell: entry for cell, entry in side.items() if entry.net not in redrawn}

        return cls(without(before), without(after), tuple(sorted(redrawn)))

    @cached_property
    def cells(self) -> list[Cell]:
        """Those that both have, sorted."""
        return sorted(self.before.keys() & self.after.keys())

    def __iter__(self) -> Iterator[tuple[Cell, Entry, Entry]]:
        return ((cell, self.before[cell], self.after[cell]) for cell in self.cells)

    def change(self, cell: Cell) -> float:
        """By how much its P is higher than before."""
        return self.after[cell].p - self.before[cell].p

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """One row a cell, as `xai_core.comparison.paired` takes them, with category, reference."""
        return pd.DataFrame(
            [
                {
                    **dict(zip(CELL, cell, strict=True)),
                    "image_id": old.image_id,
                    "category": old.category,
                    "reference": new.reference,
                    "before": old.p,
                    "after": new.p,
                    "difference": new.p - old.p,
                }
                for cell, old, new in self
            ]
        )


def other_data(before: Baseline, after: Baseline, accept_new: bool) -> list[Finding]:
    """One failure where the two are of different data: then nothing else can be compared.

    A data set of another name with the same images and annotations is the same data.
    """
    names = [sorted({entry.data for entry in side.values()}) for side in (before, after)]
    both = before.keys() & after.keys()
    images = all(before[cell].sample_sha256 == after[cell].sample_sha256 for cell in both)
    renamed = images and (before.keys() == after.keys() or (accept_new and both))
    if names[0] == names[1] or not all(names) or renamed:
        return []
    sentence = (
        f"The baseline is of the data set {', '.join(names[0])}, this run of "
        f"{', '.join(names[1])}, and their samples are not the same: nothing was compared."
    )
    return [Finding("other data set", True, sentence)]


def comparable(sides: Sides, accept_new: bool) -> list[Finding]:
    """What is missing, new, or about another image, mask or output."""
    return [*_redrawn(sides), *_cells(sides, accept_new), *_inputs(sides)]


def _redrawn(sides: Sides) -> list[Finding]:
    if not sides.redrawn:
        return []
    sentence = (
        f"{', '.join(sides.redrawn)}: never trained, and the random weights are others than the "
        "baseline's (another version of torch or torchvision draws others); not compared."
    )
    return [Finding("random weights", False, sentence, judged=False)]


def _cells(sides: Sides, accept_new: bool) -> list[Finding]:
    findings = []
    for what, where, cells in (
        ("missing records", "the baseline", sides.before.keys() - sides.after.keys()),
        ("new records", "this run", sides.after.keys() - sides.before.keys()),
    ):
        if not cells:
            continue
        sentence = f"{len(cells)} records are in {where} only."
        sentence += " Accepted." if accept_new else " --accept-new accepts them."
        counts: dict[tuple[str, str, str], int] = {}
        for net, size, _, method in cells:
            counts[net, size, method] = counts.get((net, size, method), 0) + 1
        rows = [[*key, count] for key, count in sorted(counts.items())][:LISTED]
        header = ("Net", "Size", "Method", "Records")
        findings.append(Finding(what, not accept_new, sentence, header, rows))
    return findings


def _inputs(sides: Sides) -> list[Finding]:
    """Images, masks and explained outputs: P of other ones is another question."""
    findings = []
    checks: tuple[tuple[str, str, Callable[[Entry, Entry], bool]], ...] = (
        ("image or annotation", "sample_sha256", lambda a, b: a.sample_sha256 != b.sample_sha256),
        ("dilated mask", "chance", lambda a, b: abs(a.chance - b.chance) > EXACT),
        (
            "explained output",
            "class_index",
            # other weights may prefer another of a class's outputs
            lambda a, b: a.class_index != b.class_index and a.weights_sha256 == b.weights_sha256,
        ),
        ("P, or no number", "p", lambda a, b: math.isnan(a.p) or math.isnan(b.p)),
    )
    for what, name, differ in checks:
        other = [(cell, old, new) for cell, old, new in sides if differ(old, new)]
        if not other:
            continue
        shown = other[:LISTED]
        rows = [[*cell, getattr(old, name), getattr(new, name)] for cell, old, new in shown]
        sentence = f"{len(other)} records have another {what} than the baseline."
        cells = [cell for cell, _, _ in shown]
        findings.append(Finding(f"other {what}", True, sentence, HEADER, rows, cells))
    return findings


def largest(
    sides: Sides, cells: Collection[Cell]
) -> tuple[tuple[str, ...], list[list[object]], list[Cell]]:
    """Header, rows and cells of a table of the first `LISTED` cells."""
    shown = list(cells)[:LISTED]
    rows = [[*c, sides.before[c].p, sides.after[c].p, sides.change(c)] for c in shown]
    return (*HEADER, "Difference"), rows, shown
