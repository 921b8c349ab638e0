"""Quality of designs under noise of their inputs: yield of a target, or expected loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from bo_invert.domains.input_noise import InputNoise
from bo_invert.domains.search_domain import Domain
from bo_invert.models.acquisition.thompson_sample_paths import draw_paths
from bo_invert.models.base import to_unit
from bo_invert.models.fitted_model import FittedModel
from bo_invert.models.gp.mixed_kernel import MixedKernel
from bo_invert.models.gp.posterior import GPPosterior, condition
from bo_invert.models.inverse.acceptance import Acceptance
from bo_invert.models.inverse.posterior_model import TargetModel
from bo_invert.types import Array

PATHS = 32
"""Number of posterior paths behind an uncertainty. Engineering choice: standard deviations are
accurate to some 13 %."""
_TAIL = 0.05
"""Probability beyond each end of an interval. Engineering choice: central 90 %, as elsewhere."""
_SHORTER = 0.5
"""Factor of the lengthscales of the second model behind an interval. Engineering choice: half of a
fitted lengthscale covers functions that vary twice as fast elsewhere as at the observations."""
_PART = 4096
"""Largest number of points evaluated at once. Engineering choice: bounds the memory."""


@dataclass(frozen=True, eq=False)
class InputYield:
    """Mean quality of manufactured designs ``x + e``, higher is better.

    For a target it is the yield, the probability that the outputs of ``x + e`` meet the target and
    the outcome constraints. Otherwise it is minus the expected loss. All designs have the same
    quasi-random deviations e.

    Args:
        noise: Distribution of e.
        target: Model of the target; None without one.
        fitted: Surrogate of the outputs.
        draws: Number of deviations s.
        seed: Seed of the deviations and of posterior paths.
    """

    noise: InputNoise
    target: TargetModel | None
    fitted: FittedModel
    draws: int
    seed: int = 0

    def cloud(self, points: Array) -> Array:
        """Return manufactured points ``(n, s, d)`` of points ``(n, d)``."""
        return self.noise.moved(self.domain, points, self.uniform)

    def quality(self, points: Array) -> Array:
        """Return the mean quality ``(n,)`` of points ``(n, d)`` under the model."""
        cloud = self.cloud(points)
        return np.asarray(self._each(cloud).mean(1))

    def interval(self, points: Array) -> tuple[Array, Array]:
        """Return the ends ``(n,)`` of 90 % intervals of the quality of points ``(n, d)``.

        With a target, the ends hold for every dependence between manufactured designs. A yield is
        at most its mean in the best 5 % of the cases. There, a design of acceptance a meets the
        target with probability ``min(1, a / 0.05)`` at most (expected shortfall, Rockafellar &
        Uryasev 2000), so

            ``upper = E_e min(1, a(x + e) / 0.05)``,
            ``lower = 1 - E_e min(1, (1 - a(x + e)) / 0.05)``.

        The lengthscales of a GP state this dependence. They come from the densest observations, and
        can be wrong elsewhere. Other objectives have the quantiles of posterior paths. Both are
        the hull over the fitted lengthscales and their halves.
        """
        ends = [one._ends(points) for one in (self, self._varying)]
        return np.minimum(ends[0][0], ends[1][0]), np.maximum(ends[0][1], ends[1][1])

    def _ends(self, points: Array) -> tuple[Array, Array]:
        if self.target is None:
            low, high = np.quantile(self.sampled(points), [_TAIL, 1.0 - _TAIL], axis=1)
            return low, high
        accepted = self._each(self.cloud(points))
        low = 1.0 - np.minimum(1.0, (1.0 - accepted) / _TAIL).mean(1)
        return np.asarray(low), np.asarray(np.minimum(1.0, accepted / _TAIL).mean(1))

    @cached_property
    def _varying(self) -> InputYield:
        """Quality under shorter lengthscales, given the same observations."""
        surrogate = self.fitted.surrogate
        gp = _shorter(surrogate.gp)
        if self.target is not None:
            return replace(self, target=replace(self.target, gp=gp))
        return replace(self, fitted=replace(self.fitted, surrogate=replace(surrogate, gp=gp)))

    def _each(self, cloud: Array) -> Array:
        """Return the quality ``(n, s)`` of manufactured points ``(n, s, d)``."""
        flat = cloud.reshape(-1, cloud.shape[-1])
        if self.target is not None:
            return Acceptance(self.target).anywhere(flat).reshape(cloud.shape[:2])
        parts = np.array_split(flat, max(1, len(flat) // _PART))
        with torch.no_grad():
            own = [self.of(self._unit(part)).cpu().numpy() for part in parts if len(part)]
        return np.asarray(np.concatenate(own).reshape(cloud.shape[:2]))

    def of(self, inputs: Tensor, softness: float = 0.0) -> Tensor:
        """Return the quality ``(n,)`` of single manufactured designs at unit inputs ``(n, d)``."""
        if self.target is not None:
            return Acceptance(self.target, softness).of(inputs)
        outputs = self.fitted.outputs
        loss = outputs.loss(self.fitted.surrogate.mean(inputs))
        if outputs.statement.constraints:
            loss = loss + outputs.violation(self.fitted.surrogate.mean(inputs))
        return -loss

    @torch.no_grad()
    def sampled(self, points: Array, seed: int | None = None) -> Array:
        """Return the quality of points ``(n, d)`` under posterior paths, shape ``(n, q)``."""
        cloud = self.cloud(points)
        inputs = self._unit(cloud.reshape(-1, cloud.shape[-1]))
        surrogate, outputs = self.fitted.surrogate, self.fitted.outputs
        paths = draw_paths(surrogate.gp, PATHS, self.seed if seed is None else seed)
        mean = surrogate.gp(inputs)[0][..., None]
        drawn = paths(inputs)  # (n s, k, q)
        feasible = None
        if self.target is not None:
            drawn = mean + (drawn - mean) * self.target.inflation.sqrt()[:, None]
            if self.target.log_feasible is not None:
                feasible = self.target.log_feasible(inputs).exp()
        columns = []
        for scores in drawn.permute(2, 0, 1):
            values = surrogate.values(scores)
            if self.target is not None:
                own = self.target.region.contains(values).to(inputs)
            else:
                own = -outputs.loss(values)
            own = own if feasible is None else own * feasible
            columns.append(own.reshape(cloud.shape[:2]).mean(1))
        return np.asarray(torch.stack(columns, 1).cpu().numpy())

    @property
    def domain(self) -> Domain:
        """Search domain."""
        return self.fitted.outputs.statement.domain

    @cached_property
    def uniform(self) -> Array:
        """Uniform numbers of the deviations, shape ``(s, q)``."""
        engine = qmc.Sobol(
            len(self.noise.columns(self.domain)), scramble=True,
            rng=np.random.default_rng(self.seed),
        )  # fmt: skip
        return np.asarray(engine.random(self.draws).clip(1e-6, 1.0 - 1e-6))

    def _unit(self, points: Array) -> Tensor:
        return torch.as_tensor(to_unit(self.domain, points)).to(self.fitted.surrogate.offset)


def _shorter(gp: GPPosterior) -> GPPosterior:
    """Return a posterior of the same observations with shorter numeric lengthscales."""
    logs, kernel = gp.log_lengthscales.clone(), gp.kernel
    # Mixed kernels have hyperparameters of choices behind the numeric ones.
    numeric = len(kernel.structure.numeric) if isinstance(kernel, MixedKernel) else logs.shape[1]
    logs[:, :numeric] += math.log(_SHORTER)
    return condition(kernel, logs, gp.noise, gp.inputs, gp.values[..., 0].mT, gp.constant)
