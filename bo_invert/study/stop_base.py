"""Contract of stop rules, their combinations, and rules as texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from bo_invert.errors import InvalidInputError
from bo_invert.history import Ledger
from bo_invert.registry import did_you_mean
from bo_invert.types import Array, Trial
from bo_invert.user_code import UserFunction

if TYPE_CHECKING:
    from bo_invert.study.outlook import Outlook
    from bo_invert.study.verdict_result import Verdict

Reader = Callable[[str, list[str]], "StopRule"]
"""Function from the first word after the colon, empty without one, and further words to a rule."""

_READERS: dict[str, Reader] = {}
"""Readers of the texts of rules by name; ``readable`` adds them."""


class Progress(Protocol):
    """Progress of a run, as rules see it; a study provides it."""

    @property
    def spent(self) -> Ledger:
        """Costs of the study."""

    @property
    def trials(self) -> Sequence[Trial]:
        """Trials of the study, read now."""

    @property
    def ended(self) -> str:
        """Reason for which the last run ended early; empty after new trials."""

    def improvements(self) -> tuple[Array, Array]:
        """Return numbers of calls and the best loss after each."""

    def outlook(self) -> Outlook:
        """Return the remaining gain."""

    def verdict(self, *, alpha: float = 0.05) -> Verdict:
        """Return whether the target can be reached."""


class StopRule(ABC):
    """Rule that ends a run; ``str`` returns its text."""

    recorded: ClassVar[bool] = True
    """True if the log records the reason; a signal of the system is no result of the study."""

    @property
    def hope_level(self) -> float | None:
        """Probability of a hit up to which asks are spent on the best hope; None for no such asks.

        See ``hopes``.
        """
        return None

    @abstractmethod
    def start(self, progress: Progress) -> Callable[[], str]:
        """Return a function that gives the reason to end the run, or an empty text.

        Args:
            progress: Progress of the run that starts now.
        """

    def __or__(self, other: StopRule | Callable[[], bool]) -> StopRule:
        return _Either(self, as_rule(other))

    def __ror__(self, other: Callable[[], bool]) -> StopRule:
        return _Either(as_rule(other), self)

    def __and__(self, other: StopRule | Callable[[], bool]) -> StopRule:
        return _Both(self, as_rule(other))

    def __rand__(self, other: Callable[[], bool]) -> StopRule:
        return _Both(as_rule(other), self)


@dataclass(frozen=True)
class _Either(StopRule):
    """Rule that ends a run if one of two rules does."""

    first: StopRule
    second: StopRule

    @property
    def hope_level(self) -> float | None:
        return _first_level(self.first, self.second)

    def start(self, progress: Progress) -> Callable[[], str]:
        first, second = self.first.start(progress), self.second.start(progress)
        return lambda: first() or second()

    def __str__(self) -> str:
        return f"{self.first} | {self.second}"


@dataclass(frozen=True)
class _Both(StopRule):
    """Rule that ends a run if both of two rules do."""

    first: StopRule
    second: StopRule

    @property
    def hope_level(self) -> float | None:
        return _first_level(self.first, self.second)

    def start(self, progress: Progress) -> Callable[[], str]:
        rules = [rule.start(progress) for rule in (self.first, self.second)]

        def reason() -> str:
            reasons = []
            for rule in rules:
                if not (why := rule()):
                    return ""
                reasons.append(why)
            return "; and ".join(reasons)

        return reason

    def __str__(self) -> str:
        parts = (f"({one})" if isinstance(one, _Either) else f"{one}" for one in self._rules)
        return " & ".join(parts)

    @property
    def _rules(self) -> tuple[StopRule, StopRule]:
        return self.first, self.second


@dataclass(frozen=True)
class _Call(StopRule):
    """Function of the user."""

    function: Callable[[], bool]

    def start(self, progress: Progress) -> Callable[[], str]:
        function = UserFunction(self.function)
        return lambda: "the stop function returned True" if function() else ""

    def __str__(self) -> str:
        return getattr(self.function, "__name__", "function")


def _first_level(*rules: StopRule) -> float | None:
    levels = [rule.hope_level for rule in rules if rule.hope_level is not None]
    return min(levels, default=None)


def readable(name: str) -> Callable[[Reader], Reader]:
    """Return a decorator that makes a function the reader of texts such as ``"name:30"``."""

    def add(reader: Reader) -> Reader:
        _READERS[name] = reader
        return reader

    return add


def parse(text: str) -> StopRule:
    """Return the rule of a text such as ``"patience:30 | gain:1% & cost:50"``.

    ``&`` binds more strongly than ``|``. The unit of a cost follows it: ``"cost:3600 seconds"``.

    Raises:
        InvalidInputError: The text is no rule.
    """
    rules = None
    for group in text.split("|"):
        both = None
        for part in group.split("&"):
            rule = _one(part.strip(), text)
            both = rule if both is None else both & rule
        assert both is not None
        rules = both if rules is None else rules | both
    assert rules is not None
    return rules


def _one(part: str, text: str) -> StopRule:
    name, _, argument = part.partition(":")
    if name not in _READERS:
        raise InvalidInputError(
            f"stop: {text!r} must consist of NAME:NUMBER, joined by | or &, with the names "
            f"{', '.join(_READERS)}, got {name!r}{did_you_mean(name, _READERS)} {_EXAMPLE}"
        )
    if not (argument.strip() or name in _WITHOUT_NUMBER):
        raise InvalidInputError(f"stop: {name!r} must be NAME:NUMBER, got no number. {_EXAMPLE}")
    value, *more = argument.split() or [""]
    if len(more) > (name in _WITH_UNIT):
        form = f"{name}:NUMBER{' UNIT' if name in _WITH_UNIT else ''}"
        raise InvalidInputError(f"stop: {part!r} must be {form}, got the words {more} after it")
    return _READERS[name](value, more)


_WITHOUT_NUMBER = {"verdict"}
"""Names of the rules whose number has a default."""
_WITH_UNIT = {"cost"}
"""Names of the rules whose number may have a unit."""
_EXAMPLE = "Example: 'patience:30 | gain:1%'; verdict needs no number"


def as_rule(stop: object) -> StopRule:
    """Return a rule, the rule of a text, or that of a function of the user.

    Raises:
        InvalidInputError: It is neither.
    """
    if isinstance(stop, StopRule):
        return stop
    if isinstance(stop, str):
        return parse(stop)
    if callable(stop):
        return _Call(stop)
    raise InvalidInputError(
        f"stop: must be a rule such as bi.stop.patience(30), its text, or a function, got {stop!r}"
    )
