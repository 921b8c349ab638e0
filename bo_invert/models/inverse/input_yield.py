"""Quality of designs under noise of their inputs: yield of a target, or expected loss."""

from __future__ import annotations

from dataclasses import dataclass
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
from bo_invert.models.inverse.acceptance import Acceptance
from bo_invert.models.inverse.posterior_model import TargetModel
from bo_invert.types import Array

PATHS = 32
"""Number of posterior paths behind an uncertainty. Engineering choice: standard deviations are
accurate to some 13 %."""
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
        flat = cloud.reshape(-1, cloud.shape[-1])
        parts = np.array_split(flat, max(1, len(flat) // _PART))
        with torch.no_grad():
            own = [self.of(self._unit(part)).cpu().numpy() for part in parts if len(part)]
        return np.asarray(np.concatenate(own).reshape(cloud.shape[:2]).mean(1))

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
