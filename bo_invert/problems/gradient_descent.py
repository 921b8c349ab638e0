"""Evaluation of gradient and descent queries next to the oracle, with each call billed.

Descents of one call run as one batch on the oracle's device. The optimised loss may be augmented,
penalised or that of a proxy. The reported loss is the true one of the clean design.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bo_invert.errors import InvalidInputError
from bo_invert.models.optim.batched_adam import BatchedAdam
from bo_invert.models.optim.batched_lbfgs import BatchedLBFGS
from bo_invert.oracles.raw_outputs import in_order, output_positions
from bo_invert.problems.descent_batch import DescentBatch, DifferentiableProblem
from bo_invert.problems.loss_gradient import LossGradient
from bo_invert.types import Descent, Indices, Outcome, Query

# Share of running rows below which the others are dropped from the optimiser. Engineering choice:
# dropping rows copies all pairs of L-BFGS, about the work of one step.
_SPARSE = 0.75


def evaluate_gradients(problem: DifferentiableProblem, queries: Sequence[Query]) -> list[Outcome]:
    """Evaluate gradient and descent queries; return one outcome each, in order.

    The outcome of a descent holds the best point it evaluated, by violation and then by loss. Its
    trace is NaN at infeasible values, since curves show the best feasible loss.

    Descents of one optimiser form one batch; their steps and rates may differ. Only if the space
    augments designs, descents of different seeds are apart.

    Raises:
        InvalidInputError: the problem has no gradients, or a descent has invalid settings.
    """
    if not problem.differentiable:
        raise InvalidInputError(
            f"problem {problem.name!r} has no gradients: space or oracle is not differentiable. "
            "Ask for values only, or add a proxy (bi.GradientProxy)."
        )
    for descent in [query.descent for query in queries if query.descent is not None]:
        if descent.steps < 1 or descent.optimizer not in ("adam", "lbfgs"):
            raise InvalidInputError(
                f"descent: steps must be positive and optimizer 'adam' or 'lbfgs', got {descent}"
            )
    assert problem.oracle is not None
    outcomes: dict[int, Outcome] = {}
    order = output_positions("Problem: outputs", problem.oracle.outputs, problem.outputs)
    with problem.oracle.forwarding() as forward:
        ordered = forward if order is None else lambda designs: in_order(forward(designs), order)
        for (optimizer, seed), rows in _groups(problem, queries).items():
            asked = [queries[i] for i in rows]
            batch = DescentBatch(problem, asked, LossGradient(problem, ordered))
            if optimizer is None:
                answers = _gradients(batch)
            else:
                descents = [query.descent for query in asked if query.descent is not None]
                answers = _descend(batch, optimizer, descents, seed)
            outcomes.update(zip(rows, answers, strict=True))
    return [outcomes[i] for i in range(len(queries))]


def _groups(
    problem: DifferentiableProblem, queries: Sequence[Query]
) -> dict[tuple[str | None, int], list[int]]:
    """Return the positions of the queries of each batch, by optimiser and seed."""
    seeded = LossGradient.augments(problem.space)
    groups: dict[tuple[str | None, int], list[int]] = {}
    for i, query in enumerate(queries):
        optimizer = None if query.descent is None else query.descent.optimizer
        seed = int(query.meta.get("seed", 0)) if seeded else 0
        groups.setdefault((optimizer, seed), []).append(i)
    return groups


def _gradients(batch: DescentBatch) -> list[Outcome]:
    slopes = batch.slopes()
    answers = []
    for outcome, slope in zip(batch.outcomes(), slopes, strict=True):
        usable = outcome.y is not None and bool(np.isfinite(slope).all())
        reason = outcome.reason if usable or outcome.y is None else "the gradient is not finite"
        answers.append(
            replace(
                outcome, point=None, trace=None, gradient=slope if usable else None, reason=reason
            )
        )
    return answers


def _descend(
    batch: DescentBatch, optimizer: str, descents: Sequence[Descent], seed: int
) -> list[Outcome]:
    """Run a batch of descents by one optimiser.

    L-BFGS does not augment designs: a line search needs a deterministic loss. Adam's last value,
    and that of a proxy, has no gradient.
    """
    steps = np.array([descent.steps for descent in descents])
    if optimizer == "adam":
        rates = batch.points.new_tensor([[[descent.learning_rate] for descent in descents]])
        adam = BatchedAdam(batch.points, batch.region, rates)
        run_steps(batch, adam, steps - 1, seed)
    else:
        run_steps(
            batch, BatchedLBFGS(batch.points, batch.region), steps if batch.exact else steps - 1
        )
        batch.results.alive[:] = False
    return batch.finish(steps)


def run_steps(
    batch: DescentBatch,
    optimizer: BatchedAdam | BatchedLBFGS[Tensor],
    limits: Indices,
    seed: int | None = None,
) -> None:
    """Evaluate and update the points of all rows until each has ended or spent its values.

    The CPU checks each step which rows have ended. Other devices are not waited for: rows are
    checked at the end of a block of steps, and a row that has ended is billed until then.

    Args:
        batch: results, for the rows of the optimiser.
        optimizer: optimiser at its start.
        limits: largest numbers of values, shape ``(n,)``.
        seed: seed of the augmentation of designs; None for no augmentation.
    """
    results, rows, step = batch.results, np.arange(len(limits)), 0
    while True:
        left = limits[rows] - results.values[rows]
        live = np.flatnonzero(results.alive[rows] & (left > 0))
        if not len(live):
            return
        if len(live) < (_SPARSE if batch.host else 1.0) * len(rows) or left.min() <= 0:
            optimizer.select(torch.from_numpy(live).to(batch.points.device))
            rows, left, live = rows[live], left[live], np.arange(len(live))
        begun = live
        for _ in range(min(batch.block, int(left[live].min()))):
            failures = len(results.failures)
            result = batch.measure(
                rows, optimizer.points, None if len(live) == len(rows) else live, regular=True,
                # 1,000,003 is a prime: seeds of different descents and steps differ.
                seed=None if seed is None else seed * 1_000_003 + step,
            )  # fmt: skip
            optimizer.update(result.total, result.gradient)
            step += 1
            if len(results.failures) > failures:
                break
            if optimizer.ended > len(rows) - len(live):
                live = np.flatnonzero(optimizer.running.numpy())
                if len(live) < _SPARSE * len(rows):
                    break
        batch.settle(rows)
        index = torch.from_numpy(begun).to(batch.points.device)
        batch.move(rows[begun], optimizer.points[index])
        results.alive[rows[begun]] &= optimizer.running[index].cpu().numpy()
