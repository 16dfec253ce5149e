"""What a net gives, looked at when it is loaded: one row of logits for each image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xai_core.errors import BadInput

SIDES = (64, 224)
"""Sides N of the noise that a net of no declared size is shown; the first that it takes counts."""

_BACKGROUND_FIRST = 1001

_PASSES = 32
"""Passes of a net that draws random numbers: one in which logits differ is enough."""


def check_forward(
    net: str, module: nn.Module, input_size: int | None, class_names: tuple[str, ...] | None
) -> None:
    """Run a net on an image of noise, twice, and see that it gives logits, and the same ones.

    A net that takes no such image is left to the images that it is asked to explain.

    Args:
        net: its id, for messages.
        module: in evaluation mode.
        input_size: the one side that it takes; None tries `SIDES`.
        class_names: of its outputs, where they are known.

    Raises:
        BadInput: the outputs are no logits, not as many as their names, or differ.
    """
    device = noise(module, 1).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        for side in SIDES if input_size is None else (input_size,):
            before = torch.get_rng_state()
            try:
                first, second, other = (module(noise(module, side, seed)) for seed in (0, 0, 1))
            except Exception:  # a user's net may raise anything
                continue
            if isinstance(first, Tensor) and first.ndim == 2 and len(first) > 1:
                continue  # its reshaping takes one large image for several of another size
            check_shape(net, first, class_names)
            draws = not torch.equal(before, torch.get_rng_state())
            if not _agree(first, second) or (draws and _varies(module, side, first)):
                raise BadInput(
                    f"{net} gives other logits each time it sees the same image: dropout or "
                    "another random or stateful part is active in evaluation mode"
                )
            kind = _normalised(first)
            if kind and kind == _normalised(other):
                raise BadInput(
                    f"{net} gives {kind}, not logits: let its forward end before its softmax"
                )
            return


def _varies(module: nn.Module, side: int, first: Tensor) -> bool:
    """Whether one of many passes gives other logits: a dropout of few values may spare the same."""
    return any(not _agree(first, module(noise(module, side, 0))) for _ in range(_PASSES))


def noise(module: nn.Module, side: int, seed: int = 0) -> Tensor:
    """An image of normal noise, (1, 3, N, N), of the module's device and type."""
    parameter = next(module.parameters(), torch.zeros(()))
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, side, side, generator=generator).to(parameter)


def check_shape(net: str, logits: object, class_names: tuple[str, ...] | None = None) -> None:
    """Raise `BadInput` if this is no row of logits, or has another length than its names.

    Args:
        net: id of the net, for messages.
        logits: what it gave for one image.
        class_names: of its outputs, where they are known.
    """
    if not isinstance(logits, Tensor):
        raise BadInput(f"{net} gives a {type(logits).__name__}, not a tensor of logits")
    if logits.ndim != 2 or len(logits) != 1 or not logits.is_floating_point():
        what = f"{str(logits.dtype).removeprefix('torch.')} of shape {tuple(logits.shape)}"
        raise BadInput(f"{net} gives {what} for one image, not logits of shape (1, classes)")
    classes = logits.shape[1]
    if classes < 2:
        raise BadInput(f"{net} has {classes} output: two or more can be told from each other")
    if class_names is not None and len(class_names) != classes:
        raise BadInput(f"{net} has {classes} outputs and {len(class_names)} class names")
    first_class = class_names[0].casefold() if class_names else "background"
    if classes == _BACKGROUND_FIRST and "background" in first_class:
        raise BadInput(
            f"{net} has 1001 outputs: if the first is the background, ImageNet's indices are off "
            "by one; let its forward return logits[:, 1:], or name its classes if they are others"
        )


def _normalised(logits: Tensor) -> str:
    """What is given in place of logits; both would be explained with gradients of all classes."""
    row = logits[0].double()
    if bool((row >= 0).all()) and abs(float(row.sum()) - 1) < 1e-3:
        return "probabilities (their sum is 1)"
    if abs(float(row.logsumexp(0))) < 1e-4:
        return "log-probabilities (the sum of their exponentials is 1)"
    return ""


def _agree(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    tolerance = 1e-4 * float(first.abs().nan_to_num().max())
    return torch.allclose(first, second, rtol=0, atol=tolerance, equal_nan=True)
