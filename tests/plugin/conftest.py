"""A small suite of its own: six drawn images in COCO format and a net that takes microseconds."""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

# Imported here because pytester forgets modules that its runs import, and torch, for one, can't be
# imported twice.
for module in (
    *(
        "xai_core.data.download",
        "xai_core.nets",
        "xai_core.study",
        "xai_core.report.build",
        "xai_core.report.gallery",
    ),
    *("xai_core.report.html", "xai_core.report.maps", "xai_core.report.step_summary"),
    *("xai_core.report.terminal", "matplotlib.backends.backend_agg", "torchvision"),
    "safetensors.torch",
    *(f"matplotlib.backends.backend_{kind}" for kind in ("pdf", "ps", "svg")),
):
    importlib.import_module(module)

ROOT = Path(__file__).parents[2]

TINY_NET = '''
import os
import time
from torch import nn
from xai_core.engine import FusedEngine
from xai_core.nets import NetSpec

explain = FusedEngine.__call__


def watched(engine, net, images, *rest):
    """Appends a line to $CALLS for every batch, and takes $SLOW seconds more."""
    if "CALLS" in os.environ:
        with open(os.environ["CALLS"], "a") as file:
            file.write(f"{tuple(images.shape)}\\n")
    time.sleep(float(os.environ.get("SLOW", 0)))
    return explain(engine, net, images, *rest)


if explain.__name__ != "watched":  # it outlives this module where a run shares its process
    FusedEngine.__call__ = watched


class Tiny(nn.Module):
    def __init__(self, gap):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True),
        )
        self.pool = nn.AdaptiveAvgPool2d(1 if gap else 2)
        self.classifier = nn.Linear(8 if gap else 32, 1000)

    def forward(self, x):
        return self.classifier(self.pool(self.features(x)).flatten(1))


class Smooth(Tiny):
    def __init__(self):
        super().__init__(gap=True)
        self.features[4] = nn.GELU()


SPEC = NetSpec("tiny", lambda: Tiny(gap=True), "features.4", weights="random:0")
NO_GAP = NetSpec("tiny_no_gap", lambda: Tiny(gap=False), "features.4", weights="random:0")
GELU = NetSpec("tiny_gelu", Smooth, "features.4", weights="random:0")
'''

CATEGORIES = (
    {"id": 52, "name": "banana"},
    {"id": 55, "name": "orange"},
    {"id": 1, "name": "person"},
)


@dataclass
class Suite:
    """A pytest project with the benchmark suite in it."""

    pytester: pytest.Pytester
    path: Path

    @property
    def coco(self) -> Path:
        return self.path / "coco"

    @property
    def annotations(self) -> Path:
        return self.coco / "annotations" / "instances_train2017.json"

    def change(self, mutate: Callable[[dict[str, Any]], None]) -> None:
        content = json.loads(self.annotations.read_text())
        mutate(content)
        self.annotations.write_text(json.dumps(content))

    def arguments(self, *extra: str) -> list[str]:
        given = " ".join(extra)
        defaults = {
            **{"--net": "tinynet:SPEC", "--coco": "coco", "--size": "32"},
            "--data-dir": "data",
            "--report": "tables",  # charts and the page take seconds
            "--method": "backprop,cam,deconvolution,grad_cam,guided_backprop,guided_grad_cam",
            "--threads": "1",  # for a net this small more of them only wait for each other
        }
        kept = [f"{k}={v}" for k, v in defaults.items() if not re.search(rf"{k}(=| |$)", given)]
        paths = [] if any(e.startswith("bench") for e in extra) else ["bench/test_concentration.py"]
        # hypothesis is imported, and its asserts rewritten, anew by each session that has it
        off = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
        return [*paths, *off, *kept, *extra]

    def run(self, *extra: str) -> pytest.RunResult:
        """In this process; `process` for what kills or spawns."""
        return self.pytester.runpytest_inprocess(*self.arguments(*extra))

    def process(self, *extra: str) -> pytest.RunResult:
        return self.pytester.runpytest_subprocess(*self.arguments(*extra), timeout=120)

    def start(self, *extra: str, **environment: str) -> subprocess.Popen[str]:
        """In a process of its own that can be interrupted or killed."""
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *self.arguments(*extra)],
            cwd=self.path,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A test run in the background ignores SIGINT, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    @staticmethod
    def wait(process: subprocess.Popen[str], until: Callable[[], object]) -> None:
        """For what a process that was started will do."""
        deadline = time.monotonic() + 60
        while not until():
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    @property
    def folder(self) -> Path:
        """Of the one run that there is, or of the newest."""
        runs = [path for path in (self.path / "reports").iterdir() if path.name != "baseline"]
        return sorted(runs)[-1]

    def records(self, folder: Path | None = None) -> list[dict[str, Any]]:
        lines = ((folder or self.folder) / "records.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def report(self) -> str:
        return (self.folder / "concentration.md").read_text()


def draw(path: Path, mode: str = "RGB", size: tuple[int, int] = (48, 40)) -> None:
    """A noisy picture; its content only depends on its name."""
    rng = np.random.default_rng(list(path.stem.encode()))
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).convert(mode).save(path, quality=95)


def square(annotation_id: int, image_id: int, category_id: int, side: int = 16) -> dict[str, Any]:
    x = 4.0 + 3 * image_id
    corners = [x, 8.0, x + side, 8.0, x + side, 8.0 + side, x, 8.0 + side]
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": [corners],
        "area": side * side,
        "bbox": [x, 8.0, side, side],
        "iscrowd": 0,
    }


@pytest.fixture(scope="session", autouse=True)
def _quick_collections():
    """Each run collects garbage; what is there before the first one is none."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    path = pytester.path
    shutil.copytree(ROOT / "bench", path / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "conftest.py", path)
    shutil.copy(ROOT / "pytest.ini", path)
    (path / "tinynet.py").write_text(TINY_NET)
    monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("PYTHONPATH", f"{path}:{ROOT}")
    for variable in (
        "PYTEST_ADDOPTS",
        "PYTEST_XDIST_WORKER",
        "GITHUB_STEP_SUMMARY",
        "CALLS",
        "SLOW",
    ):
        monkeypatch.delenv(variable, raising=False)
    images = path / "coco" / "train2017"
    images.mkdir(parents=True)
    (path / "coco" / "annotations").mkdir()
    for i in range(1, 5):
        draw(images / f"{i}.jpg")
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 48, "height": 40} for i in range(1, 5)
        ],
        "categories": list(CATEGORIES),
        "annotations": [
            square(1, 1, 52),
            square(2, 2, 55),
            square(3, 3, 52),
            square(4, 4, 55),
            square(5, 4, 1),
        ],
    }
    suite = Suite(pytester, path)
    suite.annotations.write_text(json.dumps(content))
    return suite
