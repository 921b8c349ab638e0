"""Newton steps of drawn functions towards targets, from the nearest points of the mean."""

from __future__ import annotations

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.models.base import from_unit, to_unit
from bo_invert.models.inverse.drawn_outputs import DistanceScore, DrawnOutputs
from bo_invert.models.inverse.least_norm import least_norm_steps
from bo_invert.models.inverse.target_distance import TargetDistance
from bo_invert.types import Array, Indices, Mask

_DIFFERENCE = 1e-4
"""Step of the difference quotients of the draws, in unit coordinates. Engineering choice."""
_NEWTON, _INNER = 3, 12
"""Newton steps, and iterations of each in the linear model. Engineering choice."""
_LONGEST = 0.3
"""Largest change of a unit coordinate by the Newton steps. Engineering choice: the model is linear
only near the end of the mean."""
_MARGIN = 0.2
"""Distance by which the linear model enters the target, as a share of the tolerance.
Engineering choice: the rest is not linear."""
_HOPELESS = 2.0
"""Excess of the linear model from which a draw is not evaluated, in units of the tolerance.
Engineering choice: the nonlinear rest is smaller."""
_RIDGE = 1e-9
"""Ridge of the normal equations, as a share of their trace. Engineering choice: slopes of outputs
may be equal."""


class NewtonSteps:
    """Newton steps of all draws from the nearest points of the mean.

    Args:
        outputs: Drawn outputs.
        distance: Distance from t targets.
        domain: Search domain.
        points: Nearest points of the mean, shape ``(t, d)``.
    """

    def __init__(
        self,
        outputs: DrawnOutputs,
        distance: TargetDistance,
        domain: Domain,
        points: Array,
    ) -> None:
        self.outputs, self.distance, self.domain = outputs, distance, domain
        self.inputs = to_unit(domain, points)
        self.scores = outputs.scores(self.inputs)  # (t, q, k)
        self.slopes = self._slopes()

    def _slopes(self) -> Array:
        """Return the slopes ``(t, q, k, d)`` of all drawn scores by difference quotients."""
        count, dim = self.inputs.shape
        steps = np.where(self.inputs > 0.5, -_DIFFERENCE, _DIFFERENCE)
        moved = self.inputs[:, None] + steps[:, :, None] * np.eye(dim)
        scores = self.outputs.scores(moved.reshape(-1, dim))
        scores = scores.reshape(count, dim, *self.scores.shape[1:])
        slopes = (scores - self.scores[:, None]) / steps[:, :, None, None]
        if self.domain.parameters:
            slopes = slopes * _real(self.domain, dim)[:, None, None]
        return np.moveaxis(slopes, 1, -1)

    def improve(self, least: Array) -> Array:
        """Return least excesses ``(t, q)`` after the steps of the draws that miss their targets.

        Args:
            least: Least excesses before, shape ``(t, q)``.
        """
        least = least.copy()
        targets, draws = np.nonzero(least > 0.0)
        keep = draws > 0
        targets, draws = targets[keep], draws[keep]
        move = np.zeros((len(targets), self.inputs.shape[1]))
        values = self.scores[targets, draws] @ self.outputs.weights + self.outputs.offset
        for _ in range(_NEWTON):
            if not len(targets):
                break
            move, excess = self._step(targets, draws, move, values)
            hopeful = excess <= _HOPELESS
            targets, draws, move = targets[hopeful], draws[hopeful], move[hopeful]
            if not len(targets):
                break
            at = self.inputs[targets]
            points = from_unit(self.domain, at + move)
            inputs = to_unit(self.domain, points)
            functions = targets * self.outputs.count + draws
            score = DistanceScore(self.outputs, self.distance)
            found, values = score.largest(inputs, functions)
            np.minimum.at(least, (targets, draws), found)
            missed = found > 0.0
            targets, draws = targets[missed], draws[missed]
            move, values = (inputs - at)[missed], values[missed]
        return least

    def _step(
        self, targets: Indices, draws: Indices, move: Array, values: Array
    ) -> tuple[Array, Array]:
        """Return moves ``(b, d)`` in the linear model through given outputs, and their excesses.

        Args:
            targets: Target of each pair, shape ``(b,)``.
            draws: Draw of each pair, shape ``(b,)``.
            move: Present move, shape ``(b, d)``.
            values: Outputs there, shape ``(b, c)``.
        """
        slopes = self.outputs.weights.T @ self.slopes[targets, draws]  # (b, c, d)
        slack = self.distance.slacks(targets, draws > 0)
        low = np.maximum(-_LONGEST, -self.inputs[targets])
        high = np.minimum(_LONGEST, 1.0 - self.inputs[targets])
        base, now = move, move
        for _ in range(_INNER):
            linear = values + (slopes @ (now - base)[..., None])[..., 0]
            excess, signs = self.distance.excesses(linear, targets)
            beyond = np.maximum(excess - slack + _MARGIN, 0.0)
            gradients = signs[..., None] * slopes[:, self.distance.columns]  # (b, e, d)
            gradients = gradients * (beyond > 0.0)[..., None]
            free = self._free(now, low, high, -(beyond[:, None] @ gradients)[:, 0])
            gradients = gradients * free[:, None]
            ridge = _RIDGE * (gradients * gradients).sum((1, 2)) + 1e-300
            now = np.clip(now - least_norm_steps(gradients, beyond, ridge), low, high)
        linear = values + (slopes @ (now - base)[..., None])[..., 0]
        excess, _ = self.distance.excesses(linear, targets)
        return now, (excess - slack).max(-1)

    def _free(self, now: Array, low: Array, high: Array, descent: Array) -> Mask:
        """Return a mask ``(b, d)`` of the coordinates that a descent may move."""
        return ~(((now <= low) & (descent < 0.0)) | ((now >= high) & (descent > 0.0)))


def _real(domain: Domain, dim: int) -> Array:
    """Return 1 for the coordinates ``(d,)`` of real numbers, else 0."""
    found = np.zeros(dim)
    for name, parameter in domain.parameters.items():
        found[domain.columns[name]] = float(parameter.continuous)
    return found
