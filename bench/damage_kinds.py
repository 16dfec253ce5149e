"""What can happen to the folder of a run: one function a damage, each changes the folder in place.

A damage of a part is made to one that the seed chooses. "Sealed" damages carry a right checksum, as
somebody's own program would write it.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path

from xai_core.records import outcome_from_line, outcome_line
from xai_core.store import Store

Damage = Callable[[Path, random.Random], object]

DERIVED = ("records.jsonl", "summary.json", "exp.json", "concentration.md")
"""What a report writes: without it a run is its parts alone."""


def parts_alone(run: Path, _: random.Random | None = None) -> None:
    """Delete every file that a report writes."""
    for name in DERIVED:
        (run / name).unlink(missing_ok=True)


def part_of(run: Path, dice: random.Random) -> Path:
    """One of the parts."""
    return dice.choice(sorted((run / "parts").glob("*.jsonl")))


def bytes_of(change: Callable[[bytes, random.Random], bytes]) -> Damage:
    """Damage the bytes of a part."""

    def apply(run: Path, dice: random.Random) -> None:
        path = part_of(run, dice)
        path.write_bytes(change(path.read_bytes(), dice))

    return apply


def text_of(pattern: str, replacement: str, sealed: bool = False) -> Damage:
    """Replace the first match in a part's lines."""

    def apply(run: Path, dice: random.Random) -> None:
        path = part_of(run, dice)
        first, _, body = path.read_text().partition("\n")
        changed, times = re.subn(pattern, replacement, body, count=1)
        assert times == 1, pattern
        path.write_text(f"{first}\n{changed}")
        if sealed:
            seal(path, changed.splitlines())

    return apply


def seal(path: Path, lines: list[str]) -> None:
    """Write a part with these lines and a checksum that is right."""

    class Line(str):
        """A line that passes for an outcome."""

    from xai_core import store

    kept = store.outcome_line
    store.outcome_line = Line
    try:
        Store(path.parent).write(path.stem, lines)
    finally:
        store.outcome_line = kept


def lines_of(change: Callable[[list[str]], list[str]], sealed: bool = False) -> Damage:
    """Damage the lines of a part below the first."""

    def apply(run: Path, dice: random.Random) -> None:
        path = part_of(run, dice)
        first, *lines = path.read_text().splitlines()
        changed = change(lines)
        path.write_text("".join(f"{line}\n" for line in (first, *changed)))
        if sealed:
            seal(path, changed)

    return apply


def file_as(name: str, content: bytes) -> Damage:
    """Replace a file of the run."""
    return lambda run, _: (run / name).write_bytes(content)


def file_changed(name: str, pattern: str, replacement: str) -> Damage:
    """Replace the first match in a file of the run."""

    def apply(run: Path, _: random.Random) -> None:
        changed, times = re.subn(pattern, replacement, (run / name).read_text(), count=1)
        assert times == 1, pattern
        (run / name).write_text(changed)

    return apply


def rows_of(change: Callable[[list[dict]], object], *, summary: bool = True) -> Damage:
    """Damage the rows of records.jsonl; without the summary there is no checksum of them."""

    def apply(run: Path, _: random.Random) -> None:
        path = run / "records.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        change(rows)
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        if not summary:
            (run / "summary.json").unlink()
            for part in (run / "parts").glob("*"):
                part.unlink()

    return apply


def flip(content: bytes, dice: random.Random, start: int = 0, end: int | None = None) -> bytes:
    """Change one bit."""
    bit = dice.randrange(8 * start, 8 * (len(content) if end is None else end))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def head(content: bytes) -> int:
    """Where the first line ends."""
    return content.index(b"\n") + 1


def aged(name: str, seconds: float) -> Damage:
    """Set the time of files."""

    def apply(run: Path, _: random.Random) -> None:
        for path in run.glob(name):
            os.utime(path, (seconds, seconds))

    return apply


