"""A run's folder gives back what its report was made from."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from xai_core.errors import BadInput, DataMissing
from xai_core.files import write_atomically
from xai_core.report import markdown, saved
from xai_core.report.recognition import Recognition
from xai_core.report.summary import Gap, Summary, Timing
from xai_core.store import Store


@pytest.fixture
def summary(make_record) -> Summary:
    return Summary(
        name="run",
        records=[make_record(1 / 3, sample=f"{i}-orange", image_id=i) for i in range(4)],
        planned=9,
        titles={"grad_cam": "Grad-CAM", "cam": "CAM"},
        randomised=[make_record(0.2, randomised="all", net="squeezenet1_0~all")],
        recognition=[Recognition("vgg19", "224", 5, 17, 38)],
        skipped=[Gap("cam on vgg19", "no GAP", 4)],
        failed=[Gap("grad_cam on vgg19", "NaN", 1)],
        broken=[Gap("test_it", "assert", 0)],
        unexplained=["a::b"],
        interrupted="by hand",
        timings=[Timing("vgg19", "224", "cam", 0.1, 0.01, 3)],
        no_timings="",
        provenance={"Command": "`pytest bench`"},
    )


def write(summary, folder):
    for name, text in saved.dump(summary).items():
        write_atomically(folder / name, text.encode())


def test_the_same_summary_comes_back(summary, tmp_path):
    write(summary, tmp_path)
    assert saved.load(tmp_path) == summary
    assert markdown.render(saved.load(tmp_path)) == markdown.render(summary)


def test_records_alone_are_enough(summary, tmp_path):
    write(summary, tmp_path)
    (tmp_path / "summary.json").unlink()
    found = saved.load(tmp_path)
    assert found.records == summary.records
    assert found.partial
    assert "without summary.json" in markdown.render(found)


def test_of_a_killed_run_the_parts_are_read(summary, tmp_path):
    Store(tmp_path / "parts").write("a", summary.records[:2])
    found = saved.load(tmp_path)
    assert found.records == summary.records[:2]
    assert found.partial


def test_what_was_computed_after_the_last_report_is_not_lost(summary, tmp_path):
    """A run that was resumed and killed again, whatever the clock said then."""
    early = replace(summary, records=summary.records[:1], randomised=[])
    write(early, tmp_path)
    Store(tmp_path / "parts", 1).write("a", summary.records[:1])
    assert saved.load(tmp_path) == early
    Store(tmp_path / "parts", 2).write("b", summary.records)
    os.utime(tmp_path / "parts" / "b.jsonl", (1, 1))
    assert saved.load(tmp_path).records == summary.records
    os.utime(tmp_path / "records.jsonl", (1, 1))
    write(replace(early, session=2), tmp_path)
    assert saved.load(tmp_path) == replace(early, session=2)


def test_a_session_that_was_killed_before_it_computed_anything_leaves_the_report(summary, tmp_path):
    summary = replace(summary, randomised=[])
    write(summary, tmp_path)
    Store(tmp_path / "parts", 1).write("a", summary.records)
    Store(tmp_path / "parts", 2).read("a")  # it has taken the part over
    assert saved.load(tmp_path) == summary


def test_damaged_parts_are_left_out_and_counted(summary, tmp_path):
    store = Store(tmp_path / "parts")
    store.write("a", summary.records[:2])
    store.write("b", summary.records[2:])
    part = tmp_path / "parts" / "b.jsonl"
    part.write_bytes(part.read_bytes().replace(b"orange", b"banana"))
    found = saved.load(tmp_path)
    assert found.records == summary.records[:2]
    assert "1 damaged file(s) among the parts left out, b.jsonl first" in found.interrupted
    assert "b.jsonl first" in markdown.render(found)


def test_records_that_were_changed_after_the_report_are_refused(summary, tmp_path):
    write(summary, tmp_path)
    path = tmp_path / "records.jsonl"
    path.write_text(path.read_text().replace('"rank": 1,', '"rank": 2,', 1))
    with pytest.raises(BadInput, match=r"records.jsonl is not what summary.json was written with"):
        saved.load(tmp_path)
    (tmp_path / "summary.json").unlink()
    assert {record.rank for record in saved.load(tmp_path).records} == {1, 2}


def test_a_record_that_stands_there_twice_is_refused(summary, tmp_path):
    write(summary, tmp_path)
    path = tmp_path / "records.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    with pytest.raises(BadInput, match=r"grad_cam on squeezenet1_0 at 224 for .* has two records"):
        saved.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("planned", "9"), ("titles", []), ("titles", {"cam": 1}), ("skipped", [{"what": 1}])),
        *(("interrupted", 7), ("timings", [{}]), ("session", None), ("provenance", {"a": None})),
        ("unexplained", [1]),
    ],
)
def test_a_summary_of_other_types_is_refused(summary, tmp_path, name, value):
    write(summary, tmp_path)
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(BadInput, match="is no summary of a run"):
        saved.load(tmp_path)


def test_text_of_a_summary_shows_itself(summary, tmp_path):
    hostile = replace(summary, name="a\n::error::b", titles={"cam": "\x1b[2J"})
    write(hostile, tmp_path)
    found = saved.load(tmp_path)
    assert (found.name, found.titles) == ("a\\n::error::b", {"cam": "\\x1b[2J"})


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("records.jsonl", b"{}\n", "line 1 of .* no column net"),
        ("records.jsonl", b"[" * 99_999, "line 1 of .* is no record: it is nested too deep"),
        ("summary.json", b"[" * 99_999, "is no summary of a run"),
        ("summary.json", b'{"planned": NaN}', "is no summary of a run: NaN is no number"),
        ("records.jsonl", b"{\n", "line 1 of .* is no record"),
        ("records.jsonl", b"\xff", "can't be read"),
        ("summary.json", b"[]", "is no summary of a run"),
        ("summary.json", b"{}", "is no summary of a run"),
    ],
)
def test_damaged_files_are_named(summary, tmp_path, name, content, sentence):
    write(summary, tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=sentence):
        saved.load(tmp_path)


def test_a_folder_without_a_run_is_said(tmp_path):
    with pytest.raises(DataMissing, match="holds no run"):
        saved.load(tmp_path / "nowhere")


def test_a_summary_can_be_read_by_people(summary):
    content = json.loads(saved.dump(summary)["summary.json"])
    assert "records" not in content
    assert content["skipped"] == [{"what": "cam on vgg19", "reason": "no GAP", "cells": 4}]
