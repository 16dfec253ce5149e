"""Names of files that are never paths, and text that shows itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xai_core.errors import BadInput, UnknownChoice, first_line
from xai_core.files import file_name, printable, write_atomically

names = st.text(st.characters(), max_size=300)  # surrogates too


@given(names)
def test_any_name_becomes_that_of_one_file(name):
    safe = file_name(name)
    assert Path(safe).name == safe
    assert safe not in {"", ".", ".."}
    assert not safe.startswith(".")
    assert len(safe.encode()) <= 120
    assert safe.isprintable()
    assert file_name(safe) == safe


@given(names, names)
def test_two_names_are_two_files(one, other):
    if "%" not in one + other:
        assert (file_name(one) == file_name(other)) == (one == other)


@pytest.mark.parametrize("name", ["squeezenet1_0", "resnet152~all", "000000000139-traffic_light"])
def test_usual_names_stay_as_they_are(name):
    assert file_name(name) == name


def test_names_that_mean_something_to_a_file_system_do_not():
    assert file_name("x/../../etc") == "x%2F..%2F..%2Fetc"
    assert file_name("..") == "%2E."
    assert file_name("a\udc80") == "a%ED%B2%80"


@given(names)
def test_printable_text_is_one_line_and_escaped_once(text):
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    assert shown == text or not text.isprintable()


def test_what_can_not_be_printed_is_shown_as_python_writes_it():
    assert printable("a\n\x1b[0m\u202e\udc80 \u00e9") == "a\\n\\x1b[0m\\u202e\\udc80 \u00e9"


def test_no_error_of_ours_breaks_its_line():
    for error in (
        BadInput("the mask of x\n::error::y"),
        UnknownChoice("class", "\x1b]0;", ["a\nb"]),
    ):
        assert str(error).isprintable()
    assert first_line(ValueError("\x1b[2J\nmore")) == "\\x1b[2J"


def test_files_are_readable_by_others_and_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"
    assert path.stat().st_mode & 0o777 == 0o644
