"""A server in a process of its own, on loopback, for tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from bo_invert.service.access_tokens import Access, TokenFile

WITHOUT_PRELOAD = """
import sys
from bo_invert.cli.main import main
from bo_invert.service.ask_queue import AskProcesses

AskProcesses.start = lambda self: None
sys.exit(main())
"""
"""``bo-invert`` with a server that starts its ask processes at the first ask. The preload imports
torch, which costs a second of CPU time at each start."""


class Served:
    """``bo-invert serve`` on a free port; ``kill`` and ``start`` again keep port and storage."""

    def __init__(self, folder: Path, storage: str, *options: str, preload: bool = False) -> None:
        self.folder, self.storage, self.options = folder, storage, options
        self.program = ["-m", "bo_invert.cli"] if preload else ["-c", WITHOUT_PRELOAD]
        self.tokens = TokenFile(folder / "tokens.json")
        self.token = self.tokens.make("writer", Access.WRITE).secret
        self.reader = self.tokens.make("reader", Access.READ).secret
        self.port = 0
        self.lines: list[str] = []
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, *self.program, "serve", "--storage", self.storage]
        command += [
            "--port",
            str(self.port),
            "--tokens",
            str(self.folder / "tokens.json"),
            *self.options,
        ]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r"serving on http://[^ ]*:(\d+)", line)
            if found:
                self.port = int(found[1])
                break
        else:
            raise AssertionError("".join(self.lines))
        threading.Thread(target=self._drain, daemon=True).start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def _drain(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(self.process.stderr)


def wait_until(condition: object, seconds: float = 30.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)
