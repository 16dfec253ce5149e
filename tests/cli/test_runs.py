"""``report`` and ``compare`` on the folders of runs."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from xai_core.cli import main
from xai_core.report import build, previews
from xai_core.report.summary import Gap, Summary, Timing


@pytest.fixture
def folders(make_record, tmp_path) -> tuple[Path, Path]:
    found = []
    for name, p in (("first", 0.5), ("second", 0.25)):
        records = [make_record(p, sample=f"{i}-orange", image_id=i) for i in range(6)]
        build.tables(Summary(name, records, 6, {"grad_cam": "Grad-CAM"}), tmp_path / name)
        found.append(tmp_path / name)
    return found[0], found[1]


def test_compare_prints_markdown(folders, capsys):
    assert main(["compare", *map(str, folders)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# Concentration: second against first\n")
    assert "-0.2500" in out


def test_report_writes_everything_again(folders, capsys):
    run = folders[0]
    before = (run / "concentration.md").read_bytes()
    for name in ("concentration.md", "exp.json"):
        (run / name).unlink()
    (run / "charts").mkdir()
    (run / "charts" / "old.png").write_text("of a chart that is no more")
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"report: {run / 'report.html'}\n"
    assert (run / "concentration.md").read_bytes() == before
    assert (run / "charts" / "mean.svg").exists()
    assert not (run / "charts" / "old.png").exists()


UP = "/".join([".."] * 20)
SCRIPT = "\"'--><script>alert(1)</script><img src=x onerror=alert(2)>`|[x](javascript:alert(3))"


class Tags(HTMLParser):
    """Counts the elements of a page, and finds what would run."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts, self.handlers = 0, []

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.handlers += [
            name
            for name, value in attrs
            if name.startswith("on")
            or (name in {"href", "src", "xlink:href"} and "javascript:" in (value or ""))
        ]


def test_a_run_from_somebody_else_writes_nothing_elsewhere_and_its_page_runs_nothing(
    make_record, tmp_path, capsys, monkeypatch
):
    """Whatever its records, its summary and its folders are made to be."""
    monkeypatch.setattr("xai_core.report.charts.chart._UNDATED", {"svg": {"Date": None}})
    monkeypatch.setattr("xai_core.report.gallery.KINDS", ("svg",))
    victim, run = tmp_path / "victim", tmp_path / "run"
    victim.mkdir()
    path = f"x/{UP}{victim}/y"
    named = dict.fromkeys(
        ("category", "target_layer", "weights", "data", "engine", "torch"), SCRIPT
    )
    pixels = np.zeros((8, 8, 3), np.uint8)
    mask = np.ones((8, 8), bool)
    records = []
    for net in (path, SCRIPT):
        for i in range(2):
            cell = {"net": net, "sample": f"{i}-orange", "image_id": i}
            records += [
                make_record(i / 20, method=m, reference=m == path, **cell, **named)
                for m in ("cam", path, SCRIPT)
            ]
            maps = {m: np.ones((1, 8, 8)) for m in ("cam", path, SCRIPT)}
            previews.save(run / "previews", net, "224", cell["sample"], maps, pixels, mask, mask)
    summary = Summary(
        *(SCRIPT, records, 99, {"cam": SCRIPT, SCRIPT: SCRIPT}),
        skipped=[Gap(SCRIPT, SCRIPT, 3)],
        unexplained=[SCRIPT],
        interrupted=SCRIPT,
        timings=[Timing(SCRIPT, SCRIPT, SCRIPT, 1.0, 1.0, 1)],
        provenance={SCRIPT: SCRIPT},
    )
    build.tables(summary, run)
    for name in ("charts", "gallery"):
        (run / name).symlink_to(victim)
    assert main(["report", str(run)]) == 0, capsys.readouterr().err
    assert list(victim.iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "victim"]
    assert len(list((run / "gallery").glob("net-*.svg"))) == 2
    assert all(p.is_relative_to(run) for p in run.rglob("*"))
    page = Tags()
    page.feed((run / "report.html").read_text())
    assert (page.scripts, page.handlers) == (2, [])  # the data and the page's own


def test_a_folder_without_a_run_is_one_sentence(tmp_path, capsys):
    for arguments in (["report", str(tmp_path)], ["compare", str(tmp_path), str(tmp_path)]):
        assert main(arguments) == 2
        assert "holds no run" in capsys.readouterr().err


def test_the_module_runs_and_says_how():
    done = subprocess.run(
        [sys.executable, "-m", "xai_core"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "COMMAND" in done.stderr
