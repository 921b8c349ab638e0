"""The contract of a store: named, append-only lists of events.

An event is a small JSON object. A store gives it a position (``seq``: 1, 2, 3, ... per study) and never changes it.
Everything else (trials, best, bill) is computed from the events by whoever reads them.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Protocol

from bo_invert.errors import StudyNotFoundError
from bo_invert.types import JSON

SCHEMA = 2
"""Version of what is written. A store refuses to read what a newer version wrote."""


class Store(Protocol):
    """Named logs of events.

    One that many write to may also have ``turn(name)``, a context manager: nobody else writes to this log while it
    lasts. Then whoever was refused once is not refused again.
    """

    def create(self, name: str, header: JSON, events: Sequence[JSON] = ()) -> None:
        """Begin a log, all or nothing.

        Args:
            name: of the study, non-empty.
            header: what never changes: problem, strategy, seed.
            events: with which it begins, of a study that comes from elsewhere.

        Raises:
            InvalidInputError: the name is empty.
            StudyExistsError: the name is taken.
            StorageBusyError: the storage stayed locked.
        """

    def header(self, name: str) -> JSON:
        """What ``create`` was given.

        Raises:
            StudyNotFoundError: there is no such study; the message lists near names.
        """

    def names(self) -> list[str]:
        """All studies, in the order of their creation."""

    def events(self, name: str, after: int = 0, limit: int | None = None) -> list[JSON]:
        """The events at positions ``after + 1, after + 2, ...``, in order; the first ``limit`` of them.

        Raises:
            StudyNotFoundError: there is no such study.
        """

    def append(self, name: str, events: Sequence[JSON], after: int) -> int:
        """Add events behind position ``after``, all or none, durable on return.

        Returns:
            The position of the last event.

        Raises:
            StorageConflictError: the log has grown past ``after``.
            StudyNotFoundError: there is no such study.
            StorageBusyError: the storage stayed locked; nothing was written.
        """

    def beat(self, name: str, worker: str) -> None:
        """Add 1 to the count of a worker's signs of life. Not part of the log, and lost with little harm.

        Raises:
            StudyNotFoundError: there is no such study.
            StorageBusyError: the storage stayed locked.
        """

    def beats(self, name: str) -> dict[str, int]:
        """How often each worker gave a sign of life.

        Raises:
            StudyNotFoundError: there is no such study.
        """

    def delete(self, name: str) -> None:
        """Forget a study.

        Raises:
            StudyNotFoundError: there is no such study.
        """


def unknown_study(name: str, known: Sequence[str]) -> StudyNotFoundError:
    """The error for a name that is not among the ``known`` ones, with the nearest of them."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    listed = ", ".join(repr(other) for other in known[:10]) or "no study"
    more = f" and {len(known) - 10} more" if len(known) > 10 else ""
    return StudyNotFoundError(
        f"no study named {name!r} in this storage{hint} It holds {listed}{more}"
    )
