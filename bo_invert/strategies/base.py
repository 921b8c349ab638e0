"""The contract of a strategy: a frozen value with one pure function, ``ask``.

What ``ask`` proposes depends on the statement, the trials (told and open) and the request, and on nothing else.
Randomness comes from ``request.rng()`` (new at every ask) or ``request.stream(key)`` (the same at every ask).
State worth keeping between asks travels as a small JSON memo; a cache is welcome if being right does not depend on it.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args, get_type_hints

import numpy as np

from bo_invert import registry
from bo_invert.errors import InvalidInputError, UnsuitableStrategyError
from bo_invert.objectives import Target
from bo_invert.problem_statement import ProblemStatement
from bo_invert.types import JSON, Query, Trial


@dataclass(frozen=True)
class Request:
    """One ask.

    Args:
        number: index of this ask in the study, from 0.
        count: how many queries are wanted, at least 1.
        seed: of the study.
        budget: calls the whole study may spend, None when open-ended.
        memo: what the strategy noted at its last ask; None at the first.
    """

    number: int = 0
    count: int = 1
    seed: int = 0
    budget: int | None = None
    memo: JSON = None

    def rng(self) -> np.random.Generator:
        """The generator of this ask; each call starts it anew."""
        return ask_generator(self.seed, self.number)

    def stream(self, *key: int) -> np.random.Generator:
        """A generator that is the same at every ask of the study; each call starts it anew."""
        return stream_generator(self.seed, *key)


@dataclass(frozen=True)
class Proposal:
    """At most ``request.count`` queries, and a memo for the next ask.

    Fewer queries than asked for are fine. None at all means "wait" while trials are open, and "I am done" otherwise.
    """

    queries: tuple[Query, ...]
    memo: JSON = None


@dataclass(frozen=True)
class Strategy(ABC):
    """A way to choose the next points. Subclasses are frozen dataclasses whose fields are their options."""

    name: ClassVar[str]

    @abstractmethod
    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        """What to evaluate next.

        Args:
            statement: of the problem; ``check`` has accepted it.
            trials: the whole log in order, with open trials (asked for and not told) among them.
            request: how many, which seed, which budget.
        """

    def check(self, statement: ProblemStatement) -> None:  # noqa: B027  (most strategies take any problem)
        """Refuse a problem this strategy cannot work on.

        Raises:
            UnsuitableStrategyError: naming the strategy, the problem and the remedy.
        """

    def spec(self) -> JSON:
        """Name and options: what a log keeps and ``from_spec`` reads."""
        options = {}
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            options[spec.name] = value.spec() if isinstance(value, Strategy) else value
        return {"name": self.name, "options": options}


def from_spec(spec: str | JSON | Strategy, **options: Any) -> Strategy:
    """A strategy from its name, its spec, or itself.

    Raises:
        InvalidInputError: no strategy has that name, or it has no such option, or an option is of the wrong type.
    """
    if isinstance(spec, Strategy):
        return from_spec(spec.spec(), **options) if options else spec
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping) or "name" not in spec or not set(spec) <= {"name", "options"}:
        raise InvalidInputError(
            f'a strategy is a name or {{"name": ..., "options": {{...}}}}, got {spec!r}'
        )
    kind = registry.resolve("strategies", spec["name"])
    given = {**spec.get("options", {}), **options}
    known = {f.name for f in dataclasses.fields(kind)}
    if not set(given) <= known:
        raise InvalidInputError(
            f"strategy {spec['name']!r} has no option {', '.join(sorted(set(given) - known))}; it has "
            f"{', '.join(sorted(known)) or 'none'}"
        )
    hints = get_type_hints(kind)
    for name, value in given.items():
        _check_type(f"strategy {spec['name']!r}: option {name}", value, hints[name])
    strategy: Strategy = kind(**given)
    return strategy


def _check_type(who: str, value: Any, hint: Any) -> None:
    """Refuse a value that an option's annotation does not allow; a whole number is a float, true is no number.

    Raises:
        InvalidInputError: naming the option, what it takes and what it got.
    """
    allowed = get_args(hint) or (hint,)
    if Any in allowed or not set(allowed) <= {bool, int, float, str, type(None)}:
        return
    fits = type(value) in allowed or (float in allowed and type(value) is int)
    if not fits and not (isinstance(value, np.number) and {int, float} & set(allowed)):
        words = {
            bool: "true or false",
            int: "a whole number",
            float: "a number",
            str: "text",
            type(None): "nothing",
        }
        raise InvalidInputError(
            f"{who} takes {' or '.join(words[kind] for kind in allowed)}, got {value!r}"
        )


def require_gradients(strategy: Strategy, statement: ProblemStatement) -> None:
    """Refuse a problem without gradients.

    Raises:
        UnsuitableStrategyError: naming the strategy, the problem and the remedy.
    """
    if not statement.differentiable:
        raise UnsuitableStrategyError(
            f"strategy {strategy.name!r} needs gradients, and problem {statement.name!r} has none: its space or its "
            "oracle is not differentiable. Use a torch module for both, give the oracle a differentiable stand-in "
            "(bo_invert.Twin), or take a strategy without gradients: 'gp', 'cmaes', 'prior'"
        )


def refuse_without_residuals(name: str, statement: ProblemStatement, instead: str) -> None:
    """For strategies that follow residuals by their slopes.

    Args:
        name: of the strategy.
        statement: of the problem.
        instead: strategies to take otherwise, in words.

    Raises:
        UnsuitableStrategyError: the problem has no target, or parameters that are not real numbers.
    """
    if not isinstance(statement.objective, Target):
        raise UnsuitableStrategyError(
            f"strategy {name!r} needs residuals, and the objective of problem {statement.name!r} is "
            f"{statement.objective}. Use Target(value), or take {instead}"
        )
    if not statement.domain.continuous:
        raise UnsuitableStrategyError(
            f"strategy {name!r} needs finite differences, and problem {statement.name!r} has whole numbers "
            f"or choices among its parameters. Make them Float or fix them, or take {instead}"
        )


#: Keys of the streams that stay the same over all asks of a study live apart from the asks' own keys.
_STREAM = 0xB0


def ask_generator(seed: int, number: int) -> np.random.Generator:
    """The generator of ask ``number`` of a study with this ``seed``."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))


def stream_generator(seed: int, *key: int) -> np.random.Generator:
    """A generator that is the same at every ask: the ``key``-th stream of a study."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM, len(key), *key)))


def draw_seed(rng: np.random.Generator) -> int:
    """A non-negative 31-bit integer, for libraries that want an integer seed."""
    return int(rng.integers(2**31 - 1))
