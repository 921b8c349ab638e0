"""What a model of all told outputs expects of every told point, when single answers are noisy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bo_invert.history import History
from bo_invert.models import exact
from bo_invert.models.base import KERNELS, to_unit
from bo_invert.models.exact import Choice, Surrogate
from bo_invert.models.fit import Belief
from bo_invert.models.improvement import normals
from bo_invert.models.outputs import Outputs
from bo_invert.models.selection import telling
from bo_invert.statement import Statement
from bo_invert.types import Array

MEASURED = Belief("measured", -2.0, 2.0, 1e-4, shortest=0.1)
"""Noise may be most of what varies. A search may follow every bump once more; whoever acts on a point may not."""
_REACH = 1.6448536269514722
"""Standard deviations from the middle of a normal distribution to the ends of its central 90 %."""
_SAMPLES = 256
_AT_ONCE = 2_000_000
"""So many sampled outputs are held in memory."""


@dataclass(frozen=True, eq=False)
class Expectation:
    """What is believed of b told points, the noise of a single answer left out.

    Triples are the low end, the middle and the high end of a central 90 % interval. The middle is a mean; of a number
    that the model warps, the median.

    Args:
        positions: of the points among the completed trials, shape ``(b,)``; rising.
        losses: triples of the objective, shape ``(3, b)``.
        probability: that the outcome constraints hold, shape ``(b,)``.
        outputs: triples of all outputs, shape ``(3, b, m)``.
    """

    positions: NDArray[np.intp]
    losses: Array
    probability: Array
    outputs: Array


def expect(statement: Statement, history: History) -> Expectation:
    """Fit the model of ``gp`` to the told outputs and ask it about the told points. Repeats of a point are evidence.

    Beyond 1,000 told points the model is given a selection of them, and asked about that.

    Args:
        statement: of the problem.
        history: at least one trial is completed.
    """
    inputs = to_unit(statement.domain, history.points)
    some = telling(inputs, history.order)
    inputs, y = inputs[some], history.y[some]
    modelled = Outputs(statement, y, history.losses[some])
    rest = [j for j in range(y.shape[1]) if j not in modelled.columns]
    outputs = torch.empty(3, *y.shape, dtype=torch.float64)
    with exact.settled(0):
        surrogate = _fit(inputs, modelled.values, modelled.tails)
        points = surrogate.process.inputs
        outputs[..., modelled.columns] = _ends(surrogate, points)[..., int(modelled.by_loss) :]
        if rest:  # what neither objective nor constraints read is no business of their model
            outputs[..., rest] = _ends(_fit(inputs, y[:, rest], None), points)
        losses, probability = _losses(surrogate, modelled, points), _probability(surrogate, modelled, points)
    return Expectation(some, losses.numpy(), probability.numpy(), outputs.numpy())


def _fit(inputs: Array, values: Array, tails: tuple[int, ...] | None) -> Surrogate:
    return exact.fit(inputs, values, choice=Choice(KERNELS["auto"], (MEASURED,), tails, (True, False)))


def _normal(surrogate: Surrogate, points: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the warped numbers at unit inputs ``(b, d)``, shape ``(b, c)`` each."""
    mean, variance = surrogate.posterior(points)
    return mean @ surrogate.weights + surrogate.offset, (variance @ surrogate.weights**2).sqrt()


def _ends(surrogate: Surrogate, points: Tensor) -> Tensor:
    """Triples of the modelled numbers at unit inputs ``(b, d)``, shape ``(3, b, c)``."""
    centre, std = _normal(surrogate, points)
    three = torch.stack([centre - _REACH * std, centre, centre + _REACH * std])
    return three if surrogate.warp is None else surrogate.warp.inverse(three)


def _losses(surrogate: Surrogate, modelled: Outputs, points: Tensor) -> Tensor:
    """Triples of the loss at unit inputs ``(b, d)``, shape ``(3, b)``.

    The loss of ``Target`` and ``Composite`` is averaged over what the outputs may be: a point that is known well is
    then preferred to one that may as well be far off.
    """
    if not modelled.composite:  # the loss is one of the numbers, or minus it
        return modelled.loss(_ends(surrogate, points)).sort(0).values
    loss, found = modelled.loss_of(surrogate), []
    drawn = normals(_SAMPLES, len(surrogate.process.logs), 0, surrogate.offset)
    step = max(1, _AT_ONCE // (_SAMPLES * modelled.values.shape[1]))
    for start in range(0, len(points), step):
        mean, variance = surrogate.posterior(points[start : start + step])
        sampled = loss(mean + variance.sqrt() * drawn[:, None])
        low, high = sampled.nanquantile(sampled.new_tensor([0.05, 0.95]), dim=0)
        found.append(torch.stack([low, sampled.nanmean(0), high]))
    return torch.cat(found, 1).nan_to_num(torch.inf)


def _probability(surrogate: Surrogate, modelled: Outputs, points: Tensor) -> Tensor:
    """That all constraints hold at unit inputs ``(b, d)``, shape ``(b,)``."""
    centre, std = _normal(surrogate, points)
    log = torch.zeros_like(centre[:, 0])
    for column, sense, bound in modelled.limits(surrogate.offset):
        limit = bound if surrogate.warp is None else surrogate.warp(bound)
        log = log + torch.special.log_ndtr(sense * (limit[column] - centre[:, column]) / std[:, column])
    return log.exp()
