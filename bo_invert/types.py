"""Frozen value types (numpy only); ``d``: dimension of the domain, ``m``: number of outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bo_invert import user_data
from bo_invert.errors import PrintedFacts, printable as printable
from bo_invert.user_data import number, plain_options, real, scalar

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
"""Positions in an array."""
Mask = NDArray[np.bool_]
"""Selection of the entries of an array."""
JSON = Any
"""Value that ``json.dumps`` accepts: dict, list, str, int, float, bool, None."""
Design: TypeAlias = Any
"""One input of an oracle: a vector, an image, a text, a dict, a tensor or another user object."""
Designs: TypeAlias = Any
"""Batch of n designs with a length: a list, an array ``(n, ...)``, a tensor or a data frame."""


def frozen(values: ArrayLike) -> Array:
    """Return a read-only float64 copy of ``values``."""
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of evaluations: oracle values, gradients, wall-clock seconds."""

    values: int = 0
    gradients: int = 0
    seconds: float = 0.0

    @property
    def calls(self) -> int:
        """Values plus gradients, the unit of every budget."""
        return self.values + self.gradients

    def __add__(self, other: Cost) -> Cost:
        values, gradients = self.values + other.values, self.gradients + other.gradients
        return Cost(values, gradients, self.seconds + other.seconds)

    def to_json(self) -> dict[str, int | float]:
        values, gradients = int(number(self.values)), int(number(self.gradients))
        return {"values": values, "gradients": gradients, "seconds": number(self.seconds)}

    @staticmethod
    def from_json(data: Mapping[str, float]) -> Cost:
        return Cost(int(data["values"]), int(data["gradients"]), float(data["seconds"]))


_VALUE, _WITH_GRADIENT = Cost(1, 0), Cost(1, 1)


