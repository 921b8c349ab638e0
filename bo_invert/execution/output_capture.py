"""What a process says: passed on to whoever watches, and its last words kept for the reason why it ended."""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import wait
from pathlib import Path

_KEPT = 16384
"""Bytes of each stream that are remembered during a call."""
_LONG = 400
"""Characters of last words."""
_OWN = (str(Path(__file__).parents[1] / "oracles"), str(Path(__file__).with_name("worker_main.py")))


class Heard:
    """The ends of three pipes. It closes them.

    Args:
        out: what it prints.
        err: what it prints as errors.
        traces: what ``faulthandler`` writes; nobody else is shown that.
    """

    def __init__(self, out: int, err: int, traces: int) -> None:
        self._out, self._err, self._traces = out, err, traces
        self._said = dict.fromkeys((out, err, traces), b"")
        self.streams = [out, err, traces]

    def forget(self) -> None:
        """A new call begins."""
        self._said = dict.fromkeys(self._said, b"")

    def listen(self) -> None:
        """Take what is there."""
        while ready := wait(self.streams, 0):
            for stream in self.streams.copy():
                if stream in ready:
                    self._take(stream)

    def trace(self, patience: float) -> None:
        """Wait so many seconds for a trace, and until it is complete."""
        while self._traces in wait(
            [self._traces] if self._traces in self.streams else [], patience
        ):
            self._take(self._traces)
            patience = 0.02

    def _take(self, stream: int) -> None:
        said = os.read(stream, 65536)
        if not said:
            self.streams.remove(stream)
            os.close(stream)
        self._said[stream] = (self._said[stream] + said)[-_KEPT:]
        shown = {self._out: sys.stdout, self._err: sys.stderr}.get(stream)
        if shown is not None and said:
            shown.write(said.decode(errors="replace"))
            shown.flush()

    def last_words(self) -> str:
        """Where it was, if that is known, otherwise the end of its errors; behind a colon."""
        _, begins, trace = (
            self._said[self._traces]
            .decode(errors="replace")
            .rpartition("(most recent call first):")
        )
        kept: list[str] = []
        for line in trace.splitlines() if begins else []:
            if any(own in line for own in _OWN) or line.startswith("Extension modules"):
                break
            kept.append(line.strip())
        if not any(kept):
            kept = [
                line.strip()
                for line in self._said[self._err].decode(errors="replace")[-_LONG:].splitlines()
            ]
        words = "; ".join(filter(None, kept))[:_LONG]
        return f": {words}" if words else ""

    def close(self) -> None:
        """Nothing more will be said."""
        for stream in self.streams:
            os.close(stream)
        self.streams.clear()
