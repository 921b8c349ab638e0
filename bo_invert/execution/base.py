"""The contract of an executor, and what the threads and processes of this machine share.

Anything with ``submit(fn, *args) -> concurrent.futures.Future`` runs a study. It must never repeat a call by itself: a
call that is lost is told as lost, and the ledger decides. Time limits (``study.run(timeout=...)``) need three things
more:

``begun(future)``
    whether the call has begun; waiting in a queue and loading the problem is not the call's time.
``give_up(future)``
    let go of a call that is running, so that its worker is free again. Nobody waits for the future any more.
``parting``
    what becomes of such a call, in words, for the reason in the log.
"""

from __future__ import annotations

import itertools
import threading
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_numbers = itertools.count(1)


class WorkerDied(BrokenExecutor):
    """The worker of a call ended before it answered; the message says how. Only this call is concerned."""


@dataclass(eq=False)
class Member:
    """One of a crew: a thread, and whatever it keeps for its calls."""

    keeps: Any = None
    begun: bool = False
    dismissed: bool = False
    thread: threading.Thread = field(init=False)


@dataclass(frozen=True)
class _Task:
    future: Future[Any]
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Crew(Executor):
    """So many threads, each of which sees to one call after another. They keep no interpreter from ending.

    Args:
        workers: how many.
    """

    parting = ""

    def __init__(self, workers: int) -> None:
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._members: set[Member] = set()
        self._busy: dict[Future[Any], Member] = {}
        self._closed = False
        for _ in range(workers):
            self._hire()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("this executor was shut down and takes no more calls")
            self._tasks.put(_Task(future, fn, args, kwargs))
        return future

    def begun(self, future: Future[Any]) -> bool:
        """Whether the call has begun."""
        with self._lock:
            member = self._busy.get(future)
        return member is not None and member.begun

    def give_up(self, future: Future[Any]) -> None:
        """Let go of a running call; see the module."""
        with self._lock:
            member = self._busy.get(future)
            if member is not None:
                self.part(member)

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, kill_workers: bool = False
    ) -> None:
        """Take no more calls.

        Args:
            wait: until those under way and those in the queue are answered.
            cancel_futures: except those in the queue.
            kill_workers: except those under way, where a worker can be killed.
        """
        with self._lock:
            self._closed = True
            members = list(self._members)
            while cancel_futures or kill_workers:
                try:
                    task = self._tasks.get_nowait()
                except Empty:
                    break
                if task is not None:
                    task.future.cancel()
            for member in members:
                self._tasks.put(None)
                if kill_workers:
                    self.kill(member)
        if wait:
            for member in members:
                member.thread.join()

    @abstractmethod
    def perform(
        self, member: Member, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Do one call, and set ``member.begun`` when it begins."""

    def prepare(self, member: Member, fn: Callable[..., Any]) -> None:
        """Get ready for calls of a function."""

    @abstractmethod
    def part(self, member: Member) -> None:
        """Let go of what a member does now."""

    def kill(self, member: Member) -> None:
        """End what a member does and keeps, if that is possible."""

    def leave(self, member: Member) -> None:
        """The last thing a member does."""

    def _hire(self) -> None:
        member = Member()
        member.thread = threading.Thread(target=self._work, args=(member,), daemon=True)
        member.thread.name = f"bo-invert-worker-{next(_numbers)}"
        self._members.add(member)
        member.thread.start()

    def _dismiss(self, member: Member) -> None:
        """This one is no longer counted on; another takes its place."""
        member.dismissed = True
        self._members.discard(member)
        if not self._closed:
            self._hire()

    def _work(self, member: Member) -> None:
        while not member.dismissed and (task := self._tasks.get()) is not None:
            if not task.future.cancelled():
                self._see_to(member, task)
            del task  # its arguments may be large
        self.leave(member)

    def _see_to(self, member: Member, task: _Task) -> None:
        future = task.future
        error: BaseException | None = None
        result = None
        try:
            self.prepare(member, task.fn)
        except BaseException as caught:
            error = caught
        with self._lock:
            if not future.set_running_or_notify_cancel():
                return
            member.begun = False
            self._busy[future] = member
        if error is None:
            try:
                result = self.perform(member, task.fn, task.args, task.kwargs)
            except BaseException as caught:
                error = caught
        with self._lock:
            del self._busy[future]
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
