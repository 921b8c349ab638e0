"""Capture of the output of a worker process: forwarded, and its end retained for messages."""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import wait
from pathlib import Path

_OWN_FRAMES = (
    str(Path(__file__).parents[1] / "oracles"),
    str(Path(__file__).with_name("worker_main.py")),
)


class OutputCapture:
    """Reader of the standard output, the standard error and the stack traces of a worker process.

    It closes the descriptors.

    Args:
        out: Descriptor of the standard output; forwarded to ``sys.stdout``.
        err: Descriptor of the standard error; forwarded to ``sys.stderr``.
        traces: Descriptor of the output of ``faulthandler``; not forwarded.
        retained_bytes: Size of the end of each stream that is retained.
        summary_length: Largest number of characters of a summary.
    """

    def __init__(
        self,
        out: int,
        err: int,
        traces: int,
        retained_bytes: int = 16384,
        summary_length: int = 400,
    ) -> None:
        self._out, self._err, self._traces = out, err, traces
        self._retained_bytes, self._summary_length = retained_bytes, summary_length
        self._buffers = dict.fromkeys((out, err, traces), b"")
        self.streams = [out, err, traces]

    def clear(self) -> None:
        """Discard the retained output; called at the start of a call."""
        self._buffers = dict.fromkeys(self._buffers, b"")

    def read(self) -> None:
        """Read all available output without waiting."""
        while ready := wait(self.streams, 0):
            for stream in self.streams.copy():
                if stream in ready:
                    self._read_stream(stream)

    def read_trace(self, timeout: float) -> None:
        """Wait for a stack trace and read it to its end.

        Args:
            timeout: Seconds to wait for the first line.
        """
        while self._traces in wait([self._traces] if self._traces in self.streams else [], timeout):
            self._read_stream(self._traces)
            timeout = 0.02

    def _read_stream(self, stream: int) -> None:
        data = os.read(stream, 65536)
        if not data:
            self.streams.remove(stream)
            os.close(stream)
        self._buffers[stream] = (self._buffers[stream] + data)[-self._retained_bytes :]
        target = {self._out: sys.stdout, self._err: sys.stderr}.get(stream)
        if target is not None and data:
            target.write(data.decode(errors="replace"))
            target.flush()

    def summary(self) -> str:
        """Return the last stack trace, or else the end of the standard error, after a colon."""
        text = self._buffers[self._traces].decode(errors="replace")
        _, header, trace = text.rpartition("(most recent call first):")
        lines: list[str] = []
        for line in trace.splitlines() if header else []:
            if any(own in line for own in _OWN_FRAMES) or line.startswith("Extension modules"):
                break
            lines.append(line.strip())
        if not any(lines):
            errors = self._buffers[self._err].decode(errors="replace")[-self._summary_length :]
            lines = [line.strip() for line in errors.splitlines()]
        joined = "; ".join(filter(None, lines))[: self._summary_length]
        return f": {joined}" if joined else ""

    def close(self) -> None:
        """Close the descriptors."""
        for stream in self.streams:
            os.close(stream)
        self.streams.clear()
