"""Nevergrad's optimisers behind the same two verbs. Needs the extra ``peers``."""

from __future__ import annotations

import random
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from bo_invert.errors import InvalidInputError, MissingExtraError
from bo_invert.parameters import Choice, Float
from bo_invert.problem_statement import ProblemStatement
from bo_invert.search_domain import Domain
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed
from bo_invert.strategies.replay import key
from bo_invert.types import Array, Query, Trial

_Result = TypeVar("_Result")

#: What an open-ended study is taken to be, in calls per coordinate: nevergrad chooses its method by the budget.
_OPEN_ENDED = 100
#: Told for a failure before any loss is known; nevergrad clips beyond it.
_LARGE = 1e20


@dataclass(frozen=True)
class Nevergrad(Strategy):
    """An optimiser of nevergrad (Rapin & Teytaud 2018), replayed from the log.

    It is told the budget and the batch size; when the budget grows, a new one is made that is told the log. Queries
    note which trials were told before them, so a replay repeats the order of asks and tells. Trials of other origin are
    told too, where the optimiser takes points it did not ask for. Violations of constraints are stated natively; failed
    trials are told a loss worse than all before. Nevergrad draws from the global generators: they are seeded from the
    request while it works, and restored. An oracle in another thread that draws from a global generator during an ask
    disturbs the ask, and is disturbed.

    Args:
        optimizer: its name in nevergrad's registry; the default is nevergrad's choice for continuous problems of
            small budget.
    """

    name = "nevergrad"
    optimizer: str = "NgIohTuned"

    def check(self, statement: ProblemStatement) -> None:
        known = _import().optimizers.registry
        if self.optimizer not in known:
            raise InvalidInputError(
                f"nevergrad: no optimizer {self.optimizer!r}; nevergrad.optimizers.registry lists them, "
                "for example 'NgIohTuned', 'CMA', 'TwoPointsDE', 'PSO'"
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
        place = (self, domain, request.seed, *sorted(note.items()))

        def play() -> list[Array]:
            with _one_at_a_time:
                player = _PLAYERS.pop(place, None)
                if player is None or player.steps != script[: len(player.steps)]:
                    player = _Player(
                        self.optimizer, domain, request, note["budget"], note["workers"]
                    )
                player.play(script[len(player.steps) :], trials, own)
                points = [player.ask() for _ in range(request.count)]
                _PLAYERS[place] = player
                while len(_PLAYERS) > _KEPT:
                    _PLAYERS.popitem(last=False)
            return points

        points = _as_daemon(play)
        told = [news] + [[] for _ in points[1:]]
        queries = [
            Query(p, origin=self.name, meta={"told": t}) for p, t in zip(points, told, strict=True)
        ]
        return Proposal(tuple(queries), note)

    def _own(self, trials: Sequence[Trial], since: int) -> list[Trial]:
        return [trial for trial in trials[since:] if trial.origin == self.name]

    def _note(self, domain: Domain, trials: Sequence[Trial], request: Request) -> dict[str, int]:
        """How the optimiser is made, and from which trial on the log is its own.

        Another budget makes another optimiser, so it is kept until the study's budget has grown: one that has spent
        its budget may refuse to go on.
        """
        note: dict[str, int] = request.memo or {"budget": 0, "workers": request.count, "since": 0}
        budget = request.budget or _OPEN_ENDED * domain.dim
        while budget < len(self._own(trials, note["since"])) + request.count:
            budget *= 2
        if budget <= note["budget"]:
            return note
        return {"budget": budget, "workers": request.count, "since": len(trials)}


def _import() -> Any:
    """Nevergrad.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        with _borrowed_generators(0):  # importing it draws
            import nevergrad
    except ImportError:
        raise MissingExtraError(
            "strategy 'nevergrad' needs the package nevergrad; install it with: pip install 'bo-invert[peers]'"
        ) from None
    return nevergrad


def _as_daemon(work: Callable[[], _Result]) -> _Result:
    """What the work returns or raises, done in a daemon thread.

    Some optimisers wait in threads of their own for the next loss, for ever. Those inherit being a daemon; otherwise
    the interpreter would wait for them at its end.
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
    """One move of a replay: the telling of trial ``told``, or an ask (None); and what it was about."""

    told: int | None
    about: bytes
    loss: float | None = None
    violation: float = 0.0


def _tell(trial: Trial) -> _Step:
    violation = 0.0 if trial.outcome is None else max(trial.outcome.violation, 0.0)
    return _Step(trial.number, key(trial.point), trial.loss, violation)


class _Player:
    """An optimiser and the steps it has taken."""

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
        """Take these steps; ``own`` are the trials that the asks of the whole script led to, in order."""
        index = {trial.number: i for i, trial in enumerate(own)}
        for step in script:
            if step.told is None:
                self._draw()
            else:
                self._tell(trials[step.told], index.get(step.told), step.violation)
            self.steps.append(step)

    def _draw(self) -> Array:
        with self._turn():
            candidate = self.optimizer.ask()
        point = self.domain.project(_point(self.domain, candidate.value))
        self.asked.append((point, candidate))
        return point

    def _tell(self, trial: Trial, index: int | None, violation: float) -> None:
        from nevergrad.common.errors import TellNotAskedNotSupportedError

        candidate = None
        if index is not None:
            asked, candidate = self.asked[index]
            candidate = candidate if np.array_equal(asked, trial.point) else None
        with self._turn(), suppress(TellNotAskedNotSupportedError):
            if candidate is None:
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
        worst = max(self.losses)
        return worst + max(worst - min(self.losses), abs(worst), 1.0)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with (
            _borrowed_generators(draw_seed(self.request.stream(1, len(self.steps)))),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield


def _space(domain: Domain) -> Any:
    """The domain in nevergrad's words: an array, or a dictionary of typed parameters."""
    from nevergrad import p

    if domain.latent:
        return p.Array(shape=(domain.dim,))
    if domain.continuous:
        return p.Array(shape=(domain.dim,), lower=0.0, upper=1.0)
    axes: dict[str, Any] = {}
    for name, parameter in domain.parameters.items():
        if isinstance(parameter, Float):
            axes[name] = p.Scalar(lower=0.0, upper=1.0)
        elif isinstance(parameter, Choice):
            axes[name] = (p.TransitionChoice if parameter.ordered else p.Choice)(
                list(parameter.values)
            )
        else:
            kind = p.Log if parameter.log else p.Scalar
            axes[name] = kind(lower=parameter.low, upper=parameter.high).set_integer_casting()
    return p.Dict(**axes)


def _point(domain: Domain, value: Any) -> Array:
    """The point ``(d,)`` of nevergrad's value."""
    if domain.continuous:
        return np.asarray(value, dtype=np.float64)
    parts = []
    for name, parameter in domain.parameters.items():
        parts.append(
            [value[name]] if isinstance(parameter, Float) else parameter.encode([value[name]])[0]
        )
    return np.concatenate(parts)


def _value(domain: Domain, point: Array) -> Any:
    """Nevergrad's value at a point ``(d,)``."""
    if domain.continuous:
        return point
    columns = domain.columns
    return {
        name: float(point[columns[name]][0])
        if isinstance(p, Float)
        else p.decode(point[None, columns[name]])[0]
        for name, p in domain.parameters.items()
    }


@contextmanager
def _borrowed_generators(seed: int) -> Iterator[None]:
    """Seeds the global generators inside, and puts them back as they were."""
    before, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.setstate(random.Random(seed).getstate())
    np.random.set_state(np.random.RandomState(seed).get_state())  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(legacy)  # noqa: NPY002


#: Optimisers of the studies asked last, with their steps; a study without one is replayed from the start of its log.
#: The lock is also for the global generators.
_PLAYERS: OrderedDict[object, _Player] = OrderedDict()
_one_at_a_time = threading.Lock()
_KEPT = 8
