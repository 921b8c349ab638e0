"""Trust-region Bayesian optimization of the package trust-bo. Needs the extra ``peers``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from bo_invert.domains.parameters import Choice, Int, VariedParameter
from bo_invert.errors import require_package
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed
from bo_invert.types import Query, State, Trial

#: State of an engine besides its observations, as ``TRustBOEngine.save`` stores it.
_STATE = (
    "_ask_count", "_tr_states", "_model_states", "_feas_model_states", "_phase",
    "_stagnation_count",
)  # fmt: skip


@dataclass(frozen=True)
class TrustBO(Strategy):
    """Trust region with an ensemble of small networks, of the package trust-bo (Ozawa 2026).

    It is a variant of TuRBO (Eriksson et al. 2019) with networks instead of Gaussian processes.
    Every ask builds an engine with the observations of the log and with the state of the last
    ask, which the memo holds. Settings are the defaults. The engine receives the scalar loss and
    whether a trial is feasible. It has no notion of pending trials and ignores failed ones.
    Choices are coordinates in the order of their values. Parameters of a box retain their types
    and scales; coordinates of a latent are floats between its bounds.
    """

    name = "trust_bo"

    def check(self, statement: ProblemStatement) -> None:
        _import()

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        package, domain = _import(), statement.domain
        space = [_axis(package, name, p) for name, p in domain.axes.items()]
        # Asks differ by the number of asks in the state; the seed is that of the study.
        engine = package.TRustBOEngine(space, seed=draw_seed(request.stream(0)))
        for name, value in (request.memo or {}).items():
            setattr(engine, name, value)
        for trial in trials:
            if trial.state is State.COMPLETED:
                # Latent draws may lie outside the bounds.
                point = domain.named(trial.point.clip(*domain.bounds))
                engine.tell([point], [{"value": trial.loss, "feasible": trial.feasible}])
        points = [domain.point(values) for values in engine.ask(request.count)]
        memo = {name: getattr(engine, name) for name in _STATE}
        return Proposal(tuple(Query(point, origin=self.name) for point in points), memo)


def _import() -> ModuleType:
    with require_package("strategy 'trust_bo'", "trust-bo", "peers"):
        import trust_bo
    module: ModuleType = trust_bo
    return module


def _axis(package: ModuleType, name: str, parameter: VariedParameter) -> object:
    if isinstance(parameter, Choice):
        return package.space.Categorical(name, list(parameter.values))
    kind = package.space.Int if isinstance(parameter, Int) else package.space.Float
    return kind(name, parameter.low, parameter.high, log=parameter.log)
