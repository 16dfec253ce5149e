"""A fault in the fused engine, seen from ``pytest bench``: warned of, and kept out of the records.

`tests/engine/test_planted_faults.py` plants ten; here are two that give wrong maps in silence.
"""

from __future__ import annotations

import pytest

from xai_core.engine.fused.operators import MaxPool, rectify


def plant_in_pooling(monkeypatch):
    right = MaxPool.forward

    def wrong(self, inputs, in_place):
        output, (switches, kept) = right(self, inputs, in_place)
        return output, (switches.roll(1, 3), kept)

    monkeypatch.setattr(MaxPool, "forward", wrong)


def plant_in_relu(monkeypatch):
    monkeypatch.setattr(rectify, "_mask", lambda g, output, rules: None)


def test_planted_faults_are_warned_of_and_recorded(suite, monkeypatch):
    assert suite.run("--method=guided_backprop").ret == 0
    sound = suite.records()
    assert {record["engine"] for record in sound} == {"fused"}
    for plant in (plant_in_pooling, plant_in_relu):
        with monkeypatch.context() as patch:
            plant(patch)
            result = suite.run("--method=guided_backprop")
        assert result.ret == 0
        result.stdout.fnmatch_lines(
            ["*explained by the slower reference engine 'autograd' (first at *differs by *"]
        )
        records = suite.records()
        assert {record["engine"] for record in records} == {"autograd"}
        right = [pytest.approx(record["concentration"], rel=1e-3) for record in sound]
        assert [record["concentration"] for record in records] == right
