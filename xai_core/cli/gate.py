"""``python -m xai_core gate RUN BASELINE``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from xai_core.files import printable
from xai_core.gate import RECOMMENDED, baseline_of, judge, parse_rules
from xai_core.report import baselines, saved, verdict

FAILED = 1
RED, PLAIN = "\x1b[31m", "\x1b[0m"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "gate",
        help="hold a run against a baseline",
        description="Hold a run against a baseline, or another run, as pytest bench "
        "--concentration-compare does, with the same verdict; exits 1 where the gate fails.",
    )
    option = parser.add_argument
    option("run_folder", metavar="RUN", type=Path, help="folder of the run")
    option("baseline", metavar="BASELINE", type=Path, help="a baseline's folder or file, or a run")
    option(
        "--fail",
        metavar="RULE",
        action="append",
        default=[],
        help="mean:0.005, mean:3%%, class:0.05, each:0.1, order or zero_energy:0 "
        f"({','.join(map(str, RECOMMENDED))})",
    )
    option("--accept-new", action="store_true", help="records may be missing or new")
    option(
        "--thresholds",
        metavar="FILE",
        type=Path,
        help="claims that must hold (thresholds.toml beside the baseline)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the verdict; the last line says it in one sentence."""
    summary = saved.load(arguments.run_folder)
    before, after = baselines.load(arguments.baseline), baseline_of(summary.records)
    rules = parse_rules(arguments.fail)
    path, claims = baselines.read_claims(arguments.thresholds, arguments.baseline)
    entries = [*before.values(), *after.values()]
    baselines.check_claims(claims, path, {e.net for e in entries}, {e.method for e in entries})
    found = judge(before, after, rules, claims=claims, accept_new=arguments.accept_new)
    against = baselines.shown(arguments.baseline)
    # not summary.name: a folder may have another name since, or no summary
    name = printable(arguments.run_folder.resolve().name)
    print(verdict.render(found, against, name))
    last = verdict.last_line(found, against)
    print(f"{RED}{last}{PLAIN}" if found.failed and _has_colour() else last)
    return FAILED if found.failed else 0


def _has_colour() -> bool:
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain
