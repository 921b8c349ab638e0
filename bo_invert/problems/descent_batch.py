"""Batch of descents: positions, best values and costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bo_invert.cost_ledger import Cost
from bo_invert.errors import EvaluationError, FailedError, InfeasibleError
from bo_invert.objectives import Objective
from bo_invert.oracles.base import Oracle
from bo_invert.search_domain import Domain
from bo_invert.spaces.base import Space
from bo_invert.types import Array, Outcome, Query, State

IntArray = NDArray[np.int64]


class DifferentiableProblem(Protocol):
    """Interface of a problem that descents need; ``bo_invert.Problem`` implements it."""

    name: str
    space: Space
    domain: Domain
    oracle: Oracle | None
    outputs: tuple[str, ...]
    objective: Objective

    @property
    def differentiable(self) -> bool:
        """True if space and oracle are differentiable."""

    def loss_tensor(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the penalised loss of outputs ``(n, m)``, shape ``(n,)``."""

    def violation(self, y: Array) -> float:
        """Return the constraint violation of outputs ``(m,)``."""

    def outcome(self, answer: object, cost: Cost, **extra: Any) -> Outcome:
        """Convert raw outputs or an ``EvaluationError`` to an outcome."""

    def evaluate(self, queries: Sequence[Query]) -> list[Outcome]:
        """Evaluate plain queries."""


class DescentBatch:
    """Batch of n descents.

    Attributes:
        points: present points, shape ``(n, d)``, on the oracle's device.
        alive: descents that can move on, shape ``(n,)``.
        seen: descents with a finite value, shape ``(n,)``.
        values: oracle values spent, shape ``(n,)``.
        exact: the forward pass is the oracle itself, not a proxy.
        total: last minimised loss, summed over its points.
    """

    def __init__(
        self, problem: DifferentiableProblem, queries: Sequence[Query], steps: int, seed: int
    ) -> None:
        assert problem.oracle is not None
        n, domain = len(queries), problem.domain
        start = torch.from_numpy(np.array([query.point for query in queries]))
        self.problem, self.steps, self.seed = problem, steps, seed
        self.exact = self.clean = problem.oracle.exact_forward
        placement = problem.oracle.placement
        self.points = project(domain, start.to(**placement) if placement else start)
        self.best = self.points.clone()
        self.alive, self.seen = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
        self.values, self.gradients = np.zeros(n, dtype=int), np.zeros(n, dtype=int)
        self.loss, self.violation = np.full(n, np.inf), np.full(n, np.inf)
        self.y = np.full((n, len(problem.outputs)), np.nan)
        self.traces: list[list[float]] = [[] for _ in queries]
        self.failures: dict[int, EvaluationError] = {}
        self.total = np.inf
        self.started = time.perf_counter()

    def measure(
        self,
        rows: IntArray,
        *,
        slope: bool = True,
        regular: bool = False,
        step: int | None = None,
        corrected: bool = False,
    ) -> torch.Tensor:
        """Evaluate the points of ``rows``, bill them and update the best values.

        If the batch raises, each point is evaluated alone and billed for both, so that one failing
        design does not stop the others.

        Args:
            rows: indices of the points.
            slope: compute and bill the gradient.
            regular: add the penalty of the space.
            step: number of the step, which seeds the augmentation; None for no augmentation.
            corrected: evaluate the gradient of the loss at known outputs; bills no value.

        Returns:
            Gradients ``(len(rows), d)``, NaN for failures.
        """
        points = self.points[rows]
        generator = (
            None if step is None else torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        )
        try:
            y, total, gradient, clean = _evaluate(
                self.problem, points, slope=slope, generator=generator, regular=regular,
                truth=torch.from_numpy(self.y[rows]) if corrected else None,
            )  # fmt: skip
            losses = self._update_best(rows, y.double().cpu().numpy())
        except (Exception, SystemExit) as error:
            self._bill(rows, np.full(len(rows), np.nan), not corrected, False)
            if len(rows) > 1:
                one = partial(
                    self.measure, slope=slope, regular=regular, step=step, corrected=corrected
                )
                return torch.cat([one(rows[i : i + 1]) for i in range(len(rows))])
            self.alive[rows] = False
            self.failures[int(rows[0])] = (
                error
                if isinstance(error, EvaluationError)
                else FailedError(f"{type(error).__name__}: {error}")
            )
            return torch.full_like(points, torch.nan)
        self.total, self.clean = float(total.sum()), self.clean and clean
        self._bill(rows, losses, not corrected, slope)
        return torch.full_like(points, torch.nan) if gradient is None else gradient

    def verify(self) -> None:
        """Evaluate the present points with the oracle itself, one value each."""
        points = self.points.double().cpu().numpy()
        for i, outcome in enumerate(self.problem.evaluate([Query(point) for point in points])):
            loss = np.nan
            if outcome.y is not None:
                loss = float(self._update_best(np.array([i]), outcome.y[None])[0])
            else:
                self.failures[i] = (
                    InfeasibleError if outcome.state is State.INFEASIBLE else FailedError
                )(outcome.reason)
            self.values[i] += outcome.cost.values
            # One entry per call, the last one with the value; a cached value has no call.
            self.traces[i] += [np.nan] * (outcome.cost.values - 1) + [loss]

    def finish(self) -> list[Outcome]:
        """Evaluate the clean loss with the last call, at the present or at the best point."""
        rows = np.flatnonzero(self.alive & (self.values < self.steps))
        if not (self.exact and self.clean):
            rows = np.arange(len(self.values))
            self.points.copy_(self.best)
            self.seen[:], self.loss[:], self.violation[:] = False, np.inf, np.inf
            self.traces = [[np.nan] * len(trace) for trace in self.traces]
        if not self.exact:
            self.verify()
        elif len(rows):
            self.measure(rows, slope=False)
        return self.outcomes()

    def outcomes(self) -> list[Outcome]:
        """Return the best outcome of each descent, or its failure."""
        seconds = (time.perf_counter() - self.started) / len(self.values)
        points = self.best.double().cpu().numpy()
        none = FailedError("no value of the descent was finite")
        best = [
            self.y[i] if self.seen[i] else self.failures.get(i, none) for i in range(len(points))
        ]
        costs = [
            Cost(int(values), int(gradients), seconds)
            for values, gradients in zip(self.values, self.gradients, strict=True)
        ]
        return [
            replace(self.problem.outcome(answer, cost), point=point, trace=np.array(trace))
            for answer, cost, point, trace in zip(best, costs, points, self.traces, strict=True)
        ]

    def _update_best(self, rows: IntArray, y: Array) -> Array:
        """Store improvements; return the losses, NaN if infeasible or not finite."""
        with np.errstate(invalid="ignore", over="ignore"):
            loss = np.asarray(self.problem.objective.loss(y), dtype=float)
        violation = np.array([self.problem.violation(row) for row in y])
        usable = np.isfinite(loss) & np.isfinite(y).all(axis=1)
        better = usable & (
            (violation < self.violation[rows])
            | ((violation == self.violation[rows]) & (loss < self.loss[rows]))
        )
        improved = rows[better]
        self.loss[improved], self.violation[improved] = loss[better], violation[better]
        self.y[improved], self.seen[improved] = y[better], True
        self.best[improved] = self.points[improved]
        return np.where(usable & (violation <= 0), loss, np.nan)

    def _bill(self, rows: IntArray, losses: Array, value: bool, gradient: bool) -> None:
        self.values[rows] += int(value)
        self.gradients[rows] += int(gradient)
        if value:
            for row, loss in zip(rows, losses, strict=True):
                self.traces[row].append(float(loss))


