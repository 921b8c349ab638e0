"""Generator files: weights as safetensors and a description as JSON beside them; no pickles."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import numpy as np
import torch

from bo_invert import __version__
from bo_invert.errors import InvalidInputError, require_package
from bo_invert.generators.base import (
    Device,
    Generator,
    GeneratorConfig,
    TrainingReport,
    Valid,
    kind_of,
)
from bo_invert.types import Designs
from bo_invert.user_code import own_settings

# Version number of the file format, by definition; readers refuse others.
_FORMAT = 2
_log = logging.getLogger(__name__)


def cache_directory() -> Path:
    """Return ``$BO_INVERT_CACHE``, by default ``~/.cache/bo_invert``; do not create it."""
    given = os.environ.get("BO_INVERT_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "bo_invert"


@own_settings()
def save_generator(network: Generator[Any], report: TrainingReport, path: str | Path) -> Path:
    """Write the weights (``.safetensors``) and the description beside them (``.json``).

    Each file replaces its predecessor atomically.

    Raises:
        MissingExtraError: safetensors is not installed.
    """
    path = _weights_at(path)
    weights = safetensors().save(
        {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    )
    described = {
        "format": _FORMAT,
        "kind": network.config.kind,
        "config": network.config.to_json(),
        "report": report.to_json(),
        "weights": hashlib.sha256(weights).hexdigest(),
    }
    _replace(path, weights)
    _replace(path.with_suffix(".json"), json.dumps(described, indent=1).encode())
    return path


@own_settings()
def load_generator(path: str | Path) -> tuple[Any, TrainingReport]:
    """Load the files of ``save_generator``: the network in evaluation mode on the CPU, and report.

    The network's class is the registered generator of the kind in the description. Parameters take
    no memory until the weights are read.

    Raises:
        MissingExtraError: safetensors is not installed.
        InvalidInputError: a file is missing, damaged, of another format, or belongs to other
            weights.
    """
    load = safetensors().load
    path = _weights_at(path)
    try:
        described = json.loads(path.with_suffix(".json").read_bytes())
        weights = path.read_bytes()
        if described["format"] != _FORMAT:
            raise InvalidInputError(f"format must be {_FORMAT}, got {described['format']!r}")
        # A crash between the two writes leaves weights and description of different networks.
        if hashlib.sha256(weights).hexdigest() != described["weights"]:
            raise InvalidInputError("the weights are not the ones described in the JSON file")
        kind = kind_of(described["kind"])
        with torch.device("meta"):  # no memory and no random initial weights
            network = kind(kind.Config.from_json(described["config"]))
        network.load_state_dict(load(weights), assign=True)
        report = TrainingReport.from_json(described["report"])
    except Exception as error:  # parsers raise errors of many types on damaged files
        raise InvalidInputError(
            f"cannot load a generator from {path}: {type(error).__name__}: {error}"
        ) from error
    return network.eval(), report


@own_settings()
def cached_generator(
    designs: Designs,
    config: GeneratorConfig,
    name: str,
    *,
    progress: bool = False,
    directory: str | Path | None = None,
    device: Device = None,
    valid: Valid | None = None,
) -> tuple[Any, TrainingReport]:
    """Load the network of these designs and this config from the cache, or train and store it.

    A damaged cache entry is trained again and logged as a warning, as is a failed write. The
    result of an interrupted training is not stored.

    Args:
        designs: training designs.
        config: architecture and training options.
        name: readable prefix of the file name.
        progress: show a progress bar on stderr during training.
        directory: cache directory; default: ``cache_directory()``.
        device: training device; default: the CPU.
        valid: validity check of designs for the report; not part of the cache key.

    Raises:
        MissingExtraError: safetensors is not installed.
        InvalidInputError: designs do not fit ``config``.
        TrainingInterrupted: Ctrl-C during training.
    """
    safetensors()  # raise before the training, not after it
    kind = kind_of(config.kind)
    key = _key(kind.checked(designs, config), config)
    path = Path(directory or cache_directory()) / f"{name}-{key}.safetensors"
    if path.exists():
        try:
            return load_generator(path)
        except InvalidInputError as error:
            _log.warning("%s; the generator is trained again", error)
    # Ctrl-C raises here, so that an interrupted network never enters the cache.
    network, report = kind.fit(designs, config, progress=progress, device=device, valid=valid)
    try:
        save_generator(network, report, path)
    except OSError as error:
        _log.warning("cannot write the generator to %s (%s); the cache stays empty", path, error)
    return network, report


def safetensors() -> ModuleType:
    """Import and return ``safetensors.torch``.

    Raises:
        MissingExtraError: safetensors is not installed.
    """
    with require_package("generator files", "safetensors", "demo"):
        import safetensors.torch
    return safetensors.torch


def _weights_at(path: str | Path) -> Path:
    """Return the path of the weights; only ``.safetensors`` and ``.json`` count as suffixes.

    ``Path.with_suffix`` alone would replace the end of ``digits-0.3``.
    """
    known = Path(path).suffix in (".safetensors", ".json")
    return Path(path).with_suffix(".safetensors") if known else Path(f"{path}.safetensors")


def _key(data: Designs, config: GeneratorConfig) -> str:
    """Hash library version, file format, config and designs to 16 hexadecimal digits."""
    # A new library version may train differently, so that its entries have other keys.
    parts = [__version__, _FORMAT, config.kind, config.to_json()]
    if isinstance(data, np.ndarray):
        parts.append([data.dtype.str, *data.shape])
    content = data.tobytes() if isinstance(data, np.ndarray) else json.dumps(list(data)).encode()
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode() + content).hexdigest()[:16]


def _replace(path: Path, content: bytes) -> None:
    """Write a file atomically: readers see the old or the new content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renaming is atomic only within one file system, so the temporary file is in the folder.
    part = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
