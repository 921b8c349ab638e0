"""The contract of a store: named, append-only lists of events.

An event is a small JSON object. A store gives it a position (``seq``: 1, 2, 3, ... per study) and never changes it.
Everything else (trials, best, bill) is computed from the events by whoever reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bo_invert.types import JSON

SCHEMA = 1
"""Version of what is written. A store refuses to read what a newer version wrote."""


class Store(Protocol):
    """Named logs of events."""

    def create(self, name: str, header: JSON) -> None:
        """Begin a log.

        Args:
            name: of the study, non-empty.
            header: what never changes: problem, strategy, seed.

        Raises:
            StudyExists: the name is taken.
            StorageBusy: the storage stayed locked.
        """

    def header(self, name: str) -> JSON:
        """What ``create`` was given.

        Raises:
            StudyNotFound: there is no such study; the message lists near names.
        """

    def names(self) -> list[str]:
        """All studies, in the order of their creation."""

    def events(self, name: str, after: int = 0) -> list[JSON]:
        """The events at positions ``after + 1, after + 2, ...``, in order.

        Raises:
            StudyNotFound: there is no such study.
        """

    def append(self, name: str, events: Sequence[JSON], after: int) -> int:
        """Add events behind position ``after``, all or none, durable on return.

        Returns:
            The position of the last event.

        Raises:
            StorageConflict: the log has grown past ``after``.
            StudyNotFound: there is no such study.
            StorageBusy: the storage stayed locked; nothing was written.
        """

    def delete(self, name: str) -> None:
        """Forget a study.

        Raises:
            StudyNotFound: there is no such study.
        """
