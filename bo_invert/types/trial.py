"""Trials: queries with their attempts, outcomes and amendments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bo_invert import user_data
from bo_invert.errors import PrintedFacts
from bo_invert.types.arrays import JSON, Array, Design
from bo_invert.types.evaluation import Cost, Outcome, Query, State

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
            facts[f"expected {name} before the call"] = f"{median:.4g} ({low:.4g} to {high:.4g})"
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
