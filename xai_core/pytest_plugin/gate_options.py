"""The command line of the gate; looking at it costs nothing where it isn't used."""

from __future__ import annotations

import pytest


def add_options(parser: pytest.Parser) -> None:
    """In the manner of pytest-benchmark's."""
    option = parser.getgroup("xai-concentration gate", "regression gate of explanations").addoption
    option("--concentration-save", metavar="NAME", help="save the run's P as a new baseline")
    option("--concentration-autosave", action="store_true", help="the same, named after the run")
    option(
        *("--concentration-compare",),
        **{"nargs": "?", "const": True, "metavar": "NAME|FILE"},
        help="hold the run against a baseline, or another run (main, else the last saved)",
    )
    option(
        *("--concentration-compare-fail",),
        **{"action": "append", "default": [], "metavar": "RULE"},
        help="what the run must not do: mean:0.005, mean:3%%, class:0.05, each:0.1, order, "
        "zero_energy:0 (docs/gate.md's)",
    )
    option("--accept-new", action="store_true", help="records may be missing or new")
    option(
        "--update-baseline",
        action="store_true",
        help="replace the baseline by this run, if that has all of its records; changes are shown",
    )
    option(
        "--thresholds",
        metavar="FILE",
        help="claims that must hold (thresholds.toml beside the baseline)",
    )


def is_wanted(config: pytest.Config) -> bool:
    """Whether a baseline is to be written, or compared with."""
    get = config.getoption
    names = ("save", "autosave", "compare", "compare_fail")
    given = [get(f"concentration_{name}") for name in names]
    return any([*given, get("update_baseline"), get("thresholds")])
