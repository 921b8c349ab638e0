"""Stop rules of a run: ``study.run(200, stop=bi.stop.patience(30) | bi.stop.gain("1%"))``.

Rules read the log, so a resumed run ends where an uninterrupted one does. ``|`` ends a run if one
of two rules does, ``&`` if both do. A function without arguments that returns True or False is a
rule, too. The log records the reason of the end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from bo_invert.errors import InvalidInputError
from bo_invert.study import hopes
from bo_invert.study.stop_base import (
    Progress as Progress,
    StopRule as StopRule,
    as_rule as as_rule,
    parse as parse,
    readable,
)
from bo_invert.types import State
from bo_invert.user_data import real, whole_number

_FIRST, _GROWTH = 12, 1.2
"""Number of observations at the first outlook, and the factor to the next one. Engineering choice:
an outlook takes longer than most asks."""


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


@dataclass(frozen=True)
class _Verdict(StopRule):
    """Target that cannot be reached.

    Args:
        alpha: Largest probability of a hit.
    """

    alpha: float

    @property
    def hope_level(self) -> float | None:
        return self.alpha

    def start(self, progress: Progress) -> Callable[[], str]:
        def reason() -> str:
            if not hopes.hopeless(progress.trials, self.alpha):
                return ""
            found = progress.verdict(alpha=self.alpha)
            return found.reason if found.status == "unreachable" else ""

        return reason

    def __str__(self) -> str:
        return f"verdict:{self.alpha:g}"


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


def verdict(alpha: float = 0.05) -> StopRule:
    """End a run once the target is unreachable; see ``Study.verdict``.

    The probability that some design meets the target is estimated after 16 observations or more,
    and then whenever their number has grown by 5 %. Each estimate is followed by a call at the best
    hope: the untried design that most probably meets the target. The run ends after three such
    calls in a row without a hit, if the probability was at most ``alpha`` before and after each of
    them.

    Args:
        alpha: Largest probability of a hit, in (0, 0.5].
    """
    level = real("stop.verdict", "alpha", alpha)
    if not 0.0 < level <= 0.5:
        raise InvalidInputError(f"stop.verdict: alpha must be in (0, 0.5], got {alpha!r}")
    return _Verdict(level)


_UNITS = ("calls", "values", "gradients", "seconds", "attempts")


@readable("gain")
def _read_gain(value: str, _: list[str]) -> StopRule:
    return gain(value)


@readable("regret")
def _read_regret(value: str, _: list[str]) -> StopRule:
    return regret(value)


@readable("patience")
def _read_patience(value: str, _: list[str]) -> StopRule:
    number = _number(f"patience:{value}", value)
    return patience(int(number) if number.is_integer() else number)  # type: ignore[arg-type]


@readable("seconds")
def _read_seconds(value: str, _: list[str]) -> StopRule:
    return seconds(_number(f"seconds:{value}", value))


@readable("cost")
def _read_cost(value: str, unit: list[str]) -> StopRule:
    return cost(_number(f"cost:{value}", value), *unit)


@readable("verdict")
def _read_verdict(value: str, _: list[str]) -> StopRule:
    return verdict(_number(f"verdict:{value}", value)) if value else verdict()


def _number(part: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InvalidInputError(f"stop: {part!r} must hold a number, got {value!r}") from None


class Stopping:
    """Rule of one run, called between its calls.

    Attributes:
        why: Reason of the end; empty before.
        hope_level: See ``StopRule``.

    Args:
        stop: Rule, its text, or a function of the user.
        progress: Progress of the run.
    """

    def __init__(self, stop: object, progress: Progress) -> None:
        rule = as_rule(stop)
        self._reason = rule.start(progress)
        self.recorded, self.hope_level = rule.recorded, rule.hope_level
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