class State(StrEnum):
    """State of a trial or fate of an attempt."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    INFEASIBLE = "infeasible"
    LOST = "lost"
    CANCELLED = "cancelled"

    @property
    def open(self) -> bool:
        """True while an outcome can still arrive: the trial is pending."""
        return self in (State.QUEUED, State.RUNNING, State.LOST)


@dataclass(frozen=True, slots=True)
class Descent:
    """Gradient descent next to the oracle: at most ``steps`` values and ``steps`` gradients.

    Args:
        steps: evaluations of value and gradient, at least 1. With a gradient proxy, the last
            value is that of the true oracle at the best point found.
        optimizer: ``"adam"`` or ``"lbfgs"``.
        learning_rate: step of Adam in units of the coordinates; L-BFGS ignores it.
    """

    steps: int
    optimizer: str = "adam"
    learning_rate: float = 0.05

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", scalar(self.steps))
        rate = real("Descent", "learning_rate", self.learning_rate)
        object.__setattr__(self, "learning_rate", rate)

    def to_json(self) -> JSON:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Query:
    """Request to the oracle at one point.

    Args:
        point: coordinates in the domain, shape ``(d,)``.
        gradient: evaluate the gradient of the loss with respect to the point, too.
        descent: run this descent from ``point`` instead of one evaluation.
        origin: name of the strategy that proposed it.
        meta: small JSON values by which the strategy recognises its query later.
        design: design of the user as JSON, if the decoding of ``point`` would round it.
    """

    point: Array
    gradient: bool = False
    descent: Descent | None = None
    origin: str = ""
    meta: Mapping[str, JSON] = field(default_factory=dict)
    design: JSON = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "point", frozen(self.point))

    @property
    def cost(self) -> Cost:
        """Largest cost of one attempt at this query."""
        if self.descent is not None:
            return Cost(self.descent.steps, self.descent.steps)
        return _WITH_GRADIENT if self.gradient else _VALUE

    def to_json(self) -> JSON:
        return {
            "point": user_data.nested_lists(self.point),
            "gradient": self.gradient,
            "descent": None if self.descent is None else self.descent.to_json(),
            "origin": self.origin,
            "meta": plain_options(self.meta),
            **({} if self.design is None else {"design": self.design}),
        }

    @staticmethod
    def from_json(data: JSON) -> Query:
        descent = None if data["descent"] is None else Descent(**data["descent"])
        return Query(
            data["point"], data["gradient"], descent, data["origin"], data["meta"],
            data.get("design"),
        )  # fmt: skip

    def exact(self, decoded: Design) -> Design:
        """Return the design of the user in the type of ``decoded``; without one, ``decoded``."""
        return decoded if self.design is None else user_data.like(self.design, decoded)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of one attempt at a query.

    Args:
        state: COMPLETED, FAILED or INFEASIBLE.
        y: raw outputs, shape ``(m,)``; None unless completed.
        loss: objective of ``y``, lower is better; None unless completed.
        violation: sum of the excesses over the outcome constraints; 0 if all hold.
        cost: cost of this attempt.
        reason: cause of a failure.
        point: end of a descent, or conditions of the user instead of those of the query, shape
            ``(d,)``; None for the point of the query.
        gradient: d loss / d point, shape ``(d,)``, if the query requests it.
        trace: losses along a descent, one per value, shape ``(values,)``; NaN if not measured.
            It includes a last value from a cache.
        design: design of the user at ``point`` as JSON, if the decoding would round it.
        extra: further measured values by name; texts, numbers or booleans.
        outside: outside the search domain; see ``Trial.outside``.
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
    design: JSON = None
    extra: Mapping[str, JSON] = field(default_factory=dict)
    outside: bool = False

    def __post_init__(self) -> None:
        fields = vars(self)  # the class is frozen
        for name in ("y", "point", "gradient", "trace"):
            if fields[name] is not None:
                fields[name] = frozen(fields[name])

    def to_json(self) -> JSON:
        lists = user_data.nested_lists
        return {
            "state": str(self.state),
            "y": lists(self.y),
            "loss": self.loss,
            "violation": self.violation,
            "cost": self.cost.to_json(),
            "reason": self.reason,
            **{part: lists(getattr(self, part)) for part in ("point", "gradient", "trace")},
            **({} if self.design is None else {"design": self.design}),
            **({"extra": dict(self.extra)} if self.extra else {}),
            **({"outside": True} if self.outside else {}),
        }

    @staticmethod
    def from_json(data: JSON) -> Outcome:
        y, point, gradient, trace = (
            user_data.with_nan(data[part]) for part in ("y", "point", "gradient", "trace")
        )
        return Outcome(
            State(data["state"]), y, data["loss"], data["violation"], Cost.from_json(data["cost"]),
            data["reason"], point, gradient, trace, data.get("design"), data.get("extra", {}),
            data.get("outside", False),
        )  # fmt: skip


INTERVALS = "foretold"
"""Key of the 90 % intervals of outputs in the meta of a query; logs hold it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One evaluation of a trial. Its position among the attempts is the worker's fencing token.

    Args:
        worker: name of the worker; None for a person or another program.
        started: seconds since the epoch.
        ended: seconds since the epoch; None while it is running.
        cost: billed cost.
        fate: RUNNING, COMPLETED, FAILED, INFEASIBLE, LOST, or CANCELLED if it was released.
        lease: seconds without heartbeats after which it is lost; None for no limit.
        outcome: its outcome, also one that arrived after the attempt was superseded.
        position: position in the log of the event that ended it.
    """

    worker: str | None
    started: float
    ended: float | None = None
    cost: Cost = Cost()
    fate: State = State.RUNNING
    lease: float | None = None
    outcome: Outcome | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Amendment:
    """Correction by the user, at a time in seconds since the epoch: outcome before it, reason."""

    before: Outcome
    reason: str
    at: float


@dataclass(frozen=True, eq=False, repr=False)
class Trial(PrintedFacts):
    """One query and, later, its outcome.

    Args:
        number: position in the log, from 0.
        query: request to the oracle.
        state: current state.
        ask: number of the ask that proposed it; None for points of the user.
        attempts: all evaluations in order; each is billed.
        outcome: outcome of the last finished attempt.
        decode: function from a point to a design; a study sets it.
        study: text that identifies its study; a study sets it.
        position: position in the log of the event that ended its latest attempt, or that added
            it. Results are ordered by it, because clocks of workers differ.
        amendments: corrections of its outcome in order.
    """

    number: int
    query: Query
    state: State
    ask: int | None = None
    attempts: tuple[Attempt, ...] = ()
    outcome: Outcome | None = None
    decode: Callable[[Array], Design] | None = field(default=None, repr=False)
    study: str | None = None
    position: int | None = None
    amendments: tuple[Amendment, ...] = ()

    @property
    def point(self) -> Array:
        """Observed point ``(d,)``; ``query.point`` is the suggested one."""
        end = None if self.outcome is None else self.outcome.point
        return self.query.point if end is None else end

    @property
    def exact_design(self) -> JSON:
        """Design of the user at ``point`` as JSON; None if the decoding is exact."""
        if self.outcome is not None and self.outcome.point is not None:
            return self.outcome.design
        return self.query.design

    @property
    def moved(self) -> bool:
        """True if the user ran it under other conditions than the suggested ones."""
        outcome = self.outcome if self.query.descent is None else None
        return outcome is not None and outcome.point is not None

    @property
    def outside(self) -> bool:
        """True if its design lies outside the search domain; models use it, ``best`` does not."""
        return self.outcome is not None and self.outcome.outside

    @property
    def extra(self) -> Mapping[str, JSON]:
        """Further measured values by name."""
        return {} if self.outcome is None else self.outcome.extra

    @property
    def design(self) -> Design:
        """Input of the oracle at ``point``; None if no study returned this trial."""
        if self.decode is None:
            return None
        decoded = self.decode(self.point)
        return decoded if self.exact_design is None else user_data.like(self.exact_design, decoded)

    @property
    def y(self) -> Array | None:
        """Raw outputs, shape ``(m,)``; None unless completed."""
        return None if self.outcome is None else self.outcome.y

    @property
    def loss(self) -> float | None:
        """Loss, lower is better; None unless completed."""
        return None if self.outcome is None else self.outcome.loss

    @property
    def feasible(self) -> bool:
        """True if completed, inside the search domain, and all outcome constraints hold."""
        outcome = self.outcome if self.state is State.COMPLETED else None
        return outcome is not None and outcome.violation <= 0.0 and not outcome.outside

    @property
    def reason(self) -> str:
        """Cause of a failure; empty otherwise."""
        return "" if self.outcome is None else self.outcome.reason

    @property
    def cost(self) -> Cost:
        """Total cost of all attempts."""
        return sum((attempt.cost for attempt in self.attempts), Cost())

    @property
    def expected(self) -> dict[str, tuple[float, float, float]]:
        """Lower end, median and upper end of the 90 % intervals of outputs at the time of the ask.

        Empty without a model. ``"loss"`` stands for a loss that is modelled itself.
        """
        known = self.query.meta.get(INTERVALS, {})
        return {name: (low, median, high) for name, (low, median, high) in known.items()}

    @property
    def origin(self) -> str:
        """Name of the strategy that proposed it."""
        return self.query.origin

    def _facts(self) -> dict[str, str]:
        facts = {
            "number": str(self.number),
            "state": str(self.state),
            "origin": self.origin or "unknown",
        }
        for name, (low, median, high) in self.expected.items():
            facts[f"expected {name}"] = f"{median:.4g} ({low:.4g} to {high:.4g})"
        if self.y is not None:
            facts["y"] = user_data.brief(self.y)
        if self.loss is not None:
            broken = " (outside the domain)" if self.outside else " (constraints broken)"
            facts["loss"] = f"{self.loss:.6g}" + ("" if self.feasible else broken)
        design = self.design
        name, value = ("point", self.point) if design is None else ("design", design)
        facts[name] = user_data.brief(value, exact=self.ask is None)  # numbers of the user in full
        facts |= {"extra": user_data.brief(self.extra)} if self.extra else {}
        facts |= {"amended": self.amendments[-1].reason or "yes"} if self.amendments else {}
        return facts | ({"reason": self.reason} if self.reason else {})

    def evolved(self, **changes: object) -> Trial:
        """Return a copy with other fields, as ``replace`` does in three times the time."""
        trial = object.__new__(Trial)
        vars(trial).update(vars(self), **changes)
        return trial

    def __getstate__(self) -> dict[str, Any]:
        # The decoder may be a large network or a lambda: copies hold the design itself.
        if self.decode is None or isinstance(self.decode, _StoredDesign):
            return vars(self)
        return {**vars(self), "decode": _StoredDesign(self.design)}


@dataclass(frozen=True, eq=False)
class _StoredDesign:
    """Decoder of one point."""

    design: Design

    def __call__(self, point: Array) -> Design:
        return self.design