def replaced_by(make: Callable[[Path], object]) -> Damage:
    """Put something else in a part's place."""

    def apply(run: Path, dice: random.Random) -> None:
        path = part_of(run, dice)
        path.unlink()
        make(path)

    return apply


def under_another_name(run: Path, dice: random.Random) -> None:
    """Move a part."""
    path = part_of(run, dice)
    path.rename(path.with_name("0" * 64 + ".jsonl"))


def twice(run: Path, dice: random.Random) -> None:
    """Copy a part to another name."""
    path = part_of(run, dice)
    path.with_name("f" * 64 + ".jsonl").write_bytes(path.read_bytes())


def swapped(run: Path, _: random.Random) -> None:
    """Exchange the contents of two parts."""
    one, other, *_ = sorted((run / "parts").glob("*.jsonl"))
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def an_older_value(run: Path, dice: random.Random) -> None:
    """A part of an earlier session under another key, with other values: that of now counts."""
    path = part_of(run, dice)
    lines = [
        outcome_line(outcome_from_line(re.sub(r'"rank": \d+', '"rank": 999', line)))
        for line in path.read_text().splitlines()[1:]
    ]
    Store(run / "parts", 2).read(path.stem)
    seal(path.with_name("f" * 64 + ".jsonl"), lines)


def no_parts(run: Path, _: random.Random) -> None:
    """Delete all parts."""
    for part in (run / "parts").glob("*"):
        part.unlink()


