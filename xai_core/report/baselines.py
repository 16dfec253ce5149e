"""Baselines on disk: found by name, read, written."""

from __future__ import annotations

from pathlib import Path

from xai_core.errors import BadInput, DataMissing
from xai_core.files import write_atomically
from xai_core.gate import Baseline, baseline_of, from_files, to_files
from xai_core.report import saved

DEFAULT = "main"
"""The baseline that is compared with, and updated, where none is named."""

THRESHOLDS = "thresholds.toml"
"""Claims, in the folder of all baselines."""


def find(name: str | None, folder: Path, here: Path) -> Path:
    """Where a baseline is: a path, or a name among the saved ones.

    Args:
        name: None for `DEFAULT`, or else the last by name.
        folder: of all baselines.
        here: what relative paths start from.

    Raises:
        DataMissing: there is none.
    """
    known = sorted(path.name for path in folder.glob("*") if path.is_dir())
    if name is None:
        if not known:
            raise DataMissing(f"no baseline is saved in {folder}; make one: --concentration-save")
        return folder / (DEFAULT if DEFAULT in known else known[-1])
    if name in known:
        return folder / name
    if (here / name).exists():
        return here / name
    saved_ones = f"saved are {', '.join(known)}" if known else "none is saved"
    raise DataMissing(f"no baseline {name!r}, neither in {folder} ({saved_ones}) nor as a path")


def load(path: Path) -> Baseline:
    """A baseline's folder, one of its files, or the folder of a run.

    Raises:
        DataMissing: there is nothing of this kind.
        BadInput: a file is damaged.
    """
    if path.is_dir() and not list(path.glob("*.csv")):
        try:
            return baseline_of(saved.load(path).records)
        except DataMissing as error:
            raise DataMissing(f"{path} holds neither a baseline nor a run") from error
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    try:
        return from_files({str(file): file.read_text("utf-8") for file in files})
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the baseline {path} can't be read: {error}") from error


def save(baseline: Baseline, folder: Path) -> list[Path]:
    """Write a baseline; files of the same data set and net with other weights are replaced.

    Raises:
        OSError: a file can't be written.
    """
    written = []
    for name, text in to_files(baseline).items():
        stem = name.rpartition("-")[0]
        for old in folder.glob("*.csv"):
            if old.name.rpartition("-")[0] == stem and old.name != name:
                old.unlink()
        write_atomically(folder / name, text.encode())
        written.append(folder / name)
    return written
