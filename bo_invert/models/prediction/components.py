"""Models of outputs behind predictions: Gaussian processes, random forest, linear process.

Each predicts c values at points ``(b, d)`` of the domain as normal distributions on a warped scale.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bo_invert.domains.search_domain import Domain
from bo_invert.models.base import Z_90, to_unit
from bo_invert.models.forest import Forest
from bo_invert.models.gp.hyperparameter_averaging import HyperparameterAverage
from bo_invert.models.gp.output_warp import TailedWarp, Warp
from bo_invert.models.gp.posterior import cholesky_with_jitter
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.linear.spherical_gp import SphericalLinearGP
from bo_invert.models.prediction.calibration import Forecasts
from bo_invert.types import Array

_MIN_STD = 1e-3
"""Least standard deviation where all trees agree, in standard deviations of the observations.
Engineering choice, as in the expected improvement of a forest."""


class Component(ABC):
    """Model of c values.

    Attributes:
        about: Description for users.
        values: Observed values, shape ``(n, c)``.
        warp: Output warp; None without a warp.
    """

    about: str
    values: Tensor
    warp: Warp | None = None

    @abstractmethod
    def moments(self, points: Array, noise: bool) -> tuple[Tensor, Tensor]:
        """Return means and standard deviations of warped values, ``(b, c)`` each.

        Args:
            points: Points of the domain, shape ``(b, d)``.
            noise: Predict outcomes with the noise of the oracle, instead of expected outputs.
        """

    def joint_samples(self, points: Array, count: int) -> Tensor:
        """Return samples ``(S, b, c)`` of expected warped values that depend on each other.

        Without a joint distribution, they are independent, which makes the lowest of them too low.

        Args:
            points: Points of the domain, shape ``(b, d)``.
            count: Number of samples S.
        """
        mean, std = self.moments(points, noise=False)
        return mean + std * _normals(count, *mean.shape)

    @abstractmethod
    def left_out(self) -> Forecasts:
        """Forecast each observation from the others, at the same hyperparameters."""

    def forecasts(self, mean: Tensor, std: Tensor, values: Tensor) -> Forecasts:
        """Return forecasts of values ``(n, c)`` from moments on the warped scale, ``(n, c)``."""
        ends = torch.stack([mean - Z_90 * std, mean + Z_90 * std])
        return Forecasts(mean, std, self.warped(values), self.unwarped(ends))

    def warped(self, values: Tensor) -> Tensor:
        """Return warped values ``(..., c)``."""
        return values if self.warp is None else self.warp(values)

    def unwarped(self, values: Tensor) -> Tensor:
        """Return values ``(..., c)`` of warped ones."""
        return values if self.warp is None else self.warp.inverse(values)


@dataclass(frozen=True, eq=False)
class GPComponent(Component):
    """Gaussian processes of the values or of their principal components.

    Args:
        surrogate: Surrogate of the values.
        domain: Search domain.
        values: Observed values, shape ``(n, c)``.
        average: Average over hyperparameters, for a noisy oracle; None for an exact one.
    """

    surrogate: Surrogate
    domain: Domain
    values: Tensor
    average: HyperparameterAverage | None = None

    @property
    def about(self) -> str:  # type: ignore[override]
        k, c = self.surrogate.weights.shape
        parts = [f"Gaussian process, {self.surrogate.gp.kernel.name} kernel"]
        parts += [f"{k} components of {c} outputs"] if self.projected else []
        return ", ".join(parts)

    @cached_property
    def warp(self) -> Warp | None:  # type: ignore[override]
        warp = self.surrogate.warp
        return None if warp is None else TailedWarp.of(warp, self.values)

    def moments(self, points: Array, noise: bool) -> tuple[Tensor, Tensor]:
        return self.surrogate.warped_moments(*self.scores(points, noise))

    @property
    def projected(self) -> bool:
        """True if the values are modelled by their principal components."""
        k, c = self.surrogate.weights.shape
        return bool(k < c)

    def scores(self, points: Array, noise: bool) -> tuple[Tensor, Tensor]:
        """Return means and variances ``(b, k)`` of the scores at points ``(b, d)``."""
        inputs = torch.as_tensor(to_unit(self.domain, points))
        if self.average is None:
            return self.surrogate.predict(inputs)
        mean, variance = self.average(inputs)
        return mean, variance + self.average.noise if noise else variance

    def joint_samples(self, points: Array, count: int) -> Tensor:
        inputs, surrogate = torch.as_tensor(to_unit(self.domain, points)), self.surrogate
        process = surrogate.predictive if self.average is None else self.average
        _, smooth = process(inputs)
        mean, _ = self.scores(points, noise=False)
        # Correlations are those of the most probable hyperparameters.
        _, covariance = surrogate.predictive.joint(inputs)  # (k, b, b)
        own = covariance.diagonal(dim1=-2, dim2=-1).clamp(min=1e-12).sqrt()
        root = smooth.mT.sqrt() / own
        covariance = root[:, :, None] * covariance * root[:, None]
        normals = _normals(count, *mean.shape).permute(2, 1, 0)  # (k, b, S)
        deviations = cholesky_with_jitter(covariance) @ normals
        scores = mean + deviations.permute(2, 1, 0)
        return scores @ surrogate.weights + surrogate.offset

    def left_out(self) -> Forecasts:
        """Forecast each observation from the others, at the same hyperparameters."""
        moments = (
            self.surrogate.predictive.leave_one_out()
            if self.average is None
            else self.average.leave_one_out()
        )
        return self.forecasts(*self.surrogate.warped_moments(*moments), self.values)


@dataclass(frozen=True, eq=False)
class ForestComponent(Component):
    """Random forest of the values.

    Args:
        forest: Forest of the values.
        inputs: Function from points to inputs of the forest.
        values: Observed values, shape ``(n, c)``.
    """

    forest: Forest
    inputs: Callable[[Array], Array]
    values: Tensor
    about = "random forest"

    def moments(self, points: Array, noise: bool) -> tuple[Tensor, Tensor]:
        samples = self.forest.samples(self.inputs(points))
        return torch.as_tensor(samples.mean(0)), self._std(samples.var(0))

    def joint_samples(self, points: Array, count: int) -> Tensor:
        # Each tree is a sample of the function.
        samples = torch.as_tensor(self.forest.samples(self.inputs(points)))
        return samples[torch.arange(count) % len(samples)]

    def left_out(self) -> Forecasts:
        """Forecast each observation by the trees without it."""
        samples = self.forest.samples(self.forest.observed)
        outside = self.forest.out_of_bag
        weights = np.where(outside.any(axis=0), outside, True).astype(float)
        weights = (weights / weights.sum(axis=0))[:, :, None]
        mean = (weights * samples).sum(axis=0)
        std = self._std((weights * (samples - mean) ** 2).sum(axis=0))
        return self.forecasts(torch.as_tensor(mean), std, self.values)

    def _std(self, variance: Array) -> Tensor:
        return torch.as_tensor(np.sqrt(variance + (_MIN_STD * self.forest.spread) ** 2))


@dataclass(frozen=True, eq=False)
class LinearComponent(Component):
    """Spherical-linear process of the values.

    Args:
        process: Process of the values.
        values: Observed values, shape ``(n, c)``.
    """

    process: SphericalLinearGP
    values: Tensor
    about = "linear process on a sphere"

    def moments(self, points: Array, noise: bool) -> tuple[Tensor, Tensor]:
        # The residual of a linear model is curvature or noise; both are part of an outcome.
        mean, variance = self.process.posterior(points)
        return torch.as_tensor(mean), torch.as_tensor(np.sqrt(variance + self.process.noise()))

    def left_out(self) -> Forecasts:
        """Forecast each observation from the others, at the same hyperparameters."""
        mean, variance = self.process.leave_one_out()
        std = torch.as_tensor(np.sqrt(variance))
        return self.forecasts(torch.as_tensor(mean), std, self.values)


@dataclass(frozen=True, eq=False)
class MixtureComponent(Component):
    """Mixture of models without output warps, as a normal distribution with its moments.

    E y = sum w m and Var y = sum w (s^2 + (m - E y)^2).

    Args:
        components: Models of the same values.
        weights: Their weights, shape ``(k,)``, with the sum 1.
        values: Observed values, shape ``(n, c)``.
    """

    components: tuple[Component, ...]
    weights: Tensor
    values: Tensor

    @property
    def about(self) -> str:  # type: ignore[override]
        parts = zip(self.components, self.weights.tolist(), strict=True)
        return " and ".join(f"{one.about} ({weight:.0%})" for one, weight in parts)

    def moments(self, points: Array, noise: bool) -> tuple[Tensor, Tensor]:
        found = [component.moments(points, noise) for component in self.components]
        return mixed_moments([mean for mean, _ in found], [std for _, std in found], self.weights)

    def left_out(self) -> Forecasts:
        """Forecast each observation from the others, at the same hyperparameters."""
        found = [component.left_out() for component in self.components]
        mixed = mixed_moments([one.mean for one in found], [one.std for one in found], self.weights)
        return self.forecasts(*mixed, self.values)

    def joint_samples(self, points: Array, count: int) -> Tensor:
        # The first samples are those of the first model, in proportion to its weight.
        ends = [round(count * float(share)) for share in self.weights.cumsum(0)]
        starts = [0, *ends[:-1]]
        parts = zip(self.components, starts, ends, strict=True)
        return torch.cat([one.joint_samples(points, b - a) for one, a, b in parts])


def mixed_moments(
    means: Sequence[Tensor], stds: Sequence[Tensor], weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation ``(b, c)`` of a mixture of k distributions."""
    mean, std = torch.stack([*means]), torch.stack([*stds])
    shares = weights[:, None, None]
    centre = (shares * mean).sum(0)
    return centre, (shares * (std.square() + (mean - centre).square())).sum(0).sqrt()


def _normals(*shape: int) -> Tensor:
    """Return reproducible standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
