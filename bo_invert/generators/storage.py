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
from bo_invert.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    from bo_invert.generators.training import TrainingReport
    from bo_invert.generators.vae import VAE, VAEConfig

_FORMAT = 1
_log = logging.getLogger(__name__)


def cache_directory() -> Path:
    """``$BO_INVERT_CACHE`` if it is set, otherwise ``~/.cache/bo_invert``. It is not created here."""
    given = os.environ.get("BO_INVERT_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "bo_invert"


def save_vae(vae: VAE, report: TrainingReport, path: str | Path) -> Path:
    """Write ``path`` (``.safetensors``) and the description beside it (``.json``); each replaces the old at once.

    Raises:
        MissingExtra: safetensors is not installed.
    """
    save = _safetensors().save
    path = Path(path).with_suffix(".safetensors")
    weights = save({name: value.contiguous() for name, value in vae.state_dict().items()})
    described = {
        "format": _FORMAT,
        "config": vae.config.to_json(),
        "report": vars(report),
        "weights": hashlib.sha256(weights).hexdigest(),
    }
    _replace(path, weights)
    _replace(path.with_suffix(".json"), json.dumps(described, indent=1).encode())
    return path


def load_vae(path: str | Path) -> tuple[VAE, TrainingReport]:
    """What ``save_vae`` wrote.

    Raises:
        MissingExtra: safetensors is not installed.
        InvalidInput: a file is missing, damaged, of another format, or the two do not belong together.
    """
    load = _safetensors().load
    from bo_invert.generators.training import TrainingReport
    from bo_invert.generators.vae import VAE, VAEConfig

    path = Path(path).with_suffix(".safetensors")
    try:
        described = json.loads(path.with_suffix(".json").read_bytes())
        weights = path.read_bytes()
        if described["format"] != _FORMAT:
            raise InvalidInput(f"format {described['format']}, expected {_FORMAT}")
        if hashlib.sha256(weights).hexdigest() != described["weights"]:
            raise InvalidInput("the weights are not the ones described beside them")
        vae = VAE(VAEConfig.from_json(described["config"]))
        vae.load_state_dict(load(weights))
        report = TrainingReport(**described["report"])
    except Exception as error:  # whatever a damaged file makes the parsers raise
        raise InvalidInput(f"cannot load a VAE from {path}: {type(error).__name__}: {error}") from error
    return vae.eval(), report


def cached_vae(
    designs: Any, config: VAEConfig, name: str, progress: bool = False, directory: str | Path | None = None
) -> tuple[VAE, TrainingReport]:
    """The VAE of these designs and this config: from the cache, or trained and put there.

    A damaged cache entry is trained again, with a warning. A cache that cannot be written only costs time.

    Args:
        designs: shape ``(n, *config.shape)``, values in [0, 1].
        config: of the network and of its training.
        name: for people who look into the cache.
        progress: show a bar on stderr while training.
        directory: of the cache; default: ``cache_directory()``.

    Raises:
        MissingExtra: safetensors is not installed.
        InvalidInput: designs and config do not fit.
    """
    from bo_invert.generators.training import checked_designs, train_vae

    _safetensors()
    data = checked_designs(designs, config).numpy()
    path = Path(directory or cache_directory()) / f"{name}-{_key(data, config)}.safetensors"
    if path.exists():
        try:
            return load_vae(path)
        except InvalidInput as error:
            _log.warning("%s; training it again", error)
    vae, report = train_vae(data, config, progress)
    try:
        save_vae(vae, report, path)
    except OSError as error:
        _log.warning("the trained VAE could not be kept in %s (%s); it will be trained again next time", path, error)
    return vae, report


def _key(data: np.ndarray[Any, Any], config: VAEConfig) -> str:
    text = json.dumps([__version__, _FORMAT, config.to_json(), list(data.shape)], sort_keys=True)
    return hashlib.sha256(text.encode() + data.tobytes()).hexdigest()[:16]


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


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError:
        raise MissingExtra(
            "networks are kept as safetensors, which is not installed; pip install 'bo-invert[demo]'"
        ) from None
    return safetensors.torch