PARTS: dict[str, Damage] = {
    **{
        f"part: bit {n} of the first line flipped": bytes_of(lambda c, d: flip(c, d, 0, head(c)))
        for n in "abc"
    },
    **{
        f"part: bit {n} of a record flipped": bytes_of(lambda c, d: flip(c, d, head(c)))
        for n in "abcdef"
    },
    "part: last byte missing": bytes_of(lambda c, d: c[:-1]),
    "part: second half missing": bytes_of(lambda c, d: c[: len(c) // 2]),
    "part: empty": bytes_of(lambda c, d: b""),
    "part: garbage": bytes_of(lambda c, d: d.randbytes(500)),
    "part: CRLF": bytes_of(lambda c, d: c.replace(b"\n", b"\r\n")),
    "part: byte order mark": bytes_of(lambda c, d: b"\xef\xbb\xbf" + c),
    "part: a blank at the end": bytes_of(lambda c, d: c + b" "),
    "part: nested 100,000 deep": bytes_of(lambda c, d: b"[" * 100_000),
    "part: session raised": bytes_of(lambda c, d: c.replace(b'"session": 1', b'"session": 9')),
    "part: a line doubled": lines_of(lambda lines: [*lines, lines[0]]),
    "part: a line missing": lines_of(lambda lines: lines[:-1]),
    "part: lines in another order": lines_of(lambda lines: lines[::-1]),
    "part: a digit of P": text_of(r'("concentration": 0\.)\d', r"\g<1>9"),
    "part: a digit of the rank": text_of(r'"rank": \d+', '"rank": 77777'),
    "part: P is NaN": text_of(r'"concentration": [\d.e-]+', '"concentration": NaN'),
    "part: P is 7.5": text_of(r'"concentration": [\d.e-]+', '"concentration": 7.5'),
    "part: P is a text": text_of(r'"concentration": ([\d.e-]+)', r'"concentration": "\1"'),
    "part: P is null": text_of(r'"concentration": [\d.e-]+', '"concentration": null'),
    "part: the metric renamed": text_of("concentration", "koncentration"),
    "part: the metric missing": text_of(r'"concentration": [\d.e-]+, ', ""),
    "sealed: P is NaN": text_of(r'"concentration": [\d.e-]+', '"concentration": NaN', sealed=True),
    "sealed: P is 7.5": text_of(r'"concentration": [\d.e-]+', '"concentration": 7.5', sealed=True),
    "sealed: P is null": text_of(
        r'"concentration": [\d.e-]+', '"concentration": null', sealed=True
    ),
    "sealed: the metric renamed": text_of("concentration", "koncentration", sealed=True),
    "sealed: a path as a net": text_of(r'"sample": "', r'"sample": "../../', sealed=True),
    "sealed: a line doubled": lines_of(lambda lines: [*lines, lines[0]], sealed=True),
    "sealed: no line": lines_of(lambda lines: [], sealed=True),
    "part: under another name": under_another_name,
    "part: there twice": twice,
    "parts: two exchanged": swapped,
    "parts: one of an earlier session": an_older_value,
    "parts: one missing": replaced_by(lambda path: None),
    "parts: a folder instead": replaced_by(lambda path: path.mkdir()),
    "parts: a pipe instead": replaced_by(os.mkfifo),
    "parts: a link to a device": replaced_by(lambda path: path.symlink_to("/dev/zero")),
    "parts: what a killed writer left": lambda run, dice: (
        run / "parts" / f"{part_of(run, dice).name}abc.tmp"
    ).write_bytes(b'{"part"'),
    "parts: of tomorrow": aged("parts/*", 4e9),
    "parts: of 1970": aged("parts/*", 1),
    "parts: none": no_parts,
}
"""Damages of parts; they are tried on whole folders and on parts alone."""

FILES: dict[str, Damage] = {
    "records: P is a text": rows_of(lambda rows: rows[0].update(concentration="0.5")),
    "records: P is null": rows_of(lambda rows: rows[0].update(concentration=None)),
    "records: P is 7.5": rows_of(lambda rows: rows[0].update(concentration=7.5)),
    "records: P is NaN": rows_of(lambda rows: rows[0].update(concentration=float("nan"))),
    "records: the metric missing": rows_of(lambda rows: rows[0].pop("concentration")),
    "records: a metric renamed": rows_of(lambda rows: rows[0].update(e=rows[0].pop("energy"))),
    "records: a list as the net": rows_of(lambda rows: rows[0].update(net=[1])),
    "records: a digit of the rank": rows_of(lambda rows: rows[0].update(rank=77777)),
    "records: a line doubled": rows_of(lambda rows: rows.append(rows[0])),
    "records: a line missing": rows_of(lambda rows: rows.pop()),
    "records alone: a line doubled": rows_of(lambda rows: rows.append(rows[0]), summary=False),
    "records alone: P is 7.5": rows_of(
        lambda rows: rows[0].update(concentration=7.5), summary=False
    ),
    "records: half of the last line": lambda run, _: (run / "records.jsonl").write_bytes(
        (run / "records.jsonl").read_bytes()[:-300]
    ),
    "records: not UTF-8": file_as("records.jsonl", b"\xff\n"),
    "records: empty": file_as("records.jsonl", b""),
    "records: of 1970": aged("records.jsonl", 1),
    "records: of tomorrow": aged("records.jsonl", 4e9),
    "summary: empty": file_as("summary.json", b""),
    "summary: a list": file_as("summary.json", b"[]"),
    "summary: nested 100,000 deep": file_as("summary.json", b"[" * 100_000),
    "summary: a number as a title": file_changed(
        "summary.json", r'"titles": \{', '"titles": {"x": 1, '
    ),
    "summary: planned is NaN": file_changed("summary.json", r'"planned": \d+', '"planned": NaN'),
    "summary: missing": lambda run, _: (run / "summary.json").unlink(),
    "settings: missing": lambda run, _: (run / "settings.json").unlink(),
    "settings: empty": file_as("settings.json", b""),
    "settings: a list": file_as("settings.json", b"[]"),
    "settings: another precision": file_changed("settings.json", '"full"', '"bf16"'),
    "settings: other threads": file_changed("settings.json", r'"threads": \d+', '"threads": 7'),
    "settings: no session": file_changed("settings.json", r'"session": \d+', '"session": "x"'),
    "samples: garbage": file_as("samples.json", b"\x00"),
}
"""Damages of the other files of a whole folder."""
