"""Posterior of Gaussian processes with fewer inputs and the same predictions."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bo_invert.models.gp.cholesky import invert_triangles
from bo_invert.models.gp.posterior import GPPosterior, cholesky_with_jitter

_LARGEST_SHARE = 0.5
"""Largest share of the inputs that remains. Engineering choice: a prediction then takes a quarter
of the time; a few inputs that do not represent all would distort the means."""
_LEAST = 1e-9
"""Least eigenvalue of B - 1, dimensionless. Engineering choice: avoids a division by 0."""
_KNOWN = 1e-12
"""Conditional prior variance, in units of the prior variance, of an input that is known.
Engineering choice: rounding errors."""


@torch.no_grad()
def compress(gp: GPPosterior, accuracy: Tensor) -> GPPosterior:
    """Return a posterior with r <= n / 2 of the inputs and nearly the same predictions.

    It is the same posterior if they are too few for the accuracy.

    A pivoted Cholesky factorisation chooses the inputs P, until the conditional prior variance of
    all others is at most ``accuracy`` (Fine & Scheinberg 2001). With
    ``K_PP = L L'``, ``phi(x) = L^-1 k_P(x)``, N the noise plus these variances, and
    ``B = I + Phi' N^-1 Phi``,

        ``mean(x) = m + phi(x)' B^-1 Phi' N^-1 (y - m)``
        ``variance(x) = 1 - phi(x)' (I - B^-1) phi(x)``,

    those of the fully independent training conditional (Snelson & Ghahramani 2006): what the r
    inputs cannot represent counts as noise. A prediction costs O(r^2) instead of O(n^2).

    Args:
        gp: Posterior without fantasies.
        accuracy: Variances ``(k,)`` that count as none, in units of the prior variance.
    """
    gram, _ = gp.kernel.gram(gp.log_lengthscales, gp.inputs)
    chosen = _pivots(gram, accuracy)
    if chosen is None:
        return gp
    within = gram[:, chosen][:, :, chosen]
    inverse = invert_triangles(cholesky_with_jitter(within))
    phi = gram[:, :, chosen] @ inverse.mT  # (k, n, r)
    noise = gp.noise + (1.0 - phi.square().sum(-1)).clamp(min=0.0)
    weighted = phi / noise[..., None]
    sizes, vectors = torch.linalg.eigh(phi.mT @ weighted)
    sizes = sizes.clamp(min=_LEAST)[:, None]  # eigenvalues of B - 1
    # A'A = I - B^-1, so the variance is 1 - |A phi|^2.
    root = (sizes / (1.0 + sizes)).sqrt().mT * (vectors.mT @ inverse)
    pull = vectors.mT @ (weighted.mT @ (gp.values - gp.constant[:, None, None]))
    weights = inverse.mT @ (vectors @ (pull / (1.0 + sizes.mT)))
    # Values at P that have these predictions, with the covariance (A L^-1)^-1 (A L^-1)^-T.
    back = torch.linalg.inv(root)
    typical = gp.noise.median(1, keepdim=True).values.expand(-1, len(chosen))
    values = gp.constant[:, None, None] + back @ (back.mT @ weights)
    return replace(
        gp, noise=typical, inputs=gp.inputs[chosen], values=values, cholesky=back,
        inverse_cholesky=root, weights=weights,
    )  # fmt: skip


def _pivots(gram: Tensor, accuracy: Tensor) -> Tensor | None:
    """Return positions ``(r,)`` of the inputs that represent all; None if half are too few."""
    k, n, _ = gram.shape
    most = int(_LARGEST_SHARE * n)
    factor, left = gram.new_zeros(k, n, most), torch.ones_like(gram[..., 0])
    chosen: list[int] = []
    while len(chosen) < most:
        excess = (left / accuracy[:, None]).amax(0)
        pivot = int(excess.argmax())
        if excess[pivot] <= 1.0:
            break
        rows = factor[:, :, : len(chosen)]
        column = gram[:, :, pivot] - (rows @ rows[:, pivot, :, None])[..., 0]
        column = column / left[:, pivot, None].clamp(min=_KNOWN).sqrt()
        # An output that knows this input already gains nothing.
        column = torch.where(left[:, pivot, None] > _KNOWN, column, 0.0)
        factor[:, :, len(chosen)] = column
        left = (left - column.square()).clamp(min=0.0)
        chosen.append(pivot)
    else:
        return None
    return torch.tensor(chosen, device=gram.device)
