"""Where the numbers of a run come from, for its report."""

from __future__ import annotations

import os
import platform
import shlex
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from xai_core.files import printable
from xai_core.pytest_plugin.folder import MANIFEST
from xai_core.pytest_plugin.run import Run

if TYPE_CHECKING:
    from xai_core.types import Record


def provenance(run: Run, arguments: Sequence[str], records: Sequence[Record]) -> dict[str, str]:
    """Heading to sentence or value, in order.

    Args:
        run: what was computed.
        arguments: pytest's command line.
        records: all of the run.
    """
    options = run.options
    samples = run.samples.values()
    classes = Counter(printable(sample.category) for sample in samples)
    seconds = (datetime.now().astimezone() - run.started).total_seconds()

    def distinct(field: str) -> str:
        return ", ".join(sorted({str(getattr(record, field)) for record in records}))

    return {
        "Command": f"`pytest {printable(shlex.join(arguments))}`",
        "Started": f"{run.started:%Y-%m-%d %H:%M:%S %z}",
        "Duration": f"{seconds:.0f} s, {run.place.workers} process(es)",
        "Data": (
            f"{printable(run.data.name)}: {len(samples)} samples (image and class) in "
            f"{len({sample.image_id for sample in samples})} images; seed {options.seed}, at "
            f"most {options.per_class} per class, mask {options.min_area:.0%} to "
            f"{options.max_area:.0%} of the image; listed in {MANIFEST}"
        ),
        "Samples per class": ", ".join(f"{name} {n}" for name, n in sorted(classes.items())),
        **_class_map(run),
        "Mask": f"union of the class's instances, its area dilated by {options.dilation:.0%}",
        "CAM": "relu(M_c): evidence against the class is not counted",
        "Arithmetic": (
            f"engine {distinct('engine')}, {distinct('dtype')} on {distinct('device')}, "
            f"{distinct('threads')} thread(s), batch {distinct('batch_size')}"
        ),
        "Versions": _versions(),
        "Machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
    }


def _class_map(run: Run) -> dict[str, str]:
    """What of the user's class map was used; nothing without one."""
    source = run.class_map.source
    used = {sample.category: sample.class_indices for sample in run.samples.values()}
    pairs = (f"{printable(name)} {', '.join(map(str, used[name]))}" for name in sorted(used))
    return {"Class map": f"{printable(source)}: {'; '.join(pairs)}"} if source else {}


def _versions() -> str:
    packages = ("torch", "torchvision", "numpy", "pytest", "pytest-benchmark", "pycocotools")
    found = [f"{package} {version(package)}" for package in packages]
    return ", ".join([f"Python {platform.python_version()}", *found])
