"""The bill of a study."""

from __future__ import annotations

from dataclasses import asdict, dataclass


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
