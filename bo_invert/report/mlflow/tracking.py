"""MLflow tracking: export of a study, and continuous updates while it runs."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from bo_invert.errors import BoInvertError, InvalidInputError, TrackingError, warn_user
from bo_invert.report.mlflow.trial_runs import Mirror

if TYPE_CHECKING:
    from bo_invert.study.study import Study

EXPERIMENT = "bo-invert"
"""Default name of the MLflow experiment."""


def to_mlflow(study: Study, experiment: str = EXPERIMENT, tracking_uri: str | None = None) -> str:
    """Export a study to MLflow; a repeated call adds only what is new.

    The study becomes a run with curves over the number of calls. Each trial that has started
    becomes a nested run. Only one process at a time may export a study: two concurrent exports
    can create two runs for one trial.

    Args:
        study: any study; it may be open without its problem.
        experiment: name of the MLflow experiment, created if it does not exist.
        tracking_uri: address of MLflow, ``"http://host:5000"`` or ``"sqlite:///mlflow.db"``.
            Default: the default of MLflow, such as ``$MLFLOW_TRACKING_URI``.

    Returns:
        The id of the study's run.

    Raises:
        MissingExtraError: MLflow is not installed.
        TrackingError: MLflow cannot be reached, or raised an exception. The next call completes
            the export.
    """
    return Mirror(study, experiment, tracking_uri).update()


def mlflow_tracking(
    study: Study,
    experiment: str = EXPERIMENT,
    tracking_uri: str | None = None,
    *,
    every: float = 5.0,
    patience: float = 30.0,
) -> Tracking:
    """Update MLflow while ``with bi.mlflow_tracking(study): study.run(...)`` runs.

    A separate thread writes. Errors of MLflow do not stop the study: the first one causes a
    warning, and each update tries again. The end of the block writes the remaining data.

    Args:
        study: a study that runs in this process, or elsewhere on the same storage.
        experiment: see ``to_mlflow``.
        tracking_uri: see ``to_mlflow``.
        every: seconds between two updates.
        patience: seconds without progress after which the end of the block stops waiting.

    Raises:
        MissingExtraError: MLflow is not installed.
        InvalidInputError: ``every`` or ``patience`` is not positive.
    """
    for name, seconds in (("every", every), ("patience", patience)):
        if not seconds > 0:
            raise InvalidInputError(f"mlflow_tracking: {name} must be positive, got {seconds!r}")
    return Tracking(Mirror(study, experiment, tracking_uri), every, patience)


class Tracking:
    """Context manager that updates MLflow in a thread; created by ``mlflow_tracking``."""

    def __init__(self, mirror: Mirror, every: float, patience: float) -> None:
        self.error: BoInvertError | None = None
        """Error of the last update; None if it succeeded."""
        self._mirror = mirror
        self._every = every
        self._patience = patience
        self._warned = False
        self._end = threading.Event()
        self._final = "RUNNING"
        self._thread = threading.Thread(target=self._follow, name="bo-invert-mlflow", daemon=True)

    @property
    def run_id(self) -> str | None:
        """Id of the study's run; None before the first successful request."""
        return self._mirror.run_id

    def __enter__(self) -> Tracking:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._final = "FINISHED" if kind is None else "KILLED"
        mirror = self._mirror
        mirror.last_progress = time.monotonic()
        self._end.set()
        # The limit applies to the time without progress, not to the size of the backlog.
        while self._thread.is_alive() and time.monotonic() - mirror.last_progress < self._patience:
            self._thread.join(0.05)
        if self._thread.is_alive():
            mirror.stop()
            self._fail(TrackingError(f"MLflow did not respond for {self._patience:g} seconds"))

    def _follow(self) -> None:
        while True:
            last = self._end.is_set()
            try:
                self._mirror.update(self._final)
                self.error = None
            except BoInvertError as error:
                self._fail(error)
            if last:
                return
            self._end.wait(self._every)

    def _fail(self, error: BoInvertError) -> None:
        self.error = error
        if self._warned:
            return
        self._warned = True
        # A filter that turns warnings into errors must not end the study.
        with suppress(Warning):
            warn_user(
                f"{error}. The study continues, and MLflow is tried again. "
                "bi.to_mlflow completes the export later.",
            )
