"""Task pool: bounded concurrency, results in the order of completion."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import TypeVar

from bo_invert import registry
from bo_invert.errors import InvalidInputError

Task = TypeVar("Task")
Result = TypeVar("Result")

# Attempts (count) at a task whose worker process dies. Engineering choice: one retry, since the
# task
# may not be the cause.
TRIES = 2


def here(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    stop: Callable[[], bool] = lambda: False,
    begin: Callable[[int], None] = lambda index: None,
) -> Generator[tuple[int, Result | Exception], None, None]:
    """Run the tasks sequentially in this process; see ``perform``."""
    for index, task in enumerate(tasks):
        if stop():
            return
        begin(index)
        try:
            result: Result | Exception = work(task)
        except Exception as error:
            result = error
        yield index, result


def perform(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    jobs: int,
    *,
    processes: bool = True,
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
        processes: use processes with one numerical thread each; otherwise threads.
        stop: no further task starts once it returns True.
        begin: callback with the index of each started or restarted task.

    Yields:
        Index and result, or exception, of each task in the order of completion.
    """
    waiting = deque(range(len(tasks)))
    begun: Counter[int] = Counter()
    running: dict[Future[Result], int] = {}
    pool = _pool(jobs, processes)
    try:
        while True:
            while waiting and len(running) < jobs and not stop():
                index = waiting.popleft()
                running[pool.submit(work, tasks[index])] = index
                begun[index] += 1
                begin(index)
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
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


def _pool(jobs: int, processes: bool) -> Executor:
    if processes:
        try:
            made: Executor = registry.resolve("executors", "processes")(jobs)
            return made
        except InvalidInputError:  # no process groups on this operating system
            pass
    threads: Executor = registry.resolve("executors", "threads")(jobs)
    return threads


def _kill(pool: Executor) -> None:
    try:
        pool.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]
    except TypeError:  # threads cannot be killed
        pool.shutdown(wait=True)
