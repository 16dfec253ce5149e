"""What a run must not do against its baseline, as given on the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from xai_core.errors import BadInput

FORMS = "mean:0.005, mean:3%, class:0.05, each:0.1, order, order:0.01 or zero_energy:0"

_DEFAULTS = {"order": 0.005}
"""Rules that may stand alone, with their margin."""

_AMOUNTS = {
    "mean": r"\d*\.?\d+%?",
    "class": r"\d*\.?\d+%?",
    "each": r"\d*\.?\d+",
    "order": r"\d*\.?\d+",
    "zero_energy": r"\d+",
}


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        kind: ``mean``: the mean P of a net, size and method drops by more than the margin, beyond
            chance. ``class``: that of a net, size and class over all methods does; reference
            methods take no part. ``each``: the P of a single record drops by more. ``order``: a
            method falls behind another that it led by more. ``zero_energy``: more maps of zeros
            than before, by more.
        margin: of P or, if `relative`, a share of the baseline's mean; for zero_energy a number.
        relative: whether the margin is a share.
    """

    kind: str
    margin: float
    relative: bool = False

    def __str__(self) -> str:
        amount = f"{100 * self.margin:g}%" if self.relative else f"{self.margin:g}"
        return f"{self.kind}:{amount}"


def parse_rule(text: str) -> Rule:
    """Read ``mean:0.005``, ``mean:3%``, ``class:0.05``, ``each:0.1``, ``order``, ``zero_energy:0``.

    Raises:
        BadInput: it is none of these.
    """
    kind, separator, amount = text.strip().partition(":")
    if kind in _DEFAULTS and not separator:
        return Rule(kind, _DEFAULTS[kind])
    if kind not in _AMOUNTS or not re.fullmatch(_AMOUNTS[kind], amount, re.ASCII):
        raise BadInput(f"unknown rule {text!r}; rules are {FORMS}")
    relative = amount.endswith("%")
    number = float(amount.removesuffix("%"))
    return Rule(kind, number / 100 if relative else number, relative)


def parse_rules(texts: Iterable[str]) -> list[Rule]:
    """Read rules that were given by commas, by repetition, or both; see `parse_rule`."""
    return [parse_rule(part) for text in texts for part in text.split(",")]


RECOMMENDED = tuple(parse_rules(["mean:0.005,class:0.05,each:0.2,order,zero_energy:0"]))
"""The rules that hold where none is given."""
