"""The words of the library as frozen values: query, descent, outcome, trial, cost. numpy only.

Shapes: ``d`` is the dimension of the domain, ``m`` the number of oracle outputs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from html import escape
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
JSON = Any
"""What ``json.dumps`` takes without help: dict, list, str, int, float, bool, None."""


def frozen(values: ArrayLike) -> Array:
    """A read-only float64 copy of ``values``."""
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array


def _brief(value: Any) -> str:
    """A short text of an array or any other design."""
    array = np.asarray(value) if isinstance(value, (np.ndarray, list, tuple)) else None
    if array is None or array.dtype.kind not in "fiu":
        return f"{value!r:.80}"
    if array.size > 12:
        return f"array of shape {array.shape}"
    return np.array2string(array, precision=6, separator=", ").replace("\n", "")


def _listed(array: Array | None) -> JSON:
    """Nested lists; a number that JSON has no word for becomes null."""
    if array is None:
        return None
    return [
        _listed(row) if row.ndim else (float(row) if math.isfinite(row) else None) for row in array
    ]


def _arrayed(values: JSON) -> Array | None:
    return None if values is None else frozen([math.nan if v is None else v for v in values])


class State(StrEnum):
    """Where a trial stands."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    INFEASIBLE = "infeasible"
    LOST = "lost"
    CANCELLED = "cancelled"

    @property
    def open(self) -> bool:
        """Whether an outcome may still come."""
        return self in (State.QUEUED, State.RUNNING, State.LOST)


@dataclass(frozen=True, slots=True)
class Cost:
    """What was spent: oracle values, gradients, wall-clock seconds."""

    values: int = 0
    gradients: int = 0
    seconds: float = 0.0

    @property
    def calls(self) -> int:
        """Values plus gradients: the unit of every budget. A gradient is billed like a value."""
        return self.values + self.gradients

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.values + other.values,
            self.gradients + other.gradients,
            self.seconds + other.seconds,
        )

    def to_json(self) -> JSON:
        return {"values": self.values, "gradients": self.gradients, "seconds": self.seconds}

    @staticmethod
    def from_json(data: JSON) -> Cost:
        return Cost(int(data["values"]), int(data["gradients"]), float(data["seconds"]))


@dataclass(frozen=True, slots=True)
class Descent:
    """Gradient descent run next to the oracle: at most ``steps`` values and ``steps`` gradients.

    Args:
        steps: evaluations of value and gradient, at least 1. With a differentiable stand-in for an oracle
            without gradients, one of the values is the true oracle's at the best point found.
        optimizer: ``"adam"`` or ``"lbfgs"``.
        learning_rate: Adam's step in the units of the domain (ignored by L-BFGS).
    """

    steps: int
    optimizer: str = "adam"
    learning_rate: float = 0.05

    def to_json(self) -> JSON:
        return {
            "steps": self.steps,
            "optimizer": self.optimizer,
            "learning_rate": self.learning_rate,
        }


