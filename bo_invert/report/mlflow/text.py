"""MLflow representation of a study: tags, parameters and metrics of its runs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from itertools import accumulate
from typing import Any

from bo_invert.domains.constrained_box import stored_domain
from bo_invert.history import result_order
from bo_invert.report.dataframe import trial_values
from bo_invert.report.objective_view import Goal
from bo_invert.types import JSON, Attempt, State, Trial
from bo_invert.user_data import brief

Point = tuple[Mapping[str, float], int, int]
"""Values of metrics, time in milliseconds since 1970, step."""

CURVES = ("best_loss", "failures", "oracle_seconds", "asking_seconds", "calls")
"""Metrics of the study's run."""

VALUE_LENGTH, TAG_LENGTH, NAME_LENGTH = 6000, 500, 250
"""Characters of a parameter's value, a tag and a name. Values and names: the limits of MLflow
(``mlflow.utils.validation``); tags: engineering choice, a reason fits into one table row."""

MAX_COORDINATES, MAX_PARAMETERS = 16, 100
"""Largest dimension of a latent point, and number of box parameters, that are logged one by one.
Engineering choice for the first, MLflow's limit for one request for the second."""


class StudyText:
    """Tags, parameters and metrics of one study and its trials.

    Args:
        name: name of the study.
        header: header of its log.
    """

    def __init__(self, name: str, header: JSON) -> None:
        self.name = name
        self._header = header
        self._problem = header["problem"]
        # Logs before version 0.1 have no id.
        self.study_id = str(
            header.get("id") or sha256(f"{name} {header['created']}".encode()).hexdigest()[:32]
        )
        self.created = milliseconds(datetime.fromisoformat(header["created"]).timestamp())
        self._domain = stored_domain(self._problem)
        self._parameters = [] if self._domain is None else valid_names(self._domain.parameters)
        self._outputs = valid_names(
            self._problem["outputs"], reserved=("loss", "violation", "calls", "seconds")
        )
        self._goal = Goal(self._problem["objective"], self._problem["outputs"])
        name = self._goal.label if self._goal.is_output else "distance"
        (self._best,) = valid_names([f"best_{name}"], CURVES)

    def study_tags(self) -> dict[str, str]:
        """Return the tags of the study's run, without its identity."""
        header = self._header
        return {
            "study": shortened(self.name),
            "problem": shortened(header["problem_name"]),
            "strategy": shortened(header["strategy"]["name"]),
            "seed": str(header["seed"]),
        }

    def study_params(self) -> dict[str, str]:
        """Return the parameters of the study's run."""
        header, strategy = self._header, self._header["strategy"]
        options = strategy.get("options", {})
        names = valid_names(f"strategy.{key}" for key in options)
        values = {
            "problem": header["problem_name"],
            **{key: self._problem[key] for key in ("outputs", "objective", "constraints")},
            "seed": header["seed"],
            "strategy": strategy["name"],
            **dict(zip(names, options.values(), strict=True)),
        }
        return {
            key: shortened(value if isinstance(value, str) else json.dumps(value), VALUE_LENGTH)
            for key, value in values.items()
        }

    def trial_tags(self, trial: Trial) -> dict[str, str]:
        """Return the tags of a trial's run, empty values included."""
        outcome, attempts = trial.outcome, trial.attempts
        fates = [str(attempt.fate) for attempt in attempts]
        return {
            "state": str(trial.state),
            "origin": trial.origin,
            "worker": (attempts[-1].worker or "") if attempts else "",
            "attempts": str(len(attempts)),
            "fates": ", ".join(fates) if len(fates) > 1 else "",
            "feasible": "" if outcome is None or outcome.y is None else str(trial.feasible).lower(),
            "reason": "" if outcome is None or trial.state.open else shortened(outcome.reason),
            "why": shortened(str(trial.query.meta.get("why", ""))),
            **self._reported(trial),
        }

    def _reported(self, trial: Trial) -> dict[str, str]:
        """Return conditions, corrections and further values of the user, where there are any."""
        found = {f"extra.{name}": shortened(str(value)) for name, value in trial.extra.items()}
        if trial.moved:
            found["conditions"] = shortened(brief(trial_values(trial, self._domain)))
        if trial.outside:
            found["outside"] = "true"
        if trial.amendments:
            last = trial.amendments[-1]
            former = "none" if last.before.y is None else str(last.before.y.tolist())
            found["amended"] = shortened(f"{former} {last.reason}".strip())
        return found

    def trial_params(self, trial: Trial) -> dict[str, str]:
        """Return the evaluated point; empty for a descent that is not completed.

        MLflow accepts no second value of a parameter, so these are the suggested conditions of a
        trial that the user ran under others.
        """
        if trial.query.descent is not None and trial.state is not State.COMPLETED:
            return {}
        trial = trial.evolved(outcome=None) if trial.moved else trial
        values: list[Any] = trial.point.tolist()
        names, most = [f"z{i}" for i in range(len(values))], MAX_COORDINATES
        if self._domain is not None:
            names, most = self._parameters, MAX_PARAMETERS
            values = list(trial_values(trial, self._domain).values())
        if len(values) > most:
            return {"point": _vector(values)}
        return {
            name: shortened(str(value), VALUE_LENGTH)
            for name, value in zip(names, values, strict=True)
        }

    def trial_metrics(self, trial: Trial) -> dict[str, float]:
        """Return cost, outputs, loss and constraint violation of a trial."""
        cost, outcome = trial.cost, trial.outcome
        metrics = {"calls": float(cost.calls), "seconds": cost.seconds}
        if outcome is not None and outcome.y is not None and outcome.loss is not None:
            metrics |= dict(zip(self._outputs, outcome.y.tolist(), strict=True))
            metrics |= {"loss": outcome.loss, "violation": outcome.violation}
        return metrics

    def curve(self, trials: Sequence[Trial], ask_seconds: Sequence[float]) -> list[Point]:
        """Return the study's metrics after each result, with the number of calls as the step.

        Lost attempts use no budget and add no point.
        """
        points: list[Point] = []
        ask_total = [0.0, *accumulate(ask_seconds)]
        calls, failures, seconds, asks, best, clock = 0, 0, 0.0, 0, math.inf, 0
        for at, trial, attempt in _results(trials, self.created):
            asks = max(asks, 0 if trial.ask is None else trial.ask + 1)
            outcome = trial.outcome if attempt is None else attempt.outcome
            if attempt is not None:
                calls += attempt.cost.calls
                seconds += attempt.cost.seconds
                failures += attempt.fate in (State.FAILED, State.INFEASIBLE)
            if outcome is not None and outcome.loss is not None and outcome.violation <= 0.0:
                best = min(best, outcome.loss)
            # Of two points with one step MLflow shows the later one, of two with one time the
            # larger one. Distinct times make the last point the current value.
            clock = max(at, clock + 1)
            values = (best, float(failures), seconds, ask_total[asks], float(calls))
            metrics = dict(zip(CURVES, values, strict=True)) | {self._best: self._goal.value(best)}
            points.append((metrics, clock, calls))
        return points


