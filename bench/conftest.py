"""Fixtures of the benchmark suite; options and parametrization are the plugin's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from xai_core.engine import Attributions
from xai_core.errors import BadInput, Unsupported, XaiError
from xai_core.methods import METHODS
from xai_core.nets.preprocess import preprocess
from xai_core.pytest_plugin.run import Run
from xai_core.types import Net, NoRecord, Outcome, Record


@pytest.fixture(scope="session")
def net(request: pytest.FixtureRequest, run: Run) -> Iterator[Net]:
    """One net with its weights; the only session-scoped parameter, so each is loaded once."""
    try:
        loaded = run.load(request.param)
    except XaiError as error:
        pytest.fail(str(error), pytrace=False)
    yield loaded
    del loaded
    run.release()


@pytest.fixture
def outcome(run: Run, net: Net, size: str, sample: str, method: str) -> Outcome | OSError:
    """The record of one cell, or why there is none; computed with its chunk if need be."""
    try:
        return run.outcome(net, size, sample, method)
    except OSError as error:
        return error


def record_of(outcome: Outcome | OSError) -> Record:
    """The record; fails where something went wrong, skips where there is none to be had."""
    if isinstance(outcome, OSError):
        pytest.fail(f"the result can't be written: {outcome}", pytrace=False)
    if isinstance(outcome, NoRecord):
        if outcome.kind == "failed":
            pytest.fail(outcome.reason, pytrace=False)
        pytest.skip(outcome.reason)
    return outcome


Explain = Callable[..., Attributions]


@pytest.fixture
def explain(request: pytest.FixtureRequest, run: Run, net: Net) -> Explain:
    """Compute the maps of the named methods for one image, at the item's size or 224.

    The image is the first of the selection that can be read.
    """
    size = request.getfixturevalue("size") if "size" in request.fixturenames else "224"
    for sample in run.samples.values():
        try:
            pixels = preprocess(run.data.image(sample), size, net)
            break
        except BadInput:
            continue  # the sample's own items fail and name the reason
    else:
        pytest.skip("no image of the selection can be read")

    def run_engine(*methods: str) -> Attributions:
        try:
            return run.engine(
                net, pixels, [sample.class_indices], [METHODS.get(name) for name in methods]
            )
        except Unsupported as reason:
            pytest.skip(str(reason))
        except BadInput as error:
            pytest.fail(str(error), pytrace=False)

    return run_engine
