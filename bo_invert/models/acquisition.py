"""What makes an input worth evaluating: functions from unit inputs ``(b, 1, d)`` to scores ``(b,)``, higher is better.

Losses are lower-is-better everywhere else; the sign flips here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bo_invert.types import Array

if TYPE_CHECKING:
    from bo_invert.models.exact import Surrogate
    from bo_invert.models.outputs import Outputs

Score = Callable[[Tensor], Tensor]


def improvement(
    surrogate: Surrogate,
    outputs: Outputs,
    told: Array,
    losses: Array,
    feasible: NDArray[np.bool_],
    *,
    pending: Array,
    seed: int,
    noisy: bool = False,
    samples: int = 128,
) -> Score:
    """Log expected improvement over the best feasible loss (Ament et al. 2023).

    With a structured objective this is the expected improvement of a composite function (Astudillo & Frazier 2019),
    by quasi-Monte Carlo through the objective. Where nothing feasible is known yet, the improvement is that of the
    violated constraints.

    Args:
        surrogate: fitted to what ``outputs`` models.
        outputs: how modelled numbers become losses.
        told: unit inputs already evaluated, shape ``(n, d)``.
        losses: of them, shape ``(n,)``.
        feasible: which of them satisfy the constraints, shape ``(n,)``.
        pending: unit inputs under evaluation, shape ``(p, d)``.
        seed: of the quasi-random numbers.
        noisy: compare with what the model believes of the told inputs instead of what was told.
        samples: how many quasi-random numbers.
    """
    from botorch.acquisition import LogExpectedImprovement, qLogExpectedImprovement, qLogNoisyExpectedImprovement
    from botorch.acquisition.objective import GenericMCObjective, ScalarizedPosteriorTransform
    from botorch.sampling import SobolQMCNormalSampler

    known = bool(feasible.any())
    if outputs.plain and known and not noisy and not len(pending):
        basis = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        shift, slope = (outputs.loss(surrogate.values(basis))).tolist()
        slope -= shift
        best = (shift - losses.min()) / abs(slope)
        transform = ScalarizedPosteriorTransform(torch.tensor([-slope / abs(slope)], dtype=torch.float64))
        return _callable(LogExpectedImprovement(surrogate.model, best, posterior_transform=transform))
    # The smoothing of the improvement is absolute, so losses are measured in steps between the best few.
    ladder = np.sort(losses[feasible] if known else np.array([]))[:5]
    floor = 1e-10 * float(losses.std()) + 1e-14 * (1.0 + abs(float(losses.min())))  # nobody needs to come nearer
    unit = max(float(ladder.mean() - ladder[0]), floor) if known else 1.0
    zero = float(ladder[0]) if known else 0.0

    def gain(drawn: Tensor, X: Tensor | None = None) -> Tensor:
        modelled = surrogate.values(drawn)
        return (zero - outputs.loss(modelled)) / unit if known else -outputs.violation(modelled)

    def bounded(excess: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda drawn: excess(surrogate.values(drawn))

    options: dict[str, Any] = {
        "model": surrogate.model,
        "objective": GenericMCObjective(gain),
        "sampler": SobolQMCNormalSampler(torch.Size([samples]), seed=seed),
        "eta": 1e-5,  # a wider smoothing would reward queries just beyond a constraint
        "constraints": [bounded(excess) for excess in outputs.excesses] if known and outputs.excesses else None,
        "X_pending": torch.tensor(pending, dtype=torch.float64) if len(pending) else None,
    }
    x = torch.tensor(told, dtype=torch.float64)
    if noisy:
        return _callable(qLogNoisyExpectedImprovement(X_baseline=x, prune_baseline=True, **options))
    best_f = 0.0 if known else float(gain(surrogate.model.posterior(x).mean).max())
    return _callable(qLogExpectedImprovement(best_f=best_f, **options))


def predicted(surrogate: Surrogate, outputs: Outputs) -> Score:
    """Minus the loss of the posterior mean, with a penalty for predicted violations: pure exploitation."""

    def score(inputs: Tensor) -> Tensor:
        modelled = surrogate.mean(inputs)
        return -(outputs.loss(modelled) + 10.0 * outputs.violation(modelled) ** 2).squeeze(-1)

    return score


def feasibility(surrogate: Surrogate) -> Score:
    """Log probability that an input can be evaluated at all, by a surrogate of labels 1 (it could) and 0.

    A little is added to the surrogate's standard deviation: a wrong belief must stay correctable.
    """

    def score(inputs: Tensor) -> Tensor:
        posterior = surrogate.model.posterior(inputs)
        labels = surrogate.values(posterior.mean)[..., 0, 0]
        std = posterior.variance[..., 0, 0].sqrt() * surrogate.weights.abs().sum()
        log: Tensor = torch.special.log_ndtr((labels - 0.5) / (std + 0.02))
        return log

    return score


def _callable(acquisition: Any) -> Score:
    def score(inputs: Tensor) -> Tensor:
        value: Tensor = acquisition(inputs)
        return value

    return score
