"""COCO 2017 from its own site, or a mirror: the annotations, and only the images that are needed.

Nothing takes its place before it is complete and checked, so that what is in place can be believed.
"""

from __future__ import annotations

import errno
import shutil
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory

import pooch
from tqdm import tqdm

from xai_core.data.annotations import PREFERRED
from xai_core.data.coco import CocoDataSet
from xai_core.data.fetch import fetch, size_of
from xai_core.data.images import decode
from xai_core.data.lock import alone
from xai_core.data.site import ARCHIVE, Site
from xai_core.errors import BadInput, DataMissing, first_line
from xai_core.types import Sample

MEMBER = f"annotations/{PREFERRED}"
IMAGES = "train2017"
"""Folder of the images of `MEMBER`."""

MOST_ARCHIVE = 4 << 30  # bytes
MOST_MEMBER = 8 << 30
MOST_IMAGE = 64 << 20
AT_ONCE = 8
"""Images that are fetched at the same time."""
END = 1.0
"""Seconds that each of them has to notice that all are given up."""


def fetch_annotations(folder: Path, site: Site, say: Callable[[str], object]) -> None:
    """See to it that ``folder`` holds the annotations, in COCO's layout.

    The archive comes first, is checked and unpacked, and is then removed. A download that was
    interrupted goes on where it ended.

    Args:
        folder: may not exist yet.
        site: where from.
        say: is told what happens, if anything does.

    Raises:
        DataMissing: they can't be had; the sentence says why.
    """
    target = folder / MEMBER
    if target.is_file():
        return
    try:
        for name in ("annotations", IMAGES):
            (folder / name).mkdir(parents=True, exist_ok=True)
        with alone(folder, site.patience, say):  # two downloads would write to one file
            if not target.is_file():
                archive = _fetch_archive(target.parent, site, say)
                say(f"unpacking {target}")
                _unpack(archive, target, site)
                archive.unlink()
    except OSError as error:
        raise DataMissing(f"{target} can't be written: {error.strerror or error}") from error


def fetch_images(
    data: CocoDataSet, samples: Iterable[Sample], site: Site, say: Callable[[str], object]
) -> dict[str, str]:
    """See to it that the images of these samples are there.

    Args:
        data: its folder is where they go; it may not exist yet.
        samples: whose images are needed.
        site: where from.
        say: is told what happens, if anything does.

    Returns:
        File names to reasons of those that can't be had.

    Raises:
        DataMissing: none can be had.
    """
    wanted: dict[int, Sample] = {sample.image_id: sample for sample in samples}
    failed: dict[str, str] = {}
    missing = []
    for sample in wanted.values():
        try:
            if not data.path(sample).is_file():
                missing.append(sample)
        except (BadInput, OSError) as error:
            failed[f"image {sample.image_id}"] = _said(error)
    if not missing:
        return failed
    say(f"downloading {len(missing)} of {len(wanted)} images from {site.url} to {data.folder}")
    try:
        data.folder.mkdir(parents=True, exist_ok=True)
        # After Ctrl-C what still comes is thrown away with the folder.
        with TemporaryDirectory(
            prefix=".download-", dir=data.folder, ignore_cleanup_errors=True
        ) as parts:
            found = _fetch_all(data, missing, site, Path(parts))
    except OSError as error:
        raise DataMissing(f"{data.folder} can't be written: {error.strerror or error}") from error
    if len(failed) + len(found) == len(wanted):
        raise DataMissing(f"no image can be had: {next(iter(found.values()))}")
    return failed | found


