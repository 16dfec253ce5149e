"""A run's folder gives back what its report was made from."""

from __future__ import annotations

import json

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
        baselines=["noise"],
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
    """A run that was resumed and killed again."""
    write(summary, tmp_path)
    Store(tmp_path / "parts").write("a", summary.records)
    write(
        Summary(name="run", records=summary.records[:1], planned=4, titles={}, interrupted="x"),
        tmp_path,
    )
    Store(tmp_path / "parts").write("b", summary.records[:1])
    assert len(saved.load(tmp_path).records) == 4


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("records.jsonl", b"{}\n", "line 1 of .* no column"),
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
