"""Validation of headers and events that come from files and storages.

A valid event has the fields and types that ``log_replay`` documents. An imported event must also
have sensible values and fit the log before it. Invalid data raise ``ValueError`` with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from bo_invert.domains.constrained_box import stored_domain
from bo_invert.storage.log_replay import Log
from bo_invert.storage.trial_transitions import ANSWERED
from bo_invert.types import JSON, State

_ROUNDING = 1e-6
"""Largest distance of a point from the unit cube, by rounding. Engineering choice."""
_LARGEST = 2**53
"""Largest whole number: JSON numbers above it are not exact."""
_STARTABLE = (State.QUEUED, State.LOST, State.FAILED)


class EventRules:
    """Rules for the events of one study.

    Args:
        header: Valid header of the study.
        strict: Check values and states, too. Logs of this package satisfy the other rules.
    """

    def __init__(self, header: JSON, *, strict: bool) -> None:
        self._strict = strict
        self._least = 0.0 if strict else -math.inf
        problem = header["problem"]
        domain = stored_domain(problem)
        self._box = domain is not None
        self._dim = problem["space"].get("dim") if domain is None else domain.dim
        self._outputs = len(problem["outputs"])

    def check(self, log: Log, event: JSON) -> None:
        """Check the next event of a log.

        Raises:
            ValueError: The event is invalid; the message names the field.
        """
        _mapping("event", event)
        kind = event.get("kind")
        rule = _RULES.get(kind) if isinstance(kind, str) else None
        if rule is None:
            raise ValueError(
                f"kind must be one of {', '.join(_RULES)}, got {kind!r:.80}. A newer version of "
                "bo_invert may have written it; then run: pip install --upgrade bo-invert"
            )
        _number("at", event.get("at"))
        rule(self, log, event)

    def _asked(self, log: Log, event: JSON) -> None:
        if _whole("ask", event.get("ask")) != log.asks and self._strict:
            raise ValueError(f"ask must be {log.asks}, got {event['ask']}")
        _number("seconds", event.get("seconds"), self._least)
        _optional(_whole, "budget", event.get("budget"))
        _optional(_mapping, "fixed", event.get("fixed"))
        _optional(_whole, "seen", event.get("seen"))
        if "memo" not in event:
            raise ValueError("memo is missing")
        self._queries(event)

    def _enqueued(self, _: Log, event: JSON) -> None:
        self._queries(event)

    def _added(self, _: Log, event: JSON) -> None:
        count = self._queries(event, inside=False)
        outcomes = _list("outcomes", event.get("outcomes"))
        if len(outcomes) != count:
            raise ValueError(f"{count} queries must have as many outcomes, got {len(outcomes)}")
        for outcome, query in zip(outcomes, event["queries"], strict=True):
            self._outcome(outcome)
            self._inside("point", query["point"], outcome)

    def _started(self, log: Log, event: JSON) -> None:
        trial = log[_below("trial", event.get("trial"), len(log))]
        if self._strict and trial.state not in _STARTABLE:
            raise ValueError(f"trial {trial.number} is {trial.state} and cannot start")
        if "worker" not in event:
            raise ValueError("worker is missing")
        _optional(_text, "worker", event["worker"])
        _optional(partial(_number, least=self._least), "lease", event.get("lease"))

    def _finished(self, log: Log, event: JSON) -> None:
        trial = log[_below("trial", event.get("trial"), len(log))]
        if self._strict and trial.state not in (State.RUNNING, State.LOST):
            raise ValueError(f"trial {trial.number} is {trial.state} and cannot finish")
        _optional(partial(_below, end=len(trial.attempts)), "attempt", event.get("attempt"))
        self._outcome(event.get("outcome"))

    def _amended(self, log: Log, event: JSON) -> None:
        trial = log[_below("trial", event.get("trial"), len(log))]
        if trial.outcome is None or trial.state not in ANSWERED:
            raise ValueError(f"trial {trial.number} is {trial.state} and cannot be amended")
        known = _whole("revision", event.get("revision"))
        if self._strict and known != len(trial.amendments):
            raise ValueError(f"revision must be {len(trial.amendments)}, got {known}")
        _text("reason", event.get("reason"))
        self._outcome(event.get("outcome"))

    def _late(self, log: Log, event: JSON) -> None:
        trial = log[_below("trial", event.get("trial"), len(log))]
        _below("attempt", event.get("attempt"), len(trial.attempts))
        self._outcome(event.get("outcome"))

    def _released(self, log: Log, event: JSON) -> None:
        self._running(log, event)
        self._cost(event.get("cost"))

    def _running(self, log: Log, event: JSON) -> None:
        trial = log[_below("trial", event.get("trial"), len(log))]
        if self._strict and trial.state is not State.RUNNING:
            raise ValueError(f"trial {trial.number} is {trial.state}, not running")

    def _lost(self, log: Log, event: JSON) -> None:
        self._running(log, event)
        _optional(_whole, "deaths", event.get("deaths"))

    def _cancelled(self, log: Log, event: JSON) -> None:
        trial = log[_below("trial", event.get("trial"), len(log))]
        if self._strict and not trial.state.open:
            raise ValueError(f"trial {trial.number} is {trial.state} and cannot be cancelled")
        _text("reason", event.get("reason"))

    def _keyed(self, log: Log, event: JSON) -> None:
        _text("key", event.get("key"))
        for number in _list("trials", event.get("trials")):
            _below("trials", number, len(log))

    def _ended(self, _: Log, event: JSON) -> None:
        _text("reason", event.get("reason"))

    def _queries(self, event: JSON, inside: bool = True) -> int:
        queries = _list("queries", event.get("queries"))
        for query in queries:
            _mapping("query", query)
            self._point("point", query.get("point"))
            if inside:
                self._inside("point", query["point"], {})
            if not isinstance(query.get("gradient"), bool):
                raise ValueError(f"gradient must be true or false, got {query.get('gradient')!r}")
            _optional(_descent, "descent", query.get("descent"))
            _text("origin", query.get("origin"))
            _mapping("meta", query.get("meta"))
        return len(queries)

    def _point(self, name: str, value: JSON) -> None:
        numbers = _list(name, value)
        for number in numbers:
            _number(name, number)
        if self._dim is not None and len(numbers) != self._dim:
            raise ValueError(f"{name} must have {self._dim} coordinates, got {len(numbers)}")

    def _inside(self, name: str, numbers: list[float], outcome: JSON) -> None:
        """Check that a point lies in the unit cube, unless its outcome is marked as outside."""
        beyond = not all(-_ROUNDING <= x <= 1.0 + _ROUNDING for x in numbers)
        if self._strict and self._box and beyond and not outcome.get("outside"):
            raise ValueError(f"{name} must lie in the unit cube")

    def _outcome(self, outcome: JSON) -> None:
        _mapping("outcome", outcome)
        state = outcome.get("state")
        if state not in ANSWERED:
            raise ValueError(f"state must be one of {', '.join(ANSWERED)}, got {state!r}")
        y = outcome.get("y")
        if state == State.COMPLETED:
            _list("y", y)
            _number("loss", outcome.get("loss"))
        _optional(_numbers, "y", y)
        if y is not None and len(y) != self._outputs:
            raise ValueError(f"y must have {self._outputs} numbers, got {len(y)}")
        _optional(_number, "loss", outcome.get("loss"))
        _number("violation", outcome.get("violation"), self._least)
        self._cost(outcome.get("cost"))
        _text("reason", outcome.get("reason"))
        _optional(self._point, "point", outcome.get("point"))
        if outcome.get("point") is not None:
            self._inside("point", outcome["point"], outcome)
        _optional(_extra, "extra", outcome.get("extra"))
        if outcome.get("outside", False) not in (True, False):
            raise ValueError(f"outside must be true or false, got {outcome['outside']!r:.80}")
        _optional(_numbers, "gradient", outcome.get("gradient"))
        _optional(_numbers, "trace", outcome.get("trace"))

    def _cost(self, value: JSON) -> None:
        _mapping("cost", value)
        _whole("values", value.get("values"))
        _whole("gradients", value.get("gradients"))
        _number("seconds", value.get("seconds"), self._least)


_RULES: dict[str, Callable[[EventRules, Log, JSON], None]] = {
    "asked": EventRules._asked,
    "enqueued": EventRules._enqueued,
    "added": EventRules._added,
    "started": EventRules._started,
    "finished": EventRules._finished,
    "amended": EventRules._amended,
    "late": EventRules._late,
    "released": EventRules._released,
    "lost": EventRules._lost,
    "cancelled": EventRules._cancelled,
    "keyed": EventRules._keyed,
    "ended": EventRules._ended,
}


def check_header(header: JSON) -> None:
    """Check the header of a study.

    An invalid header would make it impossible to list the studies of its storage.

    Raises:
        ValueError: The header is invalid; the message names the field.
    """
    _mapping("header", header)
    problem, strategy = header.get("problem"), header.get("strategy")
    _mapping("problem", problem)
    _mapping("strategy", strategy)
    _mapping("space", problem.get("space"))
    _mapping("objective", problem.get("objective"))
    _text("problem_name", header.get("problem_name"))
    _text("created", header.get("created"))
    _text("strategy name", strategy.get("name"))
    _mapping("strategy options", strategy.get("options", {}))
    _optional(_text, "id", header.get("id"))
    units = header.get("units", {})
    _mapping("units", units)
    for name, unit in units.items():
        _text(f"unit of {name}", unit)
    _whole("seed", header.get("seed"), most=None)
    for name in _list("outputs", problem.get("outputs")):
        _text("outputs", name)
    objective = problem["objective"]
    _optional(_text, "objective type", objective.get("type"))
    _optional(_text, "objective output", objective.get("output"))
    for number in _list("objective scale", objective.get("scale") or []):
        _number("objective scale", number)
    _mapping("domain", problem["space"].get("domain", {}))
    try:
        stored_domain(problem)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"the domain is invalid: {type(error).__name__}: {error}") from error
    _optional(_whole, "dim", problem["space"].get("dim"))


def _mapping(name: str, value: JSON) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a JSON object, got {value!r:.80}")


def _list(name: str, value: JSON) -> list[JSON]:
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, got {value!r:.80}")
    return value


def _text(name: str, value: JSON) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text, got {value!r:.80}")


def _number(name: str, value: JSON, least: float = -math.inf) -> None:
    valid = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not valid or not math.isfinite(value) or value < least:
        limit = "" if least == -math.inf else f" >= {least:g}"
        raise ValueError(f"{name} must be a finite number{limit}, got {value!r:.80}")


def _numbers(name: str, value: JSON) -> None:
    for number in _list(name, value):
        if number is not None:  # stands for NaN
            _number(name, number)


def _extra(name: str, value: JSON) -> None:
    """Check further measured values: texts, booleans or finite numbers by name."""
    _mapping(name, value)
    for key, item in value.items():
        _text(name, key)
        if item is not None and not isinstance(item, (str, bool)):
            _number(f"{name} {key!r:.80}", item)


def _whole(name: str, value: JSON, most: int | None = _LARGEST) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} must be a whole number >= 0, got {value!r:.80}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}, got {value!r:.80}")
    return value


def _below(name: str, value: JSON, end: int) -> int:
    if _whole(name, value) >= end:
        raise ValueError(f"{name} must be below {end}, got {value}")
    return int(value)


def _descent(name: str, value: JSON) -> None:
    _mapping(name, value)
    if set(value) != {"steps", "optimizer", "learning_rate"}:
        raise ValueError(f"{name} must have steps, optimizer and learning_rate, got {value!r:.80}")
    if _whole("steps", value["steps"]) < 1:
        raise ValueError("steps must be at least 1, got 0")
    _text("optimizer", value["optimizer"])
    _number("learning_rate", value["learning_rate"], least=0.0)


def _optional(check: Callable[[str, JSON], object], name: str, value: JSON) -> None:
    if value is not None:
        check(name, value)
