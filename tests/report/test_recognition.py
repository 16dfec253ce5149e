"""How many samples each net recognises: counted from outcomes, and said in every report."""

from __future__ import annotations

from xai_core.report import markdown, terminal
from xai_core.report.recognition import Recognition, recognitions, unrecognised
from xai_core.report.summary import Summary
from xai_core.types import NoRecord

SQUEEZENET = Recognition("squeezenet1_0", "224", 5, 17, 38)
NONE = Recognition("alexnet", "224", 5, 0, 38)


def summary(records, *recognition) -> Summary:
    return Summary(
        name="run", records=records, planned=len(records), titles={}, recognition=recognition
    )


def test_samples_are_counted_once_for_each_net_and_size(make_record):
    def missing(sample, kind, size="224", net="squeezenet1_0", method="cam"):
        return NoRecord(net, size, sample, method, kind, "why")

    outcomes = [
        make_record(sample="a"),
        make_record(sample="a", method="cam"),
        make_record(sample="b", method="cam"),
        missing("c", "unrecognised"),
        missing("c", "unrecognised", method="grad_cam"),
        missing("d", "failed"),  # the net has not seen it
        missing("e", "unsupported"),  # it has, and knew it
        missing("a", "unrecognised", size="original"),
        missing("b", "unrecognised", net="squeezenet1_0~all"),
    ]
    assert recognitions(outcomes, ["squeezenet1_0"], 5) == [
        Recognition("squeezenet1_0", "224", 5, recognised=3, samples=4),
        Recognition("squeezenet1_0", "original", 5, recognised=0, samples=1),
    ]
    assert unrecognised(outcomes) == {
        ("squeezenet1_0", "224", "c", "cam"),
        ("squeezenet1_0", "224", "c", "grad_cam"),
        ("squeezenet1_0", "original", "a", "cam"),
        ("squeezenet1_0~all", "224", "b", "cam"),
    }


def test_the_report_says_how_many_before_the_table(make_record):
    both = summary([make_record()], SQUEEZENET, NONE)
    sentence = "squeezenet1_0 at 224: 17 of 38 samples have their class among its top 5"
    for text in (markdown.head(both), terminal.render(both)):
        assert sentence in text.split("Mean P")[0]
        assert "alexnet at 224: 0 of 38 samples have their class among its top 5; it stands" in text
        assert "there is no record" not in text
    assert "(`--recognised 5`)" in markdown.head(both)


def test_where_no_net_recognises_anything_the_report_says_so_instead_of_a_table():
    for text in (markdown.render(summary([], NONE)), terminal.render(summary([], NONE))):
        assert "No net has the class of any sample among its top 5: there is no record." in text
        assert "Mean P" not in text


def test_without_the_choice_nothing_is_said_of_it(make_record):
    for text in (
        markdown.render(summary([make_record()])),
        terminal.render(summary([make_record()])),
    ):
        assert "among its top" not in text
        assert "Recognised samples" not in text
        assert not text.startswith("\n")
