"""Parts of a run: exact, whole or absent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from xai_core.errors import BadInput
from xai_core.files import write_atomically
from xai_core.store import Store, record_from_row, record_line
from xai_core.types import NoRecord, Record

REASON = NoRecord("vgg19", "224", "000000000001-clock", "cam", "unsupported", '"GAP" \u2013\n')
AWKWARD = [0.1 + 0.2, 1e-320, 1.7976931348623157e308, -0.0, 1 / 3, 5e-324]


def record(value: float = 0.5) -> Record:
    text = dict.fromkeys(("net", "method", "size", "sample", "category"), "x")
    text |= dict.fromkeys(("target_layer", "weights", "weights_sha256", "data"), "ß")
    text |= dict.fromkeys(("sample_sha256", "engine", "device", "dtype", "torch"), "z")
    whole = dict.fromkeys(("image_id", "class_index", "rank", "height", "width"), 3)
    whole |= dict.fromkeys(("channels", "threads", "batch_size"), 1)
    real = dict.fromkeys(("logit", "probability", "map_min", "map_max", "chance"), value)
    real |= dict.fromkeys(("mask_share", "dilation", "seconds"), value)
    flags = {"zero_energy": True, "dead_logit": False, "weights_random": True}
    return Record(**text, **whole, **real, **flags, metrics={"concentration": value, "own": value})


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "parts")


@pytest.mark.parametrize("value", AWKWARD)
def test_outcomes_come_back_exactly(store, value):
    outcomes = [record(value), REASON, record(-value)]
    store.write("key", outcomes)
    assert repr(store.read("key")) == repr(outcomes)  # repr tells -0.0 from 0.0


def test_a_record_line_comes_back_exactly():
    for value in AWKWARD:
        line = record_line(record(value))
        assert "\n" not in line
        assert repr(record_from_row(json.loads(line))) == repr(record(value))


def test_columns_that_are_no_field_are_metrics():
    row = record().row() | {"another": 0.25}
    assert record_from_row(row).metrics == {"concentration": 0.5, "own": 0.5, "another": 0.25}


def test_a_missing_column_is_named():
    row = record().row()
    del row["rank"]
    with pytest.raises(BadInput, match="no column rank"):
        record_from_row(row)


def test_an_unknown_key_reads_as_absent(store):
    assert store.read("key") is None
    assert store.all() == []


def whole(store: Store) -> bytes:
    store.write("key", [record(), REASON])
    return (store.folder / "key.jsonl").read_bytes()


@pytest.mark.parametrize("cut", [0, 1, 40, -2, -40])
def test_a_torn_part_is_absent(store, cut):
    (store.folder / "key.jsonl").write_bytes(whole(store)[:cut])
    assert store.read("key") is None
    assert store.all() == []


@pytest.mark.parametrize(
    "line",
    [
        *("{}", "[]", "null", '"text"', "\xff", "{" * 50),
        *('{"record": []}', '{"record": {"net": "x"}}'),
        *('{"no_record": {}}', '{"no_record": {"net": "x", "more": 1}}'),
    ],
)
def test_a_damaged_part_is_absent_and_leaves_the_others(store, line):
    store.write("good", [REASON])
    damaged = whole(store) + line.encode("latin-1") + b"\n"
    (store.folder / "key.jsonl").write_bytes(damaged)
    assert store.read("key") is None
    assert store.all() == [REASON]


def test_all_parts_are_read(store):
    store.write("b", [record(0.1)])
    store.write("a", [record(0.2), REASON])
    assert sorted(map(repr, store.all())) == sorted(map(repr, [record(0.1), record(0.2), REASON]))


def test_writing_again_replaces_the_part(store):
    store.write("key", [record(0.1), REASON])
    store.write("key", [record(0.2)])
    assert store.read("key") == [record(0.2)]


class Crash(BaseException):
    """As ``KeyboardInterrupt``: nothing that ``except Exception`` catches."""


def crash(*args, **kwargs):
    raise Crash


def test_a_crash_while_outcomes_are_made_leaves_no_part(store):
    def outcomes():
        yield record()
        raise Crash

    with pytest.raises(Crash):
        store.write("key", outcomes())
    assert store.read("key") is None


@pytest.mark.parametrize("moment", ["chmod", "replace"])
@pytest.mark.parametrize("earlier", [True, False])
def test_a_crash_while_writing_leaves_the_old_part_or_none(store, monkeypatch, moment, earlier):
    if earlier:
        store.write("key", [REASON])
    with monkeypatch.context() as patch:
        patch.setattr(Path, moment, crash)
        with pytest.raises(Crash):
            store.write("key", [record()])
    assert store.read("key") == ([REASON] if earlier else None)
    assert [path.name for path in store.folder.iterdir()] == ["key.jsonl"] * earlier


def test_the_part_is_not_there_before_it_is_whole(store, monkeypatch):
    seen = []
    replace_file = Path.replace

    def spy(self, target):
        seen.append((Path(target).exists(), self.read_bytes()))
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", spy)
    content = whole(store)
    assert seen == [(False, content)]


def test_a_leftover_of_a_killed_writer_is_not_read(store):
    store.write("key", [REASON])
    (store.folder / "other.jsonl123.tmp").write_bytes(whole(store))
    (store.folder / "key.jsonl").unlink()
    assert store.all() == []


def test_nan_is_refused_rather_than_written(store):
    with pytest.raises(ValueError, match="JSON compliant"):
        store.write("key", [replace(record(), logit=float("nan"))])
    assert store.read("key") is None


def test_files_are_readable_by_others_and_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"
    assert path.stat().st_mode & 0o777 == 0o644
