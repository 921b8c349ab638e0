"""Plausibility as a known function of points, in place of a model of its observations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from bo_invert.domains.reference_measure import Reference
from bo_invert.domains.search_domain import Domain
from bo_invert.models.gp.posterior import Moments, MomentsCache
from bo_invert.types import Array

Slope = Callable[[Array], tuple[Array, Array]]
"""Function from unit inputs ``(b, d)`` to values ``(b,)`` and gradients ``(b, d)``."""

HostMoments = Moments[NDArray[Any]]
HostCache = MomentsCache[NDArray[Any]]

_SPREAD = 1e-3
"""Standard deviation of a known plausibility, as a share of the measure. Engineering choice: a
smaller one makes the improvement a step, which gradient ascent cannot climb."""
_EQUAL = 1e-6
"""Largest difference of plausibilities that are equal, as a share. Engineering choice: 1e-3 of the
step of an empirical distribution of 1,000 codes."""


def known_plausibility(domain: Domain, points: Array, observed: Array) -> Slope | None:
    """Return the plausibility of a domain and its gradient; None if observations differ from it.

    The plausibility of N(0, I) is P(chi^2_d > |z|^2). That of a mixture is the share of held-out
    codes of lower density; linear interpolation between the codes gives it a slope.

    Args:
        domain: Search domain.
        points: Observed points, shape ``(n, d)``.
        observed: Observed plausibilities, shape ``(n,)``. A function of the user may have given
            them.
    """
    if np.abs(domain.plausibility(points) - observed).max(initial=0.0) > _EQUAL:
        return None
    lower, upper = domain.bounds
    width, reference = upper - lower, domain.reference

    def slope(inputs: Array) -> tuple[Array, Array]:
        z = lower + inputs * width
        value, gradient = _normal(z) if reference is None else _mixture(reference, z)
        return value, gradient * width

    return slope


def _normal(z: Array) -> tuple[Array, Array]:
    squared, d = (z**2).sum(1), z.shape[1]
    return chi2.sf(squared, d), -2.0 * z * chi2.pdf(squared, d)[:, None]


def _mixture(reference: Reference, z: Array) -> tuple[Array, Array]:
    density, gradient = reference.slope(z)
    levels = reference.quantiles
    shares = np.arange(1, len(levels) + 1) / len(levels)
    value = np.interp(density, levels, shares, left=0.0)
    # The slope over some codes on each side: that between two neighbours is noise.
    reach = max(1, len(levels) // 50)
    at = np.searchsorted(levels, density)
    first, last = np.maximum(at - reach, 0), np.minimum(at + reach, len(levels) - 1)
    run = np.maximum(levels[last] - levels[first], 1e-12)
    rise = np.where(at < len(levels), (shares[last] - shares[first]) / run, 0.0)
    return value, rise[:, None] * gradient


@dataclass(frozen=True, eq=False)
class KnownOutput:
    """Output that is a known function of the input.

    Args:
        column: Position of its score among the k scores.
        slope: Function from unit inputs to its value and gradient.
        scale: Factor from the score to the value.
        offset: Value at score 0.
    """

    column: int
    slope: Slope
    scale: float
    offset: float

    def scores(self, inputs: Array) -> Array:
        """Return scores ``(b,)`` at unit inputs ``(b, d)``."""
        return (self.slope(inputs)[0] - self.offset) / self.scale


@dataclass(frozen=True, eq=False)
class KnownMoments(Moments[NDArray[Any]]):
    """Moments of a posterior in which one output is known.

    Args:
        output: Known output.
    """

    output: KnownOutput

    @staticmethod
    def replacing(moments: HostMoments, output: KnownOutput) -> KnownMoments:
        """Return moments with a known output."""
        own = {field.name: getattr(moments, field.name) for field in fields(Moments)}
        return KnownMoments(**own, output=output)

    def __call__(self, inputs: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], HostCache]:
        mean, variance, cache = super().__call__(inputs)
        output, column = self.output, self.output.column
        value, gradient = output.slope(inputs)
        mean, variance = mean.copy(), variance.copy()
        mean[:, column] = ((value - output.offset) / output.scale)[:, None]
        variance[:, column] = (_SPREAD / output.scale) ** 2
        return mean, variance, cache._replace(known=gradient / output.scale)

    def gradient(
        self, cache: HostCache, by_mean: NDArray[Any], by_variance: NDArray[Any]
    ) -> NDArray[Any]:
        column = self.output.column
        own = by_mean[:, column].sum(-1)[:, None] * cache.known
        modelled, spread = by_mean.copy(), by_variance.copy()
        modelled[:, column], spread[:, column] = 0.0, 0.0
        return np.asarray(super().gradient(cache, modelled, spread) + own)
