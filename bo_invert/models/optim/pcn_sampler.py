"""Preconditioned Crank-Nicolson sampler of a likelihood under N(0, I); numpy only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bo_invert.types import Array

_ACCEPTANCE = 0.3
"""Acceptance ratio to which step sizes adapt. Engineering choice: near the 0.234 of Roberts et al.
1997."""


def crank_nicolson(z: Array, b: Array, rng: np.random.Generator) -> Array:
    """Return the proposals ``sqrt(1 - b^2) z + b xi`` with standard normal xi, ``(c, d)``."""
    return np.asarray(np.sqrt(1.0 - b**2) * z + b * rng.standard_normal(z.shape))


def sample_pcn(
    log_likelihood: Callable[[Array], Array],
    start: Array,
    rng: np.random.Generator,
    *,
    steps: int,
    propose: Callable[[Array, Array, np.random.Generator], Array] = crank_nicolson,
) -> Array:
    """Run c independent chains; return their final states, shape ``(c, d)``.

    The proposal is z' = sqrt(1 - b^2) z + b xi with standard normal xi. It is accepted with
    probability min(1, L(z') / L(z)) (Neal 1998; Cotter et al. 2013). It leaves N(0, I) invariant in
    any dimension. Each chain has its own step size b, adapted in the first half. A chain with
    likelihood 0 takes steps of size 1, draws from N(0, I), until the likelihood is positive.

    Args:
        log_likelihood: Function from points ``(c, d)`` to log likelihoods ``(c,)``.
        start: Initial states, shape ``(c, d)``.
        rng: Random generator.
        steps: Number of steps.
        propose: Function from states ``(c, d)``, step sizes b ``(c, 1)`` and a generator to moved
            states. It must leave the base measure of the likelihood invariant; the default does so
            for N(0, I).
    """
    here = np.array(start, dtype=np.float64)
    now = log_likelihood(here)
    logit = np.zeros(len(here))  # b = 1/2
    for step in range(steps):
        outside = np.isneginf(now)
        b = np.where(outside, 1.0, 1.0 / (1.0 + np.exp(-logit)))[:, None]
        there = propose(here, b, rng)
        then = log_likelihood(there)
        out = np.isneginf(then)
        # Differences of infinities are replaced before they occur.
        change = np.where(out, 0.0, then) - np.where(outside, 0.0, now)
        gain = np.where(out, -np.inf, np.where(outside, 0.0, change))
        chance = np.exp(np.minimum(0.0, gain))
        moved = rng.random(len(here)) < chance
        here[moved], now[moved] = there[moved], then[moved]
        # Robbins-Monro steps on the logit of b, with gains that decrease as 1 / sqrt(step).
        if 2 * step < steps:
            logit += np.where(outside, 0.0, (chance - _ACCEPTANCE) * 4.0 / np.sqrt(1.0 + step))
    return here
