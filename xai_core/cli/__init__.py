"""The command line beside pytest: reports, comparisons, the gate, and single pictures."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from xai_core.cli import compare, explain, gate, report
from xai_core.errors import XaiError

COMMANDS = (report, compare, gate, explain)
CANT = 2
"""Exit code of what can't be done, as argparse's own."""

BROKEN = 3
"""Exit code of an internal error, as pytest's: not that of a gate that failed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 where a gate fails, 2 with one sentence, or 3."""
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
    except Exception:
        traceback.print_exc()
        print("python -m xai_core: internal error, nothing was decided", file=sys.stderr)
        return BROKEN
