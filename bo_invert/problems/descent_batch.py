"""Batch of descents: evaluation of their points in blocks of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bo_invert.domains.search_domain import Domain
from bo_invert.oracles.base import Oracle
from bo_invert.problems.descent_results import DescentResults, EvaluatedProblem
from bo_invert.problems.feasible_region import FeasibleConstraints, FeasibleLatent, feasible_region
from bo_invert.problems.loss_gradient import Evaluation, LossGradient, MinimisedLoss
from bo_invert.types import Array, Indices, Outcome, Query

# Largest number of steps in a block, and of coordinates in its points. Engineering choice: the work
# at the end of a block is spread over many steps, and the points take at most 128 MiB.
_BLOCK_STEPS, _BLOCK_NUMBERS = 64, 2**24


class DifferentiableProblem(MinimisedLoss, EvaluatedProblem, Protocol):
    """Interface of a problem that descents need; ``bo_invert.Problem`` implements it."""

    name: str
    domain: Domain
    oracle: Oracle | None
    outputs: tuple[str, ...]

    @property
    def differentiable(self) -> bool:
        """True if space and oracle are differentiable."""


class DescentBatch:
    """Points of n descents, on the device of the oracle, and their results.

    ``measure`` evaluates points and stores tensors; it does not wait for the device. ``settle``
    moves the outputs of a block of evaluations to the host and updates the results.

    Attributes:
        points: present points, shape ``(n, d)``.
        best: best points so far, shape ``(n, d)``.
        results: results of the settled evaluations.
        region: feasible region of the points.
        exact: the forward pass is the oracle itself, not a proxy.
        host: the CPU computes, so that it can check each step at no cost.
        block: largest number of evaluations in a block.
    """

    def __init__(
        self, problem: DifferentiableProblem, queries: Sequence[Query], loss_gradient: LossGradient
    ) -> None:
        assert problem.oracle is not None
        start = torch.from_numpy(np.array([query.point for query in queries]))
        self.loss_gradient, self.exact = loss_gradient, problem.oracle.exact_forward
        placement = problem.oracle.placement
        start = start.to(**placement) if placement else start
        self.region = feasible_region(problem.domain, start)
        self.points = self.region.project(start)
        self.best = self.points.clone()
        self.results = DescentResults(problem, len(queries))
        self.host = start.device.type == "cpu"
        self.block = max(1, min(_BLOCK_STEPS, _BLOCK_NUMBERS // start.numel()))
        self._empty_block()

    def _empty_block(self) -> None:
        self._points: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self._values, self._gradients = np.zeros((2, 0), dtype=int)
        self._whole = 0

    def measure(
        self,
        rows: Indices,
        points: Tensor,
        live: Indices | None = None,
        *,
        slope: bool = True,
        regular: bool = False,
        seed: int | None = None,
        truth: Tensor | None = None,
    ) -> Evaluation:
        """Evaluate ``points`` of ``rows``; ``settle`` of the same rows bills them.

        If the batch raises, each point is evaluated alone and billed for both, so that one failing
        design does not stop the others. A row that fails alone is not alive afterwards.

        Args:
            rows: indices of the descents, shape ``(a,)``.
            points: their points, shape ``(a, d)``; not modified later.
            live: positions in ``rows`` to evaluate; None for all. A row that is left out stays so
                until ``settle``.
            slope: compute and bill the gradient.
            regular: see ``LossGradient``, as the next two.
            seed: seed of the augmentation.
            truth: known outputs, for ``live=None``.

        Returns:
            Outputs, losses and gradients, NaN for failures and rows that are left out.
        """
        index = None if live is None else torch.from_numpy(live).to(points.device)
        some, part = (rows, points) if index is None else (rows[live], points[index])
        billed: int | Indices = int(slope)
        try:
            result = self.loss_gradient(part, slope=slope, regular=regular, seed=seed, truth=truth)
        except (Exception, SystemExit) as error:
            if len(some) == 1:
                result = self._failed(some[0], part, error)
            else:
                self._record(points, self._nothing(points), live, 0)
                evaluate = partial(self.loss_gradient, slope=slope, regular=regular, seed=seed)
                result = self._evaluate_each(some, part, truth, evaluate)
            billed = self.results.alive[some].astype(int) * int(slope)
        if index is not None:
            result = Evaluation(*(_spread(one, index, len(rows)) for one in result))
        self._record(points, result.y, live, billed)
        return result

    def _evaluate_each(
        self,
        rows: Indices,
        points: Tensor,
        truth: Tensor | None,
        evaluate: Callable[..., Evaluation],
    ) -> Evaluation:
        """Evaluate each point alone; a failure ends its descent."""
        single = []
        for i, row in enumerate(rows):
            point, known = points[i : i + 1], None if truth is None else truth[i : i + 1]
            try:
                single.append(evaluate(point, truth=known))
            except (Exception, SystemExit) as error:
                single.append(self._failed(row, point, error))
        return Evaluation(*(torch.cat(parts) for parts in zip(*single, strict=True)))

    def _failed(self, row: int, point: Tensor, error: BaseException) -> Evaluation:
        self.results.fail(row, error)
        y = self._nothing(point)
        return Evaluation(y, y[:, 0], torch.full_like(point, torch.nan))

    def _nothing(self, points: Tensor) -> Tensor:
        return points.new_full((len(points), self.results.y.shape[1]), torch.nan)

    def _record(
        self, points: Tensor, y: Tensor, live: Indices | None, gradients: int | Indices
    ) -> None:
        if not self._outputs:
            self._values, self._gradients = np.zeros((2, len(points)), dtype=int)
            self._whole = 0
        self._points.append(points)
        self._outputs.append(y)
        if live is None and isinstance(gradients, int) and gradients:
            self._whole += 1  # all rows, value and gradient: the usual case costs no array
            return
        where = slice(None) if live is None else live
        self._values[where] += 1
        self._gradients[where] += gradients

    def settle(self, rows: Indices) -> None:
        """Bill the evaluations of ``rows`` since the last call and update their best points."""
        if not self._outputs:
            return
        results, values = self.results, self._values + self._whole
        y = torch.stack(self._outputs).double().cpu().numpy()
        scores = results.scores(rows, y)
        results.trace(rows, scores, values)
        results.values[rows] += values
        results.gradients[rows] += self._gradients + self._whole
        if not self.host and isinstance(self.region, FeasibleLatent):
            # The projection takes a fixed number of steps and may not have arrived.
            inside = self.region.contains(torch.stack(self._points).flatten(0, 1)).cpu().numpy()
            scores.loss[~inside.reshape(scores.loss.shape)] = np.nan
        better, at = results.improve(rows, y, scores)
        for step in np.unique(at[better]):
            columns = np.flatnonzero(better & (at == step))
            into, out_of = (
                torch.from_numpy(one).to(self.points.device) for one in (rows[columns], columns)
            )
            self.best[into] = self._points[step][out_of]
        self._empty_block()

    def move(self, rows: Indices, points: Tensor) -> None:
        """Set the present points of ``rows``."""
        self.points = self.points.clone()
        self.points[torch.from_numpy(rows).to(points.device)] = points

    def slopes(self) -> Array:
        """Return the gradients ``(n, d)`` at the present points, NaN for failures.

        The gradient of a proxy is taken at the outputs of the oracle and bills no value.
        """
        results, rows = self.results, np.arange(len(self.points))
        slopes = np.full(tuple(self.points.shape), np.nan)
        truth = None
        if not self.exact:
            results.verify(self._host_points())
            rows = np.flatnonzero(results.seen)
            truth = torch.from_numpy(results.y[rows])
        if len(rows):
            points = self.points[torch.from_numpy(rows).to(self.points.device)]
            gradient = self.measure(rows, points, truth=truth).gradient
            slopes[rows] = gradient.double().cpu().numpy()
        if self.exact:
            self.settle(rows)
        else:
            results.gradients[rows] += self._gradients + self._whole
            self._empty_block()
        return slopes

    def finish(self, steps: Indices) -> list[Outcome]:
        """Evaluate the clean loss with the last call, at the present or at the best points.

        Args:
            steps: largest numbers of values of the descents, shape ``(n,)``.
        """
        results = self.results
        rows = np.flatnonzero(results.alive & (results.values < steps))
        if not (self.exact and self.loss_gradient.clean):
            rows = np.arange(len(self.points))
            self.points = self.best.clone()
            results.forget()
        if not self.exact:
            results.verify(self._host_points())
        elif len(rows):
            index = torch.from_numpy(rows).to(self.points.device)
            self.measure(rows, self.points[index], slope=False)
            self.settle(rows)
        return self.outcomes()

    def outcomes(self) -> list[Outcome]:
        """Return the best outcome of each descent, or its failure."""
        return self.results.outcomes(self._on_host(self.best))

    def _host_points(self) -> Array:
        return self._on_host(self.points)

    def _on_host(self, points: Tensor) -> Array:
        """Return points ``(n, d)`` in double precision; input constraints then hold exactly."""
        host: Array = points.double().cpu().numpy()
        if isinstance(self.region, FeasibleConstraints) and points.dtype != torch.float64:
            return self.region.domain.project(host)
        return host


def _spread(part: Tensor, index: Tensor, n: int) -> Tensor:
    """Return ``part`` ``(a, ...)`` at the rows ``index`` of a tensor of n rows, NaN elsewhere."""
    return part.new_full((n, *part.shape[1:]), torch.nan).index_copy_(0, index, part)
