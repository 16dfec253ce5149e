"""Whether pytest-benchmark compared the times that it was asked to compare."""

from __future__ import annotations

import pytest


def nothing_compared(config: pytest.Config) -> str | None:
    """Why no time of this session was compared, although that was asked for; else None.

    pytest-benchmark turns itself off under pytest-xdist, and passes (as of 5.3).
    """
    get = config.getoption
    if not (get("benchmark_compare", None) or get("benchmark_compare_fail", None)):
        return None
    session = getattr(config, "_benchmarksession", None)
    if session is None:
        return "pytest-benchmark is not loaded"
    if session.disabled:
        if get("dist", "no") != "no":
            return "pytest-benchmark can't time under pytest-xdist; run with -n0"
        return "pytest-benchmark is disabled"
    saved = {name for names in (session.compared_mapping or {}).values() for name in names}
    if not saved:
        return "there is no saved benchmark to compare with; make one with --benchmark-autosave"
    timed = {benchmark.fullname for benchmark in session.benchmarks}
    if not timed:
        return "no benchmark ran"
    if not timed & saved:
        return "none of this run's benchmarks is among the saved ones"
    return None
