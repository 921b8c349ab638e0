"""Executor on a Slurm cluster through submitit. Needs the extra ``slurm``.

A job is submitted once and polled. It is never submitted again: neither by submitit, which requeues
interrupted jobs, nor by Slurm, which does so after the failure of a node. A job that has started
before refuses to run.

submitit passes problem and result as files in a folder that all nodes share. Only these jobs read
them. They are deleted with the result; the logs of failed jobs stay.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bo_invert.errors import InvalidInputError, require, require_package
from bo_invert.execution.base import Worker, WorkerDied, WorkerPool
from bo_invert.execution.output_capture import last_lines

with require_package("Slurm", "submitit", "slurm"):
    import submitit
    from submitit.core.utils import UncompletedJobError

_FIRST_POLL = 0.05
"""Seconds between two checks of a job at first.

Engineering choice: short jobs of a local cluster.
"""
_FILE_TIMEOUT = 15.0
"""Seconds until a file from another node is visible here.

Engineering choice: attribute caches of NFS expire after seconds.
"""


class SlurmExecutor(WorkerPool):
    """Executor with calls as Slurm jobs.

    Args:
        workers: Largest number of jobs in the queue.
        executor: Executor of submitit. Default: one from the other arguments.
        folder: Folder for the files of submitit; all nodes must share it.
        cluster: ``"slurm"``, or ``"local"`` for processes on this machine that act like jobs.
        parameters: Parameters of submitit's ``AutoExecutor``, such as ``timeout_min=60``,
            ``slurm_partition="gpu"``, ``mem_gb=8``. A job without ``timeout_min`` has an hour.

    Raises:
        InvalidInputError: There is no Slurm here, or no such parameter.
        MissingExtraError: submitit is not installed.
    """

    parting = "its job was cancelled"

    def __init__(
        self,
        workers: int,
        executor: submitit.Executor | None = None,
        folder: str | Path = "bo-invert-jobs",
        cluster: str = "slurm",
        **parameters: object,
    ) -> None:
        if executor is None:
            require(
                cluster != "slurm" or shutil.which("srun") is not None,
                "executor 'slurm': there is no Slurm on this machine (no srun). Run on a "
                "machine that can submit jobs, or try SlurmExecutor(workers, cluster='local')",
            )
            # A job can import the modules that this process can import.
            here = os.pathsep.join(str(Path(place).absolute()) for place in sys.path)
            python = f"env PYTHONPATH={shlex.quote(here)} {shlex.quote(sys.executable)}"
            executor = submitit.AutoExecutor(
                folder=str(folder), cluster=cluster, **{f"{cluster}_python": python}
            )
            options: dict[str, Any] = {"timeout_min": 60, "name": "bo-invert", **parameters}
            if cluster == "slurm":
                further = {"no-requeue": True, **options.pop("slurm_additional_parameters", {})}
                options["slurm_additional_parameters"] = further
            try:
                executor.update_parameters(**options)
            except NameError as error:
                raise InvalidInputError(f"SlurmExecutor: {error}") from None
        self._submitit = executor
        self._patience = 1.0 if getattr(executor, "cluster", "") == "local" else _FILE_TIMEOUT
        self._abandoned: list[Worker] = []
        super().__init__(workers)

    def perform(
        self, worker: Worker, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> object:
        begun = Path(self._submitit.folder).expanduser().absolute() / f"begun-{uuid.uuid4().hex}"
        job = worker.resource = self._submitit.submit(_Once(fn, begun), *args, **kwargs)
        pause = _FIRST_POLL
        try:
            while not (job.paths.result_pickle.exists() or job.done()):
                worker.begun = worker.begun or begun.exists()
                time.sleep(pause)
                pause = min(1.2 * pause, 2.0)
            worker.begun = False  # a wait for the file system is not part of the call
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
        self._replace(worker)  # other calls do not wait for the cancellation
        self._abandoned.append(worker)
        self.kill(worker)

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, kill_workers: bool = False
    ) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures, kill_workers=kill_workers)
        for worker in self._abandoned:  # they delete files
            worker.thread.join(max(self._patience, 5.0))

    def kill(self, worker: Worker) -> None:
        with suppress(Exception):  # it has ended
            worker.resource.cancel(check=False)


@dataclass
class _Once:
    """Call that refuses to start a second time and that submitit must not requeue."""

    fn: Callable[..., Any]
    begun: Path

    def __call__(self, *args: object, **kwargs: object) -> object:
        try:
            self.begun.open("x").close()
        except FileExistsError:
            raise WorkerDied(
                "its job was interrupted and started again, which it refused"
            ) from None
        return self.fn(*args, **kwargs)

    def checkpoint(self, *args: object, **kwargs: object) -> None:
        """Return None: submitit calls this for an interrupted job, and then does not requeue it."""


def _result(job: submitit.Job[Any], patience: float) -> object:
    """Return the result of a job that has ended."""
    logs = (job.paths.stdout, job.paths.stderr)
    deadline = time.monotonic() + patience
    while not job.paths.result_pickle.exists() and time.monotonic() < deadline:
        time.sleep(_FIRST_POLL)
    if not job.paths.result_pickle.exists():
        raise WorkerDied(
            f"its job {job.job_id} ended without an answer ({str(job.state).lower()})"
            f"{_error_text(logs[1])}"
        )
    try:
        result = job.result()
    except UncompletedJobError as error:  # the error is only known by the text of its traceback
        trace = str(error).rpartition("\n------")[0].split("\n")
        last = next(filter(str.strip, reversed(trace)), str(error))
        raise WorkerDied(f"its job {job.job_id} failed: {last.strip()}") from None
    for path in logs:
        path.unlink(missing_ok=True)
    return result


def _error_text(log: Path) -> str:
    """Return the end of the standard error of a job, without lines of submitit."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    text = last_lines("\n".join(line for line in lines if not line.startswith("submitit ")), 200)
    return f": {text}" if text else ""
