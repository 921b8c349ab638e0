"""A server in a process of its own, on loopback, for tests."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path
from typing import TextIO

from forked import context, serve, start

from bo_invert.service.access_tokens import Access, TokenFile


class Served:
    """``bo-invert serve`` on a free port; ``kill`` and ``start`` again keep port and storage."""

    def __init__(self, folder: Path, storage: str, *options: str, preload: bool = False) -> None:
        self.folder, self.storage, self.options, self.preload = folder, storage, options, preload
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
        arguments = ["serve", "--storage", self.storage, "--port", str(self.port)]
        arguments += ["--tokens", str(self.folder / "tokens.json"), *self.options]
        receiver, sender = context().Pipe(duplex=False)
        self.process = start(serve, sender, arguments, self.preload)
        sender.close()
        stderr = os.fdopen(os.dup(receiver.fileno()), errors="replace")
        for line in stderr:
            self.lines.append(line)
            found = re.search(r"serving on http://[^ ]*:(\d+)", line)
            if found:
                self.port = int(found[1])
                break
        else:
            raise AssertionError("".join(self.lines))
        threading.Thread(target=self._drain, args=(stderr,), daemon=True).start()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def stop(self) -> int | None:
        self.process.terminate()
        self.process.join(20)
        if self.process.is_alive():
            self.kill()
            raise AssertionError("the server did not stop within 20 seconds")
        return self.process.exitcode

    def _drain(self, stderr: TextIO) -> None:
        with stderr:
            self.lines.extend(stderr)


def wait_until(condition: object, seconds: float = 30.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)
