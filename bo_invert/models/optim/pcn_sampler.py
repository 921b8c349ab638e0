"""Samples of N(0, I) weighed by a likelihood: many preconditioned Crank-Nicolson walks at once. numpy only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bo_invert.types import Array

_WANTED = 0.3
"""Share of accepted steps that the step size is adapted to."""


def sample_pcn(
    log_likelihood: Callable[[Array], Array],
    start: Array,
    rng: np.random.Generator,
    *,
    steps: int,
    step_size: float = 0.5,
) -> Array:
    """Where c walkers are after some steps, shape ``(c, d)``.

    A step goes to ``sqrt(1 - b^2) z + b xi`` with ``xi`` normal and is taken with probability ``min(1, L'/L)``
    (Neal 1998; Cotter et al. 2013): N(0, I) itself is left as it is whatever the dimension, so only the likelihood
    decides. Every walker has a step size b of its own, which adapts during the first half of its way. One that starts
    where nobody may go draws from N(0, I) until it is out.

    Args:
        log_likelihood: of points ``(c, d)``, shape ``(c,)``; minus infinity where nobody may go.
        start: shape ``(c, d)``.
        rng: of the steps.
        steps: of each walker.
        reach: b at the start, in (0, 1].
    """
    here = np.array(start, dtype=np.float64)
    now = log_likelihood(here)
    logit = np.full(len(here), np.log(step_size / max(1.0 - step_size, 1e-9)))
    for step in range(steps):
        lost = np.isneginf(now)
        b = np.where(lost, 1.0, 1.0 / (1.0 + np.exp(-logit)))[:, None]
        there = np.sqrt(1.0 - b**2) * here + b * rng.standard_normal(here.shape)
        then = log_likelihood(there)
        out = np.isneginf(then)
        gain = np.where(
            out, -np.inf, np.where(lost, 0.0, np.where(out, 0.0, then) - np.where(lost, 0.0, now))
        )
        chance = np.exp(np.minimum(0.0, gain))
        moved = rng.random(len(here)) < chance
        here[moved], now[moved] = there[moved], then[moved]
        if 2 * step < steps:
            logit += np.where(lost, 0.0, (chance - _WANTED) * 4.0 / np.sqrt(1.0 + step))
    return here
