"""Somebody else's weights for somebody else's network, from a file that cannot run code.

The only place that opens files of ``torch.save``, which are pickles. They are read by torch's restricted unpickler, and
only where that is sound: before torch 2.6.0 a crafted file could run code through it (CVE-2025-32434).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from bo_invert.errors import InvalidInputError
from bo_invert.generators.storage import safetensors

_SOUND = (2, 6)
_PREFIXES = ("module.", "_orig_mod.")
"""What ``DataParallel`` and ``torch.compile`` put before every name."""
_REMEDY = (
    "Where the network can be had as an object, save its weights with "
    "safetensors.torch.save_file(network.state_dict(), 'weights.safetensors') and load that file"
)

N = TypeVar("N", bound=nn.Module)


def load_weights(module: N, path: str | Path, part: str | None = None) -> N:
    """``module``, filled with the weights of a file; it stays where it is and keeps its mode.

    A ``.safetensors`` file holds numbers and nothing else. Files of ``torch.save`` (``.pt``, ``.pth``, ``.bin``,
    ``.ckpt``) are read with ``weights_only=True``; a file that needs code to be read is refused, and there is no other
    way in.

    Args:
        module: of the shapes that the weights have.
        path: of the file.
        part: which entry of a checkpoint holds the weights, ``"state_dict"`` say; default: the file is one.

    Raises:
        InvalidInputError: the file is missing, damaged, unsafe, holds no weights, or others than those of ``module``; or
            torch is older than 2.6.0 and the file is no ``.safetensors``.
        MissingExtraError: safetensors is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidInputError(f"there is no file {path}")
    found = _numbers(path) if path.suffix == ".safetensors" else _pickled(path)
    if part is not None:
        if not isinstance(found, Mapping) or part not in found:
            raise InvalidInputError(f"{path} has no part {part!r}; {_described(found)}")
        found = found[part]
    weights = isinstance(found, Mapping) and all(
        isinstance(v, torch.Tensor) for v in found.values()
    )
    if not weights or not found or not all(isinstance(name, str) for name in found):
        raise InvalidInputError(f"{path} is no state_dict; {_described(found)}")
    own = module.state_dict()
    named = _plain(found, own)
    differences = _differences(named, own)
    if differences:  # torch would say so too, having filled the rest
        raise InvalidInputError(
            f"the weights in {path} are not of this {type(module).__name__}: {'; '.join(differences)}"
        )
    module.load_state_dict(named)
    return module


def _numbers(path: Path) -> Any:
    load = safetensors().load_file
    try:
        return load(path)
    except Exception as error:  # its own kind of error is none of the standard ones
        raise InvalidInputError(f"{path} is no safetensors file: {error}") from None


def _pickled(path: Path) -> Any:
    release = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if release < _SOUND:
        raise InvalidInputError(
            f"{path} is a pickle, and torch {torch.__version__} cannot read pickles without running code in them "
            "(CVE-2025-32434, mended in torch 2.6.0): update torch, or save the state_dict as safetensors"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes the parsers raise
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = (
            f"it wants to run {wanted[1]}"
            if wanted
            else str(error).splitlines()[0]
            if str(error)
            else repr(error)
        )
        raise InvalidInputError(
            f"{path} cannot be read as weights alone ({reason:.200}). {_REMEDY}"
        ) from None


def _plain(weights: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    named = dict(weights)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in named) and not all(
            name.startswith(prefix) for name in own
        ):
            named = {name.removeprefix(prefix): value for name, value in named.items()}
    return named


def _differences(weights: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    both = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    shapes = [
        f"{name} has shape {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
        for name in both
    ]
    found = {
        "missing": [name for name in own if name not in weights],
        "not wanted": [name for name in weights if name not in own],
        "of another shape": shapes,
    }
    return [
        f"{what}: {', '.join(names[:5])}{', ...' * (len(names) > 5)}"
        for what, names in found.items()
        if names
    ]


def _described(found: Any) -> str:
    if not isinstance(found, Mapping):
        return f"it holds one {type(found).__name__}"
    names = ", ".join(repr(name) for name in list(found)[:8])
    return f"it holds {names or 'nothing'}; name the one with the weights as part=..."
