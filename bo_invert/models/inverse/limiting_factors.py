"""Limits that keep the outputs of a model from a target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from bo_invert.domains.parameters import Choice
from bo_invert.domains.search_domain import Domain
from bo_invert.models.base import from_unit, to_unit
from bo_invert.models.inverse.drawn_outputs import DrawnOutputs, smooth_shares
from bo_invert.models.inverse.target_distance import TargetDistance
from bo_invert.types import Array

_ACTIVE = 0.05
"""Least share of an output in the smooth maximum, or in its slope, at which it limits.
Engineering choice: the smooth maximum gives far outputs smaller shares."""
_NEAR = 1.0
"""Distance at which a constraint is active, in hundredths of a standard deviation of its output,
or in nats for failures. Engineering choice: descents end near constraints."""
_AT_BOUND = 1e-3
"""Distance from a bound that counts as 0, in unit coordinates. Engineering choice."""
_OUTWARD = 0.03
"""Least multiplier and least rest of a limit, as a share of the slope of the distance.
Engineering choice: descents end with smaller slopes."""
_STEP = 1e-3
"""Length of the step that tests constraints and plausibility, in unit coordinates.
Engineering choice: far above rounding errors."""


@dataclass(frozen=True)
class Limit:
    """One limit.

    Args:
        kind: ``"output"``, ``"outcome constraint"``, ``"failures"``, ``"parameter"``,
            ``"input constraint"`` or ``"plausibility"``.
        name: Output or parameter; empty for others.
        side: 1 if the output is too high or the parameter at its upper bound, -1 for the opposite,
            0 for others.
        text: Input constraint that limits, or empty.
    """

    kind: str
    name: str = ""
    side: int = 0
    text: str = ""


def limiting_factors(
    outputs: DrawnOutputs,
    distance: TargetDistance,
    domain: Domain,
    point: Array,
    names: list[str],
) -> tuple[Limit, ...]:
    """Return the limits at the nearest point of the mean: outputs first, then those of the domain.

    Outputs limit that have a part in the smooth maximum of the distance, or in its slope. The
    Karush-Kuhn-Tucker conditions, ``-slope = sum_c multiplier_c normal_c`` with multipliers >= 0,
    show which active constraints and bounds limit. A step along the rest tests input constraints
    and plausibility.

    Args:
        outputs: Drawn outputs.
        distance: Distance from one target.
        domain: Search domain.
        point: Nearest point of the mean, shape ``(d,)``.
        names: Names of the modelled outputs.
    """
    inputs, mean = to_unit(domain, point[None]), np.zeros(1, dtype=np.intp)
    excess, signs = (one[0] for one in distance.excesses(outputs(inputs)[:, 0], mean))
    slopes, wanted = _slopes(outputs, distance, inputs, signs), distance.wanted
    aims = excess[:wanted]
    beyond = float(outputs.infeasibility(inputs)[0, 0])
    if max(float(excess.max()), beyond) <= 0.0:
        return ()
    shares = smooth_shares(aims, aims.max())
    parts = shares[:, None] * slopes[:wanted]
    sizes = np.abs(parts).max(1)
    chosen = (shares >= _ACTIVE) | (sizes >= _ACTIVE * max(float(sizes.max()), 1e-300))
    limits = [_of_entry(distance, names, signs, int(e)) for e in np.flatnonzero(chosen)]
    descent = -parts.sum(0)
    if not descent.any():
        return tuple(limits)
    active = [(limit, normal) for limit, normal in _bounds(domain, inputs[0])]
    for e in range(wanted, len(signs)):
        if excess[e] >= -_NEAR:
            active.append((_of_entry(distance, names, signs, e), slopes[e]))
    if outputs.log_feasible is not None and beyond >= -_NEAR:
        slope = -outputs.log_feasible.gradient(inputs, mean)[1][0]
        active.append((Limit("failures"), slope))
    found, rest = _multipliers(descent, active)
    limits += found
    if np.linalg.norm(rest) > _OUTWARD * np.linalg.norm(descent):
        limits += _beyond(domain, inputs[0], rest)
    return tuple(limits)


def _of_entry(distance: TargetDistance, names: list[str], signs: Array, e: int) -> Limit:
    """Return the limit of an entry of the target, or of an outcome constraint."""
    kind = "output" if e < distance.wanted else "outcome constraint"
    return Limit(kind, names[distance.columns[e]], int(np.sign(signs[e])))


def _multipliers(descent: Array, active: list[tuple[Limit, Array]]) -> tuple[list[Limit], Array]:
    """Return the limits with multipliers, and the rest of the descent ``(d,)``.

    Args:
        descent: Direction in which the distance falls, shape ``(d,)``.
        active: Active constraints with their outward normals ``(d,)``.
    """
    normals = [normal / np.linalg.norm(normal) for _, normal in active if normal.any()]
    if not normals:
        return [], descent
    matrix = np.stack(normals, axis=1)
    found, _ = nnls(matrix, descent)
    least = _OUTWARD * float(np.linalg.norm(descent))
    usable = [limit for limit, normal in active if normal.any()]
    limits = [limit for limit, size in zip(usable, found, strict=True) if size > least]
    return limits, descent - matrix @ found


def _slopes(outputs: DrawnOutputs, distance: TargetDistance, inputs: Array, signs: Array) -> Array:
    """Return the slopes ``(e, d)`` of the excesses of the mean by the unit coordinates."""
    count = len(signs)
    scores, cache = outputs.paths.at(np.repeat(inputs, count, axis=0), np.zeros(count, np.intp))
    by_scores = (outputs.weights[:, distance.columns] * signs).T  # (e, k)
    return outputs.paths.gradient(cache, by_scores + 0.0 * scores)


def _bounds(domain: Domain, inputs: Array) -> list[tuple[Limit, Array]]:
    """Return the parameters at a bound with the outward normals ``(d,)``."""
    if domain.latent:
        return []
    found = []
    for name, parameter in domain.axes.items():
        columns = domain.columns.get(name) if domain.parameters else slice(int(name[1:]), None)
        if isinstance(parameter, Choice) or columns is None:
            continue
        at = float(inputs[columns.start])
        side = 1 if at >= 1.0 - _AT_BOUND else -1 if at <= _AT_BOUND else 0
        if side:
            found.append(
                (Limit("parameter", name, side), side * np.eye(len(inputs))[columns.start])
            )
    return found


def _beyond(domain: Domain, inputs: Array, descent: Array) -> list[Limit]:
    """Return the input constraint, or the plausibility, that a step along the descent violates."""
    length = float(np.linalg.norm(descent))
    if domain.latent:
        moved = inputs + _STEP * descent / length
        lower, upper = domain.bounds
        ahead = lower + moved * (upper - lower)
        off = float(np.linalg.norm(from_unit(domain, moved[None])[0] - ahead))
        inward = off > 0.1 * _STEP * float((upper - lower).mean())
        return [Limit("plausibility")] if inward else []
    ahead = np.clip(inputs + _STEP * descent / length, 0.0, 1.0)
    found = []
    if domain.constraints and (text := domain.violated_constraint(ahead)):
        found.append(Limit("input constraint", text=text))
    if domain.floor and float(domain.plausibility(ahead[None])[0]) < domain.floor:
        found.append(Limit("plausibility"))
    return found
