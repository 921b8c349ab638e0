"""A study mirrored to MLflow: a run for the study, and nested in it one for each trial. Only this file knows MLflow.

The log is the truth and MLflow a copy of it, which anybody can bring up to date at any moment from whatever is there
already. What is there says so itself: a tag of the parent run counts the answers that its curves hold, a tag of each
child says which state of its trial it shows, and both are written last.
"""

from __future__ import annotations

import json
import math
import os
import posixpath
import re
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import accumulate
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from bo_invert import __version__
from bo_invert.errors import BoInvertError, InvalidInputError, MissingExtraError, TrackingError
from bo_invert.history import History
from bo_invert.report.objective_view import Goal
from bo_invert.search_domain import stored_domain
from bo_invert.types import JSON, Attempt, State, Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from bo_invert.study.study import Study

EXPERIMENT = "bo-invert"
"""Where runs go as long as nobody says otherwise."""

_STUDY = "bo_invert.study_id"
_TRIAL = "bo_invert.trial"
_SHOWN = "bo_invert.shown"
"""Tag of a child: the state of its trial that it shows."""
_ANSWERED = "bo_invert.answered"
"""Tag of the parent: how many answers its curves hold."""
_VERSION = "bo_invert.version"
_PARENT = "mlflow.parentRunId"
_CURVES = ("best_loss", "failures", "oracle_seconds", "asking_seconds", "calls")

# What MLflow takes at once: 1000 things in all, of which 100 parameters and 100 tags.
_METRICS, _PARAMS = 800, 100
_ROWS = _METRICS // (len(_CURVES) + 1)
_VALUE, _TEXT, _NAME = 6000, 500, 250
"""Characters of a parameter's value (MLflow's own limit), of a reason, and of a name (MLflow's own again)."""
_COORDINATES = 16
"""A latent of more dimensions is one parameter, not a column for each."""

_STATUS = {
    State.QUEUED: "SCHEDULED",
    State.RUNNING: "RUNNING",
    State.LOST: "SCHEDULED",
    State.COMPLETED: "FINISHED",
    State.FAILED: "FAILED",
    State.INFEASIBLE: "FAILED",
    State.CANCELLED: "KILLED",
}


# For users ---------------------------------------------------------------------------------------------------------


def to_mlflow(study: Study, experiment: str = EXPERIMENT, tracking_uri: str | None = None) -> str:
    """Bring MLflow up to date with a study. Done again, it adds only what is new.

    The study becomes a run with the curves of what was found over the calls that were answered, each trial that was
    begun a run nested in it. Let one program at a time do this: two could make two runs of one trial.

    Args:
        study: any, also one that was opened without its problem.
        experiment: name of the MLflow experiment; made if it is not there.
        tracking_uri: of MLflow, ``"http://host:5000"`` or ``"sqlite:///mlflow.db"``; default: what MLflow itself would
            take, ``$MLFLOW_TRACKING_URI`` first.

    Returns:
        The id of the study's run.

    Raises:
        MissingExtraError: MLflow is not installed.
        TrackingError: MLflow cannot be reached, or refuses. What was begun is completed the next time.
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
    """``with bi.mlflow_tracking(study): study.run(...)`` keeps MLflow up to date while the study runs.

    A thread of its own writes. Whatever goes wrong with MLflow is said in one warning and tried again later; the study
    goes on. At the end the rest is written.

    Args:
        study: that runs here, or elsewhere on the same storage.
        experiment: as in ``to_mlflow``.
        tracking_uri: as in ``to_mlflow``.
        every: seconds between looks at the log.
        patience: seconds without progress after which, at the end, the rest is left for later.

    Raises:
        MissingExtraError: MLflow is not installed.
        InvalidInputError: a time that is not positive.
    """
    for what, seconds in (("every", every), ("patience", patience)):
        if not seconds > 0:
            raise InvalidInputError(f"mlflow_tracking: {what} must be positive, got {seconds!r}")
    return Tracking(Mirror(study, experiment, tracking_uri), every, patience)


class Tracking:
    """A study followed by MLflow for as long as a ``with`` block lasts; made by ``mlflow_tracking``."""

    def __init__(self, mirror: Mirror, every: float, patience: float) -> None:
        self.error: BoInvertError | None = None
        """Why MLflow is not up to date; None if it is, as far as anybody has looked."""
        self._mirror = mirror
        self._every = every
        self._patience = patience
        self._warned = False
        self._end = threading.Event()
        self._final = "RUNNING"
        self._thread = threading.Thread(target=self._follow, name="bo-invert-mlflow", daemon=True)

    @property
    def run_id(self) -> str | None:
        """Of the study's run; None until MLflow was reached."""
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
        self._mirror.heard = time.monotonic()
        self._end.set()
        # However long it is, a backlog that shrinks is waited for.
        while self._thread.is_alive() and time.monotonic() - self._mirror.heard < self._patience:
            self._thread.join(0.05)
        if self._thread.is_alive():
            self._mirror.leave()
            self._fail(
                TrackingError(f"nothing could be written to MLflow for {self._patience:g} seconds")
            )

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
        message = f"{error}. The study goes on, and MLflow is tried again; what it lacks at the end, bi.to_mlflow adds."
        with suppress(
            Warning
        ):  # of those who make errors of warnings; this one must not end anything
            warnings.warn(message, stacklevel=3)


