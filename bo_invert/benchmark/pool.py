"""Many tasks through a pool: results as they come, no more under way than asked for."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import TypeVar

from bo_invert import registry
from bo_invert.errors import MissingExtraError

Task = TypeVar("Task")
Result = TypeVar("Result")

#: How often a task is begun when its worker process breaks down: what killed it may have nothing to do with the task.
TRIES = 2


def here(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    stop: Callable[[], bool] = lambda: False,
    begin: Callable[[int], None] = lambda index: None,
) -> Generator[tuple[int, Result | Exception], None, None]:
    """The tasks one after another, in this process; see ``perform``."""
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
    """The tasks, begun in their order, ``jobs`` at once.

    Close the iterator (``contextlib.closing``) when it may be left early: worker processes are killed then, threads
    are waited for.

    Args:
        work: what to do with a task.
        tasks: arguments for ``work``.
        jobs: how many at once.
        processes: in processes of one numerical thread each, where loky is installed; otherwise in threads.
        stop: once it is true, no task is begun any more.
        begin: gets the index of each task that is begun, of one begun again too.

    Yields:
        The index of a task and what came of it, an error included, in the order in which they end.
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
                    raise error  # an interrupt inside a worker is the user's
                yield index, future.result() if error is None else error
    except BaseException:  # interrupted, or left early: nobody waits for what is under way
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
        except MissingExtraError:
            pass
    threads: Executor = registry.resolve("executors", "threads")(jobs)
    return threads


def _kill(pool: Executor) -> None:
    try:
        pool.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]
    except TypeError:  # threads cannot be ended from outside
        pool.shutdown(wait=True)
