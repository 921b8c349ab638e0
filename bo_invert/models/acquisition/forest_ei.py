"""Log expected improvement under a random forest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bo_invert.models.acquisition.log_ei import log_h
from bo_invert.models.forest import Forest
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.types import Array

_MIN_STD = 1e-3
"""Least standard deviation where all trees agree, in standard deviations of the observations.
Engineering choice."""


def log_expected_improvement(forest: Forest, outputs: ModelledOutputs) -> Callable[[Array], Array]:
    """Build log EI = log s + log h((f* - mu) / s) with h(u) = phi(u) + u Phi(u).

    mu and s are the moments of the losses of all trees (Hutter, Hoos & Leyton-Brown 2011). Outcome
    constraints with moments m_i and s_i of their excess add sum_i log Phi(-m_i / s_i). Without a
    feasible observation, the violation takes the place of the loss.

    Args:
        forest: Fitted forest of the modelled outputs.
        outputs: Modelled outputs with their observations.

    Returns:
        Function from inputs ``(b, p)`` to scores ``(b,)``.
    """
    observed = torch.as_tensor(outputs.values)
    feasible = outputs.violation(observed) <= 0.0
    constrained = bool(outputs.statement.constraints) and bool(feasible.any())
    goal = outputs.loss if bool(feasible.any()) else outputs.violation
    known = goal(observed)
    best = known[feasible].min() if bool(feasible.any()) else known.min()
    least = _MIN_STD * float(known.std(correction=0)) or _MIN_STD

    def score(inputs: Array) -> Array:
        samples = torch.as_tensor(forest.samples(inputs))
        mean, std = _moments(goal(samples), least)
        value = std.log() + log_h((best - mean) / std)
        for excess in outputs.constraint_excesses(samples) if constrained else ():
            mean, std = _moments(excess, _MIN_STD)
            value = value + torch.special.log_ndtr(-mean / std)
        return value.numpy()

    return score


def _moments(samples: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation ``(b,)`` of samples ``(t, b)``."""
    return samples.mean(0), (samples.var(0, correction=0) + least**2).sqrt()
