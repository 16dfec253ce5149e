"""Train the bundled SqueezeNet 1.0 on scenes, and write its weights and model card.

    python -m bench.train_scenes_net

The shipped scenes (seed 0) are never trained on, and the accuracy is measured on scenes of a third
seed. All 1000 outputs of ImageNet stay: the classifier starts at zero, so the rows of classes that
never occur receive the same gradient and stay one and the same row, which the file's compression
stores once.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import multiprocessing
import os
import platform
import random
import shlex
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from xai_core.data.scenes.compose import Scene, scene
from xai_core.data.scenes.generate import SHIPPED_SEED, size_of
from xai_core.nets.spec import IMAGENET_MEAN, IMAGENET_STD
from xai_core.nets.weights import BUNDLED

TRAINING_SEED = 1
EVALUATION_SEED = 2
TARGETS = {
    "banana": 954,
    "clock": 892,  # wall clock
    "orange": 950,
    "stop sign": 919,  # street sign
    "traffic light": 920,
    "umbrella": 879,
}
PHASES = (((128,), 64, 0.75), ((192, 224, 288), 24, 0.25))
"""(sizes to draw from, batch size, share of the steps), in their order."""


@dataclass(frozen=True)
class Example:
    """A scene's picture and the classes in it."""

    image: npt.NDArray[np.uint8]
    categories: tuple[str, ...]


def training_example(index: int) -> Example:
    """The training scene with this index."""
    return _example(scene(TRAINING_SEED, index))


def evaluation_example(index: int) -> Example:
    """The evaluation scene with this index, of a shipped size."""
    return _example(scene(EVALUATION_SEED, index, size=size_of(index)))


def _example(found: Scene) -> Example:
    return Example(found.image, tuple(sorted({i.category for i in found.instances})))


def make(function: Callable[[int], Example], count: int, workers: int) -> list[Example]:
    """The first ``count`` examples of ``function``, made by ``workers`` processes."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return pool.map(function, range(count), chunksize=50)


def build() -> nn.Module:
    """SqueezeNet 1.0 whose classifier starts at zero, alive behind its ReLU."""
    net = torchvision.models.squeezenet1_0(num_classes=1000)
    classifier = net.classifier[1]
    nn.init.zeros_(classifier.weight)
    nn.init.constant_(classifier.bias, 1.0)
    return net.to(memory_format=torch.channels_last)


def batches(
    examples: list[Example], steps: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """(normalised images, soft targets) for every step."""
    for sizes, batch, share in PHASES:
        for _ in range(round(steps * share)):
            size = int(rng.choice(sizes))
            chosen = [examples[i] for i in rng.integers(len(examples), size=batch)]
            pixels = np.stack([augment(example.image, size, rng) for example in chosen])
            targets = torch.zeros(batch, 1000)
            for row, example in zip(targets, chosen, strict=True):
                row[[TARGETS[c] for c in example.categories]] = 1 / len(example.categories)
            yield normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2)), targets


def augment(image: npt.NDArray[np.uint8], size: int, rng: np.random.Generator) -> object:
    """Trim up to an eighth of each side, resize to a square, vary brightness and contrast."""
    height, width = image.shape[:2]
    top, bottom = rng.integers(0, height // 8, 2)
    left, right = rng.integers(0, width // 8, 2)
    part = image[top : height - bottom, left : width - right]
    small = cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.clip(small * rng.uniform(0.8, 1.2) + rng.uniform(-20, 20), 0, 255) / np.float32(255)


def normalise(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1], less ImageNet's mean, over its standard deviation."""
    mean, std = (pixels.new_tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels - mean) / std