@dataclass(frozen=True, eq=False)
class Query:
    """What a strategy asks of the oracle.

    Args:
        point: coordinates in the domain, shape ``(d,)``.
        gradient: whether the gradient of the loss with respect to the point is wanted too.
        descent: run this descent from ``point`` instead of one evaluation.
        origin: which method proposed it, for reports and for composed strategies.
        meta: small JSON notes a strategy needs to recognise its own query later.
    """

    point: Array
    gradient: bool = False
    descent: Descent | None = None
    origin: str = ""
    meta: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "point", frozen(self.point))

    @property
    def cost(self) -> Cost:
        """The most this query can cost if it is answered once."""
        if self.descent is not None:
            return Cost(self.descent.steps, self.descent.steps)
        return Cost(1, int(self.gradient))

    def to_json(self) -> JSON:
        return {
            "point": _listed(self.point),
            "gradient": self.gradient,
            "descent": None if self.descent is None else self.descent.to_json(),
            "origin": self.origin,
            "meta": dict(self.meta),
        }

    @staticmethod
    def from_json(data: JSON) -> Query:
        descent = None if data["descent"] is None else Descent(**data["descent"])
        return Query(data["point"], data["gradient"], descent, data["origin"], data["meta"])


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a query.

    Args:
        state: COMPLETED, FAILED or INFEASIBLE.
        y: raw outputs, shape ``(m,)``; None unless completed.
        loss: the objective's opinion of ``y``, lower is better; None unless completed.
        violation: by how much the outcome constraints are missed, 0 when all hold.
        cost: what this attempt spent.
        reason: why it failed or is infeasible.
        point: where a descent arrived, shape ``(d,)``; None when it is the query's own point.
        gradient: d loss / d point, shape ``(d,)``, when it was asked for.
        trace: losses along a descent, one per value spent, shape ``(values,)``; NaN where none was measured. A last one
            that was known from a cache is in it too.
    """

    state: State
    y: Array | None = None
    loss: float | None = None
    violation: float = 0.0
    cost: Cost = Cost()
    reason: str = ""
    point: Array | None = None
    gradient: Array | None = None
    trace: Array | None = None

    def __post_init__(self) -> None:
        for name in ("y", "point", "gradient", "trace"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, frozen(getattr(self, name)))

    def to_json(self) -> JSON:
        return {
            "state": str(self.state),
            "y": _listed(self.y),
            "loss": self.loss,
            "violation": self.violation,
            "cost": self.cost.to_json(),
            "reason": self.reason,
            "point": _listed(self.point),
            "gradient": _listed(self.gradient),
            "trace": _listed(self.trace),
        }

    @staticmethod
    def from_json(data: JSON) -> Outcome:
        return Outcome(
            State(data["state"]),
            _arrayed(data["y"]),
            data["loss"],
            data["violation"],
            Cost.from_json(data["cost"]),
            data["reason"],
            _arrayed(data["point"]),
            _arrayed(data["gradient"]),
            _arrayed(data["trace"]),
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a trial. Its position among the attempts of its trial is the fencing token of whoever makes it.

    Args:
        worker: who evaluates it; None when the point was handed to a person or a foreign program.
        started: seconds since the epoch.
        ended: the same; None while it is under way.
        cost: what it is billed.
        fate: RUNNING, COMPLETED, FAILED, INFEASIBLE, LOST, or CANCELLED when it was given back.
        lease: so many seconds may its worker be silent before it is taken to be lost; None for any time.
        outcome: what it led to, also if it came too late to count.
    """

    worker: str | None
    started: float
    ended: float | None = None
    cost: Cost = Cost()
    fate: State = State.RUNNING
    lease: float | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Trial:
    """One query and, later, its outcome.

    Args:
        number: position in the log, from 0.
        query: what was asked.
        state: where it stands.
        ask: number of the ask that proposed it; None for points given by the user.
        attempts: every try, in order; each is billed.
        outcome: of the last finished attempt.
        decode: turns a point into a design; set on trials handed out by a study.
    """

    number: int
    query: Query
    state: State
    ask: int | None = None
    attempts: tuple[Attempt, ...] = ()
    outcome: Outcome | None = None
    decode: Callable[[Array], Any] | None = field(default=None, repr=False)

    @property
    def point(self) -> Array:
        """Where ``y`` was measured: the end of a descent, otherwise the query's point. Shape ``(d,)``."""
        if self.outcome is not None and self.outcome.point is not None:
            return self.outcome.point
        return self.query.point

    @property
    def design(self) -> Any:
        """What the oracle eats at ``point``; None on a trial that no study handed out."""
        return None if self.decode is None else self.decode(self.point)

    @property
    def y(self) -> Array | None:
        """Raw outputs, shape ``(m,)``, once completed."""
        return None if self.outcome is None else self.outcome.y

    @property
    def loss(self) -> float | None:
        """Lower is better; None unless completed."""
        return None if self.outcome is None else self.outcome.loss

    @property
    def feasible(self) -> bool:
        """Completed, and every outcome constraint holds."""
        return (
            self.state is State.COMPLETED
            and self.outcome is not None
            and self.outcome.violation <= 0.0
        )

    @property
    def reason(self) -> str:
        """Why it failed or is infeasible; empty otherwise."""
        return "" if self.outcome is None else self.outcome.reason

    @property
    def cost(self) -> Cost:
        """Over all attempts."""
        return sum((attempt.cost for attempt in self.attempts), Cost())

    @property
    def origin(self) -> str:
        """Which method proposed it."""
        return self.query.origin

    def __repr__(self) -> str:
        return printable(
            "Trial(" + ", ".join(f"{name}={value}" for name, value in self._facts().items()) + ")"
        )

    def _repr_html_(self) -> str:
        rows = (
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in self._facts().items()
        )
        return f"<table>{''.join(rows)}</table>"

    def _facts(self) -> dict[str, str]:
        facts = {
            "number": str(self.number),
            "state": str(self.state),
            "origin": self.origin or "unknown",
        }
        if self.y is not None:
            facts["y"] = _brief(self.y)
        if self.loss is not None:
            facts["loss"] = f"{self.loss:.6g}" + ("" if self.feasible else " (constraints broken)")
        design = self.design
        if isinstance(design, Mapping):
            facts["design"] = ", ".join(
                f"{k}={v:.6g}" if isinstance(v, float) else f"{k}={v}" for k, v in design.items()
            )
        else:
            facts["point" if design is None else "design"] = _brief(
                self.point if design is None else design
            )
        if self.outcome is not None and self.outcome.reason:
            facts["reason"] = self.outcome.reason
        return facts

    def with_decode(self, decode: Callable[[Array], Any]) -> Trial:
        """The same trial, able to show its design."""
        return replace(self, decode=decode)


_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, escape sequences, turns of the writing direction, halves of characters."""


def printable(text: str) -> str:
    """The text with every such character spelled out as JSON does it, ``\\u001b`` for escape; lines stay lines."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a study has spent. Every ended attempt is in it: failed, lost, retried, descending ones too.

    Args:
        values: oracle values.
        gradients: oracle gradients.
        attempts: ended tries at trials.
        failed: attempts that failed.
        infeasible: attempts whose design could not be evaluated.
        lost: attempts whose worker disappeared; billed at the most their query could cost.
        running: attempts without an end yet, not in the other numbers.
        seconds: wall-clock time inside the oracle and the decoder.
        asking: wall-clock time inside the strategy.
        asks: how often the strategy was asked.
        reused: attempts that were answered without a call, by the log or a cache.
    """

    values: int = 0
    gradients: int = 0
    attempts: int = 0
    failed: int = 0
    infeasible: int = 0
    lost: int = 0
    running: int = 0
    seconds: float = 0.0
    asking: float = 0.0
    asks: int = 0
    reused: int = 0

    @property
    def calls(self) -> int:
        """Values plus gradients."""
        return self.values + self.gradients

    @property
    def total_seconds(self) -> float:
        """Oracle, decoder and strategy together."""
        return self.seconds + self.asking

    def to_json(self) -> dict[str, int | float]:
        """All of it, and the calls."""
        return {"calls": self.calls, **asdict(self)}

    def __str__(self) -> str:
        parts = [f"{self.values} values"]
        parts += [f"{self.gradients} gradients"] if self.gradients else []
        kinds = ("failed", "infeasible", "lost", "running", "reused")
        parts += [f"{n} {what}" for what in kinds if (n := getattr(self, what))]
        return ", ".join(parts)
