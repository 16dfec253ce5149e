"""Where a net's parameters come from: torchvision's download, a file, the scenes, or a seed."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from xai_core.errors import BadInput, DataMissing, UnknownChoice, first_line
from xai_core.nets.torchvision_nets import published_weights
from xai_core.types import Weights

BUNDLED = Path(__file__).parent / "weights"
"""Weights that ship with the project: ``NET-scenes.pth`` with a model card beside each."""

KNOWN = (
    *("imagenet", "imagenet:V2", "scenes", "random", "random:SEED"),
    "a file of a state_dict (.pth, .safetensors)",
)

StateDict = Mapping[str, Tensor]


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
        BadInput: a seed that is no number, a file that is no state_dict, another architecture.
        UnknownChoice: neither a keyword nor a file.
    """
    label, state = _open(net, where)
    if state is None:
        return
    try:
        with torch.device("meta"):  # shapes only: no memory, no time
            module = build()
    except Exception:  # a user's own build may not work on meta; loading checks again
        return
    _check_fit(net, module, state, label)


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
        BadInput: the file is no state_dict, or one of another architecture.
        UnknownChoice: neither a keyword nor a file.
    """
    label, state = ("as built", None) if where is None else _open(net, where)
    if state is not None:
        _check_fit(net, module, state, label)
        module.load_state_dict(state)  # sets what old files of batch normalisation lack
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


def _open(net: str, where: str) -> tuple[str, StateDict | None]:
    """(label, state_dict); None for weights that the build itself makes."""
    kind, _, rest = where.partition(":")
    if kind == "random":
        return f"random:{random_seed(where)}", None
    if kind == "imagenet":
        return _download(net, rest)
    if where == "scenes":
        return "scenes", _read(net, _bundled(net))
    if Path(where).is_file():
        return Path(where).name, _read(net, Path(where))
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


def _read(net: str, path: Path) -> StateDict:
    state = (_safetensors if path.suffix.lower() == ".safetensors" else _pickle)(net, path)
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise BadInput(f"{path} holds no state_dict (a mapping of names to tensors)")
    return _without_auxiliary(state)


def _safetensors(net: str, path: Path) -> object:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # of a damaged file: torch's, Python's or safetensors' own
        raise _unreadable(net, path, error) from error


def _pickle(net: str, path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message advises to load the file without this protection.
        if "global" not in str(error).lower():
            raise BadInput(
                f"{path} can't be read as weights for {net}: it holds no tensors"
            ) from error
        raise BadInput(
            f"{path} was refused: it holds more than tensors and could run code when loaded; "
            "save the state_dict alone"
        ) from error
    except Exception as error:  # a damaged file makes the unpickler raise anything
        raise _unreadable(net, path, error) from error


def _unreadable(net: str, path: Path, error: Exception) -> BadInput:
    return BadInput(f"{path} can't be read as weights for {net}: {first_line(error)}")


def _without_auxiliary(state: StateDict) -> StateDict:
    # The auxiliary heads of googlenet and inception_v3 run in training only; we don't build them.
    heads = ("aux1.", "aux2.", "AuxLogits.")
    return {name: value for name, value in state.items() if not name.startswith(heads)}


def _check_fit(net: str, module: nn.Module, state: StateDict, label: str) -> None:
    own = module.state_dict()
    misfits = [
        # Files of before PyTorch 0.4.1, torchvision's ResNets among them, don't have the counter.
        *(
            f"{name} is missing"
            for name in own
            if name not in state and not name.endswith("num_batches_tracked")
        ),
        *(f"{name} is unknown" for name in state if name not in own),
        *(
            f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ),
    ]
    if misfits:
        raise BadInput(
            f"the weights {label} are not of {net}'s architecture: {misfits[0]}"
            + (f" (and {len(misfits) - 1} more)" if len(misfits) > 1 else "")
        )
