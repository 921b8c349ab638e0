"""Noise of a noisy oracle: its scale at each design, and its distribution.

A Gaussian process of a noisy oracle gives the mean of its outputs. One call at a design x returns

    ``y = f(x) + D(x) u,  u ~ sum_m w_m N(c_m, S_m),  D(x) = diag exp(g_j(x) / 2)``

with Gaussian processes f of the outputs, g of the log variance of their noise (Goldberg, Williams &
Bishop 1998; Kersting et al. 2007), and a mixture of normal distributions with full covariances for
the shape of the noise: outputs that vary together, tails, several modes. All is in units of the
standardised outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bo_invert.models.gp.compression import compress
from bo_invert.models.gp.hyperparameter_fit import EXACT, MEASURED, NOISY, fit_hyperparameters
from bo_invert.models.gp.posterior import GPPosterior, condition
from bo_invert.models.inverse.noise_mixture import NoiseMixture, fit_noise_mixture

_ROUNDS = 2
"""Number of times that mean and noise are estimated in turn. Engineering choice: the second changes
the noise by less than its standard error."""
_ACCURACY = 0.1
"""Error of the variance of a mean in variances of the noise, up to which inputs are omitted.
Engineering choice: ten observations at a design have the same effect."""
_QUIET = 0.1
"""Quantile of the noise variances to which the accuracy refers, dimensionless. Engineering choice:
the posterior prefers designs with little noise."""
_LOG_CHI2_MEAN = -1.2703628454614782
"""Mean of the logarithm of the square of a standard normal number, dimensionless: minus Euler's
constant minus log 2 (Harvey, Ruiz & Shephard 1994)."""
_LOG_CHI2_VARIANCE = 4.934802200544679
"""Variance of the logarithm of the square of a standard normal number, dimensionless: pi^2 / 2
(Harvey, Ruiz & Shephard 1994)."""
_MOST_KNOWN = 0.98
"""Largest share of the variance of log squares that counts as known. Engineering choice: leaves
some to be explained."""
_SMALLEST = 1e-6
"""Least squared residual as a share of the mean one. Engineering choice: avoids log 0."""
_LEAST_OBSERVATIONS = 30
"""Least number of observations with a model of the noise. Engineering choice: fewer tell the
variance of the noise only."""
_LEAD = 3.0
"""Lead in nats of the left-out log density that a variance that depends on the design needs.
Engineering choice: avoids one by chance."""


@dataclass(frozen=True, eq=False)
class NoiseScale:
    """Scale of the noise of k scores.

    Args:
        log_variance: Posterior of ``(g - centre) / spread``; None for equal noise everywhere.
        centre: Shape ``(k,)``.
        spread: Shape ``(k,)``; 0 for a score with equal noise everywhere.
    """

    log_variance: GPPosterior | None
    centre: Tensor
    spread: Tensor

    @property
    def equal(self) -> bool:
        """True if the noise is equal everywhere."""
        return self.log_variance is None

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return D ``(n, k)`` at unit inputs ``(n, d)``."""
        logs = self.centre.expand(len(inputs), -1)
        if self.log_variance is not None:
            logs = logs + self.spread * self.log_variance(inputs)[0]
        return torch.exp(0.5 * logs)


@dataclass(frozen=True, eq=False)
class OracleNoise:
    """Distribution of the noise of the scores of one call.

    Args:
        scale: Scale D of the noise.
        mixture: Distribution of the scaled noise u.
    """

    scale: NoiseScale
    mixture: NoiseMixture


@torch.no_grad()
def fit_oracle_noise(gp: GPPosterior) -> tuple[GPPosterior, OracleNoise | None]:
    """Fit the noise to the left-out residuals of a posterior with noise.

    In turn, the noise is fitted to the residuals, and the means to the observations with the
    precision that each one is expected to have under the noise. Residuals contain the errors of the
    means, whose variances are known.

    Args:
        gp: Posterior of k scores, given n observations of a noisy oracle.

    Returns:
        The posterior for this noise, and the noise; None for too few observations.
    """
    observed = gp.values[..., 0].mT
    if len(observed) < _LEAST_OBSERVATIONS:
        return gp, None
    residual, own = _left_out(gp, observed)
    squares = residual.square()
    scale = _fit_scale(gp, squares)
    for done in range(_ROUNDS):
        if done and not scale.equal:
            scale = _fit_scale(gp, squares)
        deviation = scale(gp.inputs)
        unit = residual / deviation, own / deviation.square()
        mixture = fit_noise_mixture(*unit)
        if scale.equal and len(mixture.means) == 1:
            break  # the posterior has this noise already
        precision, shift = mixture.expected_precision(*unit)
        noise, centred = deviation.square() / precision, observed - deviation * shift
        logs = gp.log_lengthscales if scale.equal else _lengthscales(gp, noise, centred)
        gp = condition(gp.kernel, logs, noise.mT, gp.inputs, centred)
        residual, own = _left_out(gp, observed)
        # The share of the noise in the square of a residual.
        squares = residual.square() * noise / (noise + own)
    gp = compress(gp, _ACCURACY * gp.noise.quantile(_QUIET, dim=1))
    return gp, OracleNoise(scale, mixture)


def _lengthscales(gp: GPPosterior, noise: Tensor, values: Tensor) -> Tensor:
    """Return log lengthscales ``(k, d)`` for noise variances and values ``(n, k)``.

    Under equal noise, a fit explains the largest deviations by short lengthscales. Some equal noise
    is added, because the variances are estimates.
    """
    prior = replace(NOISY, min_lengthscale=MEASURED.min_lengthscale)
    logs, _ = fit_hyperparameters(gp.inputs, values, prior, gp.kernel, known_noise=noise)
    return logs[:, :-1]


def _left_out(gp: GPPosterior, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Return left-out residuals of observations ``(n, k)`` and the variances of their means."""
    mean, variance = gp.leave_one_out()
    return observed - mean, (variance - gp.noise.mT).clamp(min=0.0)


def _fit_scale(gp: GPPosterior, squares: Tensor) -> NoiseScale:
    """Fit Gaussian processes to the logarithms of squared residuals ``(n, k)``.

    The noise of a score is equal everywhere if they predict left-out ones no better than a
    constant.
    """
    squares = torch.maximum(squares, _SMALLEST * squares.mean(0))
    logs = squares.log() - _LOG_CHI2_MEAN
    centre, spread = logs.mean(0), logs.std(0, correction=0)
    values = (logs - centre) / spread
    # The variance of log squares of normal numbers is known, so only the rest is to be explained.
    known = (_LOG_CHI2_VARIANCE / spread.square()).clamp(max=_MOST_KNOWN)
    fixed = known.expand(len(values), -1)
    found, _ = fit_hyperparameters(gp.inputs, values, EXACT, gp.kernel, known_noise=fixed)
    noise = found[:, -1:].exp() + fixed.mT
    posterior = condition(gp.kernel, found[:, :-1], noise, gp.inputs, values)
    left_out = (centre + spread * posterior.leave_one_out()[0]).exp()
    level = (squares / left_out).mean(0)
    log_density = -0.5 * (squares / (level * left_out) + (level * left_out).log()).sum(0)
    equal = -0.5 * len(values) * (1.0 + squares.mean(0).log())
    spread = torch.where(log_density - equal > _LEAD, spread, 0.0)
    if not bool(spread.any()):
        return NoiseScale(None, centre, spread)
    return NoiseScale(compress(posterior, _ACCURACY * noise.amin(1)), centre, spread)
