"""``report`` and ``compare`` on the folders of runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from xai_core.cli import main
from xai_core.report import build
from xai_core.report.summary import Summary


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