# The copy ----------------------------------------------------------------------------------------------------------

_Point = tuple[Mapping[str, float], int, int]
"""Values of metrics, the time in milliseconds, and the step."""


@dataclass
class _Met:
    """What MLflow is known to hold."""

    client: MlflowClient
    experiment: str
    run_id: str
    status: str
    tags: dict[str, str]
    children: dict[int, tuple[str, str]]
    """Run of each trial, and the state of the trial that it shows."""


class Mirror:
    """One study in MLflow.

    Args:
        study: the original.
        experiment: name of the MLflow experiment.
        tracking_uri: of MLflow; None for what it would take itself.

    Raises:
        MissingExtraError: MLflow is not installed.
    """

    def __init__(self, study: Study, experiment: str, tracking_uri: str | None) -> None:
        self._new_client = _require()
        self.run_id: str | None = None
        self.heard = time.monotonic()
        """When something was last written or read."""
        self._journal = study.journal
        self._words = _Words(study.name, study.journal.header)
        self._experiment = experiment
        self._uri = tracking_uri
        self._left = threading.Event()
        self._met: _Met | None = None

    def leave(self) -> None:
        """Begin nothing any more."""
        self._left.set()

    def update(self, final: str = "FINISHED") -> str:
        """Write what is new.

        Args:
            final: status of the study's run, unless it is FINISHED and trials are still under way.

        Returns:
            The id of the study's run.

        Raises:
            TrackingError: MLflow cannot be reached, or refuses.
            MissingExtraError: it lacks a package for this kind of address.
            BoInvertError: the log cannot be read.
        """
        trials, asking, spent = (
            self._journal.trials,
            self._journal.ask_seconds,
            str(self._journal.ledger),
        )
        with _explained(self._uri):
            _reach(self._uri)
            met, self._met = self._met, None  # whoever fails half way looks again at what is there
            met = met or self._meet()
            for trial in trials:
                self._show(met, trial)
            self._draw(met, trials, asking)
            self._sum_up(met, trials, spent, final)
            self._met = met
        return met.run_id

    def _meet(self) -> _Met:
        """What is there; the run of the study is made if it is not."""
        client = self._new_client(self._uri)
        known = client.get_experiment_by_name(self._experiment)
        experiment = (
            client.create_experiment(self._experiment) if known is None else known.experiment_id
        )
        self._go_on()
        runs = _search(client, experiment, self._words.study_id)
        parents = [run for run in runs if _TRIAL not in run.data.tags]
        if parents:
            parent = min(parents, key=lambda run: str(run.info.run_id))
        else:
            tags, name = self._words.study_tags(), self._words.name[:_NAME]
            parent = client.create_run(
                experiment, start_time=self._words.created, tags=tags, run_name=name
            )
        self.run_id = str(parent.info.run_id)
        if not parent.data.params:
            _log(client, self.run_id, params=self._words.study_params())
        children = {
            int(run.data.tags[_TRIAL]): (run.info.run_id, run.data.tags.get(_SHOWN, ""))
            for run in runs
            if run.data.tags.get(_PARENT) == self.run_id
        }
        return _Met(
            client, experiment, self.run_id, parent.info.status, dict(parent.data.tags), children
        )

    def _show(self, met: _Met, trial: Trial) -> None:
        """The run of a trial."""
        if trial.state is State.QUEUED and not trial.attempts:
            return  # a run's start is fixed when it is made, and this one has not begun
        run_id, shown = met.children.get(trial.number, ("", ""))
        mark = f"{trial.state} {len(trial.attempts)} {sum(attempt.ended is not None for attempt in trial.attempts)}"
        if shown == mark:
            return
        self._go_on()
        words, client, status = self._words, met.client, _STATUS[trial.state]
        tags = words.trial_tags(trial)
        known = bool(run_id)
        if not known:  # tags that come with the run cost next to nothing
            identity = {_PARENT: met.run_id, _STUDY: words.study_id, _TRIAL: str(trial.number)}
            begun = _milliseconds(trial.attempts[0].started) if trial.attempts else words.created
            given = identity | {key: value for key, value in tags.items() if value}
            name = f"trial {trial.number}"
            run_id = str(
                client.create_run(
                    met.experiment, start_time=begun, tags=given, run_name=name
                ).info.run_id
            )
            tags = {}
        points: list[_Point] = []
        if not trial.state.open:
            ended = _ended(trial) or words.created
            points = [(words.trial_metrics(trial), ended, len(trial.attempts))]
            _end(client, run_id, status, ended)
        elif known or status != "RUNNING":
            client.update_run(run_id, status)
        _log(client, run_id, points, words.trial_params(trial), {**tags, _SHOWN: mark})
        met.children[trial.number] = (run_id, mark)

    def _draw(self, met: _Met, trials: Sequence[Trial], asking: Sequence[float]) -> None:
        """The curves of the study."""
        points = self._words.curve(trials, asking)
        for first in range(int(met.tags.get(_ANSWERED, 0)), len(points), _ROWS):
            self._go_on()
            some = points[first : first + _ROWS]
            met.tags[_ANSWERED] = str(first + len(some))
            _log(met.client, met.run_id, some, tags={_ANSWERED: met.tags[_ANSWERED]})

    def _sum_up(self, met: _Met, trials: Sequence[Trial], spent: str, final: str) -> None:
        """Where the study stands."""
        best = History(trials).best
        found = "" if best is None else str(best.number)
        tags = {
            "spent": spent,
            "trials": str(len(trials)),
            "best_trial": found,
            _VERSION: __version__,
        }
        changed = {key: value for key, value in tags.items() if met.tags.get(key, "") != value}
        if changed:
            _log(met.client, met.run_id, tags=changed)
            met.tags |= changed
        under_way = any(trial.state is State.RUNNING for trial in trials)
        status = "RUNNING" if final == "FINISHED" and under_way else final
        if status == "RUNNING" and status != met.status:
            met.client.update_run(met.run_id, status)
        elif status != "RUNNING" and (changed or status != met.status):
            _end(met.client, met.run_id, status, max([self._words.created, *map(_ended, trials)]))
        met.status = status
        self._go_on()

    def _go_on(self) -> None:
        """Before each piece of work: the one before is done."""
        if self._left.is_set():
            raise TrackingError("nobody waits for MLflow any more")
        self.heard = time.monotonic()


