"""Optimisers of Nevergrad as a strategy. Needs the extra ``peers``."""

from __future__ import annotations

import random
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.domains.parameters import Choice, Float, Value, VariedParameter
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError, require_package
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed
from bo_invert.strategies.replay import ReplayCache, key
from bo_invert.types import Array, Query, Trial

_Result = TypeVar("_Result")

# Engineering choice: calls per coordinate that Nevergrad assumes for a study without a budget. It
# chooses its method by the budget.
_CALLS_PER_COORDINATE = 100
# Loss of a failure before the first observation, in units of the loss: the default of Nevergrad's
# upper limit, beyond which it clips.
_LARGE = 1e20


@dataclass(frozen=True)
class Nevergrad(Strategy):
    """Optimiser of Nevergrad (Rapin & Teytaud 2018), replayed from the log.

    It receives the budget and the batch size. When the budget grows, a new optimiser receives the
    whole log. ``query.meta["told"]`` lists the trials that Nevergrad received before the query, so
    a replay repeats the order of asks and tells. Observations of other origin are passed to the
    optimisers that accept them. Violations are passed as such; failed trials receive a loss worse
    than all before.

    Nevergrad draws from the global generators of ``random`` and numpy. They are seeded during an
    ask and restored afterwards. A thread that draws from them during an ask disturbs it.

    Args:
        optimizer: name in Nevergrad's registry; the default is its recommendation for continuous
            problems with small budgets.
    """

    name = "nevergrad"
    optimizer: str = "NgIohTuned"

    def check(self, statement: ProblemStatement) -> None:
        known = _import().optimizers.registry
        if self.optimizer not in known:
            raise InvalidInputError(
                f"nevergrad: no optimizer {self.optimizer!r}. nevergrad.optimizers.registry lists "
                "all, for example 'NgIohTuned', 'CMA', 'TwoPointsDE', 'PSO'"
            )

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        self.check(statement)
        domain = statement.domain
        note = self._note(domain, trials, request)
        own = self._own(trials, note["since"])
        script: list[_Step] = []
        for trial in own:
            script += [_tell(trials[number]) for number in trial.query.meta["told"]]
            script.append(_Step(None, key(trial.point)))
        done = {number for trial in own for number in trial.query.meta["told"]}
        news = [
            trial.number for trial in trials if not trial.state.open and trial.number not in done
        ]
        script += [_tell(trials[number]) for number in news]
        study = (self, domain, request.seed, *sorted(note.items()))

        def play() -> list[Array]:
            with _one_at_a_time:
                player = _CACHE.take(study)
                if player is None or player.steps != script[: len(player.steps)]:
                    player = _Player(
                        self.optimizer, domain, request, note["budget"], note["workers"]
                    )
                player.play(script[len(player.steps) :], trials, own)
                points = [player.ask() for _ in range(request.count)]
                _CACHE.put(study, player)
            return points

        # The first query of the batch follows all new tells; the others follow it directly.
        queries = (
            Query(point, origin=self.name, meta={"told": [] if i else news})
            for i, point in enumerate(_as_daemon(play))
        )
        return Proposal(tuple(queries), note)

    def _own(self, trials: Sequence[Trial], since: int) -> list[Trial]:
        return [trial for trial in trials[since:] if trial.origin == self.name]

    def _note(self, domain: Domain, trials: Sequence[Trial], request: Request) -> dict[str, int]:
        """Return the budget and batch size of the optimiser and the first trial of its log.

        A new budget needs a new optimiser, because an optimiser may refuse to exceed its budget.
        The budget changes only if that of the study grows or is spent.
        """
        note: dict[str, int] = request.memo or {"budget": 0, "workers": request.count, "since": 0}
        budget = request.budget or _CALLS_PER_COORDINATE * domain.dim
        while budget < len(self._own(trials, note["since"])) + request.count:
            budget *= 2
        if budget <= note["budget"]:
            return note
        return {"budget": budget, "workers": request.count, "since": len(trials)}


def _import() -> ModuleType:
    """Import nevergrad; the import draws from the global generators."""
    with (
        require_package("strategy 'nevergrad'", "nevergrad", "peers"),
        _seeded_global_generators(0),
    ):
        import nevergrad
        from nevergrad.optimization import metamodel
    # Metamodels convert arrays of one number with ``float``, which numpy 2.4 refuses.
    metamodel.float = _one_number
    module: ModuleType = nevergrad
    return module


def _one_number(value: ArrayLike) -> float:
    return float(np.asarray(value).item())


def _as_daemon(work: Callable[[], _Result]) -> _Result:
    """Run a function in a daemon thread; return its result or raise its exception.

    Some optimisers start threads that wait for the next loss without end. As children of a daemon
    thread they are daemons too, and the interpreter does not wait for them at exit.
    """
    future: Future[_Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="nevergrad").start()
    return future.result()


@dataclass(frozen=True)
class _Step:
    """Step of a replay: a tell of trial number ``trial``, or an ask (None), at a point."""

    trial: int | None
    point: bytes
    loss: float | None = None
    violation: float = 0.0


def _tell(trial: Trial) -> _Step:
    violation = 0.0 if trial.outcome is None else max(trial.outcome.violation, 0.0)
    return _Step(trial.number, key(trial.point), trial.loss, violation)


