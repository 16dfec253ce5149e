"""What the rules say of P, where it was computed otherwise than that of the baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations

from xai_core.comparison import ARITHMETIC, paired
from xai_core.gate.finding import LISTED, Finding, Row
from xai_core.gate.rules import Rule
from xai_core.gate.sides import EXACT, HEADER, Sides, largest

SIGNIFICANT = 0.01
"""Holm-adjusted p below which a drop of a mean is more than chance."""

MOVED = 0.05
"""P of a record that moved by more is counted in the verdict."""

FINGERPRINT = ("weights_sha256", "target_layer", *ARITHMETIC)
"""Where all of these are the same, P must be."""


def changed(sides: Sides) -> list[str]:
    """Fields of `FINGERPRINT` that are not the same in every record that both sides have."""
    return [
        name
        for name in FINGERPRINT
        if any(getattr(old, name) != getattr(new, name) for _, old, new in sides)
    ]


def exactly(sides: Sides) -> Finding:
    """Where nothing that decides P changed: P of every record must be the same."""
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
    return Finding("exact comparison", True, sentence, *largest(sides, worst))


def by_rules(
    sides: Sides, fields: Sequence[str], rules: Sequence[Rule], note: str
) -> list[Finding]:
    """What differs between the sides, and a finding for each rule.

    Args:
        sides: not empty.
        fields: those that `changed`.
        rules: at least one.
        note: on the rules, for the reader; may be empty.
    """

    def values(side: Mapping[tuple[str, str, str, str], object], name: str) -> str:
        found = sorted({str(getattr(side[cell], name)) for cell in sides.cells})
        shown = [value[:12] if name.endswith("sha256") else value for value in found[:3]]
        return ", ".join(shown) + (", ..." if len(found) > 3 else "")

    rows = [[name, values(sides.before, name), values(sides.after, name)] for name in fields]
    moved = sum(abs(sides.change(cell)) > MOVED for cell in sides.cells)
    sentence = (
        f"{len(sides.cells)} records compared; not everything that decides P is the same, so small "
        f"differences are expected. P of {moved} records moved by more than {MOVED:g}.{note}"
    )
    header = ("What differs", "Before", "After")
    found = [Finding("comparison", False, sentence, header, rows)]
    return found + [_RULES[rule.kind](rule, sides) for rule in rules]


def _mean(rule: Rule, sides: Sides) -> Finding:
    return _means(rule, sides, "method", "method")


def _class(rule: Rule, sides: Sides) -> Finding:
    return _means(rule, sides, "category", "class")


def _means(rule: Rule, sides: Sides, column: str, name: str) -> Finding:
    keys = ["net", "size", column]
    pairs = sides.pairs
    if column == "category":
        pairs = pairs[~pairs["reference"]]
    groups = len(pairs[keys].drop_duplicates())
    # Cells in which nothing moved can't be rejected, so they count for no adjustment (Tarone 1990).
    moved = pairs.groupby(keys)["difference"].transform(lambda d: bool((d != 0).any()))
    table = paired(pairs[moved.astype(bool)], keys)
    margin = rule.margin * table["before"] if rule.relative else rule.margin
    dropped = table["difference"] < -margin
    # With too few images no drop can be significant: then the margin alone decides.
    testable = 2.0 ** (1 - table["images"]) * max(len(table), 1) < SIGNIFICANT
    worse = table[dropped & ((table["p"] < SIGNIFICANT) | ~testable)].sort_values("difference")
    means = ("Before", "After", "Difference", "95 % interval", "p", "n")
    header = ("Net", "Size", name.capitalize(), *means)
    rows = [
        [
            *(*(row[key] for key in keys), row["before"], row["after"]),
            row["difference"],
            f"{row['low']:.4f} to {row['high']:.4f}" if row["images"] > 1 else "-",
            row["p"],
            row["images"],
        ]
        for row in worse.head(LISTED).to_dict("records")
    ]
    limit = f"{100 * rule.margin:g} % of its baseline" if rule.relative else f"{rule.margin:g}"
    sentence = (
        f"The mean P of {len(worse)} of {groups} (net, size, {name}) dropped by more than {limit}, "
        f"with a Holm-adjusted p below {SIGNIFICANT:g} over images."
    )
    few = int((~testable).sum())
    if few:
        sentence += f" {few} have too few images for a test; there the margin alone decides."
    return Finding(
        str(rule), bool(len(worse)), sentence, header if rows else (), rows, judged=groups > 0
    )


def _each(rule: Rule, sides: Sides) -> Finding:
    drops = [cell for cell in sides.cells if -sides.change(cell) > rule.margin]
    of = f"{len(drops)} of {len(sides.cells)}"
    sentence = f"The P of {of} records dropped by more than {rule.margin:g}."
    if not drops:
        return Finding(str(rule), False, sentence)
    worst = sorted(drops, key=sides.change)
    return Finding(str(rule), True, sentence, *largest(sides, worst))


def _order(rule: Rule, sides: Sides) -> Finding:
    random = {old.net for _, old, _ in sides if old.weights_random}
    pairs = sides.pairs[~sides.pairs["reference"] & ~sides.pairs["net"].isin(list(random))]
    rows: list[Row] = []
    methods: list[int] = []
    for (net, size), part in pairs.groupby(["net", "size"], sort=True):
        means = part.groupby("method")[["before", "after"]].mean()
        methods.append(len(means))
        for first, second in permutations(means.index, 2):
            led = means["before"][first] - means["before"][second]
            leads = means["after"][first] - means["after"][second]
            if led > rule.margin and leads <= EXACT:  # a tie is no lead
                rows.append([str(net), str(size), str(first), str(second), led, leads])
    sentence = (
        f"{len(rows)} methods of trained nets fell behind one that they led by more than "
        f"{rule.margin:g}."
    )
    header = ("Net", "Size", "Method", "Fell behind", "Led by", "Leads by") if rows else ()
    judged = max(methods, default=0) > 1
    return Finding(str(rule), bool(rows), sentence, header, rows[:LISTED], judged=judged)


def _zero_energy(rule: Rule, sides: Sides) -> Finding:
    had = sum(old.zero_energy for _, old, _ in sides)
    has = sum(new.zero_energy for _, _, new in sides)
    sentence = f"{has} maps are zero everywhere, {had} before."
    if has - had <= rule.margin:
        return Finding(str(rule), False, sentence)
    cells = [cell for cell, old, new in sides if new.zero_energy and not old.zero_energy][:LISTED]
    return Finding(str(rule), True, sentence, HEADER[:4], cells, cells)


_RULES: Mapping[str, Callable[[Rule, Sides], Finding]] = {
    "mean": _mean,
    "class": _class,
    "each": _each,
    "order": _order,
    "zero_energy": _zero_energy,
}
