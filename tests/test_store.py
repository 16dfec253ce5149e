"""Parts of a run: exact, whole or absent."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from xai_core.store import Store
from xai_core.types import NoRecord, Record

REASON = NoRecord("vgg19", "224", "000000000001-clock", "cam", "unsupported", '"GAP" \u2013')
AWKWARD = [0.1 + 0.2, 1e-320, 1.7976931348623157e308, -0.0, 1 / 3, 5e-324]


def record(value: float = 0.5, method: str = "x") -> Record:
    text = dict.fromkeys(("net", "sample", "category"), "x") | {"method": method, "size": "224"}
    text |= dict.fromkeys(("target_layer", "weights", "weights_sha256", "data"), "ß")
    text |= dict.fromkeys(("sample_sha256", "engine", "device", "dtype", "torch"), "z")
    whole = dict.fromkeys(("image_id", "class_index", "rank", "height", "width"), 3)
    whole |= dict.fromkeys(("channels", "threads", "batch_size"), 1)
    real = dict.fromkeys(("logit", "map_min", "map_max"), value)
    real |= dict.fromkeys(("probability", "chance", "mask_share", "dilation", "seconds"), 0.25)
    flags = {"zero_energy": True, "dead_logit": False, "weights_random": True, "reference": True}
    metrics = {"concentration": 0.5, "energy": 0.5, "energy_total": 1.0, "own": value}
    return Record(**text, **whole, **real, **flags, metrics=metrics)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "parts")


@pytest.mark.parametrize("value", AWKWARD)
def test_outcomes_come_back_exactly(store, value):
    outcomes = [record(value), REASON, record(-value, "y")]
    store.write("key", outcomes)
    assert repr(store.read("key")) == repr(outcomes)  # repr tells -0.0 from 0.0


def test_an_unknown_key_reads_as_absent(store):
    assert store.read("key") is None
    assert held(store) == ()


def held(store: Store) -> tuple:
    return store.contents().outcomes


def whole(store: Store) -> bytes:
    store.write("key", [record(), REASON])
    return (store.folder / "key.jsonl").read_bytes()


def test_a_bit_that_has_changed_anywhere_leaves_no_part(store):
    """All bits of the first line, and a sample of those below."""
    content = whole(store)
    head = 8 * (content.index(b"\n") + 1)
    body = random.Random(0).sample(range(head, 8 * len(content)), 600)
    for bit in (*range(head), *body):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        (store.folder / "key.jsonl").write_bytes(changed)
        assert store.read("key") is None, bit
    assert store.contents().damaged == ("key.jsonl",)


def test_a_part_under_the_name_of_another_is_none(store):
    (store.folder / "other.jsonl").write_bytes(whole(store))
    assert store.read("other") is None
    assert held(store) == (record(), REASON)


@pytest.mark.parametrize(
    "outcomes",
    [
        [],
        [record(), record()],
        [record(), replace(REASON, sample="x", size="224", net="x", method="x")],
        [replace(record(), rank=0)],
        [replace(record(), metrics={"koncentration": 0.5})],
    ],
    ids=["none", "a line twice", "a record and a reason", "a rank of 0", "a renamed metric"],
)
def test_a_part_that_was_sealed_over_what_can_not_be_is_none(store, outcomes):
    store.write("key", outcomes)
    assert store.read("key") is None


def test_of_a_cell_in_two_parts_the_later_session_counts_whatever_the_clock_says(tmp_path):
    for names in (("a", "b"), ("b", "a")):
        for session, key in enumerate(names, 1):
            Store(tmp_path / "parts", session).write(key, [record(float(session))])
            os.utime(tmp_path / "parts" / f"{key}.jsonl", (9e8 / session, 9e8 / session))
        contents = Store(tmp_path / "parts").contents()
        assert contents.outcomes[-1] == record(2.0)
        assert contents.session == Store(tmp_path / "parts").latest() == 2


def test_a_part_that_a_later_session_takes_over_counts_for_it(tmp_path):
    """An image was replaced, and put back: the first part is right again."""
    first, second, third = (Store(tmp_path / "parts", session) for session in (1, 2, 3))
    first.write("a", [record(1.0)])
    second.write("b", [record(2.0)])
    assert third.read("a") == [record(1.0)]
    assert third.contents().outcomes == (record(2.0), record(1.0))


def test_a_pipe_is_no_part(store):
    store.write("key", [REASON])
    os.mkfifo(store.folder / "pipe.jsonl")
    assert store.read("pipe") is None
    assert store.latest() == 1
    assert store.contents().damaged == ("pipe.jsonl",)


@pytest.mark.parametrize("cut", [0, 1, 40, -2, -40])
def test_a_torn_part_is_absent(store, cut):
    (store.folder / "key.jsonl").write_bytes(whole(store)[:cut])
    assert store.read("key") is None
    assert held(store) == ()


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
    assert held(store) == (REASON,)


def test_all_parts_are_read(store):
    store.write("b", [record(0.1)])
    store.write("a", [record(0.2), REASON])
    assert held(store) == (record(0.2), REASON, record(0.1))
    assert store.contents().damaged == ()


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
    assert held(store) == ()


def test_nan_is_refused_rather_than_written(store):
    with pytest.raises(ValueError, match="JSON compliant"):
        store.write("key", [replace(record(), logit=float("nan"))])
    assert store.read("key") is None
