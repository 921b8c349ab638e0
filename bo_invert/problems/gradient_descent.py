"""Evaluation of gradient and descent queries next to the oracle, with each call billed.

Descents with equal settings run as one batch on the oracle's device. The optimised loss may be
augmented, penalised or that of a proxy. The reported loss is the true one of the clean design.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch

from bo_invert.errors import InvalidInputError
from bo_invert.problems.descent_batch import DescentBatch, DifferentiableProblem, project
from bo_invert.types import Array, Descent, Outcome, Query


def evaluate_gradients(problem: DifferentiableProblem, queries: Sequence[Query]) -> list[Outcome]:
    """Evaluate gradient and descent queries; return one outcome each, in order.

    The outcome of a descent holds the best point it evaluated, by violation and then by loss. Its
    trace is NaN at infeasible values, since curves show the best feasible loss.

    Raises:
        InvalidInputError: the problem has no gradients, or a descent has invalid settings.
    """
    if not problem.differentiable:
        raise InvalidInputError(
            f"problem {problem.name!r} has no gradients: space or oracle is not differentiable. "
            "Ask for values only, or add a proxy (bi.GradientProxy)."
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
                f"descent: steps must be positive and optimizer 'adam' or 'lbfgs', got {descent}"
            )
        elif descent.optimizer == "adam":
            answers = _adam(DescentBatch(problem, asked, descent.steps, seed), descent)
        else:
            answers = [
                _lbfgs(DescentBatch(problem, [query], descent.steps, seed)) for query in asked
            ]
        outcomes.update(zip(rows, answers, strict=True))
    return [outcomes[i] for i in range(len(queries))]


def _gradients(problem: DifferentiableProblem, queries: Sequence[Query]) -> list[Outcome]:
    course = DescentBatch(problem, queries, steps=1, seed=0)
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


def _adam(course: DescentBatch, descent: Descent) -> list[Outcome]:
    """Run Adam (Kingma & Ba 2015) on all points, with a projection after each step."""
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
    """Spent budget of a descent, or a value that is not finite."""


def _lbfgs(course: DescentBatch) -> Outcome:
    """Run L-BFGS-B (Byrd et al. 1995) without augmentation.

    A line search needs a deterministic loss.
    """
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

    with suppress(_Stop):
        minimize(
            value_and_slope,
            course.points[0].double().cpu().numpy(),
            jac=True,
            method="L-BFGS-B",
            bounds=[domain.limits] * domain.dim,
            options={"maxiter": course.steps, "maxfun": course.steps, "ftol": 0.0, "gtol": 1e-12},
        )
    course.alive[:] = False
    return course.finish()[0]


def _pull_back(x: Array, inside: Array, slope: Array) -> Array:
    """Return the gradient with respect to ``x`` of a function of its projection ``inside``.

    With p(x) = r x / |x| the chain rule gives J^T g = (r / |x|) (g - u u^T g), u = x / |x|. It is
    exact for a ball around 0. The edge of a plausibility floor is approximated by the ball through
    the projection.
    """
    outward = x - inside
    far = float(np.linalg.norm(outward))
    if far <= 1e-9 * float(np.linalg.norm(x)):
        return slope
    unit = outward / far
    return np.asarray(np.linalg.norm(inside) / np.linalg.norm(x) * (slope - unit * (unit @ slope)))
