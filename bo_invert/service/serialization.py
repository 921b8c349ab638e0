"""Studies and trials as they are sent; ``answers`` says the same to OpenAPI."""

from __future__ import annotations

from bo_invert.errors import StudyNotFoundError
from bo_invert.problems.provenance import noted
from bo_invert.report.objective_view import Goal
from bo_invert.service.open_studies import Desk, Opened
from bo_invert.types import JSON, Attempt, Outcome, Query, Trial


async def summary(desk: Desk, name: str) -> JSON:
    """What a study is about, found and spent."""
    opened = await desk.open(name)
    return await desk.thread(_described, name, opened)


async def trial_of(desk: Desk, opened: Opened, name: str, number: int) -> Trial:
    """One trial.

    Raises:
        StudyNotFoundError: there is none of this number.
    """
    log = await desk.thread(opened.journal.read)
    if not 0 <= number < len(log):
        raise StudyNotFoundError(
            f"study {name!r} has no trial {number}; it has {len(log)}, numbered from 0"
        )
    return log[number]


async def query_of(desk: Desk, opened: Opened, name: str, number: int) -> Query:
    """What a trial asks for. That never changes, so the log is read for one that is not known yet alone.

    Raises:
        StudyNotFoundError: there is none of this number.
    """
    return (opened.journal.remembered(number) or await trial_of(desk, opened, name, number)).query


def shown(trial: Trial, opened: Opened) -> JSON:
    """A trial, with parameters where they have names."""
    outcome: Outcome | None = trial.outcome
    return {
        "number": trial.number,
        "state": str(trial.state),
        "attempt": len(trial.attempts) - 1 if trial.attempts else None,
        "origin": trial.origin,
        "point": trial.point.tolist(),
        "parameters": None if opened.domain is None else opened.domain.values(trial.point[None])[0],
        "query": trial.query.to_json(),
        "outputs": None if trial.y is None else trial.y.tolist(),
        "loss": trial.loss,
        "feasible": trial.feasible,
        "violation": 0.0 if outcome is None else outcome.violation,
        "reason": "" if outcome is None else outcome.reason,
        "cost": trial.cost.to_json(),
        "attempts": [_attempt_json(attempt) for attempt in trial.attempts],
    }


def _described(name: str, opened: Opened) -> JSON:
    journal = opened.journal
    log = journal.read()
    header = journal.header
    best = None if log.best is None else log.best.loss
    goal = Goal(header["problem"]["objective"], header["problem"]["outputs"])
    return {
        "name": name,
        "problem": header["problem"],
        "problem_name": header["problem_name"],
        "strategy": header["strategy"],
        "seed": header["seed"],
        "created": header["created"],
        "provenance": noted(header.get("provenance")) or None,
        "trials": len(log),
        "events": log.seq,
        "states": {str(state): count for state, count in log.counts.items() if count},
        "spent": journal.ledger.to_json(),
        "budget": log.budget,
        "best_loss": best,
        "best": None if best is None else goal.value(best),
        "best_is": goal.label,
        "raised": goal.is_raised,
        "asks_here": not opened.why_not,
        "why_not": opened.why_not,
    }


def _attempt_json(attempt: Attempt) -> JSON:
    return {
        "worker": attempt.worker,
        "started": attempt.started,
        "ended": attempt.ended,
        "state": str(attempt.fate),
        "cost": attempt.cost.to_json(),
        "lease": attempt.lease,
    }
