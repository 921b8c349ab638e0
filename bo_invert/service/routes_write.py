"""The verbs that change something."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter

from bo_invert.errors import (
    EvaluationError,
    FailedError,
    InfeasibleError,
    InvalidInputError,
    StudyExistsError,
)
from bo_invert.problems.problem import Problem
from bo_invert.service import requests as schemas
from bo_invert.service import responses as answers
from bo_invert.service.dependencies import ASK, CREATE, LOOK, PREFIX, WRITE, Key, On, Study, gives
from bo_invert.service.serialization import query_of, shown, summary, trial_of
from bo_invert.storage.journal import Journal
from bo_invert.storage.leases import LEASE
from bo_invert.storage.transitions import Terms
from bo_invert.strategies.base import from_spec
from bo_invert.study.header import new_header
from bo_invert.study.input_validation import refuse_shape
from bo_invert.types import JSON, Cost, Query, State

router = APIRouter(prefix=PREFIX)


@router.post("/studies", status_code=201, responses=gives(answers.Study, 201) | CREATE)
async def create(desk: On, given: schemas.NewStudy) -> JSON:
    """A new study, of a problem that is declared here or that the operator registered."""
    if (given.problem is None) == (given.registered is None):
        raise InvalidInputError("give either 'problem', or the name of a 'registered' one")
    if given.name in (".", ".."):
        raise InvalidInputError(f"a study cannot be called {given.name!r}")
    header: dict[str, JSON] = {}
    if given.registered is not None:
        header["registered"] = given.registered
        problem = await desk.thread(desk.registered.problem, given.registered)
    else:
        assert given.problem is not None
        header["declared"] = given.problem.model_dump(mode="json", exclude_none=True)
        header["problem_name"] = given.problem_name or given.name
        problem = desk.registered.problem_of(header, given.name)
    strategy = from_spec(given.strategy.model_dump())
    strategy.check(problem.statement)
    made_with = given.provenance.model_dump() if given.provenance else None
    header |= await desk.thread(
        partial(
            new_header,
            problem,
            strategy,
            given.seed,
            problem_name=given.problem_name,
            made_with=made_with,
        )
    )
    try:
        await desk.thread(desk.store.create, given.name, header)
    except StudyExistsError:
        if not given.exist_ok:
            raise
        known = (await desk.open(given.name)).journal.header
        for what in ("problem", "strategy", "seed"):
            if known[what] != header[what]:
                raise StudyExistsError(
                    f"study {given.name!r} was begun with another {what}; choose another name"
                ) from None
    return await summary(desk, given.name)


@router.delete("/studies/{study}", status_code=204, responses=LOOK)
async def delete(desk: On, name: Study) -> None:
    """Forget a study and all that was told."""
    await desk.thread(desk.store.delete, name)
    desk.forget(name)


@router.post("/studies/{study}/ask", responses=gives(answers.Asked) | ASK)
async def ask(desk: On, name: Study, given: schemas.NewAsk, key: Key = None) -> JSON:
    """Trials to evaluate next. They are in the log before they are sent, and lent to the worker for the lease.

    The same ``Idempotency-Key`` again is answered with the same trials. If there are none at all, ``why`` says whether
    to ``wait`` for open ones, the ``budget`` is spent, or the strategy is ``done``.
    """
    opened = await desk.open(name)
    if opened.why_not:
        raise InvalidInputError(opened.why_not)
    lease = given.lease if given.worker is None else given.lease or LEASE
    terms = Terms(given.worker, lease, key)
    if given.worker is not None and lease is not None:
        await desk.beat(opened, given.worker, lease)
    trials = await opened.line.ask(given.count, given.budget, given.retries, terms, given.known)
    why = "" if trials else await desk.thread(_why_none, opened.journal, given.budget)
    return {"trials": [shown(trial, opened) for trial in trials], "why": why}


@router.post("/studies/{study}/trials/{number}/tell", responses=gives(answers.Trial) | WRITE)
async def tell(desk: On, name: Study, number: int, given: schemas.Tell) -> JSON:
    """What came of a trial. Once this is answered it is on the disk; the same again changes nothing."""
    opened = await desk.open(name)
    problem = await desk.problem(name)
    query = await query_of(desk, opened, name, number)
    refuse_shape(given.outputs, problem.outputs)
    extra = {"point": given.point, "gradient": given.gradient, "trace": _trace(given.trace)}
    for what in ("point", "gradient"):
        if extra[what] is not None and len(extra[what] or ()) != problem.space.domain.dim:
            raise InvalidInputError(
                f"{what} has {problem.space.domain.dim} coordinates, got {len(extra[what] or ())}"
            )
    outcome = problem.outcome(given.outputs, _cost(given.cost, query), **extra)
    told = await desk.thread(opened.journal.finish, number, outcome, given.attempt)
    return shown(told, opened)


@router.post("/studies/{study}/trials/{number}/fail", responses=gives(answers.Trial) | WRITE)
async def fail(desk: On, name: Study, number: int, given: schemas.Fail) -> JSON:
    """A trial gave no outputs."""
    opened = await desk.open(name)
    problem = await desk.problem(name)
    query = await query_of(desk, opened, name, number)
    verdict: EvaluationError = (
        InfeasibleError(given.reason) if given.infeasible else FailedError(given.reason)
    )
    outcome = problem.outcome(verdict, _cost(given.cost, query))
    told = await desk.thread(opened.journal.finish, number, outcome, given.attempt)
    return shown(told, opened)


@router.post("/studies/{study}/trials/{number}/heartbeat", responses=gives(answers.Held) | WRITE)
async def heartbeat(desk: On, name: Study, number: int, given: schemas.Heartbeat) -> JSON:
    """A sign of life of the worker of a trial. ``held`` says whether the trial is still its own."""
    opened = await desk.open(name)
    trial = await trial_of(desk, opened, name, number)
    held = trial.state is State.RUNNING and given.attempt == len(trial.attempts) - 1
    worker = trial.attempts[-1].worker if held else None
    if worker is not None:
        await desk.thread(opened.journal.beat, worker)
    return {"held": held, "state": str(trial.state)}


@router.post("/studies/{study}/heartbeat", responses=gives(answers.Heard) | WRITE)
async def alive(desk: On, name: Study, given: schemas.Alive) -> JSON:
    """A sign of life of a worker, for all its trials."""
    opened = await desk.open(name)
    await desk.thread(opened.journal.beat, given.worker)
    return {"worker": given.worker}


@router.post("/studies/{study}/trials/{number}/release", responses=gives(answers.Trial) | WRITE)
async def release(desk: On, name: Study, number: int, given: schemas.Release) -> JSON:
    """Give a trial back that will not be finished; somebody else gets it. ``lost`` bills it in full."""
    opened = await desk.open(name)
    trial = await trial_of(desk, opened, name, number)
    if given.lost:
        if given.attempt == len(trial.attempts) - 1:
            await desk.thread(opened.journal.abandon, {number})
    else:
        await desk.thread(
            opened.journal.release, number, given.attempt, Cost(**given.cost.model_dump())
        )
    return shown(await trial_of(desk, opened, name, number), opened)


@router.post("/studies/{study}/trials/{number}/cancel", responses=gives(answers.Trial) | WRITE)
async def cancel(desk: On, name: Study, number: int, given: schemas.Cancel) -> JSON:
    """Give up an open trial."""
    opened = await desk.open(name)
    await trial_of(desk, opened, name, number)
    return shown(await desk.thread(opened.journal.cancel, number, given.reason), opened)


@router.post(
    "/studies/{study}/observations", status_code=201, responses=gives(answers.Trials, 201) | WRITE
)
async def add(desk: On, name: Study, given: schemas.Observations, key: Key = None) -> JSON:
    """What was measured elsewhere: known to the strategy, and free of charge unless it says what it cost."""
    opened = await desk.open(name)
    problem = await desk.problem(name)
    queries, outcomes = [], []
    for one in given.observations:
        answers = [a for a in (one.outputs, _verdict(one)) if a is not None]
        if len(answers) != 1:
            raise InvalidInputError(
                "an observation has either outputs, or a reason why it failed or is infeasible"
            )
        if one.outputs is not None:
            refuse_shape(one.outputs, problem.outputs)
        queries.append(Query(_point(one.point, problem), origin="data"))
        outcomes.append(
            problem.outcome(
                answers[0], Cost() if one.cost is None else Cost(**one.cost.model_dump())
            )
        )
    made = await desk.thread(opened.journal.add, queries, outcomes, key)
    return {"trials": [shown(trial, opened) for trial in made]}


@router.post(
    "/studies/{study}/enqueue", status_code=201, responses=gives(answers.Trial, 201) | WRITE
)
async def enqueue(desk: On, name: Study, given: schemas.Enqueue, key: Key = None) -> JSON:
    """A design to be evaluated before anything the strategy proposes."""
    opened = await desk.open(name)
    problem = await desk.problem(name)
    if (given.point is None) == (given.parameters is None):
        raise InvalidInputError("give either 'point' or 'parameters'")
    if given.parameters is not None:
        point = problem.space.domain.encode([given.parameters])[0]
    else:
        point = problem.space.domain.project(_point(given.point or [], problem))
    made = await desk.thread(opened.journal.enqueue, Query(point, origin="user"), key)
    return shown(made, opened)


def _cost(given: schemas.Spent | None, query: Query) -> Cost:
    return query.cost if given is None else Cost(**given.model_dump())


def _trace(values: list[float | None] | None) -> list[float] | None:
    return (
        None if values is None else [float("nan") if value is None else value for value in values]
    )


def _verdict(one: schemas.Observation) -> EvaluationError | None:
    if one.failed is not None:
        return FailedError(one.failed)
    return None if one.infeasible is None else InfeasibleError(one.infeasible)


def _point(values: list[float], problem: Problem) -> Any:
    if len(values) != problem.space.domain.dim:
        raise InvalidInputError(
            f"a point has {problem.space.domain.dim} coordinates, got {len(values)}"
        )
    return np.asarray(values, dtype=np.float64)


def _why_none(journal: Journal, budget: int | None) -> str:
    log = journal.read()
    if log.committed > log.calls:
        return "wait"
    return "budget" if budget is not None and log.calls >= budget else "done"
