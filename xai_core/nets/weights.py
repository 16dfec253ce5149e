"""Where a net's parameters come from: torchvision's download, a file, the scenes, or a seed."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.error import URLError

import torch
from torch import nn

from xai_core.errors import BadInput, DataMissing, UnknownChoice
from xai_core.nets.checkpoints import StateDict, largest_file, read_checkpoint
from xai_core.nets.torchvision_nets import as_renamed, published_weights
from xai_core.nets.values import check_finite, check_kinds, misread, tensors_of
from xai_core.types import Weights

BUNDLED = Path(__file__).parent / "weights"
"""Weights that ship with the project: ``NET-scenes.pth`` with a model card beside each."""

KNOWN = (
    *("imagenet", "imagenet:V2", "scenes", "random", "random:SEED"),
    "a file of a state_dict (.pth, .safetensors)",
)


def parse_weights(values: Iterable[str]) -> dict[str, str]:
    """``NET=WHERE`` pairs to a dict.

    Raises:
        BadInput: a value is not of this form.
    """
    result = {}
    for value in values:
        net, separator, where = value.partition("=")
        if not (net and separator and where):
            raise BadInput(f"--weights {value!r} is not of the form NET=WHERE, e.g. vgg19=imagenet")
        result[net] = where
    return result


def scenes_weights(net: str) -> str:
    """What a net is given on the scenes: weights trained on scenes where they ship, else a seed."""
    return "scenes" if (BUNDLED / f"{net}-scenes.pth").is_file() else "random:0"


def check_weights(net: str, build: Callable[[], nn.Module], where: str) -> None:
    """Find the weights, download them if asked, and see that they fit, without loading them.

    Raises:
        DataMissing: no such file, none bundled, or the download failed.
        BadInput: a seed that is no number, a file that is no state_dict, another architecture, or
            a build that gives no module.
        UnknownChoice: neither a keyword nor a file.
    """
    if random_seed(where) is not None:
        return
    try:
        with torch.device("meta"):  # shapes only: no memory, no time
            module = build()
    except Exception:  # a user's own build may not work on meta; loading checks again
        module = None
    else:
        check_module(net, module)
    label, state = _open(net, where, largest_file(module))
    if state is not None and module is not None:
        _fill(net, module, state, label)


def check_module(net: str, built: object) -> None:
    """Raise `BadInput` if what a build gave is no module."""
    if not isinstance(built, nn.Module):
        kind = "nothing" if built is None else f"a {type(built).__name__}"
        raise BadInput(f"{net} can't be built: its build() gives {kind}, not a torch.nn.Module")


def random_seed(where: str | None) -> int | None:
    """The seed of ``random`` or ``random:SEED``; None for all other weights."""
    kind, _, rest = (where or "").partition(":")
    if kind != "random":
        return None
    if rest and not rest.isdecimal():
        raise BadInput(f"{where} needs a whole number as its seed, e.g. random:0")
    return int(rest or 0)


def load_weights(net: str, module: nn.Module, where: str | None) -> Weights:
    """Fill ``module`` with the parameters that ``where`` names and say what they are.

    ``random`` leaves the parameters as built: the caller seeds the build (see `random_seed`).

    Args:
        net: id of the net, for torchvision's table, file names and messages.
        module: the net as built.
        where: ``imagenet``, ``imagenet:WHICH`` (see `published_weights`; ``V2`` stands for
            ``IMAGENET1K_V2``), ``scenes``, ``random[:SEED]`` or a file; None leaves the module as
            it is.

    Raises:
        DataMissing: the file is absent or the download failed.
        BadInput: the file is no state_dict or of another architecture, or what the net then holds
            is no dense real tensor, or NaN or infinite.
        UnknownChoice: neither a keyword nor a file.
    """
    check_kinds({**tensors_of(module), **module.state_dict()}, net)
    label, state = "as built", None
    if where is not None:
        label, state = _open(net, where, largest_file(module))
    if state is not None:
        _fill(net, module, state, label)
    check_finite(module, net if where is None else f"{net} with the weights {label}")
    random = random_seed(where) is not None
    return Weights(label, weights_sha256(module), random)


def weights_sha256(module: nn.Module) -> str:
    """Hash of all parameters and buffers with their names."""
    state = module.state_dict()
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        values = state[name].detach().cpu().contiguous()
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _open(net: str, where: str, limit: int) -> tuple[str, StateDict | None]:
    """(label, state_dict); None for weights that the build itself makes."""
    kind, _, rest = where.partition(":")
    if kind == "random":
        return f"random:{random_seed(where)}", None
    if kind == "imagenet":
        return _download(net, rest)
    if where == "scenes":
        return "scenes", _read(net, _bundled(net), limit)
    if Path(where).is_file():
        return Path(where).name, _read(net, Path(where), limit)
    if Path(where).is_dir():
        raise DataMissing(f"the weights for {net} should be a file, and {where} is a folder")
    if Path(where).suffix or "/" in where:
        raise DataMissing(f"no weights file for {net} at {where}")
    raise UnknownChoice(f"weights for {net}", where, KNOWN)


def _bundled(net: str) -> Path:
    path = BUNDLED / f"{net}-scenes.pth"
    if not path.is_file():
        raise DataMissing(f"no weights trained on the scenes ship for {net}; use {net}=random")
    return path


def _download(net: str, name: str) -> tuple[str, StateDict]:
    weights = published_weights(net, name)
    try:
        state = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        raise DataMissing(
            f"the ImageNet weights of {net} can't be downloaded from {weights.url} ({error}); "
            f"fetch the file by hand and give --weights {net}=FILE, or --weights {net}=random"
        ) from error
    return f"imagenet:{weights.name}", _without_auxiliary(state)


def _read(net: str, path: Path, limit: int) -> StateDict:
    state = read_checkpoint(net, path, limit)
    check_kinds(state, str(path))
    return _without_auxiliary(state)


def _without_auxiliary(state: StateDict) -> StateDict:
    # The auxiliary heads of googlenet and inception_v3 run in training only; we don't build them.
    heads = ("aux1.", "aux2.", "AuxLogits.")
    kept = copy.copy(state)  # with torch's versions of its modules
    for name in [name for name in state if name.startswith(heads)]:
        del kept[name]
    return kept


def _fill(net: str, module: nn.Module, state: StateDict, label: str) -> None:
    """Load a state_dict as the module's own classes do: they may rename what old files hold.

    Raises:
        BadInput: it is of another architecture.
    """
    misfits = list(misread(module.state_dict(), state)) or _load(module, state)
    if misfits:
        raise BadInput(
            f"the weights {label} are not of {net}'s architecture: {misfits[0]}"
            + (f" (and {len(misfits) - 1} more)" if len(misfits) > 1 else "")
        )


def _load(module: nn.Module, state: StateDict) -> list[str]:
    """Load what fits; what doesn't, in words."""
    meta = any(value.is_meta for value in module.state_dict().values())
    try:
        # To meta tensors nothing can be copied; torch compares shapes all the same.
        result = module.load_state_dict(as_renamed(module, state), strict=False, assign=meta)
    except RuntimeError as error:  # torch's own, of all shapes that differ
        return _SHAPE.sub(r"\1 is (\2), not (\3)", str(error)).replace("\t", "").splitlines()[1:]
    # Files of before PyTorch 0.4.1, torchvision's ResNets among them, don't have the counter.
    missing = [n for n in result.missing_keys if not n.endswith("num_batches_tracked")]
    return [
        *(f"{name} is missing" for name in missing),
        *(f"{name} is unknown" for name in result.unexpected_keys),
    ]


_SHAPE = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch\.Size\(\[(.*?)\]\) "
    r"from checkpoint, the shape in current model is torch\.Size\(\[(.*?)\]\)\."
)