# What is said ------------------------------------------------------------------------------------------------------


class _Words:
    """A study and its trials in MLflow's words: tags, parameters and metrics.

    Args:
        name: of the study.
        header: of its log.
    """

    def __init__(self, name: str, header: JSON) -> None:
        self.name = name
        self._header = header
        self._problem = header["problem"]
        # Older logs have no id.
        self.study_id = str(
            header.get("id") or sha256(f"{name} {header['created']}".encode()).hexdigest()[:32]
        )
        self.created = _milliseconds(datetime.fromisoformat(header["created"]).timestamp())
        self._domain = stored_domain(self._problem)
        self._parameters = [] if self._domain is None else _names(self._domain.parameters)
        self._outputs = _names(self._problem["outputs"], ("loss", "violation", "calls", "seconds"))
        self._goal = Goal(self._problem["objective"], self._problem["outputs"])
        # The distance from a target has no name of its own.
        self._best = _names(
            [f"best_{self._goal.label}" if self._goal.is_output else "best_distance"], _CURVES
        )[0]

    def study_tags(self) -> dict[str, str]:
        header = self._header
        return {
            _STUDY: self.study_id,
            "study": _cut(self.name, _TEXT),
            "problem": _cut(header["problem_name"], _TEXT),
            "strategy": _cut(header["strategy"]["name"], _TEXT),
            "seed": str(header["seed"]),
        }

    def study_params(self) -> dict[str, str]:
        header, problem = self._header, self._problem
        strategy = header["strategy"]
        options = strategy.get("options", {})
        told = {
            "problem": header["problem_name"],
            "outputs": problem["outputs"],
            "objective": problem["objective"],
            "constraints": problem["constraints"],
            "seed": header["seed"],
            "strategy": strategy["name"],
            **dict(
                zip(_names([f"strategy.{key}" for key in options]), options.values(), strict=True)
            ),
        }
        return {
            key: _cut(one if isinstance(one, str) else json.dumps(one), _VALUE)
            for key, one in told.items()
        }

    def trial_tags(self, trial: Trial) -> dict[str, str]:
        outcome, attempts = trial.outcome, trial.attempts
        reason = "" if outcome is None or trial.state.open else outcome.reason
        return {
            "state": str(trial.state),
            "origin": trial.origin,
            "worker": (attempts[-1].worker or "") if attempts else "",
            "attempts": str(len(attempts)),
            "fates": ", ".join(str(attempt.fate) for attempt in attempts)
            if len(attempts) > 1
            else "",
            "feasible": "" if outcome is None or outcome.y is None else str(trial.feasible).lower(),
            "reason": _cut(reason, _TEXT),
            "why": _cut(str(trial.query.meta.get("why", "")), _TEXT),
        }

    def trial_params(self, trial: Trial) -> dict[str, str]:
        """Where it was measured; for a descent, that is known only once it has arrived."""
        if trial.query.descent is not None and trial.state is not State.COMPLETED:
            return {}
        if self._domain is None:
            names, values, most = (
                [f"z{i}" for i in range(len(trial.point))],
                trial.point.tolist(),
                _COORDINATES,
            )
        else:
            names, values, most = (
                self._parameters,
                list(self._domain.values(trial.point[None])[0].values()),
                _PARAMS,
            )
        if len(values) > most:
            return {"point": _listed(values)}
        return {name: _cut(str(value), _VALUE) for name, value in zip(names, values, strict=True)}

    def trial_metrics(self, trial: Trial) -> dict[str, float]:
        cost, outcome = trial.cost, trial.outcome
        told = {"calls": float(cost.calls), "seconds": cost.seconds}
        if outcome is not None and outcome.y is not None and outcome.loss is not None:
            told |= dict(zip(self._outputs, outcome.y.tolist(), strict=True))
            told |= {"loss": outcome.loss, "violation": outcome.violation}
        return told

    def curve(self, trials: Sequence[Trial], asking: Sequence[float]) -> list[_Point]:
        """What was known after each answer, over the calls that were answered.

        Attempts that were lost use up no budget, and move nothing here.
        """
        points: list[_Point] = []
        thought = [0.0, *accumulate(asking)]
        calls, failures, seconds, asks, best, clock = 0, 0, 0.0, 0, math.inf, 0
        for at, trial, attempt in _answers(trials, self.created):
            asks = max(asks, 0 if trial.ask is None else trial.ask + 1)
            outcome = trial.outcome if attempt is None else attempt.outcome
            if attempt is not None:
                calls += attempt.cost.calls
                seconds += attempt.cost.seconds
                failures += attempt.fate in (State.FAILED, State.INFEASIBLE)
            if outcome is not None and outcome.loss is not None and outcome.violation <= 0.0:
                best = min(best, outcome.loss)
            # Of two points at one step MLflow shows the later one as the latest, but of two at one time the larger.
            clock = max(at, clock + 1)
            told = {
                "best_loss": best,
                self._best: self._goal.value(best),
                "failures": float(failures),
            }
            told |= {
                "oracle_seconds": seconds,
                "asking_seconds": thought[asks],
                "calls": float(calls),
            }
            points.append((told, clock, calls))
        return points


