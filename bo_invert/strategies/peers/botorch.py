"""Closed loop of BoTorch's tutorials, the standard peer of Bayesian optimization."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction, qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
from botorch.acquisition.objective import GenericMCObjective
from botorch.exceptions import ModelFittingError
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.optim import optimize_acqf
from botorch.utils.multi_objective.hypervolume import infer_reference_point
from botorch.utils.multi_objective.pareto import is_non_dominated
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch import Tensor

from bo_invert.history import History
from bo_invert.models.base import MAX_INDEPENDENT_OUTPUTS, from_unit, to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.optim.initial_design import (
    count_design_points,
    limit_to_budget,
    needs_initial_design,
)
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed
from bo_invert.strategies.library_warnings import quiet
from bo_invert.types import Array, Query, Trial
from bo_invert.user_code import default_dtype

# Relative singular value of a principal component that is rounding error only, dimensionless.
# Engineering choice: above double precision times the number of values, below observed components.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class BoTorch(Strategy):
    """BoTorch with its defaults (Balandat et al. 2020).

    ``SingleTaskGP`` models the outputs that objective and constraints read, and
    ``optimize_acqf`` maximises ``qLogNoisyExpectedImprovement`` (Ament et al. 2023). A target is
    a composite objective, ``GenericMCObjective`` of the modelled outputs, as in BoTorch's tutorial
    (Astudillo & Frazier 2019). For ``Pareto``, it is ``qLogNoisyExpectedHypervolumeImprovement``
    with the given or inferred reference point. More than 15 outputs are modelled by the principal
    components of the standardized outputs. Every ask fits the models from scratch. Batches are
    built sequentially, with pending trials as ``X_pending``. Failed trials count as the observation
    of the highest loss. Integers and choices are relaxed and rounded before evaluation. The initial
    design is a scrambled Sobol sequence of ``2 (d + 1)`` points, at most 20 and at most a quarter
    of the budget.

    Args:
        num_restarts: number of local searches of the acquisition function.
        raw_samples: number of points from which their starts are chosen.
    """

    name = "botorch"
    multi_objective = True
    num_restarts: int = 10
    raw_samples: int = 512

    @default_dtype("float32")  # parts of the library use the default type
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
        with quiet("botorch"), _seeded(draw_seed(request.rng())):
            points = from_unit(domain, self._maximise(statement, history, request.count))
        return Proposal(tuple(Query(point, origin=self.name) for point in points))

    def _maximise(self, statement: ProblemStatement, history: History, count: int) -> Array:
        """Maximise the acquisition function; return unit inputs ``(count, d)``."""
        domain = statement.domain
        modelled = ModelledOutputs(statement, history.y, history.losses)
        basis = Basis.of(modelled.values)
        values = _with_failed(basis.scores(modelled.values), history)
        # Failed points remain in the data; otherwise the acquisition would select them again.
        x = torch.tensor(to_unit(domain, np.concatenate([history.points, history.failed_points])))
        model = SingleTaskGP(
            x, torch.tensor(values), outcome_transform=Standardize(values.shape[1])
        )
        with suppress(ModelFittingError):  # the initial hyperparameters remain
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        pending = torch.tensor(to_unit(domain, history.pending_points)) if history.pending else None
        constraints = [_excess(modelled, basis, i) for i in range(len(statement.constraints))]
        options = {
            "X_baseline": x, "X_pending": pending, "constraints": constraints or None,
            "prune_baseline": True,
        }  # fmt: skip
        acquisition: AcquisitionFunction
        if isinstance(statement.objective, Pareto):
            acquisition = qLogNoisyExpectedHypervolumeImprovement(
                model,
                ref_point=_reference(statement.objective, history),
                objective=GenericMCMultiOutputObjective(
                    lambda samples, X=None: -modelled.criteria(basis.outputs(samples))
                ),
                **options,
            )
        else:
            acquisition = qLogNoisyExpectedImprovement(
                model,
                objective=GenericMCObjective(
                    lambda samples, X=None: -modelled.loss(basis.outputs(samples))
                ),
                **options,
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


@dataclass(frozen=True, eq=False)
class Basis:
    """Linear basis of the modelled outputs: ``outputs = mean + scale * (scores @ axes)``.

    Args:
        mean: Means of the outputs, shape ``(c,)``.
        scale: Standard deviations of the outputs, 1 for constant ones, shape ``(c,)``.
        axes: Principal axes of the standardized outputs, shape ``(k, c)``; None for the outputs
            themselves.
    """

    mean: Array
    scale: Array
    axes: Array | None

    @staticmethod
    def of(values: Array) -> Basis:
        """Return the outputs themselves, or the principal components of many outputs ``(n, c)``."""
        mean, spread = values.mean(axis=0), values.std(axis=0)
        scale = np.where(spread > 0.0, spread, 1.0)
        if values.shape[1] <= MAX_INDEPENDENT_OUTPUTS:
            return Basis(mean, scale, None)
        _, lengths, axes = np.linalg.svd((values - mean) / scale, full_matrices=False)
        # A component without variance cannot be standardized.
        varies = lengths > _ROUNDING * lengths[0]
        varies[0] = True
        return Basis(mean, scale, axes[varies][:MAX_INDEPENDENT_OUTPUTS])

    def scores(self, values: Array) -> Array:
        """Return the scores ``(n, k)`` of outputs ``(n, c)``."""
        if self.axes is None:
            return values
        return np.asarray(((values - self.mean) / self.scale) @ self.axes.T)

    def outputs(self, samples: Tensor) -> Tensor:
        """Return outputs ``(..., c)`` of samples ``(..., k)``."""
        if self.axes is None:
            return samples
        standardized = samples @ samples.new_tensor(self.axes)
        return samples.new_tensor(self.mean) + samples.new_tensor(self.scale) * standardized


def _reference(objective: Pareto, history: History) -> list[float]:
    """Return the reference point in negative losses; an inferred one is that of BoTorch.

    It is inferred from the feasible front, or from all observations if none is feasible.
    """
    losses = np.asarray(objective.losses(history.y))
    feasible = losses[history.violations <= 0.0]
    usable = torch.tensor(feasible if len(feasible) else losses)
    inferred = infer_reference_point(-usable[is_non_dominated(-usable)]).numpy()
    given = -objective.reference_losses
    return [float(value) for value in np.where(np.isnan(given), inferred, given)]


def _with_failed(values: Array, history: History) -> Array:
    """Append the values ``(k,)`` of the highest loss for each failed trial, ``(n + f, k)``."""
    worst = values[np.argmax(history.losses)]
    return np.concatenate([values, np.repeat(worst[None], len(history.failed), axis=0)])


def _excess(modelled: ModelledOutputs, basis: Basis, i: int) -> Callable[[Tensor], Tensor]:
    # BoTorch: a constraint is feasible where its value is negative or 0.
    return lambda samples: modelled.constraint_excess(basis.outputs(samples), i)


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
