"""Maximum a posteriori hyperparameters of Gaussian processes, for many outputs at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Generic

import numpy as np
import torch
from torch import Tensor

from bo_invert.models.array_module import A, array_module, as_array, diagonal, matching, on_host
from bo_invert.models.gp.cholesky import invert
from bo_invert.models.gp.kernels import RBF, Kernel
from bo_invert.models.optim.batched_lbfgs import minimise_batched
from bo_invert.types import Indices

_MAX_LENGTHSCALE = 1e3
"""Upper bound of a lengthscale in units of the unit cube. Engineering choice: longer ones give a
constant kernel."""
MAX_FIT_POINTS = 400
"""Largest number of observations in a fit. Engineering choice: more observations hardly change the
hyperparameters, and a likelihood costs O(n^3)."""
_FULL_OUTPUTS = 2
"""Number of outputs that are fitted to ``MAX_FIT_POINTS`` observations. Engineering choice: 15
outputs are fitted to 204, so that their fit costs twice that of one output."""
_MAX_COARSE_POINTS = 100
"""Largest number of observations that choose among the starts of a fit. Engineering choice: as many
as in a comparison of models."""
_SINGLE_START_POINTS = 75
"""Number of observations from which a fit may have a single start. Engineering choice: fewer often
have several optima, and their fit is cheap. Of coarse fits to 75 to 100 observations of a search, a
single start left 8 % a nat or more behind several starts."""
_MATRIX_ELEMENTS = 20_000
"""Numbers in the covariance matrices that are computed together. Engineering choice: 160 kB stay
in the cache of a core."""


@dataclass(frozen=True)
class NoisePrior:
    """Log-normal prior of the noise variance, and bounds of a fit.

    Args:
        name: Name in memos.
        log_mean: Mean of log noise, as a variance in units of the standardised output.
        log_std: Standard deviation of log noise.
        min_noise: Lower bound of the noise variance.
        min_lengthscale: Lower bound of the lengthscales in units of the unit cube.
        max_noise: Upper bound of the noise variance.
    """

    name: str
    log_mean: float
    log_std: float
    min_noise: float
    min_lengthscale: float = 0.025
    max_noise: float = 1.0


EXACT = NoisePrior("exact", -10.0, 3.0, 1e-8)
"""Prior for exact oracles: little noise, unless the model misfits the data."""
NOISY = NoisePrior("noisy", -4.0, 1.0, 1e-4)
"""Default of BoTorch. It smooths over structure that is too fine for the model."""
MEASURED = NoisePrior("measured", -2.0, 2.0, 1e-4, min_lengthscale=0.1)
"""Prior for measurements, in which noise may explain most of the variance."""
LABELS = NoisePrior("labels", -4.0, 1.0, 1e-2, min_lengthscale=0.25)
"""Prior for labels 0 and 1. Shorter lengthscales would follow the jumps and not generalise."""
RARE_LABELS = NoisePrior("rare labels", -4.0, 1.0, 1e-2, min_lengthscale=0.025, max_noise=0.05)
"""Prior for labels 0 and 1 if few are 1. Only points near these are then predictable."""


def evenly_spaced(n: int, most: int) -> Indices:
    """Return at most ``most`` evenly spaced positions of n observations."""
    return np.linspace(0, n - 1, min(n, most)).round().astype(int)


def fit_hyperparameters(
    inputs: Tensor,
    values: Tensor,
    noise_prior: NoisePrior = EXACT,
    kernel: Kernel = RBF,
    warm_start: Tensor | None = None,
    known_noise: Tensor | None = None,
    coarse: bool = False,
    shared_lengthscale: bool = False,
    single_start: bool = False,
) -> tuple[Tensor, Tensor]:
    """Fit the hyperparameters of k outputs by maximum a posteriori, independently.

    A batched L-BFGS minimises ``negative_log_posterior`` from several starts per output. Of more
    than ``MAX_FIT_POINTS`` observations, an evenly spaced subset is used.

    Args:
        inputs: Unit inputs, shape ``(n, d)``, or ``(k, n, d)`` with one set per output.
        values: Values with mean 0 and variance 1 in each column, shape ``(n, k)``.
        noise_prior: Noise prior and bounds.
        kernel: Kernel of all outputs.
        warm_start: Earlier optima, shape ``(k, h + 1)``: one more start per output.
        known_noise: Known noise variances, added to the fitted one, shape ``(n, k)``.
        coarse: Stop early, with an accuracy that suffices to compare models.
        shared_lengthscale: Fit one lengthscale for all coordinates.
        single_start: Start at ``warm_start`` alone, an optimum of a similar model, if there are
            enough observations.

    Returns:
        Hyperparameters of the kernel and log noise, ``(k, h + 1)``, and negative log posteriors,
        ``(k,)``.
    """
    if on_host(inputs):
        # Small problems are faster in numpy.
        warm, noise = (None if x is None else as_array(x) for x in (warm_start, known_noise))
        data = as_array(inputs), as_array(values), noise
        in_numpy = _Fit(*data, noise_prior, kernel, shared_lengthscale)
        logs, lowest = in_numpy.run(warm, coarse, single_start)
        return torch.from_numpy(logs), torch.from_numpy(lowest)
    with torch.inference_mode():
        on_device = _Fit(inputs, values, known_noise, noise_prior, kernel, shared_lengthscale)
        return on_device.run(warm_start, coarse, single_start)


@dataclass(frozen=True, eq=False)
class _Fit(Generic[A]):
    """Fit of k outputs; arguments as of ``fit_hyperparameters``.

    Free hyperparameters, p of them, are those of the kernel, or the shared ones, and log noise.
    """

    inputs: A
    values: A
    known_noise: A | None
    noise_prior: NoisePrior
    kernel: Kernel
    shared_lengthscale: bool

    def run(self, warm_start: A | None, coarse: bool, single_start: bool) -> tuple[A, A]:
        """Return hyperparameters ``(k, h + 1)`` and negative log posteriors ``(k,)``."""
        # A part of the observations suffices to choose among the starts.
        starts = self._starts(warm_start)
        if single_start and len(self.values) >= _SINGLE_START_POINTS:
            starts = starts[:, :1]
        # k likelihoods of n observations cost O(k n^3).
        most = int(MAX_FIT_POINTS * min(1.0, _FULL_OUTPUTS / len(starts)) ** (1.0 / 3.0))
        some, every = self._subset(_MAX_COARSE_POINTS), self._subset(most)
        if coarse or some is not every or starts.shape[1] > 1:
            first = every if coarse else some
            found, lowest = first._minimise(starts, steps=25, tolerance=1e-3)
            rows = array_module(starts).arange(len(starts))[:, None]
            best = lowest.argmin(1)[:, None]
            starts, lowest = found[rows, best], lowest[rows, best]
        if not coarse:
            # The start is near an optimum, so a looser tolerance than usual is as accurate.
            starts, lowest = every._minimise(starts, steps=80, tolerance=1e-5)
        return self._unpack(starts[:, 0]), lowest[:, 0]

    def _subset(self, most: int) -> _Fit[A]:
        """Return the fit to at most this number of evenly spaced observations."""
        n = len(self.values)
        if n <= most:
            return self
        some = evenly_spaced(n, most)
        noise = None if self.known_noise is None else self.known_noise[some]
        inputs = self.inputs[..., some, :]
        return replace(self, inputs=inputs, values=self.values[some], known_noise=noise)

    def _starts(self, warm_start: A | None) -> A:
        """Return free hyperparameters, shape ``(k, s, p)``."""
        # A short and a long start: typical distances in the cube grow with sqrt(d).
        root = math.sqrt(self.kernel.parameters(self._d))
        ends = [self.kernel.start(self._d, factor * root) for factor in (0.2, 1.0)]
        noises = np.log(np.maximum([1e-6, 1e-3], self.noise_prior.min_noise))
        xp, k = array_module(self.values), self.values.shape[1]
        starts: A = matching(np.column_stack([ends, noises]), self.values)
        starts = xp.broadcast_to(starts, (k, *starts.shape))
        if warm_start is not None:
            starts = xp.concatenate([warm_start[:, None], starts], 1)
        return self._pack(starts)

    def _minimise(self, starts: A, *, steps: int, tolerance: float) -> tuple[A, A]:
        """Minimise from starts ``(k, s, p)``; return ends and values, ``(k, s)``."""
        k, s, p = starts.shape
        prior = self.noise_prior
        ends = self.kernel.bounds(self._d, prior.min_lengthscale, _MAX_LENGTHSCALE)
        bounds = np.column_stack([ends, np.log([prior.min_noise, prior.max_noise])])
        lower, upper = self._pack(matching(bounds, starts))

        def function(free: A, rows: A) -> tuple[A, A]:
            return self._evaluate(free, rows // s)

        found, lowest = minimise_batched(
            function, starts.reshape(k * s, p), lower, upper, steps=steps, tolerance=tolerance
        )
        return found.reshape(k, s, p), lowest.reshape(k, s)

    def _evaluate(self, free: A, output: A) -> tuple[A, A]:
        """Return negative log posteriors ``(a,)`` and gradients ``(a, p)`` of some outputs."""
        # The prior counts a shared lengthscale d times. Counted once, it would favour short ones,
        # and a rough function in many dimensions would look like noise.
        logs, values = self._unpack(free), self.values.T[output]
        noise = None if self.known_noise is None else self.known_noise.T[output]
        one_set = self.inputs.ndim == 2
        # Matrices of a few rows stay in the cache of a core. A GPU computes all at once.
        few = max(1, _MATRIX_ELEMENTS // len(self.values) ** 2)
        step = few if isinstance(free, np.ndarray) else len(free)
        parts = [
            negative_log_posterior(
                logs[some],
                self.inputs if one_set else self.inputs[output[some]],
                values[some],
                self.noise_prior,
                self.kernel,
                None if noise is None else noise[some],
            )
            for some in (slice(i, i + step) for i in range(0, len(free), step))
        ]
        xp = array_module(free)
        value: A = xp.concatenate([value for value, _ in parts])
        gradient: A = xp.concatenate([gradient for _, gradient in parts])
        if self.shared_lengthscale:
            shared = self.kernel.share_gradient(gradient[:, :-1])
            gradient = xp.concatenate([shared, gradient[:, -1:]], -1)
        return value, gradient

    def _pack(self, logs: A) -> A:
        """Return free hyperparameters ``(..., p)`` of all of them ``(..., h + 1)``."""
        if not self.shared_lengthscale:
            return logs
        parts = [self.kernel.share(logs[..., :-1]), logs[..., -1:]]
        packed: A = array_module(logs).concatenate(parts, -1)
        return packed

    def _unpack(self, free: A) -> A:
        """Return hyperparameters ``(..., h + 1)`` of free ones ``(..., p)``."""
        if not self.shared_lengthscale:
            return free
        parts = [self.kernel.unshare(free[..., :-1], self._d), free[..., -1:]]
        unpacked: A = array_module(free).concatenate(parts, -1)
        return unpacked

    @property
    def _d(self) -> int:
        """Number of columns of the inputs."""
        return int(self.inputs.shape[-1])


def negative_log_posterior(
    logs: A,
    inputs: A,
    values: A,
    noise_prior: NoisePrior,
    kernel: Kernel,
    known_noise: A | None = None,
) -> tuple[A, A]:
    """Return the negative log marginal likelihood minus the log prior, and its gradient.

    r'C^-1 r / 2 + log|C| / 2 + n log(2 pi) / 2 - log p(l) - log p(noise), up to a constant, with
    C = K + noise I and r = y - m (Rasmussen & Williams 2006, eq. 2.30 and 5.9). The constant mean m
    has its most probable value, so its derivative vanishes.

    Args:
        logs: Hyperparameters of the kernel and log noise, shape ``(b, h + 1)``.
        inputs: Unit inputs, shape ``(n, d)`` or ``(b, n, d)``.
        values: Values, shape ``(b, n)``.
        noise_prior: Prior of the noise.
        kernel: Kernel of all rows.
        known_noise: Further noise variances, shape ``(b, n)``.

    Returns:
        Values ``(b,)``, infinite for singular covariances, and gradients ``(b, h + 1)``.
    """
    xp, n = array_module(logs), inputs.shape[-2]
    gram, cache = kernel.gram(logs[:, :-1], inputs)
    noise: A = xp.exp(logs[:, -1])
    spread = diagonal(gram)
    spread += noise[:, None] if known_noise is None else noise[:, None] + known_noise
    right: A = xp.stack([values, xp.ones_like(values)], -1)
    halves, solutions, upstream = invert(gram, right)
    # m = 1'C^-1 y / 1'C^-1 1
    ones = solutions[..., 1]
    constant = ((ones * values).sum(-1) / ones.sum(-1))[:, None]
    alpha = solutions[..., 0] - constant * ones
    # dL/dC = (C^-1 - alpha alpha') / 2, chained with dC/d(log l) and dC/d(log noise) = noise I
    upstream -= alpha[:, :, None] * alpha[:, None, :]
    upstream *= 0.5
    by_lengthscales = kernel.gradient_in_log_lengthscales(cache, upstream)
    by_noise = noise * diagonal(upstream).sum(-1)
    prior, by_prior = kernel.negative_log_prior(logs[:, :-1])
    # -log p(noise) = (log noise - mean)^2 / (2 std^2) + log noise + const.
    off = logs[:, -1] - noise_prior.log_mean
    value: A = (
        0.5 * ((values - constant) * alpha).sum(-1)
        + halves
        + 0.5 * n * math.log(2.0 * math.pi)
        + prior
        + 0.5 * (off / noise_prior.log_std) ** 2
        + logs[:, -1]
    )
    by_noise = by_noise + off / noise_prior.log_std**2 + 1.0
    gradient: A = xp.concatenate([by_lengthscales + by_prior, by_noise[:, None]], 1)
    return value, gradient
