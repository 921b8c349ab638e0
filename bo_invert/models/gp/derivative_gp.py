"""Gaussian process of one output, conditioned on its values and its derivatives.

A derivative of a Gaussian process is jointly Gaussian with its values (Solak et al. 2003). For a
stationary kernel k(r^2), scaled inputs z = x / l, and unit directions u, v with w = v / l,

    cov(f(x), v'grad f(x'))           = -2 k' (z - z').w_v
    cov(u'grad f(x), v'grad f(x'))    = -4 k'' (z - z').w_u (z - z').w_v - 2 k' w_u.w_v.

A warp w of the values, log(1 + (v - lowest) / threshold), multiplies derivatives by w'(v).

In many dimensions only the derivatives along the principal directions of all gradients are used,
the active subspace (Constantine et al. 2014), so that the covariance stays small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bo_invert.models.gp.derivative_data import LEAST_POINTS, DerivativeData
from bo_invert.models.gp.kernels import lengthscale_prior
from bo_invert.models.optim.batched_lbfgs import minimise_batched
from bo_invert.types import JSON

_MAX_FIT_ROWS = 400
"""The same in a fit, which factorises C at each step. Engineering choice."""
_WARPS = (0.5, 0.25, 0.1)
"""Candidates for the share of values below the threshold of a warp. Engineering choice."""
_WARP_GROWTH = 1.5
"""Growth of the data after which the warp is selected again, a ratio. Engineering choice."""
_MAX_SELECTION_ROWS = 200
"""Largest number of values and derivatives in a fit that selects the warp. Engineering choice."""
_GROWTH = 1.15
"""Growth of the data after which hyperparameters are fitted again, a ratio. Engineering choice."""
_VALUE_NOISE = (-10.0, 3.0, 1e-9, 1e-4)
"""Mean and standard deviation of log noise of values, and bounds of the noise, as a variance in
units of the kernel's scale; the prior is that of ``EXACT`` in ``hyperparameter_fit``. Engineering
choice: a low upper bound, because values are exact and derivatives, of which there are d times as
many, would outvote them."""
_SLOPE_NOISE = (-7.0, 3.0, 1e-8, 1e2)
"""The same for derivatives, in units of their prior variance. Engineering choice: derivatives of
networks with kinks, or of a gradient proxy, disagree with a smooth model; the data decide."""
_MAX_SCALE = 10.0
"""Upper bound of the variance of the kernel, in units of the variance of the values.
Engineering choice: the noise of values is relative to it and would otherwise grow with it."""
_LENGTHSCALES = (0.02, 1e3)
"""Bounds of the lengthscales in units of the unit cube. Engineering choice."""
_STARTS = ((0.3, -7.0), (1.0, -7.0), (1.0, 1.0))
"""Starts of a fit: lengthscales in units of sqrt(d), the typical distance, and log noise of
derivatives. Engineering choice: the last one nearly ignores derivatives, which ripples smaller than
the distance of observations make misleading."""


def _rbf(squared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return k = exp(-r^2 / 2) and its first two derivatives in r^2."""
    value = torch.exp(-0.5 * squared)
    return value, -0.5 * value, 0.25 * value


