"""Probabilities that many targets can be reached, on the same drawn functions.

A descent of every draw for every target would take minutes. Each target descends the posterior mean
instead. The draws are linear near its end, so that Newton steps with one matrix of slopes lead each
of them to its own nearest point.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.models.base import from_unit, to_unit
from bo_invert.models.inverse.drawn_outputs import DistanceScore, DrawnOutputs
from bo_invert.models.inverse.target_distance import TargetDistance
from bo_invert.models.optim.discrete_search import has_configurations, neighbours
from bo_invert.models.optim.optimize_acquisition import gradient_ascent
from bo_invert.models.optim.score import at_valid
from bo_invert.types import Array, Indices, Mask

_STARTS, _MORE = 3, 8
"""Numbers of descents of the mean for each target, and of further ones that it needs.
Engineering choice: more of them take longer than the draws."""
_CANDIDATES = 8
"""Best starts of each target at which all draws are evaluated. Engineering choice."""
_APART = 0.15
"""Least distance of two starts of a target, in typical distances. Engineering choice."""
_STEPS, _FINE_STEPS = 50, 30
"""Evaluations of a descent: to the target, and to the nearest outputs. Engineering choice."""
_RIGOUR = 100.0
"""Weight of constraints at the nearest outputs, dimensionless. Engineering choice."""
_NEIGHBOURS = 24
"""Number of changes of choices and integers for each target. Engineering choice: bounds the
cost."""
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


@dataclass(frozen=True, eq=False)
class TargetReach:
    """Reachability of t targets.

    Args:
        probability: Share of the draws that meet each target, shape ``(t,)``.
        excess: Least largest excess of the mean, in tolerances, shape ``(t,)``.
        points: Points at which it is attained, shape ``(t, d)``.
        outputs: Modelled outputs of the mean there, shape ``(t, c)``.
    """

    probability: Array
    excess: Array
    points: Array
    outputs: Array


def reach_targets(
    outputs: DrawnOutputs,
    distance: TargetDistance,
    domain: Domain,
    starts: Array,
    rng: np.random.Generator,
) -> TargetReach:
    """Minimise the largest excess of the mean for each target, and of all draws near the end.

    Args:
        outputs: Drawn outputs.
        distance: Distance from t targets.
        domain: Search domain.
        starts: Points, shape ``(s, d)``.
        rng: Random generator.
    """
    search = _MeanSearch(outputs, distance, domain, starts, rng)
    points = search.ends()  # (t, p, d)
    count = len(points)
    at = to_unit(domain, points.reshape(-1, domain.dim))
    values = outputs(at).reshape(*points.shape[:2], outputs.count, -1)  # (t, p, q, c)
    excess, _ = distance.excesses(values, np.arange(count)[:, None, None])
    beyond = outputs.infeasibility(at).reshape(*points.shape[:2], -1)
    drawn = np.arange(outputs.count) > 0
    slack = distance.slacks(np.arange(count)[:, None], drawn)[:, None]  # (t, 1, q, e)
    largest = np.maximum((excess - slack).max(-1), beyond)  # (t, p, q)
    rows = np.arange(count)
    hard = np.maximum((excess[:, :, 0] * search.strict.factors).max(-1), _RIGOUR * beyond[:, :, 0])
    best = hard.argmin(1)
    least = largest.min(1)
    if domain.has_real:
        for base in (best, _second_base(largest, least, best)):
            newton = _Newton(outputs, distance, domain, points[rows, base], values[rows, base])
            least = newton.improve(least)
    return TargetReach(
        (least[:, 1:] <= 0.0).mean(1), largest[rows, best, 0], points[rows, best],
        values[rows, best, 0],
    )  # fmt: skip


def _second_base(largest: Array, least: Array, first: Indices) -> Indices:
    """Return the best point ``(t,)`` other than the first for the draws that miss the target.

    Args:
        largest: Largest excesses of all draws, shape ``(t, p, q)``.
        least: Least ones so far, shape ``(t, q)``.
        first: First point of each target, shape ``(t,)``.
    """
    missing = (least > 0.0)[:, None]
    total = np.where(missing, largest, 0.0).sum(-1)
    total[np.arange(len(first)), first] = np.inf
    return np.asarray(total.argmin(1))


class _MeanSearch:
    """Descents of the mean for t targets.

    Args:
        outputs: Drawn outputs.
        distance: Distance from t targets.
        domain: Search domain.
        starts: Points, shape ``(s, d)``.
        rng: Random generator.
    """

    def __init__(
        self,
        outputs: DrawnOutputs,
        distance: TargetDistance,
        domain: Domain,
        starts: Array,
        rng: np.random.Generator,
    ) -> None:
        self._domain, self._rng = domain, rng
        self._starts = starts
        # The first function is the mean, so that the others need not be evaluated.
        self._mean = outputs.only_mean()
        self._score = DistanceScore(self._mean, distance)
        self.strict = replace(distance, rigour=_RIGOUR)
        self._excess = self._score.worst(to_unit(domain, starts))  # (t, s)

    def ends(self) -> Array:
        """Return good starts, ends of descents and their neighbours for each target, ``(t, p, d)``.

        Targets that the first descents do not reach have further starts, among them the ends of
        other targets.
        """
        count = len(self._excess)
        order = np.argsort(self._excess, axis=1, kind="stable")
        first = self._starts[order[:, :_CANDIDATES]]
        ends = self._descended(np.arange(count), self._spread(np.arange(count), _STARTS))
        found = self._score.worst(to_unit(self._domain, ends.reshape(-1, self._domain.dim)))
        every = ends.reshape(-1, self._domain.dim)
        own = found.reshape(count, *ends.shape[:2])[np.arange(count), np.arange(count)]
        missed = np.flatnonzero(own.min(1) > 0.0)
        more = np.repeat(ends[:, :1], _MORE, axis=1)
        if len(missed):
            self._starts = np.concatenate([self._starts, every])
            self._excess = np.concatenate([self._excess, found], axis=1)
            more[missed] = self._descended(missed, self._spread(missed, _MORE))
        ends = np.concatenate([ends, more], axis=1)
        fine = self._refined(ends)
        points = np.concatenate([first, ends, fine[:, None]], axis=1)
        if has_configurations(self._domain):
            points = np.concatenate([points, self._neighbours(fine)], axis=1)
        return points

    def _spread(self, targets: Indices, count: int) -> Array:
        """Return the best starts of targets, not near each other, ``(b, count, d)``."""
        radius = _APART * self._domain.typical_distance
        excess = self._excess[targets].copy()
        chosen = []
        for _ in range(count):
            best = excess.argmin(1)
            chosen.append(self._starts[best])
            gaps = np.linalg.norm(self._starts[None] - self._starts[best][:, None], axis=2)
            excess = np.where(gaps < radius, np.inf, excess)
        return np.stack(chosen, axis=1)

    def _descended(self, targets: Indices, starts: Array) -> Array:
        """Return the ends of descents ``(b, p, d)`` of squared excesses."""
        functions = np.repeat(targets, starts.shape[1])
        valid = at_valid(self._score, self._domain)
        flat = starts.reshape(-1, self._domain.dim)
        ends = gradient_ascent(valid, self._domain, flat, _STEPS, functions=functions)
        return ends.reshape(starts.shape)

    def _refined(self, ends: Array) -> Array:
        """Return the end of a descent of the smooth maximum from the best end, ``(t, d)``."""
        every, rows = ends.reshape(-1, self._domain.dim), np.arange(len(ends))
        score = DistanceScore(self._mean, self.strict)
        found = score.worst(to_unit(self._domain, every)).reshape(len(ends), *ends.shape[:2])
        own = found[rows, rows]  # (t, p)
        best, least = ends[rows, own.argmin(1)], own.min(1)
        valid = at_valid(replace(score, smooth=np.maximum(least, 0.0)), self._domain)
        return gradient_ascent(valid, self._domain, best, _FINE_STEPS, functions=rows)

    def _neighbours(self, points: Array) -> Array:
        """Return changes of choices and integers of one point of each target, ``(t, p, d)``."""
        found = []
        for point in points:
            moved = self._domain.project(neighbours(self._domain, point, self._rng))
            chosen = self._rng.permutation(len(moved))[np.arange(_NEIGHBOURS) % len(moved)]
            found.append(moved[chosen])
        return np.array(found)


class _Newton:
    """Newton steps of all draws from the nearest points of the mean.

    Args:
        outputs: Drawn outputs.
        distance: Distance from t targets.
        domain: Search domain.
        points: Nearest points of the mean, shape ``(t, d)``.
        values: Outputs there, shape ``(t, q, c)``.
    """

    def __init__(
        self,
        outputs: DrawnOutputs,
        distance: TargetDistance,
        domain: Domain,
        points: Array,
        values: Array,
    ) -> None:
        self.outputs, self.distance, self.domain = outputs, distance, domain
        self.inputs, self.values = to_unit(domain, points), values
        self.slopes = self._slopes()

    def _slopes(self) -> Array:
        """Return the slopes ``(t, q, c, d)`` of all draws by difference quotients."""
        count, dim = self.inputs.shape
        steps = np.where(self.inputs > 0.5, -_DIFFERENCE, _DIFFERENCE)
        moved = self.inputs[:, None] + steps[:, :, None] * np.eye(dim)
        values = self.outputs(moved.reshape(-1, dim)).reshape(count, dim, *self.values.shape[1:])
        slopes = (values - self.values[:, None]) / steps[:, :, None, None]
        if self.domain.parameters:
            slopes = slopes * _real(self.domain, dim)[:, None, None]
        return np.moveaxis(slopes, 1, -1)

    def improve(self, least: Array) -> Array:
        """Return least excesses ``(t, q)`` after the steps."""
        least = least.copy()
        targets, draws = np.nonzero(least > 0.0)
        keep = draws > 0
        targets, draws = targets[keep], draws[keep]
        move = np.zeros((len(targets), self.inputs.shape[1]))
        values = self.values[targets, draws]
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
        slopes = self.slopes[targets, draws]  # (b, c, d)
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
            now = np.clip(now - _least_norm(gradients * free[:, None], beyond), low, high)
        linear = values + (slopes @ (now - base)[..., None])[..., 0]
        excess, _ = self.distance.excesses(linear, targets)
        return now, (excess - slack).max(-1)

    def _free(self, now: Array, low: Array, high: Array, descent: Array) -> Mask:
        """Return a mask ``(b, d)`` of the coordinates that a descent may move."""
        return ~(((now <= low) & (descent < 0.0)) | ((now >= high) & (descent > 0.0)))


def _least_norm(gradients: Array, beyond: Array) -> Array:
    """Return the shortest steps ``(b, d)`` with ``gradients @ step = beyond``, if there are any."""
    gram = gradients @ gradients.swapaxes(1, 2)
    each = np.arange(gram.shape[1])
    trace = gram[:, each, each].sum(1)
    gram[:, each, each] += (_RIDGE * trace + 1e-300)[:, None]
    # Entries inside the target have no slope; a unit diagonal keeps the equations solvable.
    gram[:, each, each] += (gram[:, each, each] <= 2.0 * _RIDGE * trace[:, None] + 1e-290) * 1.0
    solved = np.linalg.solve(gram, beyond[..., None])
    return np.asarray((gradients.swapaxes(1, 2) @ solved)[..., 0])


def _real(domain: Domain, dim: int) -> Array:
    """Return 1 for the coordinates ``(d,)`` of real numbers, else 0."""
    found = np.zeros(dim)
    for name, parameter in domain.parameters.items():
        found[domain.columns[name]] = float(parameter.continuous)
    return found
