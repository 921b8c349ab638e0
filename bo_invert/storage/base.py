"""Storage interface: named, append-only lists of events.

An event is a small JSON object. A storage gives it a position (``seq``: 1, 2, 3, ... per study) and
never changes it. Readers compute trials, best trial and ledger from the events.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Protocol

from bo_invert.errors import (
    InvalidInputError,
    StudyDamagedError,
    StudyExistsError,
    StudyNotFoundError,
)
from bo_invert.types import JSON

SCHEMA = 4
"""Version of the stored format. A storage refuses to read a newer version.

Version 4 has amended outcomes and observations outside the search domain.
"""

HEARTBEATS = 2
"""First version of the format with heartbeats."""
CHECKSUMS = 3
"""First version of the format with checksums."""

json_text = json.JSONEncoder(allow_nan=False).encode
"""Function from JSON values to the text of events; ``json.dumps`` makes an encoder in each call."""


class Store(Protocol):
    """Storage of named logs of events.

    A storage for several writers may also have ``turn(name)``, a context manager that locks a log
    for writing. A writer that lost a conflict uses it to avoid a second one.
    """

    def create(self, name: str, header: JSON, events: Sequence[JSON] = ()) -> None:
        """Create a log, all or nothing.

        Args:
            name: Name of the study, not empty.
            header: Facts that never change: problem, strategy, seed.
            events: First events of an imported study.

        Raises:
            InvalidInputError: The name is empty.
            StudyExistsError: The name is taken.
            StorageBusyError: The storage stayed locked.
        """

    def header(self, name: str) -> JSON:
        """Return the header from ``create``.

        Raises:
            StudyNotFoundError: There is no such study; the message lists similar names.
            StudyDamagedError: The stored header was changed.
        """

    def names(self) -> list[str]:
        """Return the names of all studies in the order of their creation."""

    def events(self, name: str, after: int = 0, limit: int | None = None) -> list[JSON]:
        """Return the events at positions ``after + 1, after + 2, ...`` in order.

        Args:
            name: Name of the study.
            after: Position before the first event.
            limit: Largest number of events.

        Raises:
            StudyNotFoundError: There is no such study.
            StudyDamagedError: A stored event was changed or is missing.
        """

    def append(self, name: str, events: Sequence[JSON], after: int) -> int:
        """Append events after position ``after``, all or none; they are durable on return.

        Returns:
            The position of the last event.

        Raises:
            StorageConflictError: The log has grown past ``after``.
            StudyNotFoundError: There is no such study.
            StorageBusyError: The storage stayed locked; nothing is written.
        """

    def beat(self, name: str, worker: str) -> None:
        """Add 1 to the number of heartbeats of a worker. Heartbeats are not part of the log.

        Raises:
            StudyNotFoundError: There is no such study.
            StorageBusyError: The storage stayed locked.
        """

    def beats(self, name: str) -> dict[str, int]:
        """Return the number of heartbeats of each worker.

        Raises:
            StudyNotFoundError: There is no such study.
        """

    def delete(self, name: str) -> None:
        """Delete a study.

        Raises:
            StudyNotFoundError: There is no such study.
        """


def check_name(name: str) -> None:
    """Raise ``InvalidInputError`` if the name of a study is empty."""
    if not name:
        raise InvalidInputError("study: the name must not be empty")


def name_taken(name: str) -> StudyExistsError:
    """Return the error for a name that is in use."""
    return StudyExistsError(
        f"a study named {name!r} is already in this storage; open it (exist_ok=True) or choose "
        "another name"
    )


def unknown_study(name: str, known: Sequence[str]) -> StudyNotFoundError:
    """Return the error for a name that is not among the ``known`` ones; it lists similar names."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    listed = ", ".join(repr(other) for other in known[:10]) or "no study"
    more = f" and {len(known) - 10} more" if len(known) > 10 else ""
    return StudyNotFoundError(
        f"no study named {name!r} in this storage{hint} It holds {listed}{more}"
    )


def damaged_study(storage: object, name: str, event: int | None, why: str) -> StudyDamagedError:
    """Return the error for damaged data of a study.

    Args:
        storage: Storage, shown by its text.
        name: Name of the study.
        event: Position of the first damaged event; None for the header.
        why: The rest of a sentence about the event or the header.
    """
    part = "its header" if event is None else f"event {event}"
    intact = (
        f", or copy the {event - 1} events before it with: bo-invert export {name!r} FILE --intact"
        if event is not None and event > 1
        else ""
    )
    return StudyDamagedError(
        f"storage {storage}: study {name!r} is damaged: {part} {why}. Other studies are not "
        f"affected. Restore a backup of the storage{intact}",
        event,
    )
