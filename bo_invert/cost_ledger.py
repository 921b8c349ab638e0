"""Ledger: number and cost of the oracle calls of a study, the amount that budgets limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass


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
        return Cost(
            self.values + other.values,
            self.gradients + other.gradients,
            self.seconds + other.seconds,
        )

    def to_json(self) -> dict[str, int | float]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, float]) -> Cost:
        return Cost(int(data["values"]), int(data["gradients"]), float(data["seconds"]))


@dataclass(frozen=True, slots=True)
class Ledger:
    """Costs of a study over all ended attempts: failed, lost, retried and descending ones too.

    Args:
        values: oracle values.
        gradients: oracle gradients.
        attempts: ended attempts.
        failed: failed attempts.
        infeasible: attempts at designs that cannot be evaluated.
        lost: attempts whose worker ended; billed at the largest cost of their query.
        running: attempts without an end, not included in the other numbers.
        seconds: wall-clock time in the oracle and the decoder.
        asking: wall-clock time in the strategy.
        asks: number of asks.
        reused: attempts without a call, answered from the log or a cache.
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
        """Wall-clock time in the oracle, the decoder and the strategy."""
        return self.seconds + self.asking

    def to_json(self) -> dict[str, int | float]:
        """Return the fields and the calls."""
        return {"calls": self.calls, **asdict(self)}

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Return the names of ``to_json``, in order."""
        return tuple(cls().to_json())

    def __str__(self) -> str:
        kinds = ("gradients", "failed", "infeasible", "lost", "running", "reused")
        others = [f"{n} {kind}" for kind in kinds if (n := getattr(self, kind))]
        return ", ".join([f"{self.values} values", *others])
