"""The folder of a run: where it is, what was asked for, which samples were chosen."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from xai_core.data.classes import ClassMap
from xai_core.data.coco import CocoDataSet
from xai_core.data.sources import SCENES
from xai_core.files import file_name, printable, write_atomically
from xai_core.pytest_plugin.options import Options
from xai_core.pytest_plugin.request import Request

MANIFEST = "samples.json"
SETTINGS = "settings.json"
MAPS = "maps"
SESSION = "session"
"""In the settings: how often the run was begun or resumed."""


def new_folder(options: Options, *, claim: bool = False) -> Path:
    """A folder for a new run that does not exist yet, named by the time; or the one to resume.

    Args:
        options: the command line.
        claim: whether to make it, so that no session of the same second takes it as well.

    Raises:
        pytest.UsageError: it can't be made.
    """
    if options.resume:
        return options.resume
    stem = datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S")
    data = file_name(options.coco.stem if options.coco else _short(options.data or SCENES))
    folder = options.report_dir / f"{stem}-{data}"
    number = 2
    while folder.exists() or (claim and not _claimed(folder)):
        folder = options.report_dir / f"{stem}-{data}-{number}"
        number += 1
    return folder


def _short(data: str) -> str:
    """``VOC2012`` of ``voc:data/VOC2012``, ``NAME`` of ``package.module:NAME``."""
    start, _, rest = data.partition(":")
    return Path(rest).name or start


def _claimed(folder: Path) -> bool:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError as error:
        if not folder.parent.is_dir():
            raise _unusable(folder, "written", error) from error
        return False
    except OSError as error:
        raise _unusable(folder, "written", error) from error
    return True


def discard(folder: Path) -> None:
    """Remove the folder of a run that had nothing to do; if it holds anything else, it stays."""
    with suppress(OSError):
        for name in (SETTINGS, MANIFEST):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def write_manifest(request: Request) -> None:
    """Write the chosen samples down: those of a COCO file as an annotation file of their own."""
    path = request.folder / MANIFEST
    samples = request.samples.values()
    if isinstance(request.data, CocoDataSet):
        content = request.data.subset(samples)
    else:
        content = json.dumps([asdict(sample) for sample in samples]).encode()
    write_atomically(path, content)


def settings(request: Request) -> dict[str, Any]:
    """What records depend on; a run is only resumed under the same."""
    options = request.options
    return {
        "nets": {net: _pinned(request.weights[net]) for net in request.specs},
        "randomise": options.randomise,
        "sizes": list(options.sizes),
        "methods": list(request.methods),
        "metrics": list(request.metrics),
        "data": request.data.name,
        "class_map": _listed(request.class_map) if options.class_map else None,
        "samples": list(request.samples),
        "recognised": options.recognised,
        "dilation": options.dilation,
        "device": options.device,
        "dtype": options.dtype,
        "precision": options.precision,
        "threads": request.threads,
        "batch_size": options.batch_size,
        "torch": version("torch"),
    }


def open_folder(request: Request) -> None:
    """Make the run's folder and write down its settings, and which session of the run this is.

    Raises:
        pytest.UsageError: it can't be written, or holds a run with other settings.
    """
    path, wanted = request.folder / SETTINGS, settings(request)
    try:
        if request.options.resume:
            before = json.loads(path.read_text("utf-8"))
            _check_same(request.folder, before, wanted)
            request.place = replace(request.place, session=_session(before) + 1)
        written = {**wanted, SESSION: request.place.session}
        write_atomically(path, (json.dumps(written, indent=1) + "\n").encode())
        write_manifest(request)
    except (OSError, ValueError, RecursionError) as error:
        doing = "resumed" if request.options.resume else "written"
        raise _unusable(request.folder, doing, error) from error


def ensure_open(request: Request) -> None:
    """Open the folder unless that has been done, here or in another process of the session.

    Raises:
        pytest.UsageError: see `open_folder`.
    """
    if not (request.folder / SETTINGS).exists():
        open_folder(request)


def _listed(class_map: ClassMap) -> dict[str, list[int]]:
    return {category: list(indices) for category, indices in class_map.classes.items()}


def _pinned(weights: str | None) -> str:
    """A file by its name and content: it may have been replaced, or be named from elsewhere."""
    if weights is None:
        return "as built"
    if not Path(weights).is_file():
        return weights
    with Path(weights).open("rb") as file:
        return f"{Path(weights).name} sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _check_same(folder: Path, before: object, wanted: dict[str, Any]) -> None:
    if not isinstance(before, dict):
        raise ValueError(f"{SETTINGS} holds no settings")
    changed = sorted(name for name in wanted if before.get(name) != wanted[name])
    if changed:
        was = printable(str(before.get(changed[0], "not known")))
        shown = was if len(was) < 300 else f"{was[:300]}..."
        raise pytest.UsageError(
            f"--resume {folder}: this run was made with other settings ({changed[0]}: {shown}); "
            "resume it with the same ones"
        )


def _session(before: dict[str, Any]) -> int:
    session = before.get(SESSION)
    if type(session) is not int or session < 1:
        raise ValueError(f"{SETTINGS} doesn't say which session was the last")
    return session


def _unusable(folder: Path, doing: str, error: Exception) -> pytest.UsageError:
    what = getattr(error, "strerror", None) or str(error)
    return pytest.UsageError(f"the run {folder} can't be {doing}: {what}")
