"""Baselines on disk: found by name, read, replaced as a whole; and the claims beside them."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from xai_core.errors import BadInput, DataMissing
from xai_core.files import write_atomically
from xai_core.gate import (
    Baseline,
    Claim,
    baseline_of,
    from_files,
    load_claims,
    to_files,
    unknown_names,
)
from xai_core.report import saved

DEFAULT = "main"
"""The baseline that is compared with, and updated, where none is named."""

FOLDER = "baseline"
"""Of all baselines, in the folder of all runs."""

THRESHOLDS = "thresholds.toml"
"""Claims, in the folder of all baselines."""

_NEW, _OLD = ".{}.new", ".{}.old"
"""Beside a baseline while it is replaced."""


def find(name: str | None, folder: Path, here: Path) -> Path:
    """Where a baseline is: a path, or a name among the saved ones.

    Args:
        name: None for `DEFAULT`, or else the last by name.
        folder: of all baselines.
        here: what relative paths start from.

    Raises:
        DataMissing: there is none.
    """
    known = _known(folder)
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


def is_saved(folder: Path) -> bool:
    """Whether a folder holds a baseline, rather than a run or nothing."""
    _recover(folder)
    return any(folder.glob("*.csv"))


def load(path: Path) -> Baseline:
    """A baseline's folder, one of its files, or the folder of a run.

    Raises:
        DataMissing: there is nothing of this kind.
        BadInput: a file is damaged, or two files can't belong to one baseline.
    """
    if path.is_dir() and not is_saved(path):
        try:
            return baseline_of(saved.load(path).records)
        except DataMissing as error:
            raise DataMissing(f"{path} holds neither a baseline nor a run") from error
    _recover(path)
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    try:
        return from_files({str(file): file.read_text("utf-8") for file in files})
    except FileNotFoundError as error:
        raise DataMissing(f"there is no baseline {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the baseline {path} can't be read: {error}") from error


def save(baseline: Baseline, folder: Path) -> list[Path]:
    """Write a baseline, instead of the one that is there: whoever reads finds one of them, whole.

    The new one is written beside the old one, whose other files it takes over, and then takes its
    place. A process that is killed between the two renamings leaves the old one under another name,
    from which the next reader brings it back.

    Raises:
        BadInput: it can't be written as files.
        OSError: a file can't be written.
    """
    files = to_files(baseline)
    _recover(folder)
    new, old = _beside(folder, _NEW), _beside(folder, _OLD)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    if folder.is_dir():
        shutil.copytree(folder, new, ignore=shutil.ignore_patterns("*.csv"))
    for name, text in files.items():
        write_atomically(new / name, text.encode())
    if folder.is_dir():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        _recover(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return [folder / name for name in files]


def refusal(before: Baseline, after: Baseline, accept_new: bool) -> str | None:
    """Why a baseline must not be replaced by a run; None where it may.

    Args:
        before: the baseline.
        after: the run.
        accept_new: whether records of the baseline may be missing, if the run has as many.
    """
    lost = before.keys() - after.keys()
    if len(after) < len(before):
        return (
            f"the run has fewer records, {len(after)}, than the baseline, {len(before)}; delete "
            "the baseline first if that is meant, or save the run under another name"
        )
    if lost and not accept_new:
        return (
            f"{len(lost)} records of the baseline are not in the run; --accept-new accepts that, "
            "or save the run under another name"
        )
    return None


def shown(path: Path) -> str:
    """A path as messages and verdicts give it: from the current folder, if it lies in that."""
    absolute, here = path.resolve(), Path.cwd().resolve()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def claims_file(against: Path) -> Path | None:
    """The claims that hold where a run is held against this path, if there are any.

    `THRESHOLDS` beside the baseline; for another run, in the folder of all baselines beside it.
    """
    path = against.resolve()
    beside = (path if path.is_dir() else path.parent).parent
    candidates = (beside / THRESHOLDS, beside / FOLDER / THRESHOLDS)
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def read_claims(path: Path | None, against: Path) -> tuple[Path | None, list[Claim]]:
    """The file of the claims that were asked for, or else `claims_file`, and what it says.

    Raises:
        BadInput: it can't be read.
    """
    path = path or claims_file(against)
    return path, load_claims(path) if path else []


def check_claims(
    claims: Sequence[Claim], path: Path | None, nets: Collection[str], methods: Collection[str]
) -> None:
    """Refuse claims on nets and methods that nobody knows.

    Args:
        claims: of the file.
        path: of that file; the baselines in its folder tell which names there are, too.
        nets: of the run and the baseline.
        methods: likewise.

    Raises:
        BadInput: a claim names another one.
    """
    if path is None or not unknown_names(claims, nets, methods):
        return
    others = [path.parent / name for name in _known(path.parent)]
    entries = [entry for other in others if is_saved(other) for entry in load(other).values()]
    nets = {*nets, *(entry.net for entry in entries)}
    methods = {*methods, *(entry.method for entry in entries)}
    for error in unknown_names(claims, nets, methods):
        raise BadInput(f"{path}: {error}")


def _known(folder: Path) -> list[str]:
    """Names of the saved baselines, sorted."""
    for old in folder.glob(_OLD.format("*")):
        _recover(folder / old.name[1:].removesuffix(".old"))
    there = (path for path in folder.glob("*") if path.is_dir())
    return sorted(path.name for path in there if not path.name.startswith("."))


def _beside(folder: Path, form: str) -> Path:
    return folder.with_name(form.format(folder.name))


def _recover(folder: Path) -> None:
    """Bring a baseline back whose replacement was killed after it had been put aside."""
    old = _beside(folder, _OLD) if folder.name else folder
    if old.is_dir() and not folder.exists():
        old.rename(folder)
