"""The verdict on a run: what changed, by how much, where."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import pandas as pd

from xai_core.comparison import paired
from xai_core.gate.baseline import Baseline, Entry
from xai_core.gate.claims import Claim
from xai_core.gate.rules import Rule

EXACT = 1e-6
"""Largest difference of P where everything that decides it is the same."""

SIGNIFICANT = 0.01
"""Holm-adjusted p below which a drop of a mean is more than chance."""

LISTED = 10

FINGERPRINT = (
    *("weights_sha256", "target_layer", "engine", "device", "processor", "dtype", "threads"),
    *("batch_size", "torch"),
)
"""Where all of these are the same, P must be."""

Row = Sequence[object]


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
    cells: Sequence[tuple[str, str, str, str]] = ()


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
    findings: list[Finding] = []
    redrawn = _redrawn(before, after)
    before = {cell: entry for cell, entry in before.items() if entry.net not in redrawn}
    after_too = {cell: entry for cell, entry in after.items() if entry.net not in redrawn}
    both = sorted(before.keys() & after_too.keys())
    findings += _random(redrawn)
    findings += _cells(before, after_too, accept_new)
    findings += _inputs(before, after_too, both)
    changed = [
        name
        for name in FINGERPRINT
        if any(getattr(before[cell], name) != getattr(after_too[cell], name) for cell in both)
    ]
    if not both:
        findings.append(Finding("comparison", True, "No record is in both: nothing was compared."))
    elif not changed:
        findings.append(_same(before, after_too, both))
    else:
        findings.append(_different(before, after_too, both, changed))
        findings += [_apply(rule, before, after_too, both, baselines) for rule in rules]
    findings += [_claim(claim, after, baselines) for claim in claims]
    return Verdict(tuple(findings), len(both), bool(both) and not changed)


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


def _random(nets: Collection[str]) -> list[Finding]:
    if not nets:
        return []
    sentence = (
        f"{', '.join(sorted(nets))}: never trained, and the random weights are others than the "
        "baseline's (another version of torch or torchvision draws others); not compared."
    )
    return [Finding("random weights", False, sentence)]


def _cells(before: Baseline, after: Baseline, accept_new: bool) -> list[Finding]:
    findings = []
    for what, cells in (
        ("missing records", sorted(before.keys() - after.keys())),
        ("new records", sorted(after.keys() - before.keys())),
    ):
        if not cells:
            continue
        where = "the baseline" if what.startswith("missing") else "this run"
        sentence = f"{len(cells)} records are in {where} only."
        sentence += " Accepted." if accept_new else " --accept-new accepts them."
        counts: dict[tuple[str, str, str], int] = {}
        for net, size, _, method in cells:
            counts[net, size, method] = counts.get((net, size, method), 0) + 1
        rows = [[*key, count] for key, count in sorted(counts.items())][:LISTED]
        header = ("Net", "Size", "Method", "Records")
        findings.append(Finding(what, not accept_new, sentence, header, rows))
    return findings


def _inputs(
    before: Baseline, after: Baseline, both: Sequence[tuple[str, str, str, str]]
) -> list[Finding]:
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
    )
    checks += (("P, or no number", "p", lambda a, b: math.isnan(a.p) or math.isnan(b.p)),)
    for what, name, differ in checks:
        cells = [cell for cell in both if differ(before[cell], after[cell])]
        if not cells:
            continue
        rows = [
            [*cell, getattr(before[cell], name), getattr(after[cell], name)]
            for cell in cells[:LISTED]
        ]
        sentence = f"{len(cells)} records have another {what} than the baseline."
        findings.append(Finding(f"other {what}", True, sentence, _HEADER, rows, cells[:LISTED]))
    return findings


_HEADER = ("Net", "Size", "Sample", "Method", "Before", "After")


# ---- P -----------------------------------------------------------------------------------------


def _same(before: Baseline, after: Baseline, both: Sequence[tuple[str, str, str, str]]) -> Finding:
    moved = [cell for cell in both if not abs(after[cell].p - before[cell].p) <= EXACT]
    moved += [cell for cell in both if after[cell].zero_energy != before[cell].zero_energy]
    start = (
        f"{len(both)} records compared; weights, versions and arithmetic are the same, so P must be"
    )
    if not moved:
        return Finding("exact comparison", False, f"{start}, and is (to {EXACT:g}).")
    worst = sorted(set(moved), key=lambda cell: -abs(after[cell].p - before[cell].p))
    sentence = f"{start}, but {len(worst)} differ by more than {EXACT:g}."
    return Finding("exact comparison", True, sentence, *_worst(before, after, worst))


def _different(
    before: Baseline,
    after: Baseline,
    both: Sequence[tuple[str, str, str, str]],
    changed: Sequence[str],
) -> Finding:
    def values(side: Baseline, name: str) -> str:
        found = sorted({str(getattr(side[cell], name)) for cell in both})
        shown = [value[:12] if name.endswith("sha256") else value for value in found[:3]]
        return ", ".join(shown) + (", ..." if len(found) > 3 else "")

    rows = [[name, values(before, name), values(after, name)] for name in changed]
    moved = sum(abs(after[cell].p - before[cell].p) > 0.05 for cell in both)
    sentence = (
        f"{len(both)} records compared; not everything that decides P is the same, so small "
        f"differences are expected. P of {moved} records moved by more than 0.05."
    )
    return Finding("comparison", False, sentence, ("What differs", "Before", "After"), rows)


def _worst(
    before: Baseline, after: Baseline, worst: Sequence[tuple[str, str, str, str]]
) -> tuple[Sequence[str], Sequence[Row], Sequence[tuple[str, str, str, str]]]:
    rows: list[Row] = [
        [*cell, before[cell].p, after[cell].p, after[cell].p - before[cell].p]
        for cell in worst[:LISTED]
    ]
    return (*_HEADER, "Difference"), rows, list(worst[:LISTED])


def _apply(
    rule: Rule,
    before: Baseline,
    after: Baseline,
    both: Sequence[tuple[str, str, str, str]],
    baselines: Collection[str],
) -> Finding:
    check = {"mean": _mean, "each": _each, "order": _order, "zero_energy": _zero_energy}[rule.kind]
    return check(rule, before, after, both, baselines)


def _pairs(
    before: Baseline, after: Baseline, both: Sequence[tuple[str, str, str, str]]
) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                **dict(zip(("net", "size", "sample", "method"), cell, strict=True)),
                "image_id": before[cell].image_id,
                "before": before[cell].p,
                "after": after[cell].p,
                "difference": after[cell].p - before[cell].p,
            }
            for cell in both
        ]
    )


def _mean(
    rule: Rule,
    before: Baseline,
    after: Baseline,
    both: Sequence[tuple[str, str, str, str]],
    baselines: Collection[str],
) -> Finding:
    pairs = _pairs(before, after, both)
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


def _each(
    rule: Rule,
    before: Baseline,
    after: Baseline,
    both: Sequence[tuple[str, str, str, str]],
    baselines: Collection[str],
) -> Finding:
    drops = [cell for cell in both if before[cell].p - after[cell].p > rule.margin]
    sentence = f"The P of {len(drops)} of {len(both)} records dropped by more than {rule.margin:g}."
    if not drops:
        return Finding(str(rule), False, sentence)
    worst = sorted(drops, key=lambda cell: after[cell].p - before[cell].p)
    return Finding(str(rule), True, sentence, *_worst(before, after, worst))


def _order(
    rule: Rule,
    before: Baseline,
    after: Baseline,
    both: Sequence[tuple[str, str, str, str]],
    baselines: Collection[str],
) -> Finding:
    pairs = _pairs(before, after, both)
    pairs = pairs[~pairs["method"].isin(list(baselines))]
    rows: list[Row] = []
    for (net, size), part in pairs.groupby(["net", "size"], sort=True):
        if any(before[cell].weights_random for cell in both if cell[0] == net):
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


def _zero_energy(
    rule: Rule,
    before: Baseline,
    after: Baseline,
    both: Sequence[tuple[str, str, str, str]],
    baselines: Collection[str],
) -> Finding:
    had, has = (sum(side[cell].zero_energy for cell in both) for side in (before, after))
    new = [cell for cell in both if after[cell].zero_energy and not before[cell].zero_energy]
    sentence = f"{has} maps are zero everywhere, {had} before."
    failed = has - had > rule.margin
    rows = [[*cell] for cell in new[:LISTED]] if failed else []
    header = ("Net", "Size", "Sample", "Method") if rows else ()
    return Finding(str(rule), failed, sentence, header, rows, new[:LISTED] if failed else ())


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
        wanted = claim.first or claim.last or claim.method
        if wanted not in means or (claim.above and claim.above not in means):
            continue
        judged += 1
        holds, other = _holds(claim, means, baselines)
        if not holds:
            broken.append([str(net), str(size), str(wanted), means[str(wanted)], other])
    if not judged:
        return Finding(f"claim: {claim}", False, "Not judged: this run has no records for it.")
    sentence = f"Holds in {judged - len(broken)} of {judged} (net, size)."
    header = ("Net", "Size", "Method", "Mean P", "Against") if broken else ()
    return Finding(f"claim: {claim}", bool(broken), sentence, header, broken[:LISTED])


def _holds(
    claim: Claim, means: Mapping[str, float], baselines: Collection[str]
) -> tuple[bool, str]:
    """Whether it holds, and what it was held against."""
    if claim.first or claim.last:
        wanted = claim.first or claim.last or ""
        rivals = {m: p for m, p in means.items() if m not in baselines and m != wanted}
        if not rivals:
            return True, ""
        pick = max if claim.first else min
        rival = pick(rivals, key=lambda m: rivals[m])
        sign = 1 if claim.first else -1
        return sign * (means[wanted] - rivals[rival]) > 0, f"{rival} {rivals[rival]:.3f}"
    mean = means[claim.method or ""]
    if claim.above:
        return mean > means[claim.above], f"{claim.above} {means[claim.above]:.3f}"
    if claim.at_least is not None:
        return mean >= claim.at_least, f"at least {claim.at_least:g}"
    return mean <= (claim.at_most or 0.0), f"at most {claim.at_most:g}"
