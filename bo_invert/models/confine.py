"""Points moved to where they may be asked for, which for a latent with a ``floor`` is where they are plausible."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bo_invert.domain import Domain, Reference
from bo_invert.types import Array

Slope = Callable[[Array], tuple[Array, Array]]

_ROUNDS = 50
_HALVINGS = 25
_DEEP = 0.01
"""Above the least log density: a step that ends there has gone beyond the edge, between two modes as a rule."""
_MARGIN = 1e-5
"""Of the log density, or of a radius: what rounding to single precision must not cost at the edge."""


def confined(domain: Domain) -> Callable[[Array], Array]:
    """What moves points ``(..., d)`` inside a domain, and there to the edge of what its ``floor`` asks for.

    Under a standard normal, plausible points fill a ball, and points outside go to the nearest on its surface. Under
    a measured mixture they climb its log density by Newton's steps along the slope, so they end near where they began.
    """
    if domain.geometry == "box" or domain.floor <= 0.0:
        return domain.project
    if domain.reference is None:
        from scipy.stats import chi2

        reach = math.sqrt(chi2.isf(domain.floor, domain.dim)) * (1.0 - _MARGIN)
        return replace(domain, radius=min(domain.radius, reach)).project
    reference = domain.reference
    levels = reference.quantiles
    least = float(levels[max(math.ceil(domain.floor * len(levels)) - 1, 0)])
    unit = max(1.0, abs(least))
    least += _MARGIN * unit
    aim = least + 0.1 * _MARGIN * unit  # steps that only came nearer and nearer to the edge could miss it by rounding
    slope = _log_density(reference)
    peak = reference.means[slope(reference.means)[0].argmax()]

    def inside(points: Array) -> Array:
        x = np.array(domain.project(points)).reshape(-1, domain.dim)
        low = np.arange(len(x))
        value, gradient = slope(x)
        for _ in range(_ROUNDS):
            still = value < least
            low, lack, gradient = low[still], aim - value[still], gradient[still]
            if not len(low):
                break
            outside, steep = x[low], np.linalg.norm(gradient, axis=1)
            length = np.minimum(lack / np.maximum(steep, 1e-12), 0.5 * math.sqrt(domain.dim))
            step = (length / np.maximum(steep, 1e-12))[:, None] * gradient
            value, gradient = slope(outside + step)
            deep = np.flatnonzero(value > least + _DEEP)
            step[deep] *= _to_edge(outside[deep], step[deep], slope, least)[:, None]
            x[low] = outside + step
        way = peak - x[low]  # up a hill that ends too low: cross over to the highest
        x[low] += _to_edge(x[low], way, slope, least)[:, None] * way
        return domain.project(x.reshape(np.shape(points)))

    return inside


def _to_edge(x: Array, step: Array, slope: Slope, least: float) -> Array:
    """Shares of steps ``(b, d)`` that lead just across the edge, shape ``(b,)``, by halving what lies between."""
    short, long = np.zeros(len(x)), np.ones(len(x))
    for _ in range(_HALVINGS if len(x) else 0):
        middle = 0.5 * (short + long)
        across = slope(x + middle[:, None] * step)[0] >= least
        short, long = np.where(across, short, middle), np.where(across, middle, long)
    return long


def _log_density(reference: Reference) -> Slope:
    """Log density ``(b,)`` of points ``(b, d)``, up to rounding that of ``Reference``, and its gradient ``(b, d)``."""
    whiteners = np.linalg.inv(reference.factors)
    d = reference.means.shape[1]
    heights = np.log(reference.weights) - np.log(np.diagonal(reference.factors, axis1=1, axis2=2)).sum(1)
    heights = heights - 0.5 * d * math.log(2.0 * math.pi)

    def slope(x: Array) -> tuple[Array, Array]:
        white = (x[None] - reference.means[:, None]) @ np.swapaxes(whiteners, 1, 2)  # (c, b, d)
        logs = heights[:, None] - 0.5 * (white**2).sum(2)
        top = logs.max(0)
        shares = np.exp(logs - top)
        total = shares.sum(0)
        gradient = -((shares / total)[:, :, None] * (white @ whiteners)).sum(0)
        return top + np.log(total), gradient

    return slope
