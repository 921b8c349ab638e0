"""Signals during a run: Ctrl-C, SIGTERM and SIGHUP end it after its answers are recorded.

Signal handlers belong to the main thread. Runs in other threads leave all signals as they are.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_TERMINATING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that by default end a process without cleaning up."""

_DEFERRED = [
    *_TERMINATING,
    signal.SIGINT,
    *([signal.SIGALRM] if hasattr(signal, "SIGALRM") else []),
]


class TerminatedError(KeyboardInterrupt):
    """Termination signal in the main thread; like Ctrl-C, no oracle takes it for a failure.

    Args:
        number: Signal number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {signal.Signals(number).name}")
        self.number = number


@contextmanager
def terminable() -> Iterator[None]:
    """Raise ``TerminatedError`` in the context at signals that would end the process at once.

    Handlers of the user stay in place.

    Raises:
        SystemExit: The context has ended after such a signal.
    """

    def handle(number: int, _: FrameType | None) -> None:
        raise TerminatedError(number)

    before = _install(handle, [n for n in _TERMINATING if _handler(n) is signal.SIG_DFL])
    try:
        yield
    except TerminatedError as error:
        if error.number not in before:
            raise
        raise SystemExit(128 + error.number) from error
    finally:
        _restore(before)


@contextmanager
def deferred() -> Iterator[None]:
    """Defer the first signal in the context to its end, so that it interrupts no record.

    A second signal takes effect at once.
    """
    received: list[tuple[int, FrameType | None]] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append((number, frame))
        if len(received) > 1:
            before[number](number, frame)

    before = _install(handle, [n for n in _DEFERRED if callable(_handler(n))])
    try:
        yield
    finally:
        _restore(before)
        if len(received) == 1:
            number, frame = received[0]
            before[number](number, frame)


def _handler(number: int) -> object:
    """Return the handler of a signal; None outside the main thread."""
    in_main = threading.current_thread() is threading.main_thread()
    return signal.getsignal(number) if in_main else None


def _install(
    handler: Callable[[int, FrameType | None], None], numbers: list[int]
) -> dict[int, Any]:
    """Install a handler and return the former ones."""
    return {number: signal.signal(number, handler) for number in numbers}


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
