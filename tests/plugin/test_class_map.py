"""``--class-map``: which outputs of the net the categories of an annotation file mean."""

from __future__ import annotations

import json

import pytest

USAGE = pytest.ExitCode.USAGE_ERROR


def write(suite, content) -> str:
    (suite.path / "map.json").write_text(json.dumps(content))
    return "--class-map=map.json"


def output(result) -> str:
    text = result.stdout.str() + result.stderr.str()
    assert "Traceback" not in text
    return text


def test_all_that_it_maps_is_explained_at_its_outputs_and_nothing_else(suite):
    option = write(suite, {"orange": 7, "person": [2, 3]})
    result = suite.run(option, "--method=cam")
    result.assert_outcomes(passed=3)
    found = {(r["category"], r["class_index"]) for r in suite.records()}
    assert ("orange", 7) in found
    assert found - {("orange", 7)} <= {("person", 2), ("person", 3)}
    assert len(found) == 2
    assert "orange 2, person 1" in suite.report
    assert "map.json: orange 7; person 2, 3" in suite.report
    settings = json.loads((suite.folder / "settings.json").read_text())
    assert settings["class_map"] == {"orange": [7], "person": [2, 3]}

    resumed = f"--resume=reports/{suite.folder.name}"
    suite.run(option, "--method=cam", resumed).assert_outcomes(passed=3)
    option = write(suite, {"orange": 8, "person": [2, 3]})
    result = suite.run(option, "--method=cam", resumed)
    assert result.ret == USAGE
    assert "made with other settings (class_map: {'orange': [7]" in output(result)


def test_an_output_that_the_net_does_not_have_fails_by_category(suite):
    result = suite.run(write(suite, {"banana": 1, "orange": [4, 1000]}), "--method=cam")
    result.assert_outcomes(passed=2, failed=2)
    sentence = (
        "category 'orange' has no output: class index 1000 is not among the 1000 outputs of tiny"
    )
    assert sentence in output(result)
    assert sentence in suite.report.split("## Failed")[1]


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        ({"oragne": 1}, [], "unknown category in the class map map.json 'oragne'; known: banana,"),
        ({"orange": "1"}, [], "the value of 'orange' must be a class index"),
        ({"orange": 1}, ["--classes=banana"], "unknown class 'banana'; known: orange"),
        ({"orange": 1}, ["--classes=person"], "unknown class 'person'; known: orange"),
        ({"orange": 1}, ["--class-map=no.json"], "no class map at "),
    ],
)
def test_what_is_wrong_with_it_is_a_usage_error(suite, content, options, sentence):
    result = suite.run(write(suite, content), *options)
    assert result.ret == USAGE
    assert sentence in output(result)
    assert not (suite.path / "reports").exists()


def test_the_scenes_take_none(suite):
    result = suite.pytester.runpytest_inprocess("bench", write(suite, {"orange": 1}))
    assert result.ret == USAGE
    assert "--class-map is not for the data set scenes" in output(result)
