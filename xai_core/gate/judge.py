"""The verdict on a run: what changed, by how much, where."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations

import pandas as pd

from xai_core.comparison import ARITHMETIC, paired
from xai_core.gate.baseline import Baseline, Entry
from xai_core.gate.claims import Claim
from xai_core.gate.rules import Rule

EXACT = 1e-6
"""Largest difference of P where everything that decides it is the same."""

SIGNIFICANT = 0.01
"""Holm-adjusted p below which a drop of a mean is more than chance."""

LISTED = 10

FINGERPRINT = ("weights_sha256", "target_layer", *ARITHMETIC)
"""Where all of these are the same, P must be."""

Row = Sequence[object]
Cell = tuple[str, str, str, str]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: a few words.
        failed: whether it fails the gate.
        sentence: what was found.
        header: of the table; empty without one.
        rows: of the table; at most `LISTED`.
        cells: the cells that the rows are about, for links to their pictures.
    """

    what: str
    failed: bool
    sentence: str
    header: Sequence[str] = ()
    rows: Sequence[Row] = ()
    cells: Sequence[Cell] = ()


@dataclass(frozen=True)
class Verdict:
    """All findings.

    Attributes:
        findings: in the order in which they were looked at.
        compared: number of records that both sides have.
        exact: whether everything that decides P is the same on both sides.
    """

    findings: Sequence[Finding] = field(default_factory=tuple)
    compared: int = 0
    exact: bool = False

    @property
    def failed(self) -> bool:
        """Whether any finding fails the gate."""
        return any(finding.failed for finding in self.findings)


def judge(
    before: Baseline,
    after: Baseline,
    rules: Collection[Rule],
    *,
    claims: Collection[Claim] = (),
    baselines: Collection[str] = (),
    accept_new: bool = False,
) -> Verdict:
    """Hold a run against a baseline.

    Args:
        before: the baseline.
        after: the run.
        rules: see `Rule`; those of the exact comparison hold without being asked for.
        claims: see `Claim`.
        baselines: methods that are there to be beaten; they take no part in order and claims.
        accept_new: whether cells may be missing or new.
    """
    redrawn = _redrawn(before, after)
    sides = _Sides(_without(redrawn, before), _without(redrawn, after), baselines)
    findings = [*_random(redrawn), *_cells(sides, accept_new), *_inputs(sides)]
    changed = [
        name
        for name in FINGERPRINT
        if any(getattr(old, name) != getattr(new, name) for _, old, new in sides)
    ]
    if not sides.cells:
        findings.append(Finding("comparison", True, "No record is in both: nothing was compared."))
    elif not changed:
        findings.append(_same(sides))
    else:
        findings.append(_different(sides, changed))
        findings += [_RULES[rule.kind](rule, sides) for rule in rules]
    findings += [_claim(claim, after, baselines) for claim in claims]
    return Verdict(tuple(findings), len(sides.cells), bool(sides.cells) and not changed)


@dataclass(frozen=True)
class _Sides:
    """A baseline and a run, without what can't be compared.

    Iterating gives (cell, before, after) of the cells that both have, sorted.
    """

    before: Baseline
    after: Baseline
    baselines: Collection[str]

    @cached_property
    def cells(self) -> Sequence[Cell]:
        """Those that both have, sorted."""
        return sorted(self.before.keys() & self.after.keys())

    def __iter__(self) -> Iterator[tuple[Cell, Entry, Entry]]:
        return ((cell, self.before[cell], self.after[cell]) for cell in self.cells)

    def change(self, cell: Cell) -> float:
        """By how much its P is higher than before."""
        return self.after[cell].p - self.before[cell].p

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """One row a cell, as `xai_core.comparison.paired` takes them."""
        return pd.DataFrame(
            [
                {
                    **dict(zip(("net", "size", "sample", "method"), cell, strict=True)),
                    "image_id": old.image_id,
                    "before": old.p,
                    "after": new.p,
                    "difference": new.p - old.p,
                }
                for cell, old, new in self
            ]
        )


# ---- is it comparable? -------------------------------------------------------------------------


def _redrawn(before: Baseline, after: Baseline) -> set[str]:
    """Nets without training whose random weights are others: nothing can be said of them."""
    hashes = {entry.net: entry.weights_sha256 for entry in before.values() if entry.weights_random}
    return {
        entry.net
        for entry in after.values()
        if entry.weights_random
        and hashes.get(entry.net, entry.weights_sha256) != entry.weights_sha256
    }


