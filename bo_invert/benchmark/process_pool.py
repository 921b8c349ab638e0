"""Task pool: bounded concurrency, results in the order of completion."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import TypeVar

from bo_invert import registry
from bo_invert.errors import InvalidInputError
from bo_invert.study.pacing import wait_for_first
from bo_invert.user_code import carried

Task = TypeVar("Task")
Result = TypeVar("Result")

# Attempts (count) at a task whose worker process dies. Engineering choice: one retry, since the
# task may not be the cause.
TRIES = 2


def perform(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    jobs: int,
    *,
    executor: str = "processes",
    stop: Callable[[], bool] = lambda: False,
    begin: Callable[[int], None] = lambda index: None,
) -> Generator[tuple[int, Result | Exception], None, None]:
    """Run ``jobs`` tasks concurrently, started in order.

    Close the iterator (``contextlib.closing``) if it may not be exhausted: this kills worker
    processes and waits for threads.

    Args:
        work: function of one task.
        tasks: arguments of ``work``.
        jobs: number of concurrent tasks.
        executor: ``"processes"`` with one numerical thread each, ``"threads"``, or ``"serial"`` for
            this thread.
        stop: no further task starts once it returns True.
        begin: callback with the index of each started or restarted task.

    Yields:
        Index and result, or exception, of each task in the order of completion.
    """
    work = carried(work)
    waiting = deque(range(len(tasks)))
    begun: Counter[int] = Counter()
    running: dict[Future[Result], int] = {}
    pool = _pool(jobs, executor)
    try:
        while True:
            while waiting and len(running) < jobs and not stop():
                index = waiting.popleft()
                begun[index] += 1
                begin(index)
                running[pool.submit(work, tasks[index])] = index
            if not running:
                break
            for future in wait_for_first(running):
                index, error = running.pop(future), future.exception()
                if isinstance(error, BrokenExecutor) and begun[index] < TRIES:
                    waiting.appendleft(index)
                    continue
                if error is not None and not isinstance(error, Exception):
                    raise error  # KeyboardInterrupt inside a worker
                yield index, future.result() if error is None else error
    except BaseException:  # interrupted or closed early: abandon the running tasks
        for future in running:
            future.cancel()
        _kill(pool)
        raise
    pool.shutdown(wait=True)


def _pool(jobs: int, executor: str) -> Executor:
    try:
        pool: Executor = registry.resolve("executors", executor)(jobs)
    except InvalidInputError:  # no process groups on this operating system
        pool = registry.resolve("executors", "threads")(jobs)
    return pool


def _kill(pool: Executor) -> None:
    try:
        pool.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]
    except TypeError:  # threads cannot be killed
        pool.shutdown(wait=True)
