"""Summary of a log, stored beside it, so that a list of studies reads no events.

The summary ends with a checksum that also covers the last checksum of the log. A summary of an
earlier state or with a changed character is therefore recognised and computed again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

from bo_invert.history import Ledger
from bo_invert.storage.base import json_text
from bo_invert.storage.checksum_chain import link, seal, split
from bo_invert.storage.log_replay import Log
from bo_invert.types import JSON

_COSTS = tuple(field.name for field in fields(Ledger))


@dataclass(frozen=True)
class LogSummary:
    """Counts and costs of a log.

    Args:
        seq: Position of the last event.
        states: Number of trials in each state that has any.
        ledger: Costs so far.
        budget: Budget of the last ask in calls; None for no limit.
        best_loss: Lowest feasible loss; None without one.
    """

    seq: int
    states: dict[str, int]
    ledger: Ledger
    budget: int | None
    best_loss: float | None

    @property
    def trials(self) -> int:
        """Number of trials."""
        return sum(self.states.values())

    @staticmethod
    def of(log: Log) -> LogSummary:
        """Summarise a log."""
        states = {str(state): count for state, count in log.counts.items() if count}
        loss = None if log.best is None else log.best.loss
        return LogSummary(log.seq, states, log.ledger, log.budget, loss)

    def sealed(self, checksum: str) -> str:
        """Return the summary as text for a log with this last checksum."""
        costs = {name: getattr(self.ledger, name) for name in _COSTS}
        text = json_text({**vars(self), "ledger": costs})
        return next(seal(checksum, [text]))[0]

    @staticmethod
    def unsealed(text: str, checksum: str) -> LogSummary | None:
        """Return the summary of a text; None if it belongs to another state or is damaged."""
        body, stored = split(text)
        if stored != link(checksum, body):
            return None
        data: dict[str, Any] = json.loads(body)
        return LogSummary(**data | {"ledger": Ledger(**data["ledger"])})


@dataclass(frozen=True)
class StudyEntry:
    """Study in a list.

    Args:
        name: Name of the study.
        header: JSON text of its header; None if it must be read with ``Store.header``, which
            names the damage.
        summary: Summary of its log; None if it must be computed.
    """

    name: str
    header: str | None = None
    summary: LogSummary | None = None


@runtime_checkable
class HoldsSummaries(Protocol):
    """Storage that holds a summary of each log; the methods are those of ``SqlStore``."""

    def append(
        self,
        name: str,
        events: Sequence[JSON],
        after: int,
        summary: Callable[[], LogSummary] | None = None,
    ) -> int:
        """Append events and the summary after them."""

    def summaries(self, after: int = 0, limit: int | None = None) -> list[StudyEntry]:
        """Return the studies in order of creation, with their summaries."""

    def summarise(self, name: str, summary: LogSummary | None) -> None:
        """Store the summary of a log that has none, unless the log has grown; None deletes it."""