class _Player:
    """Optimiser with the steps that it has taken."""

    def __init__(
        self, optimizer: str, domain: Domain, request: Request, budget: int, workers: int
    ) -> None:
        nevergrad = _import()
        self.domain, self.request = domain, request
        self.steps: list[_Step] = []
        self.asked: list[tuple[Array, Any]] = []
        self.losses: list[float] = []
        with self._turn():
            space = _space(domain)
            space.random_state = np.random.RandomState(draw_seed(request.stream(0)))
            self.optimizer = nevergrad.optimizers.registry[optimizer](
                space, budget=budget, num_workers=workers
            )

    def ask(self) -> Array:
        point = self._draw()
        self.steps.append(_Step(None, key(point)))
        return point

    def play(self, script: Sequence[_Step], trials: Sequence[Trial], own: Sequence[Trial]) -> None:
        """Perform steps; ``own`` are the trials of the asks of the whole script, in order."""
        index = {trial.number: i for i, trial in enumerate(own)}
        for step in script:
            if step.trial is None:
                self._draw()
            else:
                self._tell(trials[step.trial], index.get(step.trial), step.violation)
            self.steps.append(step)

    def _draw(self) -> Array:
        with self._turn():
            candidate = self.optimizer.ask()
        point = self.domain.project(_point(self.domain, candidate.value))
        self.asked.append((point, candidate))
        return point

    def _tell(self, trial: Trial, index: int | None, violation: float) -> None:
        from nevergrad.common.errors import TellNotAskedNotSupportedError

        asked, candidate = (None, None) if index is None else self.asked[index]
        with self._turn(), suppress(TellNotAskedNotSupportedError):
            if asked is None or not np.array_equal(asked, trial.point):
                space = self.optimizer.parametrization
                candidate = space.spawn_child(new_value=_value(self.domain, trial.point))
            self.optimizer.tell(
                candidate, self._loss(trial), [violation] if violation > 0.0 else None
            )

    def _loss(self, trial: Trial) -> float:
        if trial.loss is not None:
            self.losses.append(trial.loss)
            return trial.loss
        if not self.losses:
            return _LARGE
        # The margin is at least the spread of all losses, so a failure ranks last at any scale.
        worst = max(self.losses)
        return worst + max(worst - min(self.losses), abs(worst), 1.0)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with (
            _seeded_global_generators(draw_seed(self.request.stream(1, len(self.steps)))),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield


def _space(domain: Domain) -> Any:
    """Return the parametrization of a domain: an array or a dictionary of parameters."""
    from nevergrad import p

    if domain.continuous:
        limits = {} if domain.latent else {"lower": 0.0, "upper": 1.0}
        return p.Array(shape=(domain.dim,), **limits)
    axes: dict[str, Any] = {}
    for name, parameter in domain.axes.items():
        if parameter.continuous:
            axes[name] = p.Scalar(lower=0.0, upper=1.0)
        elif isinstance(parameter, Float) and parameter.grid is not None:
            # Positions on the grid; a scale other than linear is that of the values.
            last = parameter.grid.steps
            axes[name] = p.Scalar(lower=0, upper=last).set_integer_casting()
        elif isinstance(parameter, Choice):
            axes[name] = (p.TransitionChoice if parameter.ordered else p.Choice)(
                list(parameter.values)
            )
        else:
            kind = p.Log if parameter.log else p.Scalar
            axes[name] = kind(lower=parameter.low, upper=parameter.high).set_integer_casting()
    return p.Dict(**axes)


def _point(domain: Domain, value: Any) -> Array:
    """Convert a value of the parametrization to a point ``(d,)``."""
    if domain.continuous:
        return np.asarray(value, dtype=np.float64)
    return np.concatenate(
        [_coordinates(parameter, value[name]) for name, parameter in domain.axes.items()]
    )


def _value(domain: Domain, point: Array) -> Array | dict[str, Any]:
    """Convert a point ``(d,)`` to a value of the parametrization."""
    if domain.continuous:
        return point
    columns = domain.columns
    return {name: _axis_value(p, point[columns[name]]) for name, p in domain.axes.items()}


def _coordinates(parameter: VariedParameter, value: Value) -> Array:
    """Convert a value of an axis to the coordinates ``(w,)`` of its parameter."""
    if parameter.continuous:
        return np.array([value], dtype=np.float64)
    grid = parameter.grid if isinstance(parameter, Float) else None
    found: Array = parameter.encode([value if grid is None else grid[int(value)]])[0]
    return found


def _axis_value(parameter: VariedParameter, coordinates: Array) -> Value:
    """Convert the coordinates ``(w,)`` of a parameter to a value of its axis."""
    if parameter.continuous:
        return float(coordinates[0])
    (value,) = parameter.decode(coordinates[None])
    grid = parameter.grid if isinstance(parameter, Float) else None
    return value if grid is None else grid.index(value)


@contextmanager
def _seeded_global_generators(seed: int) -> Iterator[None]:
    """Seed the global generators in the context and restore them afterwards."""
    before, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.setstate(random.Random(seed).getstate())
    np.random.set_state(np.random.RandomState(seed).get_state())  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(legacy)  # noqa: NPY002


_CACHE: ReplayCache[_Player] = ReplayCache()
# Nevergrad draws from the global generators, so asks of different threads must not overlap.
_one_at_a_time = threading.Lock()
