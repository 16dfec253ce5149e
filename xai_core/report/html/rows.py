"""The records as columns for the page's table."""

from __future__ import annotations

from typing import Any

from xai_core.report.summary import Summary

DIGITS = 4
"""Of numbers in the page; records.jsonl has them exactly."""


def columns(summary: Summary) -> dict[str, list[Any]]:
    """Column to its values, one a record; texts as numbers into ``texts``."""
    texts: dict[str, int] = {}

    def code(text: str) -> int:
        return texts.setdefault(text, len(texts))

    records = summary.records
    table: dict[str, list[Any]] = {
        "net": [code(r.net) for r in records],
        "size": [code(r.size) for r in records],
        "class": [code(r.category) for r in records],
        "sample": [code(r.sample) for r in records],
        "method": [code(r.method) for r in records],
        "p": [round(r.metrics["concentration"], DIGITS) for r in records],
        "chance": [round(r.chance, DIGITS) for r in records],
        "rank": [r.rank for r in records],
        "probability": [round(r.probability, DIGITS) for r in records],
        "note": [
            code(
                ", ".join(
                    note
                    for note, applies in (
                        ("random weights", r.weights_random),
                        ("zero map", r.zero_energy),
                        ("dead logit", r.dead_logit),
                    )
                    if applies
                )
            )
            for r in records
        ],
    }
    return {**table, "texts": list(texts)}
