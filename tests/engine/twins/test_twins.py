"""200 small nets against twins written by hand: each cell is exact, or refused with a reason.

A cell is a net, engine, dtype, size, batch and change of weights. Each net is explained at two
sizes, with one image and three (the fused engine sees all four pairs in float64; else two in each
dtype), and then again after each of four changes of its weights, three of them with the fused
engine; which three differs from net to net. In float64 maps are within 1e-9 of the peak. In
float32 they are within 1e-3 in the Euclidean norm: rounding gives 1e-5, and no image is used on
which a ReLU or pooling switch could flip.
"""

from __future__ import annotations

import importlib
from collections import Counter

import pytest
import torch

from tests.engine.twins.changes import CHANGES
from tests.engine.twins.harness import SIZES, Case, Examined

GROUPS = (
    "spelling",
    "place",
    "head",
    "pooling",
    "norm",
    "stem",
    "buffers",
    "control_flow",
    "stop_gradient",
    "sharing",
    "wrappers",
    "nonlinear",
)
TABLE: list[tuple[str, Case]] = [
    (group, case)
    for group in GROUPS
    for case in importlib.import_module(f"tests.engine.twins.{group}").CASES
]


KINDS = {
    ("fused", torch.float64): (0, 1),
    ("fused", torch.float32): (2,),
    ("autograd", torch.float64): (),
    ("autograd", torch.float32): (3,),
}
"""Which changes follow one upon the other, counted from the number of the net."""


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_there_are_200_nets_of_different_names():
    assert len(TABLE) >= 200
    assert all(n == 1 for n in Counter(case.name for _, case in TABLE).values())
    assert all(n >= 10 for n in Counter(group for group, _ in TABLE).values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("engine", ["fused", "autograd"])
@pytest.mark.parametrize(
    ("number", "case"),
    [pytest.param(i, case, id=f"{group}-{case.name}") for i, (group, case) in enumerate(TABLE)],
)
def test_every_cell_is_exact_or_refused(number, case, engine, dtype):
    examined = Examined(case, engine, dtype)
    wrong = []

    def examine(size: int, batch: int) -> None:
        changes = [CHANGES[i].__name__ for i in examined.history] or ["as built"]
        where = f"{SIZES[size]} batch {batch} {' + '.join(changes)}"
        wrong.extend(f"{where}: {fault}" for fault in examined.faults(SIZES[size], batch))

    for size, batch in (
        *([(0, 1), (1, 3)] if dtype == torch.float64 else []),
        *([(0, 3), (1, 1)] if dtype == torch.float32 or engine == "fused" else []),
    ):
        examine(size, batch)
    for i in KINDS[engine, dtype]:
        examined.change((number + i) % len(CHANGES))
        examine(size=(number + i) % 2, batch=1 + 2 * (number // 2 % 2))
    assert not wrong, f"{case.name}, {engine}, {dtype}:\n" + "\n".join(wrong)
