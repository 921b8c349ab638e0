"""Contract of strategies: frozen options and one pure function, ``ask``.

Proposals depend on the problem statement, the trials (observed and pending) and the request only.
Random numbers come from ``request.rng()``, different in each ask, or ``request.stream(key)``, the
same in all asks. Results that speed up the next ask are returned as a small JSON memo. Caches are
allowed if results do not depend on them.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints

import numpy as np

from bo_invert import registry
from bo_invert.errors import InvalidInputError
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.types import JSON, Outcome, Query, State, Trial
from bo_invert.user_data import plain_options

_T = TypeVar("_T")
_LIMITS: dict[str, tuple[Callable[[Any, Any], bool], Callable[[Any], str]]] = {
    "ge": (operator.ge, "at least {}".format),
    "gt": (operator.gt, "greater than {}".format),
    "le": (operator.le, "at most {}".format),
    "lt": (operator.lt, "less than {}".format),
    "among": (
        lambda value, valid: value in valid,
        lambda valid: f"one of {', '.join(map(repr, valid))}",
    ),
}
"""Test and wording of each limit of an option, named as in pydantic's ``Field``."""
_METADATA = "bo_invert.limits"
"""Key of the limits in the metadata of a dataclass field; other keys belong to the user."""


def option(default: _T, *, among: Collection[_T] = (), **limits: float) -> _T:
    """Declare an option of a strategy with limits; None, if the type allows it, has none.

    Args:
        default: default value.
        among: the valid values; empty for all values of the type.
        **limits: ``ge``, ``gt``, ``le`` and ``lt``, as in pydantic's ``Field``.
    """
    choices = {"among": among} if among else {}
    declared: _T = field(default=default, metadata={_METADATA: {**limits, **choices}})
    return declared


def _within(value: object, limits: Mapping[str, object]) -> bool:
    """Return True if a value meets all limits; a value that cannot be compared does not."""
    try:
        return all(_LIMITS[key][0](value, bound) for key, bound in limits.items())
    except TypeError:
        return False


@dataclass(frozen=True)
class Request:
    """Arguments of one ask.

    Args:
        number: number of this ask in the study, from 0.
        count: number of requested queries, at least 1.
        seed: seed of the study.
        budget: largest number of calls of the study; None for no limit.
        memo: memo that the last ask returned; None in the first.
    """

    number: int = 0
    count: int = 1
    seed: int = 0
    budget: int | None = None
    memo: JSON = None

    def rng(self) -> np.random.Generator:
        """Return a new generator of this ask; equal calls return equal generators."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(self.number,)))

    def stream(self, *key: int) -> np.random.Generator:
        """Return a new generator that is the same in all asks of the study."""
        return stream_generator(self.seed, *key)


@dataclass(frozen=True)
class Proposal:
    """Queries, at most ``request.count``, and a memo for the next ask.

    An empty proposal means that the strategy waits for pending trials. Without pending trials it
    means that the strategy has finished.
    """

    queries: tuple[Query, ...]
    memo: JSON = None


@dataclass(frozen=True)
class Strategy(ABC):
    """Strategy: method of choosing the next queries. The fields of a subclass are its options.

    Raises:
        InvalidInputError: a value violates a limit of its ``option``.
    """

    name: ClassVar[str]
    models_outside: ClassVar[bool] = False
    """True if ``ask`` receives observations outside the search domain; see ``Trial.outside``.

    Other strategies receive them as cancelled trials, which keep their numbers.
    """

    multi_objective: ClassVar[bool] = False
    """True if it searches the front of a ``Pareto`` objective; others are refused."""

    finds_all: ClassVar[bool] = False
    """True if it searches all solutions of a target, so that a run continues after the first."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "ask" in vars(cls):
            cls.ask = _with_inside_trials(cls.ask)  # type: ignore[method-assign, assignment]

    def __post_init__(self) -> None:
        for declared in fields(self):
            object.__setattr__(self, declared.name, plain_options(getattr(self, declared.name)))
            value, limits = getattr(self, declared.name), declared.metadata.get(_METADATA, {})
            optional = value is None and "None" in str(declared.type)
            if optional or _within(value, limits):
                continue
            allowed = " and ".join(_LIMITS[key][1](bound) for key, bound in limits.items())
            raise InvalidInputError(
                f"strategy {self.name!r}: {declared.name} must be {allowed}, got {value!r}"
            )

    @abstractmethod
    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        """Propose the next queries.

        Args:
            statement: problem statement that ``check`` has accepted.
            trials: all trials in order, pending ones included.
            request: number of queries, seed, budget and memo.
        """

    def check(self, statement: ProblemStatement) -> None:  # noqa: B027
        """Check that the strategy supports a problem.

        Raises:
            UnsuitableStrategyError: it does not; the message names the problem and the remedy.
        """

    def spec(self) -> JSON:
        """Return name and options as JSON, the argument of ``from_spec``."""
        values = ((option.name, getattr(self, option.name)) for option in fields(self))
        options = {
            name: value.spec() if isinstance(value, Strategy) else plain_options(value)
            for name, value in values
        }
        return {"name": self.name, "options": options}