def _answers(trials: Sequence[Trial], created: int) -> list[tuple[int, Trial, Attempt | None]]:
    """Time, trial and attempt of every answer, in order; what was known from elsewhere has no attempt.

    The order of the first n answers may change when the clocks of workers differ. Curves are sums and minima, so the
    n-th point stays true.
    """
    found: list[tuple[int, Trial, Attempt | None]] = []
    latest = created
    for trial in trials:
        for attempt in trial.attempts:
            latest = max(latest, _milliseconds(attempt.ended or attempt.started))
            if (
                attempt.ended is not None
                and attempt.fate is not State.LOST
                and (attempt.cost.calls or attempt.outcome)
            ):
                found.append((_milliseconds(attempt.ended), trial, attempt))
        if not trial.attempts and trial.state is not State.CANCELLED and not trial.state.open:
            found.append((latest, trial, None))
    return sorted(found, key=lambda answer: (answer[0], answer[1].number))


def _ended(trial: Trial) -> int:
    """When its last attempt ended, in milliseconds; 0 if none did."""
    return max(
        (_milliseconds(attempt.ended) for attempt in trial.attempts if attempt.ended is not None),
        default=0,
    )


def _milliseconds(seconds: float) -> int:
    return round(1000.0 * seconds)


def _names(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Names that MLflow takes, on any system, each different from all others."""
    used, found = set(taken), []
    for name in names:
        safe = re.sub(r"[^\w.\- /]", "_", name)[: _NAME - 10]
        if posixpath.normpath(safe) != safe or safe.startswith(("/", "..")) or safe == ".":
            safe = "_" + safe.replace("/", "_")  # it would lead to another file
        while safe in used:
            safe += "_"
        used.add(safe)
        found.append(safe)
    return found


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _listed(values: Sequence[Any]) -> str:
    """Many coordinates in one text: in full, or rounded, or only the first of them."""
    full = json.dumps(values, default=str)
    if len(full) <= _VALUE:
        return full
    texts = [
        f"{value:.6g}" if isinstance(value, float) else json.dumps(value, default=str)
        for value in values
    ]
    short = f"[{', '.join(texts)}]"
    if len(short) <= _VALUE:
        return short
    end = f", ... {len(texts)} in all]"
    kept = short[: _VALUE - len(end)].rpartition(", ")[0]
    return kept + end


# MLflow ------------------------------------------------------------------------------------------------------------


def _require() -> Callable[[str | None], MlflowClient]:
    """What makes clients.

    Raises:
        MissingExtraError: MLflow is not installed.
    """
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise MissingExtraError(
            "tracking with MLflow needs the package mlflow-skinny; install it with: pip install 'bo-invert[mlflow]'"
        ) from None
    made: Callable[[str | None], MlflowClient] = MlflowClient
    return made


def _search(client: MlflowClient, experiment: str, study_id: str) -> list[Run]:
    """The runs of a study and of its trials."""
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`{_STUDY}` = '{study_id}'", max_results=1000, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def _log(
    client: MlflowClient,
    run_id: str,
    points: Sequence[_Point] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Values that are no numbers are left out. Tags go last: they say that all the rest is there."""
    from mlflow.entities import Metric, Param, RunTag

    metrics = [
        Metric(key, value, at, step)
        for values, at, step in points
        for key, value in values.items()
        if math.isfinite(value)
    ]
    pairs = [Param(key, value) for key, value in (params or {}).items()]
    marks = [RunTag(key, value) for key, value in (tags or {}).items()]
    batches = max(1, math.ceil(len(metrics) / _METRICS), math.ceil(len(pairs) / _PARAMS))
    for i in range(batches):
        client.log_batch(
            run_id,
            metrics[i * _METRICS : (i + 1) * _METRICS],
            pairs[i * _PARAMS : (i + 1) * _PARAMS],
            marks if i == batches - 1 else [],
            synchronous=True,
        )


def _end(client: MlflowClient, run_id: str, status: str, at: int) -> None:
    """Without the address of the run, which MLflow would print each time if a server keeps it."""
    silence = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
    given = os.environ.get(silence)
    os.environ[silence] = "true"
    try:
        client.set_terminated(run_id, status, at)
    finally:
        if given is None:
            del os.environ[silence]
        else:
            os.environ[silence] = given


def _reach(uri: str | None) -> None:
    """MLflow tries for minutes to reach a server that is not there; this takes seconds.

    Raises:
        TrackingError: nothing listens there.
    """
    from mlflow import get_tracking_uri

    parts = urlsplit(uri or get_tracking_uri())
    if parts.scheme not in ("http", "https") or parts.scheme in getproxies():
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=5.0).close()
    except OSError as error:
        raise TrackingError(
            f"MLflow at {parts.hostname}:{port} cannot be reached: {error}"
        ) from error


@contextmanager
def _explained(uri: str | None) -> Iterator[None]:
    """MLflow lets through whatever its databases, its requests and its own code raise."""
    try:
        yield
    except BoInvertError:
        raise
    except ImportError as error:
        raise MissingExtraError(
            f"MLflow at {_masked(uri)} needs a package that is not installed: {error}"
        ) from error
    except Exception as error:
        said = _masked(f"{type(error).__name__}: {error}".split("\n")[0])
        raise TrackingError(f"MLflow at {_masked(uri)} refused: {_cut(said, _TEXT)}") from error


def _masked(text: str | None) -> str:
    """Without user and password."""
    return "its default address" if text is None else re.sub(r"://[^/@\s]+@", "://***@", text)
