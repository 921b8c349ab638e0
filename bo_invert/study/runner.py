"""Start and end of a run: executor, heartbeats, signals."""

from __future__ import annotations

import logging
from concurrent.futures import Executor, Future

from bo_invert.errors import InvalidInputError
from bo_invert.problems.problem import Problem
from bo_invert.storage.heartbeats import LEASE, heartbeat
from bo_invert.storage.journal_base import JournalBase
from bo_invert.storage.worker_id import is_gone
from bo_invert.study.executor_choice import resolve_executor
from bo_invert.study.failing_runs import Watchdog
from bo_invert.study.interrupts import terminable
from bo_invert.study.pacing import Pacing, TimeLimit
from bo_invert.study.progress_bar import RunProgressBar
from bo_invert.study.run_loop import RunLoop
from bo_invert.study.run_options import RunOptions, Take

_log = logging.getLogger(__name__)


def run(problem: Problem, journal: JournalBase, take: Take, options: RunOptions) -> None:
    """Run a study; see ``Study.run``."""
    if problem.oracle is None:
        raise InvalidInputError(
            f"run: problem {problem.name!r} must have an oracle. Use study.ask() and study.tell()"
        )
    executor, made = resolve_executor(options.executor, problem, options.batch, options.timeout)
    loop = RunLoop(
        problem,
        journal,
        take,
        options,
        executor,
        Pacing(options.batch if made else 1),
        TimeLimit(options.timeout, getattr(executor, "begun", Future.running)),
        LEASE,
    )
    bar = RunProgressBar(journal, problem, options.budget, options.label)
    _log.info("study %r: run to %d calls, %d at once", journal.name, options.budget, options.batch)
    with terminable():
        try:
            journal.expire(is_gone)
            journal.reclaim()
            with heartbeat(journal, journal.worker, LEASE):
                watchdog = Watchdog(journal, options.budget, problem.outputs)
                loop.run(bar, watchdog)
                watchdog.conclude()
            if loop.why:
                _log.info("study %r: %s", journal.name, loop.why)
                journal.end(loop.why)
        except BaseException:
            problem.oracle.interrupt()
            if made:
                _abort(executor)
            raise
        else:
            if made:
                executor.shutdown(wait=True)  # the queue is empty
        finally:
            bar.close()


def _abort(executor: Executor) -> None:
    """Shut an executor down without a wait; the running calls are billed as lost."""
    try:
        executor.shutdown(wait=False, kill_workers=True)  # type: ignore[call-arg]
    except TypeError:
        executor.shutdown(wait=False, cancel_futures=True)
