"""Posterior averaged over output scales and shared or separate lengthscales."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from bo_invert.models.array_module import A, as_array
from bo_invert.models.gp.hyperparameter_fit import NoisePrior, fit_hyperparameters
from bo_invert.models.gp.posterior import (
    GPPosterior,
    Moments,
    MomentsCache,
    condition,
)

OUTPUT_SCALES = (1.0, 3.0)
"""Output scales of the components, in standard deviations of the values. Large ones come with long
lengthscales, and then hold functions with a linear trend. experiments/small_samples.py measured
that a scale of 8 adds nothing."""
_MIN_SHARE = 0.02
"""Share of the largest weight below which a component is omitted. Engineering choice."""


@dataclass(frozen=True, eq=False)
class AveragedMoments(Moments[A]):
    """Moments of a mixture; arguments as of ``AveragedPosterior``."""

    components: Moments[A]
    shares: A
    scales: A

    def __call__(self, inputs: A) -> tuple[A, A, MixtureCache[A]]:  # type: ignore[override]
        mean, variance, cache = self.components(inputs)
        shape = len(inputs), *self.shares.shape
        mean = mean.reshape(*shape, -1) * self.scales[:, None, None]  # (m, M, k, F)
        variance = variance.reshape(shape) * self.scales[:, None] ** 2
        centre: A = (self.shares[..., None] * mean).sum(1)
        off = mean - centre[:, None]
        # The variance of an outcome is the same for all fantasies: the average over them.
        total: A = (self.shares * (variance + (off * off).mean(-1))).sum(1)
        return centre, total, MixtureCache(cache, off)

    def gradient(  # type: ignore[override]  # another cache
        self, cache: MixtureCache[A], by_mean: A, by_variance: A
    ) -> A:
        # d Var / d m_c = 2 w_c (m_c - E y) / F, because sum_c w_c (m_c - E y) = 0
        weights = self.shares * self.scales[:, None]
        pull = (2.0 / by_mean.shape[-1]) * by_variance[:, None, :, None] * cache.off
        means = weights[..., None] * (by_mean[:, None] + pull)
        variances = weights * self.scales[:, None] * by_variance[:, None]
        rows = len(by_mean), -1
        return self.components.gradient(
            cache.components, means.reshape(*rows, by_mean.shape[-1]), variances.reshape(rows)
        )


class MixtureCache(NamedTuple, Generic[A]):
    """Intermediate results for gradients of the moments of a mixture."""

    components: MomentsCache[A]
    off: A
    """Deviations of the means of the components, shape ``(m, M, k, F)``."""


@dataclass(frozen=True, eq=False)
class AveragedPosterior(GPPosterior):
    """Mixture of M Gaussian processes per output, with the moments of the mixture.

    E y = sum_c w_c m_c and Var y = sum_c w_c (v_c + (m_c - E y)^2). The inherited fields are those
    of the most probable hyperparameters.

    Args:
        components: Posterior of all components, output by output within a component: M k rows.
            Its values are divided by the output scale.
        shares: Weights w of the components, shape ``(M, k)``.
        scales: Output scales of the components, shape ``(M,)``.
    """

    components: GPPosterior
    shares: Tensor
    scales: Tensor

    @property
    def moments(self) -> Moments[Tensor]:
        return AveragedMoments(
            **vars(super().moments), components=self.components.moments,
            shares=self.shares, scales=self.scales,
        )  # fmt: skip

    @property
    def array_moments(self) -> Moments[NDArray[Any]]:
        return AveragedMoments(
            **vars(super().array_moments), components=self.components.array_moments,
            shares=as_array(self.shares), scales=as_array(self.scales),
        )  # fmt: skip

    def linearised(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shape = len(inputs), *self.shares.shape
        mean, variance, slopes = self.components.linearised(inputs)
        mean = mean.reshape(shape) * self.scales[:, None]
        moments = self._mixture(mean, variance.reshape(shape) * self.scales[:, None] ** 2)
        weights = (self.shares * self.scales[:, None])[..., None]
        return *moments, (weights * slopes.reshape(*shape, inputs.shape[1])).sum(1)

    def joint(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        mean, covariance = self.components.joint(inputs)
        mean = mean.reshape(*self.shares.shape, *mean.shape[1:]) * self.scales[:, None, None, None]
        covariance = covariance.reshape(*self.shares.shape, *covariance.shape[1:])
        covariance = covariance * self.scales[:, None, None, None] ** 2
        weights = self.shares[..., None, None]
        centre = (weights * mean).sum(0)
        off = mean - centre
        spread = off @ off.mT / off.shape[-1]
        return centre, (weights * (covariance + spread)).sum(0)

    def covariance(self, inputs: Tensor, others: Tensor) -> Tensor:
        # Law of total covariance: the means of the components vary, too.
        both = torch.cat([inputs, others])
        own = self.components.covariance(inputs, others)
        own = own.reshape(*self.shares.shape, *own.shape[1:])
        mean = self.components(both)[0].mT.reshape(*self.shares.shape, len(both))
        mean = mean * self.scales[:, None, None]
        off = mean - (self.shares[..., None] * mean).sum(0)
        spread = off[..., : len(inputs), None] * off[..., None, len(inputs) :]
        scaled = own * self.scales[:, None, None, None] ** 2
        return (self.shares[..., None, None] * (scaled + spread)).sum(0)

    def extend(self, inputs: Tensor, samples: Tensor) -> Self:
        scaled = (samples / self.scales[:, None, None, None]).flatten(0, 1)
        after = super().extend(inputs, samples)
        return replace(after, components=self.components.extend(inputs, scaled))

    def leave_one_out(self) -> tuple[Tensor, Tensor]:
        mean, variance = self.components.leave_one_out()  # (n, M k)
        mean = mean.reshape(-1, *self.shares.shape) * self.scales[:, None]
        variance = variance.reshape(-1, *self.shares.shape) * self.scales[:, None] ** 2
        return self._mixture(mean, variance)

    def leave_twins_out(self, correlation: float, most: int) -> tuple[Tensor, Tensor]:
        errors, variances = self.components.leave_twins_out(correlation, most)
        errors = errors.reshape(-1, *self.shares.shape) * self.scales[:, None]
        variances = variances.reshape(-1, *self.shares.shape) * self.scales[:, None] ** 2
        return self._mixture(errors, variances)

    def with_noise(self, most: Tensor) -> Self:
        scaled = (most / self.scales[:, None, None].square()).flatten(0, 1)
        return replace(super().with_noise(most), components=self.components.with_noise(scaled))

    def _mixture(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Return the moments ``(n, k)`` of components with moments ``(n, M, k)``."""
        centre = (self.shares * mean).sum(-2)
        spread = (mean - centre.unsqueeze(-2)).square()
        return centre, (self.shares * (variance + spread)).sum(-2)

    def of_scale(self, scale: float) -> AveragedPosterior | None:
        """Return the average over the components of one output scale; None without any weight."""
        chosen = self.scales == scale
        shares = self.shares[chosen]
        if not bool((shares.sum(0) > 0.0).all()):
            return None
        rows = chosen.repeat_interleave(self.shares.shape[1])
        return replace(
            self,
            components=self.components.select(rows),
            shares=shares / shares.sum(0),
            scales=self.scales[chosen],
        )

    @property
    def typical_noise(self) -> Tensor:
        noise = self.components.typical_noise.reshape(self.shares.shape)
        return (self.shares * noise * self.scales[:, None] ** 2).sum(0)


