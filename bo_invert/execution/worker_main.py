"""What runs inside a process of its own: it loads one object, and answers calls of its methods. See ``children``."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from bo_invert.errors import BoInvertError, EvaluationError, FailedError
from bo_invert.execution.parent_death import tie

#: Told to write where it is, in the words of ``faulthandler``, before it is killed.
WHERE: int = getattr(signal, "SIGUSR1", 0)
_LIKELY = 500
"""By so much of the machine's memory (in thousandths) the kernel takes it for larger, when it looks whom to kill."""


def main() -> None:
    """Serve; the arguments are ``sys.path``, descriptors of connection, lifeline and traces, and a limit of memory."""
    calls, lifeline, traces, memory = (int(word) for word in sys.argv[2:6])
    del sys.argv[1:]
    tie(lifeline)
    os.set_blocking(traces, False)  # nobody waits for a reader in order to crash
    faulthandler.enable(traces, all_threads=False)
    faulthandler.register(WHERE, traces, all_threads=False)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_LIKELY))
    _serve(Connection(calls), memory)


def _serve(calls: Connection, memory: int) -> None:
    try:
        served = ForkingPickler.loads(calls.recv_bytes())
    except BaseException as error:
        _answer(calls, (False, FailedError(f"{type(error).__name__}: {error}")))
        return
    if memory:
        _limit(memory)
    _answer(calls, (True, None))
    while True:
        try:
            method, args = ForkingPickler.loads(calls.recv_bytes())
        except EOFError:
            return
        try:
            reply = (True, getattr(served, method)(*args))
        except (EvaluationError, BoInvertError) as error:
            reply = (False, error)
        except BaseException as error:
            reply = (False, FailedError(f"{type(error).__name__}: {error}"))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        _answer(calls, reply)


def _answer(calls: Connection, reply: tuple[bool, Any]) -> None:
    from loky.backend.reduction import dumps

    try:
        packed = dumps(reply)
    except Exception as error:
        packed = dumps(
            (False, FailedError(f"the answer cannot be sent: {type(error).__name__}: {error}"))
        )
    calls.send_bytes(packed)


def _limit(memory: int) -> None:
    """Refuse what would not fit anyway, at once and in words; what is resident is watched from outside.

    Virtual memory is no measure of what is used: what the process has now is left to it.
    """
    import resource

    has = 0
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmData:"):
                has = 1024 * int(line.split()[1])
    except OSError:
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = has + memory
    if hard == resource.RLIM_INFINITY or wanted < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


if __name__ == "__main__":
    main()
