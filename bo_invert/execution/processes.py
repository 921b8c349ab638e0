"""Processes on this machine through loky: for oracles that compute in Python. Needs the extra ``processes``.

A pool of loky breaks as a whole when one of its workers dies. Here each worker is a pool of one, so that a crash is
known to belong to the call that caused it, costs nobody else anything, and can be mended at once.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from bo_invert.errors import InvalidInputError, MissingExtraError
from bo_invert.execution.base import Crew, Member, WorkerDied
from bo_invert.execution.parent_death import tie
from bo_invert.execution.reaper import end_group
from bo_invert.execution.worker_process import THREADS, ending

#: Seconds that a worker may take to import and load what it is to call.
STARTUP = 600.0
#: One numerical thread per worker: several workers with several threads each only get in each other's way.
_ONE_THREAD = dict.fromkeys(THREADS, "1")
_tokens = itertools.count(1)


@dataclass(eq=False)
class _Post:
    """A pool of one worker."""

    pool: Executor
    lifeline: int
    pid: int = 0
    loaded: Any = None
    token: int = 0
    doomed: bool = False


class ProcessExecutor(Crew):
    """``workers`` fresh processes, each with one numerical thread. One that dies is replaced.

    What is called travels to each process once, and its arguments with every call.

    Raises:
        MissingExtraError: loky is not installed.
    """

    parting = "its process was killed"

    def __init__(self, workers: int) -> None:
        try:
            import loky
        except ImportError:
            raise MissingExtraError(
                "processes need the package loky; install it with: pip install 'bo-invert[processes]'"
            ) from None
        del loky
        super().__init__(workers)

    def prepare(self, member: Member, fn: Callable[..., Any]) -> None:
        post: _Post | None = member.keeps
        if post is not None and post.doomed:
            self._discard(member)
            post = None
        if post is not None and post.loaded is fn:
            return
        if post is None:
            post = member.keeps = _post()
        token = next(_tokens)
        try:
            post.pid = post.pool.submit(_load, token, fn).result(STARTUP)
        except BaseException as error:
            self._discard(member)
            raise _unloaded(error) from error
        post.loaded, post.token = fn, token

    def perform(
        self, member: Member, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        member.begun = True
        while True:
            post: _Post = member.keeps
            try:
                future = post.pool.submit(_call, post.token, args, kwargs)
            except BrokenExecutor:  # it died while it was idle: nothing was called
                self._discard(member)
                self.prepare(member, fn)
                continue
            try:
                return future.result()
            except _Unknown:  # loky has begun the worker anew, as it does with one that has grown
                post.loaded = None
                self.prepare(member, fn)
            except BrokenExecutor as error:
                self._discard(member)
                raise WorkerDied(f"its worker process {_ended(error)}") from None

    def part(self, member: Member) -> None:
        self.kill(member)

    def kill(self, member: Member) -> None:
        post: _Post | None = member.keeps
        if post is not None:
            post.doomed = True
            if post.pid:
                end_group(post.pid, signal.SIGKILL)
            else:  # still on its way
                post.pool.shutdown(wait=False, kill_workers=True)  # type: ignore[call-arg]

    def leave(self, member: Member) -> None:
        post: _Post | None = member.keeps
        if post is not None and not post.doomed:
            post.pool.shutdown(wait=True)  # what is to be done at its exit, is done
        self._discard(member)

    def _discard(self, member: Member) -> None:
        post: _Post | None = member.keeps
        member.keeps = None
        if post is not None:
            if post.pid:
                end_group(post.pid, signal.SIGKILL)  # with all that it began
            post.pool.shutdown(wait=False, kill_workers=True)  # type: ignore[call-arg]
            os.close(post.lifeline)


def _post() -> _Post:
    from loky import ProcessPoolExecutor

    reading, lifeline = os.pipe()
    held = Connection(reading, writable=False)
    pool = ProcessPoolExecutor(1, env=_ONE_THREAD, initializer=_begin, initargs=(held,))
    return _Post(pool, lifeline)


def _unloaded(error: BaseException) -> BaseException:
    """Why a worker could not load what it is to call."""
    if isinstance(error, TimeoutError):
        return WorkerDied(
            f"its worker process did not load the problem within {STARTUP:g} s, and was killed"
        )
    if isinstance(error, BrokenExecutor) and "exit codes" in str(error):
        return WorkerDied(f"its worker process {_ended(error)} while it loaded the problem")
    if not isinstance(error, Exception):
        return error
    words = str(error.__cause__ or error).strip().strip('"').strip().splitlines() or [str(error)]
    return InvalidInputError(f"it cannot travel to another process: {words[-1]}")


def _ended(error: BrokenExecutor) -> str:
    code = re.search(r"\w+\((-?\d+)\)\}", str(error))
    return "ended" if code is None else ending(int(code[1]))


class _Unknown(Exception):
    """A worker was not given what it is to call."""


_known: tuple[int, Any] = (0, None)
_held: Connection | None = None


def _begin(lifeline: Connection) -> None:
    """A worker leads a process group, and ends with the process that began it."""
    global _held
    _held = lifeline
    if hasattr(os, "setsid"):
        os.setsid()
        tie(lifeline.fileno())


def _load(token: int, fn: Callable[..., Any]) -> int:
    global _known
    _known = (token, fn)
    return os.getpid()


def _call(token: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _known[0] != token:
        raise _Unknown
    return _known[1](*args, **kwargs)
