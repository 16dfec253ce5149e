"""``python -m xai_core report RUN``."""

from __future__ import annotations

import argparse
from pathlib import Path

from xai_core.report import build, saved


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "report",
        help="write a run's report again, from its records",
        description="Write tables, charts, gallery and page of a run again, from its records "
        "alone; of a run that was killed, from what it had computed.",
    )
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="folder of the run")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Build the files and say where they are."""
    folder: Path = arguments.run_folder
    summary = saved.load(folder)
    build.tables(summary, folder)
    build.pictures(summary, folder)
    print(f"report: {build.main_file(folder)}")
