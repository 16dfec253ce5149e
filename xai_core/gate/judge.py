"""The verdict on a run: what changed, by how much, where."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from xai_core.gate.baseline import Baseline
from xai_core.gate.claim_check import check_claim
from xai_core.gate.claims import Claim
from xai_core.gate.drops import by_rules, changed, exactly
from xai_core.gate.finding import Finding, Verdict
from xai_core.gate.rules import RECOMMENDED, Rule
from xai_core.gate.sides import Sides, comparable, other_data


def judge(
    before: Baseline,
    after: Baseline,
    rules: Sequence[Rule],
    *,
    claims: Collection[Claim] = (),
    accept_new: bool = False,
) -> Verdict:
    """Hold a run against a baseline.

    Args:
        before: the baseline.
        after: the run.
        rules: see `Rule`; `RECOMMENDED` where there is none. Those of the exact comparison hold
            without being asked for.
        claims: see `Claim`.
        accept_new: whether cells may be missing or new, and claims without a record to judge.
    """
    claimed = [check_claim(claim, after, accept_new) for claim in claims]
    other = other_data(before, after, accept_new)
    if other:
        return Verdict((*other, *claimed))
    sides = Sides.of(before, after)
    findings = comparable(sides, accept_new)
    fields = changed(sides)
    if not sides.cells:
        findings.append(Finding("comparison", True, "No record is in both: nothing was compared."))
    elif not fields:
        findings.append(exactly(sides))
    else:
        standing = rules or RECOMMENDED
        note = "" if rules else f" No rule was given, so {', '.join(map(str, standing))} hold."
        findings += by_rules(sides, fields, standing, note)
    exact = bool(sides.cells) and not fields
    return Verdict((*findings, *claimed), len(sides.cells), exact)
