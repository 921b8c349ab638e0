"""Descents side by side: where they stand, the best each has seen, and what each has spent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bo_invert.errors import EvaluationError, FailedError, InfeasibleError
from bo_invert.objectives import Objective
from bo_invert.oracles.base import Oracle
from bo_invert.search_domain import Domain
from bo_invert.spaces.base import Space
from bo_invert.types import Array, Cost, Outcome, Query, State

IntArray = NDArray[np.int64]


class Problem(Protocol):
    """What a descent needs of a problem; ``bo_invert.Problem`` has it."""

    name: str
    space: Space
    domain: Domain
    oracle: Oracle | None
    outputs: tuple[str, ...]
    objective: Objective

    @property
    def differentiable(self) -> bool:
        """Whether gradients flow from the loss to a point."""

    def loss_tensor(self, outputs: torch.Tensor) -> torch.Tensor:
        """Loss of outputs ``(n, m)``, shape ``(n,)``."""

    def violation(self, y: Array) -> float:
        """How far outputs ``(m,)`` are beyond the constraints."""

    def outcome(self, answer: Any, cost: Cost, **extra: Any) -> Outcome:
        """The outcome of raw outputs or of a verdict."""

    def evaluate(self, queries: Sequence[Query]) -> list[Outcome]:
        """Answers to plain queries."""


class Course:
    """n descents side by side: where they stand, the best they saw, what they spent.

    Attributes:
        points: where they stand, shape ``(n, d)``, on the oracle's device.
        alive: which can still move, shape ``(n,)``.
        seen: which have a finite value to show, shape ``(n,)``.
        values: spent so far, shape ``(n,)``.
        exact: whether the forward pass is the oracle itself.
        total: what the last look minimised, summed over its points.
    """

    def __init__(self, problem: Problem, queries: Sequence[Query], steps: int, seed: int) -> None:
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
        self.verdicts: dict[int, EvaluationError] = {}
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
        """Look at the points of ``rows``, bill and remember.

        If the batch raises, each point is asked alone and pays for both: as with values, one bad design may not cost
        its neighbours their turn.

        Args:
            rows: which points.
            slope: whether the gradient is computed, and billed.
            regular: add the penalty of the space.
            step: number of the step, which seeds the augmentation; None for none.
            corrected: take the loss's slope at the outputs already known, which bills no value.

        Returns:
            Slopes ``(len(rows), d)``, NaN where there are none.
        """
        points = self.points[rows]
        generator = (
            None if step is None else torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        )
        truth = torch.from_numpy(self.y[rows]) if corrected else None
        try:
            seen = _look(
                self.problem, points, slope=slope, generator=generator, regular=regular, truth=truth
            )
            losses = self._remember(rows, seen.y.double().cpu().numpy())
        except (Exception, SystemExit) as error:
            self._bill(rows, np.full(len(rows), np.nan), not corrected, False)
            if len(rows) > 1:
                options = {"slope": slope, "regular": regular, "corrected": corrected}
                return torch.cat(
                    [self.measure(rows[i : i + 1], step=step, **options) for i in range(len(rows))]
                )
            verdict = (
                error
                if isinstance(error, EvaluationError)
                else FailedError(f"{type(error).__name__}: {error}")
            )
            self.verdicts[int(rows[0])], self.alive[rows] = verdict, False
            return torch.full_like(points, torch.nan)
        self.total, self.clean = float(seen.total.sum()), self.clean and seen.clean
        self._bill(rows, losses, not corrected, slope)
        return torch.full_like(points, torch.nan) if seen.slope is None else seen.slope

    def verify(self) -> None:
        """Measure the points as they are with the oracle itself, one value each."""
        points = self.points.double().cpu().numpy()
        for i, outcome in enumerate(self.problem.evaluate([Query(point) for point in points])):
            row, loss = np.array([i]), np.array([np.nan])
            if outcome.y is not None:
                loss = self._remember(row, outcome.y[None])
            else:
                self.verdicts[i] = (
                    InfeasibleError if outcome.state is State.INFEASIBLE else FailedError
                )(outcome.reason)
            for _ in range(outcome.cost.values - 1):
                self._bill(row, np.array([np.nan]), True, False)
            if outcome.cost.values:
                self._bill(row, loss, True, False)
            else:  # known from a cache: seen, and not spent
                self.traces[i].append(float(loss[0]))

    def finish(self) -> list[Outcome]:
        """Spend the last value on a true one: where an exact descent stands, or of the best that was found."""
        if self.exact and self.clean:
            rows = np.flatnonzero(self.alive & (self.values < self.steps))
            if len(rows):
                self.measure(rows, slope=False)
            return self.outcomes()
        self.points.copy_(self.best)
        self.seen[:], self.loss[:], self.violation[:] = False, np.inf, np.inf
        self.traces = [[np.nan] * len(trace) for trace in self.traces]
        if self.exact:
            self.measure(np.arange(len(self.values)), slope=False)
        else:
            self.verify()
        return self.outcomes()

    def outcomes(self) -> list[Outcome]:
        """The best of each descent, or the reason why there is none."""
        seconds = (time.perf_counter() - self.started) / len(self.values)
        points = self.best.double().cpu().numpy()
        answers = []
        for i, point in enumerate(points):
            cost = Cost(int(self.values[i]), int(self.gradients[i]), seconds)
            none = self.verdicts.get(i) or FailedError("no value along the way was a finite number")
            outcome = self.problem.outcome(self.y[i] if self.seen[i] else none, cost)
            answers.append(replace(outcome, point=point, trace=np.array(self.traces[i])))
        return answers

    def _remember(self, rows: IntArray, y: Array) -> Array:
        """Keep what is better than the best so far. Returns the losses to show, NaN where infeasible or not finite."""
        with np.errstate(invalid="ignore", over="ignore"):
            loss = np.asarray(self.problem.objective.loss(y), dtype=float)
        violation = np.array([self.problem.violation(row) for row in y])
        usable = np.isfinite(loss) & np.isfinite(y).all(axis=1)
        ahead = (violation < self.violation[rows]) | (
            (violation == self.violation[rows]) & (loss < self.loss[rows])
        )
        better = usable & ahead
        kept = rows[better]
        self.loss[kept], self.violation[kept], self.y[kept] = (
            loss[better],
            violation[better],
            y[better],
        )
        self.best[kept], self.seen[kept] = self.points[kept], True
        return np.where(usable & (violation <= 0), loss, np.nan)

    def _bill(self, rows: IntArray, losses: Array, value: bool, gradient: bool) -> None:
        self.values[rows] += int(value)
        self.gradients[rows] += int(gradient)
        if value:
            for row, loss in zip(rows, losses, strict=True):
                self.traces[row].append(float(loss))


class _Seen(NamedTuple):
    """One look at n points: outputs ``(n, m)``, what is minimised ``(n,)``, its slope ``(n, d)`` if wanted."""

    y: torch.Tensor
    total: torch.Tensor
    slope: torch.Tensor | None
    clean: bool


def _look(
    problem: Problem,
    points: torch.Tensor,
    *,
    slope: bool,
    generator: torch.Generator | None = None,
    regular: bool = False,
    truth: torch.Tensor | None = None,
) -> _Seen:
    """Value, and slope if wanted, at ``points`` ``(n, d)``.

    ``generator`` switches augmentation on, ``regular`` the penalty of the space. Given ``truth``, the slope is that of
    the loss at these outputs with the Jacobian of the forward pass: a stand-in's error then only bends its direction.
    """
    assert problem.oracle is not None
    points = points.detach().requires_grad_(slope)
    with torch.set_grad_enabled(slope):
        designs = problem.space.decode_tensor(points)
        shown = designs if generator is None else problem.space.augment_tensor(designs, generator)
        y = problem.oracle.forward(shown)
        if y.shape != (len(points), len(problem.outputs)):
            wanted = (len(points), len(problem.outputs))
            raise FailedError(
                f"the oracle gave outputs of shape {tuple(y.shape)}, expected {wanted}"
            )
        if truth is not None:
            y = y + (truth.to(y) - y).detach()
        total = problem.loss_tensor(y)
        if total.shape != (len(points),):
            raise FailedError(
                f"the objective gave a loss of shape {tuple(total.shape)}, expected ({len(points)},)"
            )
        if regular:
            total = total + problem.space.penalty_tensor(points, designs).to(total)
        gradient = torch.autograd.grad(total.sum(), points)[0] if slope else None
    return _Seen(y.detach(), total.detach(), gradient, shown is designs)


def project(domain: Domain, points: torch.Tensor) -> torch.Tensor:
    """``Domain.project`` for the continuous domains a descent can walk in, and to where a latent's ``floor`` allows."""
    if not domain.latent:
        return points.clamp(0.0, 1.0)
    if not domain.floor or domain.reference is None:
        return _inside(domain, points)
    moved = domain.project(points.detach().cpu().numpy().astype(float))
    return _inside(domain, torch.as_tensor(moved).to(points))


def _inside(domain: Domain, points: torch.Tensor) -> torch.Tensor:
    """Points pulled inside the ball of a latent."""
    radius = domain.reach * (
        1.0 - 4.0 * torch.finfo(points.dtype).eps
    )  # inside after rounding, too
    norm = torch.linalg.vector_norm(points, dim=-1, keepdim=True).clamp(min=1e-12)
    shrink: torch.Tensor = (radius / norm).clamp(max=1.0)
    return points * shrink
