"""Jobs of a Slurm cluster through submitit. Needs the extra ``slurm``.

A job is submitted, looked at now and then, and never submitted again: neither by submitit (which puts back jobs that
were interrupted), nor by Slurm (which does so when a node fails). A job that finds that it has begun before refuses.

submitit hands problem and answer over as files in a folder that all nodes see. They are read by these jobs alone, and
deleted when the answer is there; no study depends on them. The logs of failed jobs stay.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bo_invert.errors import InvalidInputError, MissingExtraError
from bo_invert.execution.base import Worker, WorkerDied, WorkerPool

_FIRST, _LAST, _GROWTH = 0.05, 2.0, 1.2
"""Seconds between two looks at a job: at first, at last, and by how much they grow."""
_PATIENCE = 15.0
"""Seconds until a file that was written on another node can be seen here."""
_WORDS = 200
"""Characters of what a job said last that are kept."""


class SlurmExecutor(WorkerPool):
    """Calls as Slurm jobs, at most ``workers`` in the queue at once.

    Args:
        workers: how many.
        executor: of submitit, ready to use; default: one made from what follows.
        folder: for submitit's files; all nodes must see it.
        cluster: ``"slurm"``, or ``"local"`` for processes on this machine that are handled like jobs.
        parameters: of submitit's ``AutoExecutor``, such as ``timeout_min=60``, ``slurm_partition="gpu"``, ``mem_gb=8``.
            Without ``timeout_min`` a job may take an hour.

    Raises:
        InvalidInputError: there is no Slurm here, or no such parameter.
        MissingExtraError: submitit is not installed.
    """

    parting = "its job was cancelled"

    def __init__(
        self,
        workers: int,
        executor: Any = None,
        folder: str | Path = "bo-invert-jobs",
        cluster: str = "slurm",
        **parameters: Any,
    ) -> None:
        try:
            import submitit
        except ImportError:
            raise MissingExtraError(
                "Slurm needs the package submitit; install it with: pip install 'bo-invert[slurm]'"
            ) from None
        if executor is None:
            if cluster == "slurm" and shutil.which("srun") is None:
                raise InvalidInputError(
                    "there is no Slurm on this machine (no srun); run where jobs can be submitted, or use "
                    "SlurmExecutor(workers, cluster='local') to try it here"
                )
            # What can be imported here can be imported in a job.
            here = os.pathsep.join(str(Path(place).absolute()) for place in sys.path)
            python = f"env PYTHONPATH={shlex.quote(here)} {shlex.quote(sys.executable)}"
            executor = submitit.AutoExecutor(
                folder=str(folder), cluster=cluster, **{f"{cluster}_python": python}
            )
            given = {"timeout_min": 60, "name": "bo-invert", **parameters}
            if cluster == "slurm":
                further = {"no-requeue": True, **given.pop("slurm_additional_parameters", {})}
                given["slurm_additional_parameters"] = further
            try:
                executor.update_parameters(**given)
            except NameError as error:
                raise InvalidInputError(f"SlurmExecutor: {error}") from None
        self._submitit = executor
        self._patience = 1.0 if getattr(executor, "cluster", "") == "local" else _PATIENCE
        self._parted: list[Worker] = []
        super().__init__(workers)

    def perform(
        self, worker: Worker, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        folder = Path(self._submitit.folder).expanduser().absolute()
        begun = folder / f"begun-{uuid.uuid4().hex}"
        job = worker.resource = self._submitit.submit(_Once(fn, begun), *args, **kwargs)
        pause = _FIRST
        try:
            while not (job.paths.result_pickle.exists() or job.done()):
                worker.begun = worker.begun or begun.exists()
                time.sleep(pause)
                pause = min(_GROWTH * pause, _LAST)
            worker.begun = False  # nor is waiting for a slow file system the call's time
            return _result(job, self._patience)
        finally:
            for path in (
                begun,
                job.paths.submitted_pickle,
                job.paths.result_pickle,
                job.paths.submission_file,
            ):
                path.unlink(missing_ok=True)

    def abandon(self, worker: Worker) -> None:
        self._replace(worker)  # how long a cluster takes to cancel is no concern of the others
        self._parted.append(worker)
        self.kill(worker)

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, kill_workers: bool = False
    ) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures, kill_workers=kill_workers)
        for worker in self._parted:  # who tidy up
            worker.thread.join(max(self._patience, 5.0))

    def kill(self, worker: Worker) -> None:
        with suppress(Exception):  # it ended meanwhile
            worker.resource.cancel(check=False)


class _Once:
    """A call that refuses to begin a second time, and that submitit must not put back."""

    def __init__(self, fn: Callable[..., Any], begun: Path) -> None:
        self._fn = fn
        self._begun = begun

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            self._begun.open("x").close()
        except FileExistsError:
            raise WorkerDied(
                "its job was interrupted and begun once more, which it refused"
            ) from None
        return self._fn(*args, **kwargs)

    def checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """What submitit asks when a job is interrupted; nothing means that it is over."""


def _result(job: Any, patience: float) -> Any:
    from submitit.core.utils import UncompletedJobError

    logs = (job.paths.stdout, job.paths.stderr)
    deadline = time.monotonic() + patience
    while not job.paths.result_pickle.exists() and time.monotonic() < deadline:
        time.sleep(_FIRST)
    if not job.paths.result_pickle.exists():
        raise WorkerDied(
            f"its job {job.job_id} ended without an answer ({str(job.state).lower()}){_said(logs[1])}"
        )
    try:
        result = job.result()
    except (
        UncompletedJobError
    ) as error:  # it raised: the text of its traceback is all that comes back
        trace = [
            line.strip()
            for line in str(error).rpartition("\n------")[0].splitlines()
            if line.strip()
        ]
        raise WorkerDied(f"its job {job.job_id} failed: {trace[-1] if trace else error}") from None
    for path in logs:
        path.unlink(missing_ok=True)
    return result


def _said(log: Path) -> str:
    """The end of a job's errors, without what submitit says."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    said = "; ".join(
        line.strip() for line in lines if line.strip() and not line.startswith("submitit ")
    )
    return f": {said[-_WORDS:]}" if said else ""
