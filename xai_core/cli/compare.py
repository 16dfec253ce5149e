"""``python -m xai_core compare BEFORE AFTER``."""

from __future__ import annotations

import argparse
from pathlib import Path

from xai_core.report import compare, saved


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "compare",
        help="put two runs side by side, with paired tests",
        description="Print two runs side by side as markdown, with paired tests over images.",
    )
    parser.add_argument("before", metavar="BEFORE", type=Path, help="folder of the first run")
    parser.add_argument("after", metavar="AFTER", type=Path, help="folder of the second run")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print the comparison."""
    print(compare.render(saved.load(arguments.before), saved.load(arguments.after)), end="")
