"""The records in the structure of the study's own output file, exp.json."""

from __future__ import annotations

import json
from collections.abc import Sequence

from xai_core.types import Record


def render(records: Sequence[Record]) -> str:
    """Size to its records, each with id, class, method, net, P, E and E_total."""
    sizes: dict[str, list[dict[str, object]]] = {}
    for record in records:
        sizes.setdefault(record.size, []).append(
            {
                "id": record.image_id,
                "class": record.category,
                "method": record.method,
                "net": record.net,
                "P": record.metrics["concentration"],
                "E": record.metrics["energy"],
                "E_total": record.metrics["energy_total"],
            }
        )
    return json.dumps(sizes, indent=1) + "\n"
