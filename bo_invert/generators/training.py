"""What trainings have in common: seeded starts, a held-out part, early stop at the best epoch, Ctrl-C, a bar."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bo_invert.errors import InvalidInputError
from bo_invert.generators.base import Generator, TrainingInterrupted, TrainingReport, Valid, sampled
from bo_invert.generators.scores import fidelity

FEWEST = 20
"""Designs that a training wants."""
_ROWS = 1024
_COMPARED = 500
"""Held-out designs that draws are compared with."""

N = TypeVar("N", bound=Generator[Any])
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Ending:
    """How the epochs ended; the fields are those of ``TrainingReport``."""

    epochs: int
    seconds: float
    ended: Literal["patience", "epochs", "interrupted"]
    loss: float

    def report(self, figures: dict[str, float], remarks: tuple[str, ...] = ()) -> TrainingReport:
        """The report, with what was measured afterwards."""
        return TrainingReport(self.epochs, self.seconds, self.ended, self.loss, figures, remarks)


def best_epoch(
    kept: nn.Module,
    epoch: Callable[[], None],
    held_out: Callable[[], float],
    *,
    epochs: int,
    patience: int,
    what: str,
    progress: bool,
) -> Ending:
    """Train, and leave ``kept`` as it was after the epoch of the lowest held-out loss.

    Args:
        kept: the network that is judged and returned.
        epoch: trains for one epoch.
        held_out: the loss of ``kept``.
        epochs: at most this many.
        patience: stop after so many without a better loss.
        what: is trained, for people.
        progress: show a bar on stderr.

    Raises:
        InvalidInputError: the loss is not finite.
        KeyboardInterrupt: Ctrl-C before the first epoch was done; later it only ends the training.
    """
    started, number, best, best_at = time.perf_counter(), 0, math.inf, 0
    state: dict[str, Tensor] = {}
    ended: Literal["patience", "epochs", "interrupted"] = "epochs"
    try:
        with _bar(epochs, what, progress) as bar, _repeatable():
            for number in range(1, epochs + 1):
                epoch()
                loss = held_out()
                if not math.isfinite(loss):
                    raise InvalidInputError(
                        f"the loss of the {what} is {loss} after {number} epochs; lower learning_rate"
                    )
                if loss < best:
                    best, best_at = loss, number
                    state = {name: value.clone() for name, value in kept.state_dict().items()}
                bar.update()
                bar.set_postfix(loss=f"{loss:.3f}", best=f"{best:.3f}")
                if number - best_at >= patience:
                    ended = "patience"
                    break
    except KeyboardInterrupt:
        if not state:
            raise
        ended = "interrupted"
    kept.load_state_dict(state)
    return Ending(number, time.perf_counter() - started, ended, best)


def finished(network: N, report: TrainingReport) -> tuple[N, TrainingReport]:
    """The network on the CPU in evaluation mode, and its report.

    Raises:
        TrainingInterrupted: Ctrl-C had ended its training.
    """
    network = network.cpu().eval()
    if report.ended == "interrupted":
        raise TrainingInterrupted(network, report)
    return network, report


def fresh(kind: Callable[[], M], generator: torch.Generator) -> M:
    """A network with initial weights by He et al. (2015) and no biases, drawn from ``generator`` alone."""
    with torch.random.fork_rng(
        devices=[]
    ):  # layers draw from the global generator when they are made
        network = kind()
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


def split(data: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows to fit, and a share of all, at least two, that is held out."""
    order = torch.randperm(len(data), generator=generator)
    count = max(2, round(share * len(data)))
    return data[order[count:]], data[order[:count]]


def drawn_figures(
    network: Generator[Any], rows: Tensor, held: Tensor, seed: int, valid: Valid | None
) -> dict[str, float]:
    """``precision``, ``coverage``, ``coverage_of_real`` and, with ``valid``, ``validity`` of draws of the prior.

    Args:
        network: on the CPU, in evaluation mode.
        rows: designs that were learnt from; what they cover of the held-out ones is what could be covered.
        held: designs held out.
        seed: of the draws.
        valid: see ``Generator.fit``.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    held = held[:_COMPARED]
    some = torch.from_numpy(rng.permutation(len(rows))[: 8 * len(held)])
    drawn = sampled(network, rng, 8 * len(held)).numpy()
    figures = fidelity(held.numpy(), drawn)
    figures["coverage_of_real"] = fidelity(held.numpy(), rows[some].numpy())["coverage"]
    if valid is not None:
        figures["validity"] = float(np.mean([bool(one) for one in valid(drawn)]))
    return figures


def checked_numbers(
    designs: Any, shape: tuple[int, ...], values: str, who: str, fewest: int = FEWEST
) -> NDArray[np.float32]:
    """Designs as float32 numbers ``(n, *shape)``, a copy.

    Args:
        designs: to check.
        shape: of one design.
        values: ``"unit"`` for numbers in [0, 1], ``"real"`` for any.
        who: wants them, for messages.
        fewest: that there must be.

    Raises:
        InvalidInputError: there are too few, or shape or values do not fit.
    """
    try:
        array = np.array(designs, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{who} wants designs as an array of numbers (n, *{shape}): {error}"
        ) from None
    if array.shape[1:] != shape or len(array) < fewest:
        raise InvalidInputError(
            f"{who} for {shape} wants {fewest} or more designs of that shape, got {array.shape}"
        )
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array.reshape(len(array), -1)).all(axis=1)).sum())
        raise InvalidInputError(
            f"{who}: {bad} of {len(array)} designs hold values that are not finite; drop these"
        )
    if values == "unit" and not ((array >= 0) & (array <= 1)).all():
        raise InvalidInputError(
            f"{who} wants designs with values in [0, 1], got {array.min():g} to {array.max():g}; rescale them, or say "
            "values='real' in its config"
        )
    return array


def as_device(device: Any) -> torch.device:
    """A device that works; the CPU for None.

    Raises:
        InvalidInputError: torch has no such device here.
    """
    try:
        return torch.empty(0, device="cpu" if device is None else device).device
    except (
        RuntimeError,
        AssertionError,
        TypeError,
    ) as error:  # torch asserts that it was built with CUDA
        reason = str(error).splitlines()[0]
        raise InvalidInputError(
            f"nothing can be trained on device {device!r} here: {reason}"
        ) from None


def in_batches(function: Callable[..., Tensor], *rows: Tensor, device: torch.device) -> Tensor:
    """``function`` of rows moved to the device batch by batch, results on the CPU; without gradients."""
    with torch.no_grad():
        parts = zip(*(torch.split(one, _ROWS) for one in rows), strict=True)
        return torch.cat([function(*(one.to(device) for one in part)).cpu() for part in parts])


@contextmanager
def _repeatable() -> Iterator[None]:
    """On a GPU the fastest convolution is chosen by timing, and some add up in any order."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        yield


def _bar(total: int, what: str, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=total, desc=f"training the {what}", unit="epoch", disable=not progress, leave=False
    )
