"""What tests of the gate do with made-up records."""

from __future__ import annotations

from dataclasses import replace

from xai_core.gate import baseline_of, judge, parse_rule


def moved(records, by, other=True, **where):
    """P moved by ``by`` (a number or a function of the record) where the fields are these."""
    found = []
    for r in records:
        if all(getattr(r, name) == value for name, value in where.items()):
            p = r.metrics["concentration"] + (by(r) if callable(by) else by)
            r = replace(r, metrics={**r.metrics, "concentration": float(p)})
        found.append(replace(r, threads=r.threads + 1) if other else r)
    return found


def judged(before, after, *rules, **options):
    parsed = [parse_rule(rule) for rule in rules]
    return judge(baseline_of(before), baseline_of(after), parsed, **options)


def failures(found) -> list[str]:
    return [finding.what for finding in found.findings if finding.failed]
