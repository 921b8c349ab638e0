"""Entry point of a worker process: it loads an object and answers calls of its methods.

Protocol: the parent sends pickled pairs ``(method, arguments)``. ``LOAD`` as the method replaces
the served object by the pickled one in the arguments. The worker answers each pair with a pair
``(True, result)`` or ``(False, error)``. It exits when the parent closes the connection.
"""

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

import cloudpickle
import psutil

from bo_invert.errors import BoInvertError, EvaluationError, FailedError

LOAD = ""
"""Method name of a message that replaces the served object."""
TRACE_SIGNAL: int = getattr(signal, "SIGUSR1", 0)
"""Signal on which a worker writes its stack trace."""


def main() -> None:
    """Serve calls; the arguments are ``sys.path``, two descriptors and a memory limit in bytes."""
    calls, traces, memory = (int(word) for word in sys.argv[2:5])
    del sys.argv[1:]
    os.set_blocking(traces, False)  # a full pipe must not block a crash
    faulthandler.enable(traces, all_threads=False)
    faulthandler.register(TRACE_SIGNAL, traces, all_threads=False)
    with suppress(OSError):
        # Engineering choice: Linux counts a worker as larger by half of the machine's memory.
        # Its out-of-memory killer then kills the worker and not the study.
        Path("/proc/self/oom_score_adj").write_text("500")
    with suppress(EOFError):
        _serve(Connection(calls), memory)


def _serve(calls: Connection, memory: int) -> None:
    served: Any = None
    while True:
        message = calls.recv_bytes()
        try:
            method, arguments = ForkingPickler.loads(message)
            if method == LOAD:
                served, value = ForkingPickler.loads(*arguments), None
                if memory:
                    _limit_allocations(memory)
            else:
                value = getattr(served, method)(*arguments)
            reply = (True, value)
        except (EvaluationError, BoInvertError) as error:
            reply = (False, error)
        except BaseException as error:
            reply = (False, FailedError(f"{type(error).__name__}: {error}"))
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # the served code may have closed or replaced it
                stream.flush()
        _answer(calls, reply)


def _answer(calls: Connection, reply: tuple[bool, Any]) -> None:
    try:
        packed = cloudpickle.dumps(reply)
    except Exception as error:
        reason = f"the result cannot be pickled: {type(error).__name__}: {error}"
        packed = cloudpickle.dumps((False, FailedError(reason)))
    calls.send_bytes(packed)


def _limit_allocations(memory: int) -> None:
    """Let allocations beyond a limit fail with ``MemoryError``.

    The limit (RLIMIT_DATA) counts virtual memory. The memory that the process has now does not
    count; the parent watches the resident memory.

    Args:
        memory: Bytes that the process may allocate from now on.
    """
    import resource

    now = getattr(psutil.Process().memory_info(), "data", None)  # absent on macOS
    if now is None:
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = now + memory
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
