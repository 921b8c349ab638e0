"""MLflow mirror of a study: one run for the study and one nested run for each trial.

The log is authoritative; MLflow holds a copy that any process can update. Tags record the
progress of the copy: ``bo_invert.answered`` of the parent counts the points of its curves,
``bo_invert.shown`` of a child names the trial state that it represents. Both are written last.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bo_invert import __version__
from bo_invert.errors import TrackingError
from bo_invert.history import History
from bo_invert.report.mlflow import client as api
from bo_invert.report.mlflow.text import (
    CURVES,
    NAME_LENGTH,
    Point,
    StudyText,
    last_end,
    milliseconds,
)
from bo_invert.types import State, Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from bo_invert.study.study import Study

_STUDY = "bo_invert.study_id"
_TRIAL = "bo_invert.trial"
_SHOWN = "bo_invert.shown"
_ANSWERED = "bo_invert.answered"
_VERSION = "bo_invert.version"
_PARENT = "mlflow.parentRunId"

ROWS = api.BATCH_METRICS // (len(CURVES) + 1)
"""Points of the curves in one ``log_batch`` request."""

_STATUS = {
    State.QUEUED: "SCHEDULED",
    State.RUNNING: "RUNNING",
    State.LOST: "SCHEDULED",
    State.COMPLETED: "FINISHED",
    State.FAILED: "FAILED",
    State.INFEASIBLE: "FAILED",
    State.CANCELLED: "KILLED",
}


@dataclass
class _Copy:
    """State of MLflow as this process knows it.

    Args:
        client: MLflow client.
        experiment: id of the experiment.
        run_id: id of the study's run.
        status: its status.
        tags: its tags.
        children: run id of each trial, and the state that the run represents.
    """

    client: MlflowClient
    experiment: str
    run_id: str
    status: str
    tags: dict[str, str]
    children: dict[int, tuple[str, str]]


class Mirror:
    """Copy of one study in MLflow.

    Args:
        study: the study.
        experiment: name of the MLflow experiment.
        tracking_uri: address of MLflow; None for the default of MLflow.

    Raises:
        MissingExtraError: MLflow is not installed.
    """

    def __init__(self, study: Study, experiment: str, tracking_uri: str | None) -> None:
        self._new_client = api.require_client()
        self.run_id: str | None = None
        self.last_progress = time.monotonic()
        """Time of the last successful read or write, in seconds of the monotonic clock."""
        self._journal = study.journal
        self._text = StudyText(study.name, study.journal.header)
        self._experiment = experiment
        self._uri = tracking_uri
        self._stopped = threading.Event()
        self._copy: _Copy | None = None

    def stop(self) -> None:
        """Make a running ``update`` raise ``TrackingError`` before its next request."""
        self._stopped.set()

    def update(self, final: str = "FINISHED") -> str:
        """Write everything that MLflow lacks.

        Args:
            final: status of the study's run. FINISHED becomes RUNNING while trials are running.

        Returns:
            The id of the study's run.

        Raises:
            TrackingError: MLflow cannot be reached, or raised an exception.
            MissingExtraError: a package for this kind of address is not installed.
            BoInvertError: the log cannot be read.
        """
        journal = self._journal
        trials, ask_seconds, spent = journal.trials, journal.ask_seconds, str(journal.ledger)
        with api.checked_connection(self._uri):
            # An update that fails leaves no copy, so the next one reads MLflow again.
            copy, self._copy = self._copy, None
            copy = copy or self._read()
            for trial in trials:
                self._write_trial(copy, trial)
            self._write_curves(copy, trials, ask_seconds)
            self._write_summary(copy, trials, spent, final)
            self._copy = copy
        return copy.run_id

    def _read(self) -> _Copy:
        """Read the state of MLflow; create experiment and study run if they do not exist."""
        client, text = self._new_client(self._uri), self._text
        known = client.get_experiment_by_name(self._experiment)
        experiment = (
            client.create_experiment(self._experiment) if known is None else known.experiment_id
        )
        self._check_stopped()
        runs = api.search_runs(client, experiment, _STUDY, text.study_id)
        parents = [run for run in runs if _TRIAL not in run.data.tags]
        parent = min(parents, key=lambda run: str(run.info.run_id), default=None)
        if parent is None:
            parent = client.create_run(
                experiment,
                start_time=text.created,
                tags={_STUDY: text.study_id, **text.study_tags()},
                run_name=text.name[:NAME_LENGTH],
            )
        self.run_id = str(parent.info.run_id)
        if not parent.data.params:
            api.log(client, self.run_id, params=text.study_params())
        children = {
            int(run.data.tags[_TRIAL]): (run.info.run_id, run.data.tags.get(_SHOWN, ""))
            for run in runs
            if run.data.tags.get(_PARENT) == self.run_id
        }
        status, tags = parent.info.status, dict(parent.data.tags)
        return _Copy(client, experiment, self.run_id, status, tags, children)

    def _write_trial(self, copy: _Copy, trial: Trial) -> None:
        """Create or update the run of a trial."""
        if trial.state is State.QUEUED and not trial.attempts:
            return  # MLflow fixes the start time at creation, and this trial has not started
        run_id, shown = copy.children.get(trial.number, ("", ""))
        ended = sum(attempt.ended is not None for attempt in trial.attempts)
        mark = f"{trial.state} {len(trial.attempts)} {ended}"
        mark += f" {len(trial.amendments)}" if trial.amendments else ""
        if shown == mark:
            return
        self._check_stopped()
        text, client, status = self._text, copy.client, _STATUS[trial.state]
        tags = text.trial_tags(trial)
        exists = bool(run_id)
        if not exists:  # tags in the creation request save a second request
            identity = {_PARENT: copy.run_id, _STUDY: text.study_id, _TRIAL: str(trial.number)}
            started = milliseconds(trial.attempts[0].started) if trial.attempts else text.created
            run = client.create_run(
                copy.experiment,
                start_time=started,
                tags=identity | {key: value for key, value in tags.items() if value},
                run_name=f"trial {trial.number}",
            )
            run_id, tags = str(run.info.run_id), {}
        points: list[Point] = []
        if not trial.state.open:
            at = last_end(trial) or text.created
            points = [(text.trial_metrics(trial), at, len(trial.attempts))]
            api.end_run(client, run_id, status, at)
        elif exists or status != "RUNNING":
            client.update_run(run_id, status)
        api.log(client, run_id, points, text.trial_params(trial), {**tags, _SHOWN: mark})
        copy.children[trial.number] = (run_id, mark)

    def _write_curves(
        self, copy: _Copy, trials: Sequence[Trial], ask_seconds: Sequence[float]
    ) -> None:
        points = self._text.curve(trials, ask_seconds)
        for first in range(int(copy.tags.get(_ANSWERED, 0)), len(points), ROWS):
            self._check_stopped()
            some = points[first : first + ROWS]
            copy.tags[_ANSWERED] = str(first + len(some))
            api.log(copy.client, copy.run_id, some, tags={_ANSWERED: copy.tags[_ANSWERED]})

    def _write_summary(self, copy: _Copy, trials: Sequence[Trial], spent: str, final: str) -> None:
        """Write cost, number of trials, best trial and status of the study."""
        best = History(trials).best
        tags = {
            "spent": spent,
            "trials": str(len(trials)),
            "best_trial": "" if best is None else str(best.number),
            _VERSION: __version__,
        }
        changed = {key: value for key, value in tags.items() if copy.tags.get(key, "") != value}
        if changed:
            api.log(copy.client, copy.run_id, tags=changed)
            copy.tags |= changed
        running = any(trial.state is State.RUNNING for trial in trials)
        status = "RUNNING" if final == "FINISHED" and running else final
        if status == "RUNNING" and status != copy.status:
            copy.client.update_run(copy.run_id, status)
        elif status != "RUNNING" and (changed or status != copy.status):
            ended = max([self._text.created, *map(last_end, trials)])
            api.end_run(copy.client, copy.run_id, status, ended)
        copy.status = status
        self._check_stopped()

    def _check_stopped(self) -> None:
        """Record progress; called between requests."""
        if self._stopped.is_set():
            raise TrackingError("the update of MLflow was stopped")
        self.last_progress = time.monotonic()
