"""The suite's side of pytest: options, parametrization, and the run's report at the end.

The only package that imports pytest. torch is imported when a benchmark item needs it: running
other tests in the same session stays quick.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any

import pytest

from xai_core.data.coco import CocoDataSet
from xai_core.pytest_plugin import gate_options
from xai_core.pytest_plugin.aggregate import (
    PARAMETERS,
    TIMING_PROPERTY,
    Aggregator,
    cell_of,
    is_dry,
)
from xai_core.pytest_plugin.folder import MANIFEST, ensure_open, new_folder, open_folder
from xai_core.pytest_plugin.options import Options, add_options
from xai_core.pytest_plugin.request import Place
from xai_core.pytest_plugin.run import RUN, Run

__all__ = ["TIMING_PROPERTY"]

WORKER_INPUT = "xai_place"


def pytest_addoption(parser: pytest.Parser) -> None:
    """See `options`."""
    add_options(parser)
    gate_options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Parse the options; look up every name that was given before anything is collected."""
    options = Options.of(config)
    if not config.pluginmanager.hasplugin("benchmark"):
        config.pluginmanager.register(WithoutBenchmark(), "xai-concentration-without-benchmark")
    if hasattr(config, "workerinput"):
        place = Place(**config.workerinput[WORKER_INPUT])
        config.stash[RUN] = Run(options, place)
        return
    gate = None
    if gate_options.is_wanted(config):
        from xai_core.pytest_plugin.gate import Gate  # pandas and scipy

        gate = Gate(config, options)
    workers = _workers(config)
    run = Run(options, Place(str(new_folder(options)), workers=workers))
    config.stash[RUN] = run
    if options.given:
        with _uncaptured(config):  # downloads show how far they are
            run.check(None if is_dry(config) else partial(print, file=sys.stderr, flush=True))
    if gate:
        gate.check(run)
        config.pluginmanager.register(gate, "xai-concentration-gate")
    if options.given and not is_dry(config):
        run.place = replace(run.place, folder=str(new_folder(options, claim=True)))
        open_folder(run)
    config.pluginmanager.register(Aggregator(config, run, gate), "xai-concentration-aggregator")


def _workers(config: pytest.Config) -> int:
    """How many processes pytest-xdist will start; 1 without it."""
    if config.getoption("dist", "no") == "no" or not config.getoption("tx", None):
        return 1
    from xdist.workermanage import parse_tx_spec_config

    return len(parse_tx_spec_config(config))


def _uncaptured(config: pytest.Config) -> AbstractContextManager[None]:
    capture = config.pluginmanager.getplugin("capturemanager")
    return capture.global_and_fixture_disabled() if capture else nullcontext()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker where the run is; COCO's annotations are parsed here only."""
    run = node.config.stash[RUN]
    place: dict[str, Any] = {
        "folder": run.place.folder,
        "workers": run.place.workers,
        "session": run.place.session,
        "xdist": True,
    }
    if isinstance(run.data, CocoDataSet) and run.options.coco:
        place |= {
            "manifest": str(run.folder / MANIFEST),
            "images": str(run.data.folder),
            "data": run.data.name,
        }
    node.workerinput[WORKER_INPUT] = place


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Span the grid: the rightmost of net, size, sample and method varies fastest.

    Only ``net`` is session-scoped: pytest orders items by such parameters greedily, and with more
    than one of them nets would be loaded again and again.
    """
    if "run" not in metafunc.fixturenames:  # somebody else's test, whatever its arguments' names
        return
    wanted = [name for name in PARAMETERS if name in metafunc.fixturenames]
    run = metafunc.config.stash[RUN]
    values = {
        "net": lambda: list(run.nets if "outcome" in metafunc.fixturenames else run.specs),
        "size": lambda: list(run.options.sizes),
        "sample": lambda: list(run.samples),
        "method": lambda: [
            name
            for name, method in run.methods.items()
            if not (method.baseline and "benchmark" in metafunc.fixturenames)
        ],
    }
    for name in wanted:
        indirect = name == "net"
        metafunc.parametrize(
            name, values[name](), indirect=indirect, scope="session" if indirect else None
        )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Hand the run its plan: what was collected and not deselected."""
    cells = [cell for cell in map(cell_of, session.items) if cell]
    run = session.config.stash[RUN]
    run.plan(cells)
    if cells and run.place.xdist:
        with suppress(pytest.UsageError):  # no option was given; items say what can't be written
            ensure_open(run)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Mark the report with its cell; xdist carries the mark to the controller."""
    report = yield
    cell = cell_of(item)
    if cell:
        vars(report).update(xai_cell=list(cell), xai_planned=item.config.stash[RUN].planned)
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Say what else decides how fast a benchmark is."""
    import torch

    machine_info["torch"] = {
        "version": torch.__version__,
        "torchvision": version("torchvision"),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


class WithoutBenchmark:
    """Stands in for pytest-benchmark where a user has turned it off (``-p no:benchmark``)."""

    @pytest.fixture
    def benchmark(self) -> None:
        """Skip what would be timed."""
        pytest.skip("pytest-benchmark is not loaded")


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    """The run that this process works on."""
    return request.config.stash[RUN]
