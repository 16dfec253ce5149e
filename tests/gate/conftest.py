"""A made-up run of two nets, one of them never trained."""

from __future__ import annotations

import numpy as np
import pytest

from xai_core.types import Record


@pytest.fixture(scope="module")
def records(make_record) -> list[Record]:
    generator = np.random.default_rng(0)
    levels = {"guided_grad_cam": 0.7, "cam": 0.5, "deconvolution": 0.2, "edges": 0.6}
    return [
        make_record(
            float(np.clip(level + 0.1 * generator.normal(), 0.01, 1)),
            net=net,
            method=method,
            sample=f"{i:03d}-orange",
            image_id=i,
            weights_random=net == "alexnet",
            weights_sha256=("a1" if net == "alexnet" else "b2") * 32,
        )
        for net in ("squeezenet1_0", "alexnet")
        for i in range(40)
        for method, level in levels.items()
    ]
