"""Samplers of Optuna as a strategy. Needs the extra ``peers``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bo_invert.domains.parameters import Choice, Float, Int, VariedParameter
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import require_package
from bo_invert.models.blas_threads import one_thread
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed, option
from bo_invert.strategies.library_warnings import quiet
from bo_invert.types import Query, State, Trial

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

# Most values of a step that Optuna receives. Engineering choice: it rejects rounding errors of more
# than 1e-8 steps; of more values, it receives the range and its proposals are rounded.
_MAX_LEVELS = 10_000
_SAMPLERS = {"gp": "GPSampler", "tpe": "TPESampler", "nsga2": "NSGAIISampler"}


@dataclass(frozen=True)
class Optuna(Strategy):
    """Optuna study (Akiba et al. 2019) in memory, rebuilt from the log at every ask.

    Parameters of a box retain their types, scales and steps; conditional ones are suggested only
    where they are active. Coordinates of a latent are floats between its bounds. Optuna receives
    the scalar loss, not the residuals of a target. Constraints and pending and failed trials are
    passed as such. Settings of the samplers are the defaults.

    The criteria of ``Pareto`` are several directions.

    Args:
        sampler: ``"gp"`` (Gaussian process, log expected improvement), ``"tpe"`` (Bergstra et
            al. 2011) or ``"nsga2"`` (NSGA-II, Deb et al. 2002).
    """

    name = "optuna"
    multi_objective = True
    sampler: str = option("gp", among=_SAMPLERS)

    def check(self, statement: ProblemStatement) -> None:
        _import()

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        optuna = _import()
        domain = statement.domain
        distributions = {name: _distribution(p) for name, p in domain.axes.items()}
        with quiet("optuna"), one_thread():
            # A newly seeded sampler in each ask makes proposals a function of the log and the seed.
            sampler = getattr(optuna.samplers, _SAMPLERS[self.sampler])(
                seed=draw_seed(request.rng())
            )
            objective = statement.objective
            count = len(objective.objectives) if isinstance(objective, Pareto) else 1
            study = optuna.create_study(
                storage=optuna.storages.InMemoryStorage(),
                sampler=sampler,
                directions=["minimize"] * count,
            )
            # Samplers of generations note that of each trial among its attributes.
            key = sampler._get_generation_key() if self.sampler == "nsga2" else None
            study.add_trials([_trial(statement, trial, distributions, key) for trial in trials])
            queries = []
            for _ in range(request.count):
                point = domain.point(_suggested(study, domain, distributions))
                attributes = study.get_trials(deepcopy=False)[-1].system_attrs
                meta = {} if key is None else {"generation": attributes[key]}
                queries.append(Query(point, origin=self.name, meta=meta))
        return Proposal(tuple(queries))


def _suggested(
    study: optuna.Study, domain: Domain, distributions: dict[str, BaseDistribution]
) -> dict[str, Any]:
    """Return the values of a new trial; those of conditional parameters only where active."""
    if not domain.conditional:
        return study.ask(distributions).params
    trial, found = study.ask(), dict[str, Any]()

    def suggest(name: str) -> object:
        if name not in found:
            found[name] = trial._suggest(name, distributions[name])
        return found[name]

    def active(name: str) -> bool:
        return all(
            active(one.parameter) and suggest(one.parameter) in one.values
            for one in domain.parameters[name].when
        )

    return {name: suggest(name) for name in distributions if active(name)}


def _import() -> ModuleType:
    with require_package("strategy 'optuna'", "optuna", "peers"):
        import optuna
    module: ModuleType = optuna
    return module


def _distribution(parameter: VariedParameter) -> BaseDistribution:
    from optuna import distributions as kinds

    if isinstance(parameter, Choice):
        return kinds.CategoricalDistribution(parameter.values)
    grid = parameter.grid if isinstance(parameter, Float) and not parameter.log else None
    if grid is not None and len(grid) <= _MAX_LEVELS:
        return kinds.FloatDistribution(parameter.low, parameter.high, step=grid.step)
    kind: Callable[..., BaseDistribution] = (
        kinds.IntDistribution if isinstance(parameter, Int) else kinds.FloatDistribution
    )
    return kind(parameter.low, parameter.high, log=parameter.log)


def _trial(
    statement: ProblemStatement,
    trial: Trial,
    distributions: dict[str, BaseDistribution],
    generation: str | None = None,
) -> FrozenTrial:
    """Return a trial of Optuna.

    Args:
        statement: problem statement.
        trial: trial of the log.
        distributions: distributions of the parameters.
        generation: attribute for the number of its generation; None for samplers without one.
    """
    from optuna.trial import TrialState, create_trial

    outcome: dict[str, Any] = {}
    if trial.state is State.COMPLETED:
        excess = {str(c): float(c.excess(trial.y)) for c in statement.constraints}
        outcome = {"constraints": excess or None}
        if isinstance(statement.objective, Pareto):
            outcome["values"] = statement.objective.losses(trial.y).tolist()
        else:
            outcome["value"] = trial.loss
        state = TrialState.COMPLETE
    else:
        state = TrialState.RUNNING if trial.state.open else TrialState.FAIL
    # Optuna rejects parameters outside of their distribution, which latent draws may exceed.
    domain, point = statement.domain, trial.point.clip(*statement.domain.bounds)
    params = domain.values(point[None])[0] if domain.conditional else domain.named(point)
    # Parameters with one value are not searched.
    params = {name: value for name, value in params.items() if name in distributions}
    distributions = {name: distributions[name] for name in params}
    if generation is not None and "generation" in trial.query.meta:
        outcome["system_attrs"] = {generation: trial.query.meta["generation"]}
    return create_trial(state=state, params=params, distributions=distributions, **outcome)
