"""``python -m xai_core gate RUN BASELINE``."""

from __future__ import annotations

import argparse
from pathlib import Path

from xai_core.gate import baseline_of, judge, load_claims, parse_rules
from xai_core.report import baselines, saved, verdict

FAILED = 1


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "gate",
        help="hold a run against a baseline",
        description="Hold a run against a baseline, or another run, as pytest bench "
        "--concentration-compare does; exits 1 where the gate fails.",
    )
    option = parser.add_argument
    option("run_folder", metavar="RUN", type=Path, help="folder of the run")
    option("baseline", metavar="BASELINE", type=Path, help="a baseline's folder or file, or a run")
    option(
        "--fail",
        metavar="RULE",
        action="append",
        default=[],
        help="mean:0.005, mean:3%%, each:0.1, order or zero_energy:0",
    )
    option("--accept-new", action="store_true", help="records may be missing or new")
    option("--thresholds", metavar="FILE", type=Path, help="claims that must hold")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the verdict."""
    summary = saved.load(arguments.run_folder)
    found = judge(
        baselines.load(arguments.baseline),
        baseline_of(summary.records),
        parse_rules(arguments.fail),
        claims=load_claims(arguments.thresholds) if arguments.thresholds else [],
        baselines=summary.baselines,
        accept_new=arguments.accept_new,
    )
    print(verdict.render(found, str(arguments.baseline), summary.name), end="")
    return FAILED if found.failed else 0