def last_end(trial: Trial) -> int:
    """Return the time at which the last attempt ended, in milliseconds; 0 if none has ended."""
    ends = [attempt.ended for attempt in trial.attempts if attempt.ended is not None]
    return milliseconds(max(ends, default=0.0))


def milliseconds(seconds: float) -> int:
    """Convert seconds to whole milliseconds."""
    return round(1000.0 * seconds)


def shortened(text: str, length: int = TAG_LENGTH) -> str:
    """Cut a text to a length and mark the cut with an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def valid_names(names: Iterable[str], reserved: Sequence[str] = ()) -> list[str]:
    """Return distinct names of metrics and parameters that MLflow accepts on every platform.

    MLflow stores names as relative paths: empty, ``.`` and ``..`` components are not allowed.
    """
    found = dict.fromkeys(reserved)
    for name in names:
        safe = re.sub(r"[^\w.\- /]", "_", name)[: NAME_LENGTH - 10]
        safe = "/".join(part.lstrip(".") or "_" for part in safe.split("/"))
        while safe in found:
            safe += "_"
        found[safe] = None
    return list(found)[len(reserved) :]


def _results(trials: Sequence[Trial], created: int) -> list[tuple[int, Trial, Attempt | None]]:
    """Return time, trial and attempt of every result in the order of the log.

    Observations added by the user have no attempt; their time is that of the result before.
    """
    found: list[tuple[Trial | Attempt, Trial, Attempt | None]] = []
    for trial in trials:
        for attempt in trial.attempts:
            billed = attempt.fate is not State.LOST and (attempt.cost.calls or attempt.outcome)
            if attempt.ended is not None and billed:
                found.append((attempt, trial, attempt))
        if not trial.attempts and trial.state is not State.CANCELLED and not trial.state.open:
            found.append((trial, trial, None))
    found.sort(key=lambda result: (*result_order(result[0])[:2], result[1].number))
    times = [milliseconds(0.0 if one is None else one.ended or 0.0) for *_, one in found]
    latest = accumulate(times, max, initial=created)
    next(latest)
    return [(at, trial, one) for at, (_, trial, one) in zip(latest, found, strict=True)]


def _vector(values: Sequence[Any]) -> str:
    """Format coordinates as JSON; if that is too long, with six digits and as many as fit."""
    full = json.dumps(values, default=str)
    texts = (f"{v:.6g}" if isinstance(v, float) else json.dumps(v, default=str) for v in values)
    short = f"[{', '.join(texts)}]"
    end = f", ... {len(values)} in all]"
    cut = short[: VALUE_LENGTH - len(end)].rpartition(", ")[0] + end
    return next(text for text in (full, short, cut) if len(text) <= VALUE_LENGTH)
