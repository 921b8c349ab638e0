"""Chained checksums of a log: each one covers all earlier events.

The checksum of an event is the BLAKE2b hash of the previous checksum and of the event's JSON text.
It stands at the end of that text, as its last key. The chain begins with the name and the header of
the study. A changed, missing, added or moved event therefore breaks the chain at its position.
Checksums detect damage. They do not protect against a writer that computes new ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

KEY = "checksum"
"""Key of the checksum in the stored text of an event."""
_DIGITS = 16
"""Number of hexadecimal digits of a checksum. Engineering choice: a random change passes with
probability 2^-64."""
_MARK = f', "{KEY}": "'
_END = _DIGITS + 2
"""Number of characters from a checksum to the end, exactly: with the quote and the brace."""
_TAIL = len(_MARK) + _END


def link(previous: str, text: str) -> str:
    """Return the next checksum of a chain.

    Args:
        previous: Checksum before it; empty for the first one.
        text: Text without checksum.
    """
    # Damage can change the type of a stored value; the checksum then differs.
    return hashlib.blake2b(f"{previous}{text}".encode(), digest_size=_DIGITS // 2).hexdigest()


def first_link(name: str, header: str) -> str:
    """Return the start of the chain of a study from its name and the JSON text of its header."""
    return link(link("", name), header)


def split(text: str) -> tuple[str, str | None]:
    """Return the text of an event without its checksum, and the checksum; None without one."""
    text = str(text)  # damage can change the type of a stored value
    if text[-_TAIL:-_END] == _MARK:
        return text[:-_TAIL] + "}", text[-_END:-2]
    if text[:-_END] == "{" + _MARK[2:]:
        return "{}", text[-_END:-2]
    return text, None


def seal(previous: str, texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each text with its checksum appended, and the checksum.

    Args:
        previous: Checksum before the first text.
        texts: JSON objects as text, without checksums.
    """
    for text in texts:
        previous = link(previous, text)
        start = text[:-1] + _MARK if len(text) > 2 else "{" + _MARK[2:]
        yield f'{start}{previous}"}}', previous


class ChainError(ValueError):
    """Damaged event.

    Args:
        position: Position of the event, from 1.
        why: The rest of a sentence about it.
    """

    def __init__(self, position: int, why: str) -> None:
        super().__init__(position, why)
        self.position = position
        self.why = why


class Chain:
    """Verification of consecutive events.

    Events without checksum are accepted, because older versions wrote them. The next checksum
    covers them, too.

    Args:
        checksum: Checksum before the first event.
        position: Position before the first event.
        length: Stored position of the last event; 0 if unknown.
        end: Stored checksum of the last event.
    """

    def __init__(self, checksum: str, position: int = 0, length: int = 0, end: str = "") -> None:
        self.checksum = checksum
        self.position = position
        self._length = length
        self._end = end
        self._sealed = position  # position of the last verified event

    def read(self, seq: int, text: str) -> dict[str, Any]:
        """Return the next event without its checksum.

        Args:
            seq: Its stored position.
            text: Its stored text.

        Raises:
            ChainError: The event is damaged, or events before it are missing.
        """
        self.check(seq, text)
        try:
            event = json.loads(text)
            event.pop(KEY, None)
        except (AttributeError, RecursionError, ValueError) as error:
            raise ChainError(seq, f"is no JSON object ({error})") from None
        return event  # type: ignore[no-any-return]

    def check(self, seq: int, text: str) -> None:
        """Verify the next event without its content; see ``read``."""
        self.position += 1
        if seq != self.position:
            raise ChainError(self.position, f"is missing, the next one is event {seq}")
        if not isinstance(text, str):
            raise ChainError(seq, "is not stored as text")
        body, checksum = split(text)
        self.checksum = link(self.checksum, body)
        if checksum is not None:
            if checksum != self.checksum:
                raise self._broken()
            self._sealed = seq
        if seq == self._length:
            if self._end != self.checksum:
                self._sealed = min(self._sealed, seq - 1)
                raise self._broken()
            self._sealed = seq

    def close(self) -> None:
        """Raise ``ChainError`` if the last events are missing."""
        if self.position < self._length:
            raise ChainError(
                self.position + 1, f"is missing, the last one was event {self._length}"
            )

    def _broken(self) -> ChainError:
        if self._sealed == self.position - 1:
            return ChainError(self.position, "does not match its checksum")
        first = self._sealed + 1
        return ChainError(
            first, f"or a later one up to event {self.position} does not match its checksum"
        )
