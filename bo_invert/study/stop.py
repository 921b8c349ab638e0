"""Stop rules of a run: ``study.run(200, stop=bi.stop.patience(30) | bi.stop.gain("1%"))``.

Rules read the log, so a resumed run ends where an uninterrupted one does. ``|`` ends a run if one
of two rules does, ``&`` if both do. A function without arguments that returns True or False is a
rule, too. The log records the reason of the end.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from bo_invert.errors import InvalidInputError
from bo_invert.history import Ledger
from bo_invert.study.outlook import Outlook
from bo_invert.types import Array, State, Trial
from bo_invert.user_code import UserFunction
from bo_invert.user_data import real, whole_number

_FIRST, _GROWTH = 12, 1.2
"""Number of observations at the first outlook, and the factor to the next one. Engineering choice:
an outlook takes longer than most asks."""


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


class StopRule(ABC):
    """Rule that ends a run; ``str`` returns its text."""

    recorded: ClassVar[bool] = True
    """True if the log records the reason; a signal of the system is no result of the study."""

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


@dataclass(frozen=True)
class _Patience(StopRule):
    """Calls without an improvement."""

    calls: int

    def start(self, progress: Progress) -> Callable[[], str]:
        def reason() -> str:
            calls, losses = progress.improvements()
            if not len(calls) or math.isinf(losses[-1]):
                return ""
            waited = int(calls[-1] - calls[(losses == losses[-1]).argmax()])
            return f"no improvement in {waited} calls" if waited >= self.calls else ""

        return reason

    def __str__(self) -> str:
        return f"patience:{self.calls}"


@dataclass(frozen=True)
class _Seconds(StopRule):
    """Wall-clock time of a run."""

    seconds: float

    def start(self, progress: Progress) -> Callable[[], str]:
        began = time.monotonic()

        def reason() -> str:
            over = time.monotonic() - began >= self.seconds
            return f"the run took {self.seconds:g} seconds" if over else ""

        return reason

    def __str__(self) -> str:
        return f"seconds:{self.seconds:g}"


@dataclass(frozen=True)
class _Cost(StopRule):
    """Billed cost of a study."""

    most: float
    unit: str

    def start(self, progress: Progress) -> Callable[[], str]:
        def reason() -> str:
            spent = getattr(progress.spent, self.unit)
            return f"{spent:g} {self.unit} are billed" if spent >= self.most else ""

        return reason

    def __str__(self) -> str:
        return f"cost:{self.most:g}" + ("" if self.unit == "calls" else f" {self.unit}")


@dataclass(frozen=True)
class _Gain(StopRule):
    """Remaining gain below a limit.

    Args:
        least: Limit in units of the loss or hypervolume, or share of the scale of the outlook.
        relative: The limit is a share.
        quantity: Number of the outlook that is compared: ``"expected"`` or ``"bound"``.
    """

    least: float
    relative: bool
    quantity: str

    def start(self, progress: Progress) -> Callable[[], str]:
        seen, due = -1, False

        def reason() -> str:
            nonlocal seen, due
            count = sum(t.state is State.COMPLETED for t in progress.trials)
            if count == seen:
                return ""
            # The schedule depends on the number of observations only, so that a resumed run ends at
            # the same one. A run that this rule ended has no new observation, and ends again.
            before = count - 1 if seen < 0 else seen
            due = checks(count) > checks(before) or (seen < 0 and str(self) in progress.ended)
            seen = count
            if not due:
                return ""
            found = progress.outlook()
            limit = self.least * (found.scale if self.relative else 1.0)
            if not found.decided or getattr(found, self.quantity) > limit:
                return ""
            return (
                f"expected further gain {found.expected:.3g}, at most {found.bound:.3g} with a "
                f"probability of 95 % (limit {limit:.3g}, {self})"
            )

        return reason

    def __str__(self) -> str:
        name = "gain" if self.quantity == "expected" else "regret"
        return f"{name}:{100.0 * self.least:g}%" if self.relative else f"{name}:{self.least:g}"


def gain(least: float | str) -> StopRule:
    """End a run once the expected remaining gain is at most ``least``.

    Args:
        least: Number in units of the loss, or a share such as ``"1%"`` of the difference between
            the median of the first 20 observations and the best loss. For several criteria, the
            gain is hypervolume, and the share is one of the present hypervolume.
    """
    return _Gain(*_limit("gain", least), "expected")


def regret(least: float | str) -> StopRule:
    """End a run once the 95 % bound of the remaining gain is at most ``least``.

    It is more cautious than ``gain`` (Makarova et al. 2022, "Automatic termination for
    hyperparameter optimization").

    Args:
        least: Number in units of the loss, or a share such as ``"1%"``; see ``gain``.
    """
    return _Gain(*_limit("regret", least), "bound")


def patience(calls: int) -> StopRule:
    """End a run after this number of calls without an improvement of the best feasible value.

    For several criteria, the hypervolume of the front must improve. A run without a feasible
    observation continues.
    """
    return _Patience(whole_number("stop.patience", "calls", calls))


def seconds(most: float) -> StopRule:
    """End a run after this wall-clock time; running calls finish. A resumed run has it again."""
    return _Seconds(_positive("seconds", most))


def cost(most: float, unit: str = "calls") -> StopRule:
    """End a run once the study is billed this cost, lost attempts included.

    Args:
        most: Amount.
        unit: ``"calls"`` (values plus gradients), ``"values"``, ``"gradients"``, ``"seconds"`` in
            the oracle, or ``"attempts"``.
    """
    if unit not in _UNITS:
        raise InvalidInputError(f"stop.cost: unit must be one of {', '.join(_UNITS)}, got {unit!r}")
    return _Cost(_positive("cost", most), unit)


_UNITS = ("calls", "values", "gradients", "seconds", "attempts")
_RULES = {
    "gain": gain, "regret": regret, "patience": patience, "seconds": seconds, "cost": cost,
}  # fmt: skip


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
    if name not in _RULES or not argument:
        raise InvalidInputError(
            f"stop: {text!r} must consist of NAME:NUMBER, joined by | or &, with the names "
            f"{', '.join(_RULES)}. Example: 'patience:30 | gain:1%'"
        )
    value, *unit = argument.split()
    if name in ("gain", "regret"):
        return gain(value) if name == "gain" else regret(value)
    try:
        number = float(value)
    except ValueError:
        raise InvalidInputError(f"stop: {part!r} must hold a number, got {value!r}") from None
    if name == "patience":
        return patience(int(number) if number.is_integer() else number)  # type: ignore[arg-type]
    return seconds(number) if name == "seconds" else cost(number, *unit)


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


class Stopping:
    """Rule of one run, called between its calls.

    Attributes:
        why: Reason of the end; empty before.

    Args:
        stop: Rule, its text, or a function of the user.
        progress: Progress of the run.
    """

    def __init__(self, stop: object, progress: Progress) -> None:
        rule = as_rule(stop)
        self._reason = rule.start(progress)
        self.recorded = rule.recorded
        self.why = ""

    def __call__(self) -> bool:
        """Return True if the run must end."""
        self.why = self.why or self._reason()
        return bool(self.why)


def checks(count: int) -> int:
    """Return the number of outlooks up to this number of observations."""
    if count < _FIRST:
        return 0
    return 1 + math.floor(math.log(count / _FIRST) / math.log(_GROWTH))


def _limit(name: str, least: float | str) -> tuple[float, bool]:
    """Return a limit, and True if it is a share."""
    relative = isinstance(least, str) and least.strip().endswith("%")
    text = least.strip().removesuffix("%") if isinstance(least, str) else least
    try:
        number = float(text)
    except (TypeError, ValueError):
        number = math.nan
    if not (number >= 0.0 and math.isfinite(number)):
        raise InvalidInputError(
            f"stop.{name}: least must be a number >= 0 or a share such as '1%', got {least!r}"
        )
    return (number / 100.0 if relative else number), relative


def _positive(name: str, value: float) -> float:
    number = real(f"stop.{name}", "most", value)
    if number <= 0.0:
        raise InvalidInputError(f"stop.{name}: must be > 0, got {value!r}")
    return number
