"""How many samples each net recognises, where only such samples were asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from xai_core.types import NoRecord, Outcome


@dataclass(frozen=True)
class Recognition:
    """One net at one size.

    Attributes:
        net: id of the net.
        size: ``original`` or N.
        top: K: a sample is recognised if the rank of its class is K or less.
        recognised: how many samples are.
        samples: how many the net has seen.
    """

    net: str
    size: str
    top: int
    recognised: int
    samples: int


def unrecognised(outcomes: Iterable[Outcome]) -> set[tuple[str, str, str, str]]:
    """The cells without a record for this reason."""
    return {o.cell for o in outcomes if isinstance(o, NoRecord) and o.kind == "unrecognised"}


def recognitions(outcomes: Iterable[Outcome], nets: Collection[str], top: int) -> list[Recognition]:
    """Count the samples of each of these nets and sizes, sorted.

    A sample that failed, so that the net has not seen it, counts for neither number.
    """
    seen: dict[tuple[str, str], dict[str, bool]] = {}
    for outcome in outcomes:
        kind = outcome.kind if isinstance(outcome, NoRecord) else "record"
        if outcome.net in nets and kind != "failed":
            samples = seen.setdefault((outcome.net, outcome.size), {})
            samples[outcome.sample] = kind != "unrecognised"
    return [
        Recognition(net, size, top, sum(samples.values()), len(samples))
        for (net, size), samples in sorted(seen.items())
    ]


def sentences(found: Sequence[Recognition]) -> list[str]:
    """One for each net and size."""
    return [
        f"{entry.net} at {entry.size}: {entry.recognised} of {entry.samples} samples have their "
        f"class among its top {entry.top}{'' if entry.recognised else '; it stands in no table'}"
        for entry in found
    ]


def nothing_recognised(found: Sequence[Recognition]) -> str:
    """What stands in place of a table without a row; empty if a sample was recognised."""
    if not found or any(entry.recognised for entry in found):
        return ""
    return f"No net has the class of any sample among its top {found[0].top}: there is no record."
