from __future__ import annotations

from xai_core.report import markdown, step_summary
from xai_core.report.summary import Summary


def test_the_tables_are_appended_where_github_says(make_record, tmp_path, monkeypatch):
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    summary = Summary("run", [make_record()], 1, {})
    step_summary.append(summary)
    assert path.read_text() == "before\n" + markdown.render(summary)


def test_nothing_happens_elsewhere(make_record, monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    step_summary.append(Summary("run", [make_record()], 1, {}))


def test_what_is_too_long_is_cut_between_sections_and_says_so():
    text = "# Title\n\nfirst\n\n## Second\n\nä\n\n### Third\n\n" + 300 * "x"
    short = step_summary.shortened(text, 120)
    assert short.startswith("# Title\n\nfirst\n")
    assert "xxx" not in short
    assert short.endswith("the rest is in the run's `concentration.md`.\n")
    assert len(short.encode()) <= 120
    assert step_summary.shortened(text, 10_000) == text