def train(net: nn.Module, examples: list[Example], steps: int, seed: int, device: str) -> None:
    """Train ``net`` in place; returns nothing."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=8e-4, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-4, total_steps=steps + 2)
    head = net.classifier
    for step, (images, targets) in enumerate(batches(examples, steps, np.random.default_rng(seed))):
        images, targets = images.to(device), targets.to(device)
        with torch.autocast(device, torch.bfloat16):
            scores = head[1](head[0](net.features(images.to(memory_format=torch.channels_last))))
        scores = scores.float()
        logits = scores.relu().mean(dim=(2, 3))
        # The second term, before the ReLU, brings a class back whose logit has died.
        loss = F.cross_entropy(logits, targets) + 0.3 * F.cross_entropy(
            scores.mean(dim=(2, 3)), targets
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            right = targets.gather(1, logits.argmax(1, keepdim=True)).gt(0).float().mean()
            print(f"step {step}: loss {loss.item():.3f}, right {right.item():.2f}", flush=True)


def share_one_row(net: nn.Module) -> None:
    """Make the classifier rows of absent classes exactly what they are up to rounding: equal."""
    absent = torch.ones(1000, dtype=torch.bool)
    absent[list(TARGETS.values())] = False
    with torch.no_grad():
        for parameter in net.classifier[1].parameters():
            parameter[absent] = parameter[absent].mean(dim=0)


def save(net: nn.Module, path: Path) -> str:
    """Write a half-precision state_dict as a compressed file that ``torch.load`` reads."""
    plain, packed = io.BytesIO(), io.BytesIO()
    torch.save({name: v.cpu().half().contiguous() for name, v in net.state_dict().items()}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            target.writestr(zipfile.ZipInfo(entry.filename), data, zipfile.ZIP_DEFLATED, 9)
    path.write_bytes(packed.getvalue())
    return hashlib.sha256(packed.getvalue()).hexdigest()


@torch.no_grad()
def evaluate(net: nn.Module, examples: list[Example], size: int | None) -> dict[str, object]:
    """Top-1 among all 1000, per class, and the share of present classes whose logit is alive."""
    names = {index: category for category, index in TARGETS.items()}
    right, seen, mistakes = Counter[str](), Counter[str](), Counter[str]()
    alive = total = 0
    for example in examples:
        pixels = torch.from_numpy(example.image).permute(2, 0, 1)[None].float() / 255
        if size is not None:
            pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
        logits = net(normalise(pixels))[0]
        first = names.get(int(logits.argmax()), "another class")
        for category in example.categories:
            seen[category] += 1
            right[category] += first in example.categories
            alive += bool(logits[TARGETS[category]] > 0)
            total += 1
        if first not in example.categories:
            mistakes[f"{' + '.join(example.categories)} taken for {first}"] += 1
    wrong = sum(mistakes.values())
    return {
        "top-1": 1 - wrong / len(examples),
        "alive": alive / total,
        "per class": {name: f"{right[name]}/{seen[name]}" for name in sorted(seen)},
        "mistakes": mistakes.most_common(5),
    }


def card(
    arguments: argparse.Namespace, sha256: str, size: int, seconds: float, results: dict[str, dict]
) -> str:
    """The model card, in Markdown."""
    rows = [
        f"| {name} | {result['top-1']:.1%} | {result['alive']:.1%} | "
        + ", ".join(f"{k} {v}" for k, v in result["per class"].items())
        + " | "
        + ("; ".join(f"{text} ({n})" for text, n in result["mistakes"]) or "none")
        + " |"
        for name, result in results.items()
    ]
    return "\n".join(
        [
            "# squeezenet1_0-scenes",
            "",
            "SqueezeNet 1.0 (torchvision's architecture, 1000 outputs in ImageNet's order), "
            "trained",
            "from scratch on this project's drawn scenes. It knows six classes and nothing of",
            "photographs: it serves `pytest bench` without a download, and nothing else.",
            "",
            f"Written by `{shlex.join(['python', '-m', 'bench.train_scenes_net', *sys.argv[1:]])}`",
            "",
            f"- Training: {arguments.scenes} scenes of seed {TRAINING_SEED}, "
            f"{arguments.steps} steps, bfloat16 autocast, seed {arguments.seed}, "
            f"{seconds:.0f} s on {arguments.device} ({os.cpu_count()} CPUs, {platform.machine()})",
            f"- Evaluation: {arguments.evaluate} scenes of seed {EVALUATION_SEED}, the stored "
            "half-precision weights; the shipped scenes have seed "
            f"{SHIPPED_SEED}, which neither uses",
            f"- Versions: torch {torch.__version__}, torchvision {torchvision.__version__}, "
            f"numpy {np.__version__}, OpenCV {cv2.__version__}",
            f"- File: {size} bytes, SHA-256 {sha256}",
            "- Targets: " + ", ".join(f"{name} {index}" for name, index in TARGETS.items()),
            "",
            "Top-1 counts among all 1000 outputs; with two classes in a scene either is right. A",
            "logit is alive when it is above 0 behind the net's final ReLU.",
            "",
            "| Size | Top-1 | Alive logits | Right per class | Commonest mistakes |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--scenes", type=int, default=10_000, help="to train on")
    parser.add_argument("--evaluate", type=int, default=600, help="unseen scenes to measure on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=BUNDLED)
    arguments = parser.parse_args()
    assert len({SHIPPED_SEED, TRAINING_SEED, EVALUATION_SEED}) == 3

    start = time.perf_counter()
    random.seed(arguments.seed)
    torch.manual_seed(arguments.seed)
    examples = make(training_example, arguments.scenes, arguments.workers)
    print(f"{len(examples)} scenes after {time.perf_counter() - start:.0f} s", flush=True)
    net = build().to(arguments.device).train()
    train(net, examples, arguments.steps, arguments.seed, arguments.device)
    seconds = time.perf_counter() - start

    net = net.cpu().eval()
    share_one_row(net)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "squeezenet1_0-scenes.pth"
    sha256 = save(net, path)
    stored = torchvision.models.squeezenet1_0().eval()
    stored.load_state_dict(torch.load(path, weights_only=True))
    unseen = make(evaluation_example, arguments.evaluate, arguments.workers)
    results = {name: evaluate(stored, unseen, s) for name, s in (("224", 224), ("original", None))}
    text = card(arguments, sha256, path.stat().st_size, seconds, results)
    path.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
