"""Chart of the time at which trials ran: one bar for each attempt."""

from __future__ import annotations

from typing import Any

import numpy as np

from bo_invert.report.charts.chart import Axis, Chart, Panel, floats
from bo_invert.report.charts.layers import Bars
from bo_invert.report.charts.study_data import NAMES, StudyData, kind_of
from bo_invert.report.charts.text import shortened
from bo_invert.types import Attempt, State, Trial

_UNITS = ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
_THINNEST = 0.006
"""Least length of a bar, as a share of the axis. Engineering choice: shorter ones are invisible."""

_ROLES = {
    State.COMPLETED: ("completed", "completed"),
    State.FAILED: ("failure", "failed"),
    State.INFEASIBLE: ("failure", "failed"),
    State.LOST: ("lost", "lost"),
    State.CANCELLED: ("lost", "cancelled"),
    State.RUNNING: ("running", "running"),
    State.QUEUED: ("running", "queued"),
}


_COMPLETED = {
    "violated": ("violation", NAMES["violated"]),
    "outside": ("beyond", NAMES["outside"]),
}


def timeline(data: StudyData, now: float) -> Chart:
    """Return bars of all attempts over time.

    Args:
        data: the study.
        now: end of running attempts, in seconds since the epoch.
    """
    attempts = [(trial, one) for trial in data.trials for one in trial.attempts]
    start = min((one.started for _, one in attempts), default=0.0)
    ends = [one.ended or max(now, one.started) for _, one in attempts]
    total = max(ends, default=start) - start
    unit, name = next((one for one in _UNITS if total >= 2.0 * one[0]), _UNITS[-1])
    workers = list(dict.fromkeys(one.worker or "no worker" for _, one in attempts))
    lanes = _lanes(attempts, workers)
    groups: dict[tuple[str, str], list[int]] = {}
    for i, (trial, one) in enumerate(attempts):
        groups.setdefault(_role(trial, one), []).append(i)
    layers = []
    for role, text in (*_ROLES.values(), *_COMPLETED.values()):
        some = groups.pop((role, text), [])
        if some:
            begin = floats([(attempts[i][1].started - start) / unit for i in some])
            finish = floats([(ends[i] - start) / unit for i in some])
            finish = np.maximum(finish, begin + _THINNEST * total / unit)
            texts = tuple(
                f"{data.describe(attempts[i][0])}\n{ends[i] - attempts[i][1].started:.4g} s"
                + (f" on {attempts[i][1].worker}" if attempts[i][1].worker else "")
                for i in some
            )
            layers.append(Bars(role, text, floats([lanes[i] for i in some]), begin, finish, texts))
    columns: dict[str, list[Any]] = {
        "trial": [trial.number for trial, _ in attempts],
        "attempt": [trial.attempts.index(one) for trial, one in attempts],
        "state": [str(one.fate) for _, one in attempts],
        "worker": [one.worker for _, one in attempts],
        "started": [one.started for _, one in attempts],
        "ended": [one.ended for _, one in attempts],
        "seconds": [end - one.started for end, (_, one) in zip(ends, attempts, strict=True)],
    }
    several = len(workers) > 1
    bottom = (max(lanes, default=0) + 0.6, min(lanes, default=0) - 0.6)
    ticks = tuple((float(i), shortened(worker, 16)) for i, worker in enumerate(workers))
    y = Axis("worker", ticks=ticks, bounds=bottom) if several else Axis("trial", bounds=bottom)
    height = min(640, max(240, 120 + (28 * len(workers) if several else 7 * len(attempts))))
    panel = Panel(
        Axis(f"time [{name}]"),
        y,
        tuple(layers),
        wide=True,
        height=height,
        reason="No attempt has started yet.",
    )
    return Chart("timeline", "Time of the trials", (panel,), columns, (), columns_wide=1)


def _role(trial: Trial, one: Attempt) -> tuple[str, str]:
    kind = kind_of(trial)
    return (
        _COMPLETED.get(kind, _ROLES[one.fate]) if one.fate is State.COMPLETED else _ROLES[one.fate]
    )


def _lanes(attempts: list[tuple[Trial, Attempt]], workers: list[str]) -> list[float]:
    """Return the row of each bar: its worker, or its trial if there is one worker."""
    if len(workers) <= 1:
        return [float(trial.number) for trial, _ in attempts]
    return [float(workers.index(one.worker or "no worker")) for _, one in attempts]
