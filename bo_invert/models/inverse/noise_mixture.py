"""Mixture of normal distributions of the noise of an oracle, fitted by expectation maximisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_SIZES = (1, 2, 3, 4, 6, 8)
"""Numbers of components that are compared, in this order. Engineering choice: a crescent needs
about six."""
_STEPS = 60
"""Largest number of iterations. Engineering choice: bounds the time of an ask."""
_GAIN = 1e-3
"""Gain of the mean log likelihood in nats below which iterations end. Engineering choice: far below
the differences between numbers of components."""
_LEAST_VARIANCE = 0.02
"""Least share of a variance that remains when the variance of the means is subtracted,
dimensionless. Engineering choice: keeps estimates positive definite."""


@dataclass(frozen=True, eq=False)
class NoiseMixture:
    """Mixture of m normal distributions of k scores.

    Args:
        log_weights: Shape ``(m,)``.
        means: Shape ``(m, k)``.
        covariances: Shape ``(m, k, k)``.
    """

    log_weights: Tensor
    means: Tensor
    covariances: Tensor

    def log_components(self, values: Tensor, own: Tensor) -> Tensor:
        """Return log ``w_m N(v; c_m, S_m + diag(own))``, shape ``(..., m)``.

        Args:
            values: Shape ``(..., k)``.
            own: Variances of the values, shape ``(..., k)``.
        """
        gap = values.unsqueeze(-2) - self.means
        return self.log_weights + log_normal(gap, self.covariances, own.unsqueeze(-2))

    def expected_precision(self, values: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Return the expected precisions ``(n, k)`` of values and the means that weigh with them.

        With responsibilities r, ``p_j = sum_m r_m / S_mjj`` and ``sum_m r_m c_mj / S_mjj / p_j``.
        """
        shares = self.log_components(values, own).softmax(-1)
        each = 1.0 / self.covariances.diagonal(dim1=-2, dim2=-1)
        precision = shares @ each
        return precision, (shares @ (each * self.means)) / precision


def log_normal(gap: Tensor, covariance: Tensor, extra: Tensor) -> Tensor:
    """Return log N(gap; 0, covariance + diag(extra)), shape ``(...)``.

    Columns of the Cholesky factor are computed for the whole batch, which is faster than one
    factorisation for each of many small matrices.

    Args:
        gap: Shape ``(..., k)``.
        covariance: Shape ``(..., k, k)``, broadcast.
        extra: Shape ``(..., k)``, broadcast.
    """
    k = gap.shape[-1]
    rows: list[list[Tensor]] = []
    log = torch.full_like(gap[..., 0], -0.5 * k * math.log(2.0 * math.pi))
    white: list[Tensor] = []
    for i in range(k):
        row: list[Tensor] = []
        left = gap[..., i]
        for j in range(i):
            entry = covariance[..., i, j]
            for a, b in zip(row, rows[j][:j], strict=True):
                entry = entry - a * b
            row.append(entry / rows[j][j])
            left = left - row[j] * white[j]
        pivot = covariance[..., i, i] + extra[..., i]
        for a in row:
            pivot = pivot - a * a
        row.append(pivot.clamp(min=1e-18).sqrt())
        white.append(left / row[i])
        rows.append(row)
        log = log - 0.5 * white[i].square() - row[i].log()
    return log


def fit_noise_mixture(values: Tensor, own: Tensor) -> NoiseMixture:
    """Fit a mixture to values with errors; the number of components has the least BIC.

    Args:
        values: Noise plus an error, shape ``(n, k)``.
        own: Variances of the errors, shape ``(n, k)``.
    """
    n, k = values.shape
    best, lowest = None, math.inf
    for m in _SIZES:
        parameters = m * (1 + k + k * (k + 1) // 2) - 1
        if m > 1 and parameters > n / 4:
            break
        fits = [_run(values, start) for start in _starts(values, m)]
        mixture, shares, log = max(fits, key=lambda fit: fit[2])
        criterion = -2.0 * n * log + parameters * math.log(n)
        if criterion >= lowest:
            break
        best, lowest = (mixture, shares), criterion
    assert best is not None
    return _without_errors(*best, own)


def _starts(values: Tensor, m: int) -> list[Tensor]:
    """Return initial responsibilities ``(n, m)``: parts in space, and shells of rising radius."""
    n = len(values)
    white = (values - values.mean(0)) / values.std(0).clamp(min=1e-12)
    radius = white.square().sum(1)
    shells = torch.zeros(n, m).to(values)
    shells[radius.argsort(), torch.arange(n) * m // n] = 1.0
    if m == 1:
        return [shells]
    # Farthest points, from the one nearest to the centre; ties and outliers end in EM.
    chosen = [int(radius.argmin())]
    inner = radius <= radius.quantile(0.95)
    for _ in range(m - 1):
        gap = (white[:, None] - white[chosen]).square().sum(-1).amin(1)
        chosen.append(int((gap * inner).argmax()))
    nearest = (white[:, None] - white[chosen]).square().sum(-1).argmin(1)
    return [shells, torch.nn.functional.one_hot(nearest, m).to(values)]


def _run(values: Tensor, shares: Tensor) -> tuple[NoiseMixture, Tensor, float]:
    """Return mixture, responsibilities and mean log likelihood of expectation maximisation."""
    zero, before = torch.zeros_like(values), -math.inf
    mixture = _maximised(values, shares)
    for _ in range(_STEPS):
        logs = mixture.log_components(values, zero)
        total = logs.logsumexp(1)
        shares, log = (logs - total[:, None]).exp(), float(total.mean())
        if log - before < _GAIN:
            break
        before, mixture = log, _maximised(values, shares)
    return mixture, shares, log


def _maximised(values: Tensor, shares: Tensor) -> NoiseMixture:
    """Return the maximum a posteriori mixture; the prior is one point of the pooled variance."""
    mass = shares.sum(0) + 1e-9
    means = shares.mT @ values / mass[:, None]
    gaps = values - means[:, None]  # (m, n, k)
    scatter = (gaps * shares.mT[..., None]).mT @ gaps
    pooled = scatter.sum(0).diagonal().div(len(values)).clamp(min=1e-12).diag()
    covariances = (scatter + pooled) / (mass + 1.0)[:, None, None]
    return NoiseMixture((mass / mass.sum()).log(), means, covariances)


def _without_errors(mixture: NoiseMixture, shares: Tensor, own: Tensor) -> NoiseMixture:
    """Return the mixture of the noise alone: the mean variances of the errors are subtracted."""
    errors = shares.mT @ own / (shares.sum(0) + 1e-9)[:, None]
    # In units of each deviation, so that the bound is a share.
    scale = mixture.covariances.diagonal(dim1=-2, dim2=-1).sqrt()
    outer = scale[:, :, None] * scale[:, None]
    left = (mixture.covariances - errors.diag_embed()) / outer
    sizes, vectors = torch.linalg.eigh(left)
    least = _LEAST_VARIANCE * torch.linalg.eigvalsh(mixture.covariances / outer)[:, :1]
    left = vectors @ sizes.clamp(min=least).diag_embed() @ vectors.mT
    return NoiseMixture(mixture.log_weights, mixture.means, left * outer)
