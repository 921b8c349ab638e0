"""Gradients and descents, run next to the oracle and billed call by call.

Descents with equal settings run as one batch: thousands of starting points are one tensor program on the device of
the oracle. What is optimised may be augmented, penalised or a stand-in's; what is reported is always the true loss of
the clean design.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch

from bo_invert.errors import InvalidInputError
from bo_invert.problems.gradient_descent import Course, Problem, project
from bo_invert.types import Array, Descent, Outcome, Query


def evaluate_gradients(problem: Problem, queries: Sequence[Query]) -> list[Outcome]:
    """Answer queries that ask for a gradient or a descent; one outcome each, in order.

    A descent's outcome holds the best point it evaluated, by violation and then by loss. A value that breaks a
    constraint is NaN in its trace, because a curve of the best feasible loss is drawn from it.

    Raises:
        InvalidInputError: the problem has no gradients, or a descent asks for something unknown.
    """
    if not problem.differentiable:
        raise InvalidInputError(
            f"problem {problem.name!r} has no gradients: its space or its oracle is not differentiable; "
            "ask for values only, or give the oracle a stand-in (bo_invert.Twin)"
        )
    groups: dict[tuple[Descent | None, int], list[int]] = {}
    for i, query in enumerate(queries):
        groups.setdefault((query.descent, int(query.meta.get("seed", 0))), []).append(i)
    outcomes: dict[int, Outcome] = {}
    for (descent, seed), rows in groups.items():
        asked = [queries[i] for i in rows]
        if descent is None:
            answers = _gradients(problem, asked)
        elif descent.steps < 1 or descent.optimizer not in ("adam", "lbfgs"):
            raise InvalidInputError(
                f"a descent takes at least one step of 'adam' or 'lbfgs', got {descent}"
            )
        elif descent.optimizer == "adam":
            answers = _adam(Course(problem, asked, descent.steps, seed), descent)
        else:
            answers = [_lbfgs(Course(problem, [query], descent.steps, seed)) for query in asked]
        outcomes.update(zip(rows, answers, strict=True))
    return [outcomes[i] for i in range(len(queries))]


def _gradients(problem: Problem, queries: Sequence[Query]) -> list[Outcome]:
    course = Course(problem, queries, steps=1, seed=0)
    rows = np.arange(len(queries))
    if not course.exact:
        course.verify()
        rows = np.flatnonzero(course.seen)
    slopes = np.full(course.points.shape, np.nan)
    if len(rows):
        slopes[rows] = course.measure(rows, corrected=not course.exact).double().cpu().numpy()
    answers = []
    for outcome, slope in zip(course.outcomes(), slopes, strict=True):
        usable = outcome.y is not None and bool(np.isfinite(slope).all())
        reason = outcome.reason if usable or outcome.y is None else "the gradient is not finite"
        answers.append(
            replace(
                outcome, point=None, trace=None, gradient=slope if usable else None, reason=reason
            )
        )
    return answers


def _adam(course: Course, descent: Descent) -> list[Outcome]:
    """Adam (Kingma & Ba 2015) on all points at once, projected after every step."""
    optimizer = torch.optim.Adam([course.points], lr=descent.learning_rate)
    for step in range(descent.steps - 1):
        rows = np.flatnonzero(course.alive & (course.values < descent.steps - 1))
        if not len(rows):
            break
        slope = course.measure(rows, regular=True, step=step)
        course.alive[rows] &= torch.isfinite(slope).all(dim=1).cpu().numpy()
        course.points.grad = torch.zeros_like(course.points)
        course.points.grad[rows] = slope.nan_to_num(0.0, 0.0, 0.0)
        optimizer.step()
        course.points.copy_(project(course.problem.domain, course.points))
    return course.finish()


class _Stop(Exception):
    """The calls of a descent are spent, or it met something that is not a number."""


def _lbfgs(course: Course) -> Outcome:
    """L-BFGS-B (Byrd et al. 1995). No augmentation: a line search needs a function that stays the same."""
    from scipy.optimize import minimize

    domain = course.problem.domain
    limit = course.steps if course.exact else course.steps - 1

    def value_and_slope(x: Array) -> tuple[float, Array]:
        if course.values[0] >= limit:
            raise _Stop
        course.points.copy_(project(domain, torch.from_numpy(x)[None].to(course.points)))
        slope = course.measure(np.array([0]), regular=True)[0].double().cpu().numpy()
        if not np.isfinite(slope).all() or not np.isfinite(course.total):
            raise _Stop
        return course.total, _pull_back(x, course.points[0].double().cpu().numpy(), slope)

    start = course.points[0].double().cpu().numpy()
    options = {"maxiter": course.steps, "maxfun": course.steps, "ftol": 0.0, "gtol": 1e-12}
    with suppress(_Stop):
        minimize(
            value_and_slope,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[domain.limits] * domain.dim,
            options=options,
        )
    course.alive[:] = False
    return course.finish()[0]


def _pull_back(x: Array, inside: Array, slope: Array) -> Array:
    """The slope with respect to ``x`` of a function of its projection ``inside``: exact for a ball around 0.

    A floor's edge is taken for such a ball's, as far out as the projection is.
    """
    outward = x - inside
    far = float(np.linalg.norm(outward))
    if far <= 1e-9 * float(np.linalg.norm(x)):
        return slope
    unit = outward / far
    return np.asarray(np.linalg.norm(inside) / np.linalg.norm(x) * (slope - unit * (unit @ slope)))