def _matern(squared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return Matern-5/2 and its first two derivatives in r^2, see ``kernels``."""
    # The derivative of a square root at 0 is infinite.
    s = (5.0 * squared + 1e-20).sqrt()
    decay = torch.exp(-s)
    return (
        (1.0 + s + s * s / 3.0) * decay,
        (-5.0 / 6.0) * (1.0 + s) * decay,
        (25.0 / 12.0) * decay,
    )


_KERNELS = {"rbf": _rbf, "matern": _matern}


@dataclass(frozen=True, eq=False)
class DerivativeGP:
    """Posterior of a Gaussian process, given values and derivatives.

    Args:
        kernel: ``"rbf"`` or ``"matern"``.
        logs: Hyperparameters, see ``_covariance``, shape ``(d + 2,)``.
        data: Observations.
        constant: Prior mean.
        scale: Variance of the kernel.
        inverse_cholesky: Inverse of the Cholesky factor of C / scale, shape ``(N, N)``.
        weights: (C / scale)^-1 (targets - mean), shape ``(N,)``.
    """

    kernel: str
    logs: Tensor
    data: DerivativeData
    constant: Tensor
    scale: Tensor
    inverse_cholesky: Tensor
    weights: Tensor

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance ``(b,)`` of the noise-free value at inputs ``(b, d)``."""
        data = self.data
        lengths = self.logs[:-2].exp()
        here, there, ways = inputs / lengths, data.inputs / lengths, data.directions / lengths
        squared = _squared_distances(here, there)
        value, slope, _ = _KERNELS[self.kernel](squared)
        along = (here @ ways.T)[:, None] - (there @ ways.T)[None]
        slopes = (-2.0 * slope[..., None] * along).flatten(1)[:, data.measured]
        cross = torch.cat([value, slopes], 1)
        white = cross @ self.inverse_cholesky.T
        variance = (1.0 - white.square().sum(-1)).clamp(min=1e-12)
        return self.constant + cross @ self.weights, self.scale * variance

    def leave_one_out(self) -> Tensor:
        """Return predictions ``(n,)`` of each value without its observation.

        The observation is left out with all its derivatives: with rows b of the inverse covariance
        P and weights a = P r, the residual of its value is the first entry of P_bb^-1 a_b
        (Ginsbourger & Scharer 2025).
        """
        n, p = self.data.slopes.shape
        owner = torch.cat([torch.arange(n), self.data.measured // p])
        precision = self.inverse_cholesky.T @ self.inverse_cholesky
        residuals = []
        for i in range(n):
            rows = (owner == i).nonzero().squeeze(-1)
            block = precision[rows][:, rows]
            residuals.append(torch.linalg.solve(block, self.weights[rows])[0])
        return self.data.values - torch.stack(residuals)

    def believe(self, inputs: Tensor) -> DerivativeGP:
        """Condition on the posterior mean at pending inputs ``(q, d)``.

        This is the kriging believer of Ginsbourger et al. (2010).
        """
        data = self.data.with_values(inputs, self(inputs)[0])
        return condition(self.kernel, self.logs, data, self.constant, self.scale)


def condition(
    kernel: str,
    logs: Tensor,
    data: DerivativeData,
    constant: Tensor | None = None,
    scale: Tensor | None = None,
) -> DerivativeGP:
    """Condition on observations; constant and scale are the most probable ones by default."""
    factor = _cholesky(_covariance(kernel, logs[None], data))
    mean, spread, *_ = _profiled(factor, data)
    constant = mean[0] if constant is None else constant
    eye = torch.eye(factor.shape[-1]).to(factor)
    inverse = torch.linalg.solve_triangular(factor[0], eye, upper=False)
    rest = data.targets - constant * _ones(data)
    weights = inverse.T @ (inverse @ rest)
    return DerivativeGP(
        kernel, logs, data, constant, spread[0] if scale is None else scale, inverse, weights
    )


def fit_derivative_gp(data: DerivativeData, memo: JSON = None) -> tuple[DerivativeGP, JSON]:
    """Fit warp, kernel and hyperparameters by maximum a posteriori.

    Args:
        data: Observations with mean 0 and variance 1; high values are bad.
        memo: Memo of an earlier fit, reused until the data have grown by 15 %.

    Returns:
        Posterior of the warped values, and a memo.
    """
    n, d = data.inputs.shape
    noted = memo or {}
    warm = noted.get("logs", {})
    warm = {name: data.inputs.new_tensor(logs) for name, logs in warm.items() if len(logs) == d + 2}
    share, chosen = noted.get("share", 0.0), noted.get("chosen", 0)
    if not warm or not noted["n"] <= n < _GROWTH * noted["n"]:
        if n >= LEAST_POINTS and n >= _WARP_GROWTH * chosen:
            some = data.evenly_spaced(_MAX_SELECTION_ROWS)
            share, chosen = _select_warp(data.select(some), warm.get("rbf")), n
        part = data.warped(share)[0].select(data.evenly_spaced(_MAX_FIT_ROWS))
        found = {name: _fit(name, part, warm.get(name)) for name in _KERNELS}
        best = min(found, key=lambda name: found[name][1])
        warm = {name: logs for name, (logs, _) in found.items()}
        noted = {
            "n": n, "kernel": best, "logs": {k: v.tolist() for k, v in warm.items()},
            "share": share, "chosen": chosen,
        }  # fmt: skip
    return condition(noted["kernel"], warm[noted["kernel"]], data.warped(share)[0]), noted


def _select_warp(data: DerivativeData, warm: Tensor | None) -> float:
    """Return the share of values below the threshold of the most probable warp; 0 for none."""

    def negative_log_density(share: float) -> float:
        warped, log_jacobian = data.warped(share)
        return _fit("rbf", warped, warm)[1] - log_jacobian

    return min((0.0, *_WARPS), key=negative_log_density)


def _fit(kernel: str, data: DerivativeData, warm: Tensor | None) -> tuple[Tensor, float]:
    """Return the most probable hyperparameters ``(d + 2,)`` and their negative log posterior."""
    d = data.inputs.shape[1]
    starts = [
        [math.log(share * math.sqrt(d))] * d + [_VALUE_NOISE[0], noise] for share, noise in _STARTS
    ]
    logs = data.inputs.new_tensor(starts)
    logs = logs if warm is None else torch.cat([warm[None], logs[1:]])
    low, high = (
        data.inputs.new_tensor(
            [math.log(one)] * d + [math.log(_VALUE_NOISE[i]), math.log(_SLOPE_NOISE[i])]
        )
        for one, i in zip(_LENGTHSCALES, (2, 3), strict=True)
    )

    def function(free: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            free = free.detach().requires_grad_()
            value = _negative_log_posterior(kernel, free, data)
            (gradient,) = torch.autograd.grad(value.sum(), free)
        return value.detach(), gradient

    steps = 50 if warm is None else 25
    ends, values = minimise_batched(function, logs, low, high, steps=steps, tolerance=1e-5)
    best = int(values.argmin())
    return ends[best], float(values[best])


def _negative_log_posterior(kernel: str, logs: Tensor, data: DerivativeData) -> Tensor:
    """Return the negative log posterior of hyperparameters ``(a, d + 2)``, shape ``(a,)``.

    N log(scale) / 2 + r'(C / scale)^-1 r / (2 scale) + log|C / scale| / 2 - log p(logs).
    """
    factor = _cholesky(_covariance(kernel, logs, data))
    _, scale, square, half_determinant = _profiled(factor, data)
    n = len(data.targets)
    prior, _ = lengthscale_prior(logs[:, :-2])
    for log, (mean, std, *_) in zip(logs[:, -2:].T, (_VALUE_NOISE, _SLOPE_NOISE), strict=True):
        prior = prior + 0.5 * ((log - mean) / std) ** 2
    return 0.5 * (n * scale.log() + square / scale) + half_determinant + prior


def _profiled(factor: Tensor, data: DerivativeData) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the most probable mean and scale, r'(C / scale)^-1 r, and log|C / scale| / 2.

    Each has the shape ``(a,)``; r are the targets minus the mean.

    Args:
        factor: Cholesky factors of C / scale, shape ``(a, N, N)``.
        data: Observations.
    """
    sides = torch.stack([data.targets, _ones(data)], -1).expand(len(factor), -1, -1)
    white, one = torch.linalg.solve_triangular(factor, sides, upper=False).unbind(-1)
    mean = (white * one).sum(-1) / one.square().sum(-1)
    rest = white - mean[:, None] * one
    square = rest.square().sum(-1)
    scale = (square / rest.shape[-1]).clamp(1e-12, _MAX_SCALE)
    return mean, scale, square, factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _ones(data: DerivativeData) -> Tensor:
    """Return 1 for values and 0 for derivatives: those of a constant mean, shape ``(N,)``."""
    return torch.cat([torch.ones_like(data.values), data.values.new_zeros(len(data.measured))])


def _covariance(kernel: str, logs: Tensor, data: DerivativeData) -> Tensor:
    """Return covariances C / scale of values and derivatives, shape ``(a, N, N)``.

    Args:
        kernel: ``"rbf"`` or ``"matern"``.
        logs: Logarithms of d lengthscales, of the noise of values in units of the scale, and of the
            noise of derivatives in units of their prior variance, shape ``(a, d + 2)``.
        data: Observations.
    """
    n, p = data.slopes.shape
    lengths = logs[:, None, :-2].exp()
    z, ways = data.inputs / lengths, data.directions / lengths
    value, slope, bend = _KERNELS[kernel](_squared_distances(z, z))
    shadow = z @ ways.mT
    along = shadow[:, :, None] - shadow[:, None]
    mixed = (-2.0 * slope[..., None] * along).flatten(2)[..., data.measured]
    # The derivatives of all pairs of points, in the order of the flattened slopes.
    gram = ways @ ways.mT
    both = -4.0 * bend[..., None, None] * along[..., :, None] * along[..., None, :]
    both = both - 2.0 * slope[..., None, None] * gram[:, None, None]
    both = both.permute(0, 1, 3, 2, 4).reshape(len(logs), n * p, n * p)
    both = both[:, data.measured][..., data.measured]
    noise = logs[:, -1:].exp() * gram.diagonal(dim1=-2, dim2=-1).repeat(1, n)[:, data.measured]
    spread = torch.cat([logs[:, -2:-1].exp().expand(-1, n), noise], 1)
    whole = torch.cat([torch.cat([value, mixed], 2), torch.cat([mixed.mT, both], 2)], 1)
    return whole + torch.diag_embed(spread)


def _cholesky(matrix: Tensor) -> Tensor:
    """Return lower Cholesky factors of ``(a, N, N)``, differentiable, with jitter if needed."""
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(matrix)
    jitter = 1e-9
    while bool(info.any()) and jitter < 1.0:
        eye = torch.eye(matrix.shape[-1]).to(matrix)
        factor, info = torch.linalg.cholesky_ex(matrix + jitter * eye)
        jitter *= 10.0
    return factor


def _squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """Return squared distances ``(..., n, m)`` of ``(..., n, d)`` and ``(..., m, d)``."""
    squared = left.square().sum(-1, keepdim=True) + right.square().sum(-1).unsqueeze(-2)
    return (squared - 2.0 * left @ right.mT).clamp(min=0.0)