def _without(nets: Collection[str], side: Baseline) -> Baseline:
    return {cell: entry for cell, entry in side.items() if entry.net not in nets}


def _random(nets: Collection[str]) -> list[Finding]:
    if not nets:
        return []
    sentence = (
        f"{', '.join(sorted(nets))}: never trained, and the random weights are others than the "
        "baseline's (another version of torch or torchvision draws others); not compared."
    )
    return [Finding("random weights", False, sentence)]


def _cells(sides: _Sides, accept_new: bool) -> list[Finding]:
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


def _inputs(sides: _Sides) -> list[Finding]:
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
        findings.append(Finding(f"other {what}", True, sentence, _HEADER, rows, cells))
    return findings


_HEADER = ("Net", "Size", "Sample", "Method", "Before", "After")


# ---- P -----------------------------------------------------------------------------------------


def _same(sides: _Sides) -> Finding:
    moved = [
        cell
        for cell, old, new in sides
        if not abs(new.p - old.p) <= EXACT or new.zero_energy != old.zero_energy
    ]
    start = (
        f"{len(sides.cells)} records compared; weights, versions and arithmetic are the same, so "
        "P must be"
    )
    if not moved:
        return Finding("exact comparison", False, f"{start}, and is (to {EXACT:g}).")
    worst = sorted(moved, key=lambda cell: -abs(sides.change(cell)))
    sentence = f"{start}, but {len(moved)} differ by more than {EXACT:g}."
    return Finding("exact comparison", True, sentence, *_worst(sides, worst))


def _different(sides: _Sides, changed: Sequence[str]) -> Finding:
    def values(side: Baseline, name: str) -> str:
        found = sorted({str(getattr(side[cell], name)) for cell in sides.cells})
        shown = [value[:12] if name.endswith("sha256") else value for value in found[:3]]
        return ", ".join(shown) + (", ..." if len(found) > 3 else "")

    rows = [[name, values(sides.before, name), values(sides.after, name)] for name in changed]
    moved = sum(abs(sides.change(cell)) > 0.05 for cell in sides.cells)
    sentence = (
        f"{len(sides.cells)} records compared; not everything that decides P is the same, so small "
        f"differences are expected. P of {moved} records moved by more than 0.05."
    )
    return Finding("comparison", False, sentence, ("What differs", "Before", "After"), rows)


def _worst(
    sides: _Sides, worst: Sequence[Cell]
) -> tuple[Sequence[str], Sequence[Row], Sequence[Cell]]:
    shown = worst[:LISTED]
    rows = [[*c, sides.before[c].p, sides.after[c].p, sides.change(c)] for c in shown]
    return (*_HEADER, "Difference"), rows, shown


def _mean(rule: Rule, sides: _Sides) -> Finding:
    pairs = sides.pairs
    # Cells in which nothing moved can't be rejected, so they count for no adjustment (Tarone 1990).
    moved = pairs.groupby(["net", "size", "method"])["difference"].transform(
        lambda d: bool((d != 0).any())
    )
    table = paired(pairs[moved.astype(bool)], ["net", "size", "method"])
    margin = rule.margin * table["before"] if rule.relative else rule.margin
    dropped = table["difference"] < -margin
    # With too few images no drop can be significant: then the margin alone decides.
    testable = 2.0 ** (1 - table["images"]) * max(len(table), 1) < SIGNIFICANT
    worse = table[dropped & ((table["p"] < SIGNIFICANT) | ~testable)].sort_values("difference")
    header = ("Net", "Size", "Method", "Before", "After", "Difference", "95 % interval", "p", "n")
    rows = [
        [
            *(row["net"], row["size"], row["method"], row["before"], row["after"]),
            row["difference"],
            f"{row['low']:.4f} to {row['high']:.4f}" if row["images"] > 1 else "-",
            row["p"],
            row["images"],
        ]
        for row in worse.head(LISTED).to_dict("records")
    ]
    limit = f"{100 * rule.margin:g} % of its baseline" if rule.relative else f"{rule.margin:g}"
    found = f"{len(worse)} of {pairs[['net', 'size', 'method']].drop_duplicates().shape[0]}"
    sentence = (
        f"The mean P of {found} (net, size, method) dropped by more than {limit}, with a "
        f"Holm-adjusted p below {SIGNIFICANT:g} over images."
    )
    few = int((~testable).sum())
    if few:
        sentence += f" {few} have too few images for a test; there the margin alone decides."
    return Finding(str(rule), bool(len(worse)), sentence, header if rows else (), rows)


