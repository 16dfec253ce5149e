"""What a line of records.jsonl may say: each column's type and range."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xai_core.errors import BadInput
from xai_core.records import (
    FIELDS,
    check_unique,
    outcome_from_line,
    outcome_line,
    record_from_line,
    record_from_row,
    record_line,
)
from xai_core.types import NoRecord, Record

finite = st.floats(allow_nan=False, allow_infinity=False)
share = st.floats(0, 1)
text = st.text(st.characters(exclude_categories=("C", "Z")), max_size=8)


@given(data=st.data(), values=st.lists(finite, min_size=4, max_size=4), p=share, name=text)
def test_a_record_comes_back_exactly_from_its_line(make_record, data, values, p, name):
    low, high = sorted(values[:2])
    record = make_record(p, map_min=low, map_max=high, logit=values[2], category=name, chance=p)
    record.metrics["own"] = values[3]
    line = record_line(record)
    assert "\n" not in line
    assert repr(record_from_line(line)) == repr(record)  # repr tells -0.0 from 0.0


def changed(record: Record, **columns: object) -> str:
    return json.dumps(record.row() | columns)


WRONG = {
    "a text as a number": ({"concentration": "0.5"}, "its concentration is no number but '0.5'"),
    "nothing": ({"concentration": None}, "its concentration is no number but None"),
    "true": ({"energy": True}, "its energy is no number but True"),
    "P above 1": ({"concentration": 7.5}, "its concentration is 7.5, not 0 to 1"),
    "P below 0": ({"concentration": -0.1}, "its concentration is -0.1, not 0 to 1"),
    "negative energy": ({"energy": -1.0}, "its energy is -1.0, not 0 or more"),
    "NaN": ({"concentration": float("nan")}, "NaN is no number of JSON"),
    "infinity": ({"logit": float("inf")}, "Infinity is no number of JSON"),
    "a number too large": ({"concentration": 10**400}, "its concentration is no finite number"),
    "another metric": ({"own": "a"}, "its own is no number but 'a'"),
    "a list": ({"net": [1]}, "no valid value as net: Expected `str`, got `array`"),
    "an empty name": ({"net": ""}, "no valid value as net"),
    "rank 0": ({"rank": 0}, "no valid value as rank: Expected `int` >= 1"),
    "half a rank": ({"rank": 1.5}, "no valid value as rank"),
    "a flag as a number": ({"zero_energy": 1}, "no valid value as zero_energy"),
    "a share above 1": ({"chance": 1.5}, "no valid value as chance"),
    "a path as a sample": ({"sample": "../x"}, "no valid value as sample"),
    "a folder as a sample": ({"sample": ".."}, "no valid value as sample"),
    "a script as a size": ({"size": '"><script>'}, "no valid value as size"),
    "two lines": ({"category": "x\n::error::y"}, "its category holds what can't be printed"),
    "an escape sequence": ({"net": "\x1b[2J"}, "its net holds what can't be printed"),
    "a line break at the end": ({"size": "224\n"}, "its size holds what can't be printed"),
    "the ends of the map": ({"map_min": 2.0}, "map_min, 2.0, is above map_max, 1.0"),
}


@pytest.mark.parametrize(("columns", "sentence"), WRONG.values(), ids=WRONG)
def test_a_value_that_can_not_be_is_refused_by_its_column(make_record, columns, sentence):
    with pytest.raises(BadInput) as refused:
        record_from_line(changed(make_record(), **columns))
    assert sentence in str(refused.value)


def test_a_number_that_overflows_is_refused(make_record):
    line = record_line(make_record()).replace('"logit": 7.5', '"logit": 1e400')
    with pytest.raises(BadInput, match="no valid value as logit"):
        record_from_line(line)


@pytest.mark.parametrize("name", ["rank", "concentration", "energy_total", "sample_sha256"])
def test_a_column_that_is_missing_is_named(make_record, name):
    row = make_record().row()
    row[f"{name}_renamed"] = row.pop(name)
    with pytest.raises(BadInput, match=f"no column {name}$"):
        record_from_row(row)


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "null", "7", "[" * 100_000, '{"a": 1' + "0" * 5000], ids=range(7)
)
def test_what_is_no_row_is_refused_in_a_sentence(line):
    for read in (record_from_line, outcome_from_line):
        with pytest.raises(BadInput):
            read(line)


def test_columns_that_are_no_field_are_metrics(make_record):
    row = make_record().row() | {"another": 0.25}
    assert record_from_row(row).metrics["another"] == 0.25
    assert "another" not in FIELDS


def test_the_reason_for_a_missing_record_comes_back_and_is_checked():
    reason = NoRecord("vgg19", "224", "000000000001-clock", "cam", "unsupported", "no GAP")
    line = outcome_line(reason)
    assert outcome_from_line(line) == reason
    for wrong in (
        line.replace("unsupported", "unsuported"),
        line.replace("224", "0"),
        line.replace("no GAP", r"no\nGAP"),
        line.replace('"reason"', '"reasons"'),
        line.replace("no_record", "norecord"),
        line[:-1] + ', "record": {}}',
    ):
        with pytest.raises(BadInput):
            outcome_from_line(wrong)


def test_two_records_of_a_cell_are_refused_by_name(make_record):
    one, other = make_record(0.5), make_record(0.6)
    check_unique([one, replace(other, method="cam")])
    with pytest.raises(BadInput, match=r"grad_cam on squeezenet1_0 at 224 for .* has two records"):
        check_unique([one, other])