def average(gp: GPPosterior, noise_prior: NoisePrior, shares: Tensor) -> AveragedPosterior:
    """Average a posterior over components with the given weights.

    The hyperparameters of each component are the most probable ones at its output scale.

    Args:
        gp: Posterior at the most probable hyperparameters.
        noise_prior: Noise prior of the fit.
        shares: Weights: those of shared lengthscales for each scale of ``OUTPUT_SCALES``, then
            those of separate ones, shape ``(2 S, k)``.
    """
    kernel, values = gp.kernel, gp.values[..., 0].mT
    every = shares.new_tensor(OUTPUT_SCALES)
    relevant = shares.amax(1) >= _MIN_SHARE * shares.max()
    logs, scales = [], []
    for shared, some in zip((True, False), relevant.chunk(2), strict=True):
        if bool(some.any()):
            scales.append(every[some])
            scaled = (values / every[some][:, None, None]).permute(1, 0, 2).flatten(1)
            fitted, _ = fit_hyperparameters(
                gp.inputs, scaled, noise_prior, kernel, coarse=True, shared_lengthscale=shared
            )
            logs.append(fitted)
    every_fit, scale, weights = torch.cat(logs), torch.cat(scales), shares[relevant]
    scaled = (values / scale[:, None, None]).permute(1, 0, 2).flatten(1)
    components = condition(kernel, every_fit[:, :-1], every_fit[:, -1].exp(), gp.inputs, scaled)
    own = {name: getattr(gp, name) for name in GPPosterior.__dataclass_fields__}
    return AveragedPosterior(
        **own, components=components, shares=weights / weights.sum(0), scales=scale
    )
