"""The command line beside pytest: reports, comparisons, the gate, and single pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from xai_core.cli import compare, explain, gate, report
from xai_core.errors import XaiError

COMMANDS = (report, compare, gate, explain)
CANT = 2
"""Exit code of what can't be done, as argparse's own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 where a gate fails, or 2 with one sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m xai_core", description="Reports of `pytest bench`, and single pictures."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    chosen = parser.parse_args(arguments)
    try:
        return chosen.run(chosen) or 0
    except (XaiError, OSError) as error:
        print(f"python -m xai_core: {error}", file=sys.stderr)
        return CANT