def _fetch_all(
    data: CocoDataSet, samples: Sequence[Sample], site: Site, parts: Path
) -> dict[str, str]:
    """File names to reasons of those that can't be had; given up if none of the first can."""
    waiting: SimpleQueue[Sample] = SimpleQueue()
    done: SimpleQueue[tuple[Sample, Exception | None]] = SimpleQueue()
    given_up = threading.Event()

    def work() -> None:
        while not given_up.is_set():
            try:
                sample = waiting.get_nowait()
            except Empty:
                return
            try:
                _fetch_image(data, sample, site, parts, given_up)
            except Exception as error:
                done.put((sample, error))
            else:
                done.put((sample, None))

    for sample in samples:
        waiting.put(sample)
    # Nobody waits for a daemon: Ctrl-C ends the process while a server is being waited for.
    workers = [threading.Thread(target=work, daemon=True) for _ in samples[:AT_ONCE]]
    for worker in workers:
        worker.start()
    reasons: dict[str, str] = {}
    with tqdm(total=len(samples), unit="image", disable=None) as bar:
        try:
            for count in range(1, len(samples) + 1):
                sample, error = done.get()
                if error is not None:
                    if not _is_of_one_image(error):
                        raise error
                    reasons[data.path(sample).name] = _said(error)
                    if len(reasons) == count == AT_ONCE:
                        given_up.set()
                        for worker in workers:  # they write to the folder that is thrown away
                            worker.join(END)
                        rest = {data.path(sample).name for sample in samples} - reasons.keys()
                        return reasons | dict.fromkeys(rest, f"given up: {_said(error)}")
                bar.update()
        finally:
            given_up.set()
    return reasons


def _is_of_one_image(error: Exception) -> bool:
    """Whether others may come all the same; a full disk, say, is met by all."""
    if isinstance(error, OSError):
        return error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)
    return isinstance(error, DataMissing | BadInput | ValueError)


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)


def _fetch_image(
    data: CocoDataSet, sample: Sample, site: Site, parts: Path, given_up: threading.Event
) -> None:
    def go_on(_: int) -> None:
        if given_up.is_set():
            raise DataMissing("given up")

    path, part = data.path(sample), parts / str(sample.image_id)
    url = site.find(data.annotations.image(sample.image_id).get("coco_url"))
    for last in (False, True):  # what was broken on its way may arrive the second time
        fetch(
            url,
            part,
            hosts=site.hosts,
            patience=site.patience,
            most=MOST_IMAGE,
            advance=go_on,
        )
        try:
            decode(part.read_bytes(), path.name, data.shape(sample))
            break
        except BadInput:
            part.unlink()
            if last:
                raise
    path.parent.mkdir(parents=True, exist_ok=True)
    part.replace(path)


def _fetch_archive(folder: Path, site: Site, say: Callable[[str], object]) -> Path:
    url, name = f"{site.url}/{ARCHIVE}", Path(ARCHIVE).name
    part = folder / f"{name}.part"
    pooch.get_logger().setLevel("ERROR")  # it would ask for a hash to be noted

    def download(url: str, output: str, _: object) -> None:
        with tqdm(initial=size_of(part), unit="B", unit_scale=True, disable=None) as bar:
            fetch(
                url,
                part,
                hosts=site.hosts,
                patience=site.patience,
                most=MOST_ARCHIVE,
                advance=bar.update,
            )
        part.replace(output)

    begun = f", of which {size_of(part):,} bytes are there" if size_of(part) else ""
    unchecked = "" if site.sha256 else " (its SHA-256 is not known: not checked)"
    say(f"downloading {url}{unchecked} to {folder}{begun}")
    known = f"sha256:{site.sha256}" if site.sha256 else None
    for _ in range(2):  # what was broken on its way may arrive the second time
        try:
            return Path(pooch.retrieve(url, known, name, folder, downloader=download))
        except ValueError:
            say("its SHA-256 is not the one that is known: once more from the beginning")
    raise DataMissing(
        f"{url} has not the SHA-256 {site.sha256}; it was thrown away, for it is damaged or "
        "another file"
    )


def _unpack(archive: Path, target: Path, site: Site) -> None:
    """Take the one file that is needed; the names in the archive are not used as paths."""
    part = target.with_name(f"{target.name}.part")
    try:
        with zipfile.ZipFile(archive) as opened:
            if opened.getinfo(MEMBER).file_size > MOST_MEMBER:
                raise zipfile.BadZipFile(f"{MEMBER} has more than {MOST_MEMBER:,} bytes")
            with opened.open(MEMBER) as source, part.open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, KeyError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        archive.unlink()
        what = f"holds no {MEMBER}" if isinstance(error, KeyError) else f"is damaged: {error}"
        raise DataMissing(f"{site.url}/{ARCHIVE} {what}; it was thrown away") from error
    part.replace(target)
