"""Networks on disk: weights as safetensors, their description as JSON beside them, never a pickle."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert import __version__
from bo_invert.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from bo_invert.generators.base import Generator, GeneratorConfig, TrainingReport, Valid

_FORMAT = 2
_log = logging.getLogger(__name__)


def cache_directory() -> Path:
    """``$BO_INVERT_CACHE`` if it is set, otherwise ``~/.cache/bo_invert``. It is not created here."""
    given = os.environ.get("BO_INVERT_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "bo_invert"


def save_generator(network: Generator[Any], report: TrainingReport, path: str | Path) -> Path:
    """Write ``path`` (``.safetensors``) and the description beside it (``.json``); each replaces the old at once.

    Raises:
        MissingExtraError: safetensors is not installed.
    """
    save = safetensors().save
    path = _weights_at(path)
    weights = save(
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


def load_generator(path: str | Path) -> tuple[Any, TrainingReport]:
    """What ``save_generator`` wrote: the network, in evaluation mode on the CPU, and its report.

    The description names a kind, and only what is registered as a generator of that name is made of it. No memory is
    taken before the weights fit the config.

    Raises:
        MissingExtraError: safetensors is not installed.
        InvalidInputError: a file is missing, damaged, of another format, or the two do not belong together.
    """
    load = safetensors().load
    import torch

    from bo_invert.generators.base import TrainingReport, kind_of

    path = _weights_at(path)
    try:
        described = json.loads(path.with_suffix(".json").read_bytes())
        weights = path.read_bytes()
        if described["format"] != _FORMAT:
            raise InvalidInputError(f"format {described['format']}, expected {_FORMAT}")
        if hashlib.sha256(weights).hexdigest() != described["weights"]:
            raise InvalidInputError("the weights are not the ones described beside them")
        kind = kind_of(described["kind"])
        with torch.device("meta"):
            network = kind(kind.Config.from_json(described["config"]))
        network.load_state_dict(load(weights), assign=True)
        report = TrainingReport.from_json(described["report"])
    except Exception as error:  # whatever a damaged file makes the parsers raise
        raise InvalidInputError(
            f"cannot load a generator from {path}: {type(error).__name__}: {error}"
        ) from error
    return network.eval(), report


def cached_generator(
    designs: Any,
    config: GeneratorConfig,
    name: str,
    *,
    progress: bool = False,
    directory: str | Path | None = None,
    device: Any = None,
    valid: Valid | None = None,
) -> tuple[Any, TrainingReport]:
    """The network of these designs and this config: from the cache, or trained and put there.

    A damaged cache entry is trained again, with a warning. A cache that cannot be written only costs time. What an
    interrupted training left is not kept.

    Args:
        designs: to learn from.
        config: of the network and of its training.
        name: for people who look into the cache.
        progress: show a bar on stderr while training.
        directory: of the cache; default: ``cache_directory()``.
        device: where to train; default: the CPU.
        valid: says of n designs which are any; only for the report, and no part of the entry's name.

    Raises:
        MissingExtraError: safetensors is not installed.
        InvalidInputError: designs and config do not fit.
        TrainingInterrupted: Ctrl-C during the training.
    """
    from bo_invert.generators.base import kind_of

    safetensors()
    kind = kind_of(config.kind)
    path = (
        Path(directory or cache_directory())
        / f"{name}-{_key(kind.checked(designs, config), config)}.safetensors"
    )
    if path.exists():
        try:
            return load_generator(path)
        except InvalidInputError as error:
            _log.warning("%s; training it again", error)
    network, report = kind.fit(designs, config, progress=progress, device=device, valid=valid)
    try:
        save_generator(network, report, path)
    except OSError as error:
        _log.warning(
            "what was trained could not be kept in %s (%s); it will be trained again next time",
            path,
            error,
        )
    return network, report


def safetensors() -> Any:
    """The package's module for torch.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import safetensors.torch
    except ImportError:
        raise MissingExtraError(
            "networks are kept as safetensors, which is not installed; pip install 'bo-invert[demo]'"
        ) from None
    return safetensors.torch


def _weights_at(path: str | Path) -> Path:
    """``with_suffix`` would take the end of ``digits-0.3`` for a suffix."""
    path = Path(path)
    return (
        path.with_suffix(".safetensors")
        if path.suffix in (".safetensors", ".json")
        else Path(f"{path}.safetensors")
    )


def _key(data: Any, config: GeneratorConfig) -> str:
    parts = [__version__, _FORMAT, config.kind, config.to_json()]
    if isinstance(data, np.ndarray):
        parts.append([data.dtype.str, *data.shape])
        content = data.tobytes()
    else:
        content = json.dumps(list(data)).encode()
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode() + content).hexdigest()[:16]


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
