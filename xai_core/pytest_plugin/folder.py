"""The folder of a run: where it is, what was asked for, which samples were chosen."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from xai_core.data.coco import CocoDataSet
from xai_core.data.sources import SCENES
from xai_core.pytest_plugin.options import Options
from xai_core.pytest_plugin.request import Request
from xai_core.store import write_atomically

MANIFEST = "samples.json"
SETTINGS = "settings.json"
PARTS = "parts"
MAPS = "maps"


def new_folder(options: Options) -> Path:
    """A folder for a new run that does not exist yet, named by the time; or the one to resume."""
    if options.resume:
        return options.resume
    stem = datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S")
    data = options.coco.stem if options.coco else (options.data or SCENES).split(":")[-1]
    folder = options.report_dir / f"{stem}-{data}"
    number = 2
    while folder.exists():
        folder = options.report_dir / f"{stem}-{data}-{number}"
        number += 1
    return folder


def write_manifest(request: Request) -> None:
    """Write the chosen samples down: those of a COCO file as an annotation file of their own."""
    path = request.folder / MANIFEST
    samples = request.samples.values()
    if isinstance(request.data, CocoDataSet):
        content: object = request.data.subset(samples)
    else:
        content = [asdict(sample) for sample in samples]
    write_atomically(path, json.dumps(content).encode())


def settings(request: Request) -> dict[str, Any]:
    """What records depend on; a run is only resumed under the same."""
    options = request.options
    return {
        "nets": {net: request.weights[net] or "as built" for net in request.specs},
        "sizes": list(options.sizes),
        "methods": list(request.methods),
        "data": request.data.name,
        "samples": list(request.samples),
        "dilation": options.dilation,
        "device": options.device,
        "dtype": options.dtype,
        "batch_size": options.batch_size,
        "torch": version("torch"),
    }


def open_folder(request: Request) -> None:
    """Make the run's folder and write down its settings.

    Raises:
        pytest.UsageError: it can't be written, or holds a run with other settings.
    """
    path, wanted = request.folder / SETTINGS, settings(request)
    try:
        if request.options.resume:
            before = json.loads(path.read_text("utf-8"))
            changed = sorted(k for k in wanted if before.get(k) != wanted[k])
            if changed:
                raise pytest.UsageError(
                    f"--resume {request.folder}: this run was made with other settings "
                    f"({changed[0]}: {before.get(changed[0])}); resume it with the same ones"
                )
        write_atomically(path, (json.dumps(wanted, indent=1) + "\n").encode())
        write_manifest(request)
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or str(error)
        doing = "resumed" if request.options.resume else "written"
        raise pytest.UsageError(f"the run {request.folder} can't be {doing}: {what}") from error
