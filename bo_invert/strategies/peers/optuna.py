"""Samplers of Optuna as a strategy. Needs the extra ``peers``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert.errors import require_package
from bo_invert.models.blas_threads import one_thread
from bo_invert.objectives import ProblemStatement
from bo_invert.parameters import Choice, Int
from bo_invert.search_domain import Domain
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed, option
from bo_invert.strategies.library_warnings import quiet
from bo_invert.types import Array, Query, State, Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

_SAMPLERS = {"gp": "GPSampler", "tpe": "TPESampler"}


@dataclass(frozen=True)
class Optuna(Strategy):
    """Optuna study (Akiba et al. 2019) in memory, rebuilt from the log at every ask.

    Parameters of a box retain their types and scales; coordinates of a latent are floats between
    its bounds. Optuna receives the scalar loss, not the residuals of a target. Constraints and
    pending and failed trials are passed as such. Settings of the samplers are the defaults.

    Args:
        sampler: ``"gp"`` (Gaussian process, log expected improvement) or ``"tpe"`` (Bergstra et
            al. 2011).
    """

    name = "optuna"
    sampler: str = option("gp", among=_SAMPLERS)

    def check(self, statement: ProblemStatement) -> None:
        _import()

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        optuna = _import()
        axes = _Axes(statement.domain)
        with quiet("optuna"), one_thread():
            # A newly seeded sampler in each ask makes proposals a function of the log and the seed.
            sampler = getattr(optuna.samplers, _SAMPLERS[self.sampler])
            study = optuna.create_study(
                storage=optuna.storages.InMemoryStorage(),
                sampler=sampler(seed=draw_seed(request.rng())),
            )
            study.add_trials([_trial(statement, trial, axes) for trial in trials])
            points = [
                axes.point(study.ask(axes.distributions).params) for _ in range(request.count)
            ]
        return Proposal(tuple(Query(point, origin=self.name) for point in points))


def _import() -> ModuleType:
    with require_package("strategy 'optuna'", "optuna", "peers"):
        import optuna
    module: ModuleType = optuna
    return module


class _Axes:
    """Conversion between points of a domain and parameters of Optuna."""

    def __init__(self, domain: Domain) -> None:
        from optuna import distributions as kinds

        self.domain = domain
        self.distributions: dict[str, BaseDistribution] = {}
        for name, parameter in domain.axes.items():
            if isinstance(parameter, Choice):
                self.distributions[name] = kinds.CategoricalDistribution(parameter.values)
                continue
            kind: Any = (
                kinds.IntDistribution if isinstance(parameter, Int) else kinds.FloatDistribution
            )
            self.distributions[name] = kind(parameter.low, parameter.high, log=parameter.log)

    def params(self, point: Array) -> dict[str, Any]:
        """Return the parameters of a point ``(d,)``, clipped to the bounds of a latent."""
        if self.domain.parameters:
            return self.domain.values(point[None])[0]
        # Optuna rejects parameters outside of their distribution, which latent draws may exceed.
        inside = point.clip(*self.domain.bounds)
        return dict(zip(self.distributions, inside.tolist(), strict=True))

    def point(self, params: Mapping[str, Any]) -> Array:
        """Return the nearest valid point ``(d,)`` of parameters."""
        if self.domain.parameters:
            return self.domain.project(self.domain.encode([params])[0])
        return self.domain.project(np.array([params[name] for name in self.distributions]))


def _trial(statement: ProblemStatement, trial: Trial, axes: _Axes) -> FrozenTrial:
    from optuna.trial import TrialState, create_trial

    outcome: dict[str, Any] = {}
    if trial.state is State.COMPLETED:
        excess = {str(c): float(c.excess(trial.y)) for c in statement.constraints}
        outcome = {"value": trial.loss, "constraints": excess or None}
        state = TrialState.COMPLETE
    else:
        state = TrialState.RUNNING if trial.state.open else TrialState.FAIL
    return create_trial(
        state=state, params=axes.params(trial.point), distributions=axes.distributions, **outcome
    )