def _each(rule: Rule, sides: _Sides) -> Finding:
    drops = [cell for cell in sides.cells if -sides.change(cell) > rule.margin]
    of = f"{len(drops)} of {len(sides.cells)}"
    sentence = f"The P of {of} records dropped by more than {rule.margin:g}."
    if not drops:
        return Finding(str(rule), False, sentence)
    worst = sorted(drops, key=sides.change)
    return Finding(str(rule), True, sentence, *_worst(sides, worst))


def _order(rule: Rule, sides: _Sides) -> Finding:
    pairs = sides.pairs[~sides.pairs["method"].isin(list(sides.baselines))]
    never_trained = {old.net for _, old, _ in sides if old.weights_random}
    rows: list[Row] = []
    for (net, size), part in pairs.groupby(["net", "size"], sort=True):
        if net in never_trained:
            continue
        means = part.groupby("method")[["before", "after"]].mean()
        for first, second in permutations(means.index, 2):
            led = means["before"][first] - means["before"][second]
            leads = means["after"][first] - means["after"][second]
            if led > rule.margin and leads <= 0:
                rows.append([str(net), str(size), str(first), str(second), led, leads])
    sentence = (
        f"{len(rows)} methods of trained nets fell behind one that they led by more than "
        f"{rule.margin:g}."
    )
    header = ("Net", "Size", "Method", "Fell behind", "Led by", "Leads by")
    return Finding(str(rule), bool(rows), sentence, header if rows else (), rows[:LISTED])


def _zero_energy(rule: Rule, sides: _Sides) -> Finding:
    had = sum(old.zero_energy for _, old, _ in sides)
    has = sum(new.zero_energy for _, _, new in sides)
    sentence = f"{has} maps are zero everywhere, {had} before."
    if has - had <= rule.margin:
        return Finding(str(rule), False, sentence)
    cells = [cell for cell, old, new in sides if new.zero_energy and not old.zero_energy][:LISTED]
    return Finding(str(rule), True, sentence, _HEADER[:4], cells, cells)


_RULES = {"mean": _mean, "each": _each, "order": _order, "zero_energy": _zero_energy}


# ---- claims ------------------------------------------------------------------------------------


def _claim(claim: Claim, after: Baseline, baselines: Collection[str]) -> Finding:
    """Holds in every trained net and size that the claim is about."""
    table = pd.DataFrame(
        [
            {"net": e.net, "size": e.size, "method": e.method, "p": e.p}
            for e in after.values()
            if not e.weights_random and claim.net in (None, e.net) and claim.size in (None, e.size)
        ],
        columns=["net", "size", "method", "p"],
    )
    broken: list[Row] = []
    judged = 0
    for (net, size), part in table.groupby(["net", "size"], sort=True):
        means = {str(m): float(p) for m, p in part.groupby("method")["p"].mean().items()}
        if claim.subject not in means or (claim.above and claim.above not in means):
            continue
        judged += 1
        holds, other = _holds(claim, means, baselines)
        if not holds:
            broken.append([str(net), str(size), claim.subject, means[claim.subject], other])
    if not judged:
        return Finding(f"claim: {claim}", False, "Not judged: this run has no records for it.")
    sentence = f"Holds in {judged - len(broken)} of {judged} (net, size)."
    header = ("Net", "Size", "Method", "Mean P", "Against") if broken else ()
    return Finding(f"claim: {claim}", bool(broken), sentence, header, broken[:LISTED])


def _holds(
    claim: Claim, means: Mapping[str, float], baselines: Collection[str]
) -> tuple[bool, str]:
    """Whether it holds, and what it was held against."""
    mean = means[claim.subject]
    if claim.first or claim.last:
        rivals = {m: p for m, p in means.items() if m not in baselines and m != claim.subject}
        if not rivals:
            return True, ""
        pick = max if claim.first else min
        rival = pick(rivals, key=lambda m: rivals[m])
        sign = 1 if claim.first else -1
        return sign * (mean - rivals[rival]) > 0, f"{rival} {rivals[rival]:.3f}"
    if claim.above:
        return mean > means[claim.above], f"{claim.above} {means[claim.above]:.3f}"
    if claim.at_least is not None:
        return mean >= claim.at_least, f"at least {claim.at_least:g}"
    return mean <= (claim.at_most or 0.0), f"at most {claim.at_most:g}"
