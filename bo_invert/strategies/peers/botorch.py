"""Closed loop of BoTorch's tutorials, the standard peer of Bayesian optimization."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import torch
from botorch.acquisition import qLogNoisyExpectedImprovement
from botorch.acquisition.objective import GenericMCObjective
from botorch.exceptions import ModelFittingError
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.optim import optimize_acqf
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch import Tensor

from bo_invert.history import History
from bo_invert.models.base import from_unit, to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.optim.initial_design import (
    count_design_points,
    limit_to_budget,
    needs_initial_design,
)
from bo_invert.objectives import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed
from bo_invert.types import Array, Query, Trial


@dataclass(frozen=True)
class BoTorch(Strategy):
    """BoTorch with its defaults (Balandat et al. 2020).

    ``SingleTaskGP`` models the loss, ``qLogNoisyExpectedImprovement`` (Ament et al. 2023) is
    maximised by ``optimize_acqf``. The residuals of a target are not modelled. Every ask fits the
    models from scratch. Outcome constraints have models of their own. Batches are built
    sequentially, with pending trials as ``X_pending``. Failed trials count as the worst observed
    values. Integers and choices are relaxed and rounded before evaluation. The initial design is
    a scrambled Sobol sequence of ``2 (d + 1)`` points, at most 20 and at most a quarter of the
    budget.

    Args:
        num_restarts: number of local searches of the acquisition function.
        raw_samples: number of points from which their starts are chosen.
    """

    name = "botorch"
    num_restarts: int = 10
    raw_samples: int = 512

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        history, domain = History(trials), statement.domain
        if needs_initial_design(
            history, limit_to_budget(min(2 * (domain.dim + 1), 20), request.budget)
        ):
            before = count_design_points(history)
            points = domain.sobol(request.stream(0), request.count, skip=before)
            return Proposal(
                tuple(
                    Query(point, origin=self.name, meta={"design": before + i})
                    for i, point in enumerate(points)
                )
            )
        with _seeded(draw_seed(request.rng())):
            points = from_unit(domain, self._maximise(statement, history, request.count))
        return Proposal(tuple(Query(point, origin=self.name) for point in points))

    def _maximise(self, statement: ProblemStatement, history: History, count: int) -> Array:
        """Maximise the acquisition function; return unit inputs ``(count, d)``."""
        domain = statement.domain
        values = _values(statement, history)
        # Failed points remain in the data; otherwise the acquisition would select them again.
        x = torch.tensor(to_unit(domain, np.concatenate([history.points, history.failed_points])))
        model = SingleTaskGP(
            x, torch.tensor(values), outcome_transform=Standardize(values.shape[1])
        )
        with suppress(ModelFittingError):  # the initial hyperparameters remain
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        pending = torch.tensor(to_unit(domain, history.pending_points)) if history.pending else None
        acquisition = qLogNoisyExpectedImprovement(
            model,
            X_baseline=x,
            X_pending=pending,
            objective=GenericMCObjective(lambda samples, X=None: -samples[..., 0]),
            constraints=[_column(i) for i in range(1, values.shape[1])] or None,
            prune_baseline=True,
        )
        # Unit inputs: the models see a cube in a latent, too.
        bounds = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, domain.dim)
        found, _ = optimize_acqf(
            acquisition,
            bounds,
            count,
            num_restarts=self.num_restarts,
            raw_samples=self.raw_samples,
            sequential=True,
        )
        return np.asarray(found.detach().numpy())


def _values(statement: ProblemStatement, history: History) -> Array:
    """Return loss and excesses, shape ``(n + f, 1 + constraints)``; failed trials get the worst."""
    observed = np.stack(
        [history.losses, *(c.excess(history.y) for c in statement.constraints)], axis=1
    )
    return np.concatenate(
        [observed, np.repeat(observed.max(axis=0)[None], len(history.failed), axis=0)]
    )


def _column(i: int) -> Callable[[Tensor], Tensor]:
    # BoTorch: a constraint is feasible where its value is negative or 0.
    return lambda samples: samples[..., i]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Make BoTorch deterministic: one thread, and a seeded global generator of torch.

    All threads share this generator, so asks do not overlap.
    """
    # fork_rng restores the state on exit, so later draws of the user do not change.
    with _one_at_a_time, one_thread(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


_one_at_a_time = threading.Lock()
