"""Loading of user-defined weights without running code from the file.

Only this module opens files of ``torch.save``, which are pickles. It uses torch's restricted
unpickler and needs torch >= 2.6.0: before, crafted files could run code (CVE-2025-32434).
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
from bo_invert.user_code import own_settings

# Oldest torch version (major and minor numbers) with a safe restricted unpickler:
# https://nvd.nist.gov/vuln/detail/CVE-2025-32434.
_SAFE_TORCH = (2, 6)
_PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that ``DataParallel`` and ``torch.compile`` add to every parameter name."""
_REMEDY = (
    "If the network is available as an object, save its weights with "
    "safetensors.torch.save_file(network.state_dict(), 'weights.safetensors') and load that file."
)

N = TypeVar("N", bound=nn.Module)


@own_settings()
def load_weights(module: N, path: str | Path, part: str | None = None) -> N:
    """Load the weights of a file into ``module`` and return it; device and mode stay unchanged.

    A ``.safetensors`` file holds only numbers. Files of ``torch.save`` (``.pt``, ``.pth``,
    ``.bin``, ``.ckpt``) are read with ``weights_only=True``. A file that needs code to be read is
    refused, without an option to override.

    Args:
        module: network with parameters of the same names and shapes as the weights.
        path: path of the file.
        part: key of the weights in a checkpoint, such as ``"state_dict"``. Default: the file is a
            state_dict.

    Raises:
        InvalidInputError: the file is missing, damaged, unsafe or without weights, or the weights
            do not fit ``module``. Pickles also need torch >= 2.6.0.
        MissingExtraError: safetensors is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidInputError(f"load_weights: path must be an existing file, got {str(path)!r}")
    found = _numbers(path) if path.suffix == ".safetensors" else _pickled(path)
    if part is not None:
        if not isinstance(found, Mapping) or part not in found:
            raise InvalidInputError(
                f"load_weights: {path} has no part {part!r}. {_described(found)}"
            )
        found = found[part]
    if not (isinstance(found, Mapping) and found) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in found.items()
    ):
        raise InvalidInputError(f"load_weights: {path} is not a state_dict. {_described(found)}")
    own = module.state_dict()
    named = _plain(found, own)
    # load_state_dict would raise only after it has overwritten the parameters that fit.
    if differences := _differences(named, own):
        raise InvalidInputError(
            f"load_weights: the weights in {path} do not fit {type(module).__name__}: "
            f"{'; '.join(differences)}"
        )
    # Copies into the existing parameters, so that device and dtype of the module stay.
    module.load_state_dict(named)
    return module


def _numbers(path: Path) -> Any:
    load = safetensors().load_file
    try:
        return load(path)
    except Exception as error:  # SafetensorError derives from Exception only
        raise InvalidInputError(
            f"load_weights: {path} is not a safetensors file: {error}"
        ) from None


def _pickled(path: Path) -> Any:
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < _SAFE_TORCH:
        raise InvalidInputError(
            f"load_weights: {path} is a pickle, and torch {torch.__version__} may run code in "
            "pickles (CVE-2025-32434, fixed in torch 2.6.0): update torch, or save the state_dict "
            "as safetensors"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # parsers raise errors of many types on damaged files
        # torch reports the first global, a class or function, that the pickle would import.
        needed = re.search(r"GLOBAL ([\w.]+)", str(error))
        lines = str(error).splitlines() or [repr(error)]
        reason = f"it needs to run {needed[1]}" if needed else lines[0]
        raise InvalidInputError(
            f"load_weights: {path} cannot be read as weights only ({reason:.200}). {_REMEDY}"
        ) from None


def _plain(weights: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Remove a prefix of ``_PREFIXES`` that all weights have and not all own parameters."""
    named = dict(weights)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in named) and not all(
            name.startswith(prefix) for name in own
        ):
            named = {name.removeprefix(prefix): value for name, value in named.items()}
    return named


def _differences(weights: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    # Compare names and shapes before loading, so that one message lists all differences.
    found = {
        "missing": [name for name in own if name not in weights],
        "unexpected": [name for name in weights if name not in own],
        "of another shape": [
            f"{name} has shape {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
            for name in own
            if name in weights and own[name].shape != weights[name].shape
        ],
    }
    return [
        f"{what}: {', '.join(names[:5])}{', ...' * (len(names) > 5)}"
        for what, names in found.items()
        if names
    ]


def _described(found: object) -> str:
    if not isinstance(found, Mapping):
        return f"It holds one {type(found).__name__}."
    names = ", ".join(map(repr, list(found)[:8])) or "nothing"
    return f"It holds {names}. Pass the key of the weights as part=..."
