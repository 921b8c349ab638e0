"""Training loop of generators: seeded weights, held-out split, early stopping and Ctrl-C."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from bo_invert.errors import InvalidInputError, bar_options
from bo_invert.generators.base import (
    Device,
    Generator,
    TrainingInterrupted,
    TrainingReport,
    Valid,
    sampled,
)
from bo_invert.generators.scores import fidelity
from bo_invert.types import Designs
from bo_invert.user_code import call_user_code, default_dtype, usable_device
from bo_invert.user_data import real_array

MIN_DESIGNS = 20
"""Default for the smallest number of training designs."""
BATCH_ROWS = 1024
"""Number of rows per forward pass without gradients; bounds the memory."""
ACTIVE_VARIANCE = 0.01
"""Threshold on the variance of a code coordinate's mean over designs (Burda et al. 2016).

A coordinate with a larger variance is active, that is, the decoder uses it.
"""
# Engineering choice: largest number of held-out designs that draws are compared with; the cost of
# pairwise distances is quadratic in it.
_COMPARED = 500

N = TypeVar("N", bound=Generator[Any])
M = TypeVar("M", bound=nn.Module)


def best_epoch(
    network: nn.Module,
    epoch: Callable[[], None],
    held_out: Callable[[], float],
    *,
    epochs: int,
    patience: int,
    what: str,
    progress: bool,
) -> TrainingReport:
    """Train with early stopping; leave ``network`` with the weights of the best epoch.

    The returned report has no figures and remarks yet.

    Args:
        network: network whose weights are restored.
        epoch: trains for one epoch.
        held_out: returns the held-out loss of ``network``.
        epochs: largest number of epochs.
        patience: number of epochs without a lower loss after which training stops.
        what: name of the model in messages.
        progress: show a progress bar on stderr.

    Raises:
        InvalidInputError: the loss is not finite.
        KeyboardInterrupt: Ctrl-C before the end of the first epoch. Later Ctrl-C stops training.
    """
    started, number, best, best_at = time.perf_counter(), 0, math.inf, 0
    state: dict[str, Tensor] = {}
    ended: Literal["patience", "epochs", "interrupted"] = "epochs"
    # The lowest held-out loss is the estimate of the error on new designs (early stopping).
    try:
        # Deterministic cuDNN: no choice of algorithms by timing, no sums in random order.
        flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        with flags, tqdm(
            total=epochs, desc=f"training the {what}", unit="epoch", leave=False,
            **bar_options(progress),
        ) as bar:  # fmt: skip
            for number in range(1, epochs + 1):
                epoch()
                loss = held_out()
                if not math.isfinite(loss):
                    raise InvalidInputError(
                        f"{what}: loss must be finite, got {loss} after {number} epochs. "
                        "Decrease learning_rate."
                    )
                if loss < best:  # copy the weights, which the next epoch changes in place
                    best, best_at = loss, number
                    state = {name: value.clone() for name, value in network.state_dict().items()}
                bar.update()
                bar.set_postfix(loss=f"{loss:.3f}", best=f"{best:.3f}")
                if number - best_at >= patience:
                    ended = "patience"
                    break
    except KeyboardInterrupt:
        if not state:
            raise
        ended = "interrupted"
    network.load_state_dict(state)
    return TrainingReport(number, time.perf_counter() - started, ended, best)


def finished(
    network: N, report: TrainingReport, figures: dict[str, float], remarks: tuple[str, ...]
) -> tuple[N, TrainingReport]:
    """Return the network on the CPU in evaluation mode, and its report with figures and remarks.

    Raises:
        TrainingInterrupted: Ctrl-C stopped the training.
    """
    network, report = network.cpu().eval(), replace(report, figures=figures, remarks=remarks)
    if report.ended == "interrupted":
        raise TrainingInterrupted(network, report)
    return network, report


def fresh(kind: Callable[[], M], generator: torch.Generator) -> M:
    """Create a network with weights of He et al. (2015) and zero biases, seeded by ``generator``.

    Weights are U(-b, b) with ``b = sqrt(6 / ((1 + a^2) fan_in))``. As in torch, a = sqrt(5), which
    gives ``b = 1 / sqrt(fan_in)``.
    """
    # Layers draw from the global generator on creation; its state is restored afterwards.
    with torch.random.fork_rng(devices=[]), default_dtype("float32"):
        network = kind()
    # Module order is fixed, so that one seed gives one network.
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


def split(data: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split rows at random into training rows and a held-out share of at least two rows."""
    order = torch.randperm(len(data), generator=generator)
    count = max(2, round(share * len(data)))
    return data[order[count:]], data[order[:count]]


def drawn_figures(
    network: Generator[Any], rows: Tensor, held: Tensor, seed: int, valid: Valid | None
) -> dict[str, float]:
    """Compute ``precision``, ``coverage``, ``coverage_of_real`` and ``validity`` of prior draws.

    ``coverage_of_real`` is the coverage of the held-out designs by training designs, the best
    value to expect. ``validity`` needs ``valid``.

    Args:
        network: network on the CPU in evaluation mode.
        rows: training designs, shape ``(n, ...)``.
        held: held-out designs, shape ``(m, ...)``.
        seed: seed of the draws.
        valid: validity check of designs, see ``Generator.fit``.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    # Eight draws per held-out design reduce the variance of the figures.
    held = held[:_COMPARED]
    some = rng.permutation(len(rows))[: 8 * len(held)]
    drawn = sampled(network, rng, 8 * len(held)).numpy()
    figures = fidelity(held.numpy(), drawn)
    figures["coverage_of_real"] = fidelity(held.numpy(), rows[some].numpy())["coverage"]
    if valid is not None:
        figures["validity"] = float(np.mean([bool(one) for one in call_user_code(valid, drawn)]))
    return figures


def checked_numbers(
    designs: Designs, shape: tuple[int, ...], values: str, who: str, fewest: int = MIN_DESIGNS
) -> NDArray[np.float32]:
    """Return designs as a new float32 array ``(n, *shape)``.

    Args:
        designs: array-like of numbers.
        shape: shape of one design.
        values: ``"unit"`` for numbers in [0, 1], ``"real"`` for any numbers.
        who: name of the model in messages.
        fewest: smallest number of designs.

    Raises:
        InvalidInputError: there are too few designs, or shape or values do not fit.
    """
    array = real_array(f"{who}: designs (n, *{shape})", designs).astype(np.float32)
    if array.shape[1:] != shape or len(array) < fewest:
        raise InvalidInputError(
            f"{who}: designs must have shape (n, *{shape}) with n >= {fewest}, got {array.shape}"
        )
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array.reshape(len(array), -1)).all(axis=1)).sum())
        raise InvalidInputError(
            f"{who}: designs must be finite, got {bad} of {len(array)} with NaN or inf. "
            "Remove these."
        )
    if values == "unit" and not ((array >= 0) & (array <= 1)).all():
        raise InvalidInputError(
            f"{who}: designs must have values in [0, 1], got {array.min():g} to {array.max():g}. "
            "Rescale them, or set values='real' in the config."
        )
    return array


def as_device(device: Device) -> torch.device:
    """Return an available torch device; the CPU for None.

    Raises:
        InvalidInputError: the device is not available.
    """
    return usable_device("training", device)


def in_batches(function: Callable[..., Tensor], *rows: Tensor, device: torch.device) -> Tensor:
    """Apply ``function`` to batches of rows on the device, without gradients; return on the CPU."""
    with torch.no_grad():
        parts = zip(*(torch.split(one, BATCH_ROWS) for one in rows), strict=True)
        return torch.cat([function(*(one.to(device) for one in part)).cpu() for part in parts])
