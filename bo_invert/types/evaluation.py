"""Requests to the oracle and their outcomes; ``d``: dimension, ``m``: number of outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from bo_invert import user_data
from bo_invert.types.arrays import JSON, Array, Design, frozen
from bo_invert.user_data import number, plain_options, real, scalar


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