def _evaluate(
    problem: DifferentiableProblem,
    points: torch.Tensor,
    *,
    slope: bool,
    generator: torch.Generator | None = None,
    regular: bool = False,
    truth: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, bool]:
    """Evaluate the loss, and its gradient if requested, at ``points`` ``(n, d)``.

    ``generator`` enables augmentation, ``regular`` the penalty of the space. Given ``truth``, the
    gradient is J^T grad L(truth) with the Jacobian J of the forward pass, so the error of a proxy
    affects only J.

    Returns:
        Outputs ``(n, m)``, minimised loss ``(n,)``, its gradient ``(n, d)``, and True if the
        designs were not augmented.
    """
    assert problem.oracle is not None
    points = points.detach().requires_grad_(slope)
    with torch.set_grad_enabled(slope):
        designs = problem.space.decode_tensor(points)
        shown = designs if generator is None else problem.space.augment_tensor(designs, generator)
        y = problem.oracle.forward(shown)
        if y.shape != (len(points), len(problem.outputs)):
            raise FailedError(
                f"the oracle returned outputs of shape {tuple(y.shape)}, "
                f"expected {(len(points), len(problem.outputs))}"
            )
        if truth is not None:
            y = y + (truth.to(y) - y).detach()
        total = problem.loss_tensor(y)
        if total.shape != (len(points),):
            raise FailedError(
                f"the objective returned a loss of shape {tuple(total.shape)}, "
                f"expected ({len(points)},)"
            )
        if regular:
            total = total + problem.space.penalty_tensor(points, designs).to(total)
        gradient = torch.autograd.grad(total.sum(), points)[0] if slope else None
    return y.detach(), total.detach(), gradient, shown is designs


def project(domain: Domain, points: torch.Tensor) -> torch.Tensor:
    """Project points onto the continuous domain, including the plausibility floor of a latent."""
    if not domain.latent:
        return points.clamp(0.0, 1.0)
    if domain.floor and domain.reference is not None:
        moved = domain.project(points.detach().cpu().numpy().astype(float))
        points = torch.as_tensor(moved).to(points)
    # A ball a few machine epsilon smaller, so that rounding does not leave that of the domain.
    radius = domain.reach * (1.0 - 4.0 * torch.finfo(points.dtype).eps)
    norm = torch.linalg.vector_norm(points, dim=-1, keepdim=True).clamp(min=1e-12)
    return points * torch.clamp(radius / norm, max=1.0)
