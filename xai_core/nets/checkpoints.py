"""A file of weights, read without running its code and never larger than its net needs."""

from __future__ import annotations

import pickle
import zipfile
from mmap import ACCESS_READ, mmap
from pathlib import Path

import torch
from torch import Tensor, nn

from xai_core.errors import BadInput, first_line

StateDict = dict[str, Tensor]

TIMES_THE_NET = 16
"""How much larger than its net's own tensors a file may be: float64, an optimiser's state, ..."""

SPARE = 64 * 2**20
"""Bytes that any file may have, however small its net is."""

TIMES_PACKED = 4
"""How much larger than the file what is packed in it may be; `torch.save` packs nothing."""

LIMIT_OF_UNKNOWN = 16 * 2**30
"""Bytes that a file may have whose net's size is not known yet."""


def largest_file(module: nn.Module | None) -> int:
    """Bytes that a file of a net's weights may have, unpacked; None for a net of unknown size."""
    if module is None:
        return LIMIT_OF_UNKNOWN
    own: int = sum(value.numel() * value.element_size() for value in module.state_dict().values())
    return TIMES_THE_NET * own + SPARE


def read_checkpoint(net: str, path: Path, limit: int) -> StateDict:
    """The state_dict in a file, with torch's versions of its modules where the file has them.

    Args:
        net: id of the net, for messages.
        path: of a ``.safetensors`` file, or of one that `torch.save` wrote.
        limit: largest number of bytes, of the file and of what it unpacks to; see `largest_file`.

    Raises:
        BadInput: the file is too large, damaged, would run code, or holds no state_dict.
    """
    safetensors = path.suffix.lower() == ".safetensors"
    try:
        _check_size(net, path, limit, packed=not safetensors)
        if not safetensors:
            _check_content(net, path)
        state = _safetensors(path) if safetensors else _pickle(net, path)
    except BadInput:
        raise
    except Exception as error:  # a damaged file makes its reader raise anything
        reason = first_line(error)
        raise BadInput(f"{path} can't be read as weights for {net}: {reason}") from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise BadInput(f"{path} holds no state_dict (a mapping of names to tensors)")
    return state


def _check_size(net: str, path: Path, limit: int, *, packed: bool) -> None:
    size = path.stat().st_size
    unpacked = size
    if packed and _is_archive(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > TIMES_PACKED * size:
        raise BadInput(
            f"{path} was not read as weights for {net}: its {_in_words(size)} would unpack to "
            f"{_in_words(unpacked)}, and torch.save packs nothing"
        )
    if max(size, unpacked) > limit:
        raise BadInput(
            f"{path} was not read as weights for {net}: it is {_in_words(max(size, unpacked))} "
            f"large, and a file for this net may have {_in_words(limit)}"
        )


def _check_content(net: str, path: Path) -> None:
    """Refuse a pickle that makes a bytearray: torch runs it, whatever size the pickle asks for."""
    if _is_archive(path):
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            found = any(b"bytearray" in archive.read(name) for name in pickles)
    else:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            found = content.find(b"bytearray") >= 0
    if found:
        raise BadInput(f"{path} can't be read as weights for {net}: it holds more than tensors")


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"  # what torch.load goes by


def _in_words(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _safetensors(path: Path) -> object:
    from safetensors.torch import load_file

    return load_file(path)


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
    except RuntimeError as error:
        if "TorchScript" not in str(error):
            raise
        raise BadInput(
            f"{path} can't be read as weights for {net}: it is a TorchScript archive; save the "
            "state_dict of the module alone"
        ) from error
