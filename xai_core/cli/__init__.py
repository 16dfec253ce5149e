"""The command line beside pytest: rebuild a report, compare two runs, explain one picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from xai_core.cli import compare, explain, report
from xai_core.errors import XaiError

COMMANDS = (report, compare, explain)
CANT = 2
"""Exit code of what can't be done, as argparse's own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or 2 with one sentence on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m xai_core", description="Reports of `pytest bench`, and single pictures."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    chosen = parser.parse_args(arguments)
    try:
        chosen.run(chosen)
    except (XaiError, OSError) as error:
        print(f"python -m xai_core: {error}", file=sys.stderr)
        return CANT
    return 0
