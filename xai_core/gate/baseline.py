"""What is compared of a run: one entry a record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from xai_core.comparison import ARITHMETIC
from xai_core.types import Record


@dataclass(frozen=True)
class Entry:
    """One cell of a baseline, or of a run that is held against one.

    Attributes are those of `xai_core.types.Record`, but for: ``p`` is its concentration;
    ``sample_sha256`` is shortened; each field of `xai_core.comparison.ARITHMETIC` names all values
    that the records of its net have, for the last batch is smaller, and an engine may hand some
    methods to another; ``reference`` is known of a run only, not of a baseline from files.
    """

    net: str
    size: str
    sample: str
    method: str
    image_id: int
    category: str
    class_index: int
    p: float
    zero_energy: bool
    chance: float
    sample_sha256: str
    data: str
    weights: str
    weights_sha256: str
    weights_random: bool
    target_layer: str
    dilation: float
    engine: str
    device: str
    processor: str
    dtype: str
    threads: str
    batch_size: str
    torch: str
    reference: bool = field(default=False, compare=False)

    @property
    def cell(self) -> tuple[str, str, str, str]:
        """(net, size, sample, method)."""
        return self.net, self.size, self.sample, self.method


Baseline = Mapping[tuple[str, str, str, str], Entry]

SHORT = 16
"""Digits of an image's hash: enough to see that it changed."""


def baseline_of(records: Iterable[Record]) -> Baseline:
    """What is compared of a run's records; randomised copies are left out."""
    own = {f.name for f in fields(Entry)} - {"p", "sample_sha256", *ARITHMETIC}
    kept = [record for record in records if not record.randomised]
    used: dict[str, dict[str, set[str]]] = {}
    for record in kept:
        of_net = used.setdefault(record.net, {name: set() for name in ARITHMETIC})
        for name in ARITHMETIC:
            of_net[name].add(str(getattr(record, name)))
    joined: dict[str, dict[str, Any]] = {
        net: {name: ", ".join(sorted(values)) for name, values in of_net.items()}
        for net, of_net in used.items()
    }
    return {
        record.cell: Entry(
            **{name: getattr(record, name) for name in own},
            **joined[record.net],
            p=record.metrics["concentration"],
            sample_sha256=record.sample_sha256[:SHORT],
        )
        for record in kept
    }