_Ask = Callable[[Any, ProblemStatement, Sequence[Trial], Request], Proposal]


def _with_inside_trials(ask: _Ask) -> _Ask:
    """Decorate ``ask`` so that observations outside the domain reach only models that use them."""

    @wraps(ask)
    def inside(
        strategy: Strategy, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        if not strategy.models_outside and any(trial.outside for trial in trials):
            trials = tuple(
                _cancelled(trial, statement) if trial.outside else trial for trial in trials
            )
        return ask(strategy, statement, trials, request)

    return inside


def _cancelled(trial: Trial, statement: ProblemStatement) -> Trial:
    """Return a cancelled trial at the nearest point of the domain."""
    query = replace(trial.query, point=statement.domain.project(trial.point), design=None)
    return trial.evolved(query=query, state=State.CANCELLED, outcome=Outcome(State.CANCELLED))


def from_spec(spec: str | JSON | Strategy, **options: Any) -> Strategy:
    """Build a strategy from its name, its spec or a strategy, with further options.

    Raises:
        InvalidInputError: the name or an option is unknown, or an option has another type.
    """
    if isinstance(spec, Strategy):
        return from_spec(spec.spec(), **options) if options else spec
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping) or "name" not in spec or not set(spec) <= {"name", "options"}:
        raise InvalidInputError(
            f'strategy must be a name or {{"name": ..., "options": {{...}}}}, got {spec!r}'
        )
    kind = registry.resolve("strategies", spec["name"])
    given = {
        name: plain_options(value) for name, value in {**spec.get("options", {}), **options}.items()
    }
    known = {declared.name for declared in fields(kind)}
    if not set(given) <= known:
        raise InvalidInputError(
            f"strategy {spec['name']!r} has no option {', '.join(sorted(set(given) - known))}; "
            f"it has {', '.join(sorted(known)) or 'none'}"
        )
    hints = get_type_hints(kind)
    for name, value in given.items():
        _check_type(f"strategy {spec['name']!r}: option {name}", value, hints[name])
    strategy: Strategy = kind(**given)
    return strategy


def _check_type(where: str, value: object, hint: object) -> None:
    """Check the type of an option; an ``int`` is a valid ``float``, a ``bool`` is no number.

    Raises:
        InvalidInputError: the annotation of the option does not allow the value.
    """
    allowed = get_args(hint) or (hint,)
    if Any in allowed or not set(allowed) <= {bool, int, float, str, type(None)}:
        return
    fits = type(value) in allowed or (float in allowed and type(value) is int)
    if not fits and not (isinstance(value, np.number) and {int, float} & set(allowed)):
        words = {
            bool: "True or False",
            int: "an integer",
            float: "a number",
            str: "a string",
            type(None): "None",
        }
        raise InvalidInputError(
            f"{where} must be {' or '.join(words[kind] for kind in allowed)}, got {value!r}"
        )


# Engineering choice: first number of the keys of streams, which separates them from the keys of
# asks; these have one number (https://numpy.org/doc/stable/reference/random/parallel.html).
_STREAM = 0xB0


def stream_generator(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of stream ``key`` of a study, the same in all asks."""
    # The length separates keys that differ in trailing zeros only, such as (1,) and (1, 0).
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM, len(key), *key)))


def draw_seed(rng: np.random.Generator) -> int:
    """Draw a non-negative 31-bit integer for libraries with integer seeds."""
    return int(rng.integers(2**31 - 1))
