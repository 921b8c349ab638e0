"""Exact Gaussian processes on BoTorch, one per output or, for many outputs, one per principal component."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bo_invert.models.base import EXACT, Belief, Hyperparameters, fit_hyperparameters, fresh_enough, kernel
from bo_invert.threads import one_thread
from bo_invert.types import JSON, Array

MANY = 15
"""From more outputs than this, principal components are modelled instead of outputs."""


@dataclass(frozen=True)
class Surrogate:
    """Independent processes behind c numbers.

    Args:
        model: a BoTorch model of k standardised numbers at unit inputs ``(..., d)``.
        weights: shape ``(k, c)``; with ``offset`` it leads from the model's numbers to the modelled ones.
        offset: shape ``(c,)``.
        memo: for the next fit.
    """

    model: Any
    weights: Tensor
    offset: Tensor
    memo: JSON

    def values(self, samples: Tensor) -> Tensor:
        """The modelled numbers ``(..., c)`` of the model's ``(..., k)``."""
        return samples @ self.weights + self.offset

    def mean(self, inputs: Tensor) -> Tensor:
        """Posterior mean of the modelled numbers at unit inputs ``(..., q, d)``, shape ``(..., q, c)``."""
        return self.values(self.model.posterior(inputs).mean)


def fit(inputs: Array, values: Array, memo: JSON = None, belief: Belief = EXACT) -> Surrogate:
    """A surrogate of values ``(n, c)`` at unit inputs ``(n, d)``; n >= 1.

    Args:
        inputs: shape ``(n, d)``.
        values: shape ``(n, c)``, finite.
        memo: of an earlier surrogate of the same problem: where the fit starts, and whether it is needed.
        belief: prior of the noise, and limits.
    """
    scores, weights, offset = _basis(values)
    earlier = _recall(memo, inputs.shape[1], scores.shape[1])
    fitted = len(inputs)
    if earlier is not None and fresh_enough(memo["n"], len(inputs)):
        found, fitted = earlier, memo["n"]
    else:
        starts: Sequence[Hyperparameters | None] = earlier or [None] * scores.shape[1]
        found = [fit_hyperparameters(inputs, z, belief, start) for z, start in zip(scores.T, starts, strict=True)]
    model = _model(inputs, scores, found)
    note = {"n": fitted, "hyperparameters": [hyper.to_json() for hyper in found]}
    return Surrogate(model, torch.tensor(weights), torch.tensor(offset), note)


@contextmanager
def settled(seed: int) -> Iterator[None]:
    """Inside, models compute the same everywhere: one thread, a local seed, exact algebra, no advice on scaling."""
    import gpytorch
    from botorch.settings import validate_input_scaling
    from botorch.utils.sampling import manual_seed

    with (
        one_thread(),
        manual_seed(seed),
        warnings.catch_warnings(record=True),  # BoTorch overrules filters; recorded warnings stay silent
        validate_input_scaling(False),
        gpytorch.settings.max_cholesky_size(1 << 20),
        gpytorch.settings.cholesky_max_tries(8),
    ):
        warnings.simplefilter("ignore")
        yield


def _basis(values: Array) -> tuple[Array, Array, Array]:
    """Scores ``(n, k)`` of mean 0 and variance 1, weights ``(k, c)`` and offset ``(c,)``.

    Values are scores times weights plus offset. Up to ``MANY`` numbers are taken one by one; more are replaced by
    their leading principal components, as many as explain all but a millionth of the variance, at most ``MANY``.
    """
    offset = values.mean(0)
    spread = values.std(0)
    spread = np.where(spread > 1e-12 * (1.0 + np.abs(offset)), spread, 1.0)
    standard = (values - offset) / spread
    if values.shape[1] <= MANY:
        return standard, np.diag(spread), offset
    left, sizes, right = np.linalg.svd(standard, full_matrices=False)
    missing = 1.0 - np.cumsum(sizes**2) / max(float((sizes**2).sum()), 1e-300)
    k = min(MANY, 1 + int((missing > 1e-6).sum()), len(sizes))
    scale = np.maximum(sizes[:k] / np.sqrt(len(values)), 1e-12)
    return left[:, :k] * np.sqrt(len(values)), scale[:, None] * right[:k] * spread, offset


def _recall(memo: JSON, d: int, k: int) -> list[Hyperparameters] | None:
    """Hyperparameters of an earlier fit, if they are about as many coordinates and numbers."""
    noted = (memo or {}).get("hyperparameters", [])
    if len(noted) != k or any(len(row) != d + 1 for row in noted):
        return None
    return [Hyperparameters.from_json(row) for row in noted]


def _model(inputs: Array, scores: Array, found: list[Hyperparameters]) -> Any:
    from botorch.models import SingleTaskGP
    from gpytorch.constraints import GreaterThan
    from gpytorch.likelihoods import GaussianLikelihood

    k = scores.shape[1]
    batch = torch.Size([k]) if k > 1 else torch.Size()
    # BoTorch's own likelihood stops at a noise of 1e-4, a standard deviation of 1 %: too coarse to hit a target
    likelihood = GaussianLikelihood(noise_constraint=GreaterThan(1e-9, transform=None), batch_shape=batch)
    x, z = torch.tensor(inputs, dtype=torch.float64), torch.tensor(scores, dtype=torch.float64)
    model = SingleTaskGP(x, z, likelihood=likelihood, outcome_transform=None)
    lengthscales = torch.tensor([hyper.lengthscales for hyper in found], dtype=torch.float64)
    model.covar_module.lengthscale = lengthscales.reshape(*batch, 1, -1)
    model.likelihood.noise = torch.tensor([hyper.noise for hyper in found], dtype=torch.float64).reshape(*batch, 1)
    model.mean_module.constant = torch.tensor(
        [_constant(inputs, column, hyper) for column, hyper in zip(scores.T, found, strict=True)], dtype=torch.float64
    ).reshape(batch)
    return model.requires_grad_(False).eval()


def _constant(inputs: Array, values: Array, hyper: Hyperparameters) -> float:
    """The most probable constant mean."""
    covariance = kernel(inputs, np.array(hyper.lengthscales)) + max(hyper.noise, 1e-7) * np.eye(len(inputs))
    weights = np.linalg.solve(covariance, np.ones(len(inputs)))
    total = float(weights.sum())
    return float(weights @ values) / total if abs(total) > 1e-12 else 0.0
