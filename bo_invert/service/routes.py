"""The verbs of a study over HTTP."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import unquote

import numpy as np
from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import StreamingResponse

from bo_invert.decisions import Terms
from bo_invert.errors import Failed, Infeasible, InvalidInput, StudyExists, StudyNotFound, Verdict
from bo_invert.given import refuse_shape
from bo_invert.history import History, best_so_far
from bo_invert.leases import LEASE
from bo_invert.problem import Problem
from bo_invert.report.goal import Goal
from bo_invert.report.pictures import data_uri, png
from bo_invert.runs import as_picture
from bo_invert.service import answers, problems, schemas
from bo_invert.service.desk import Desk, Opened
from bo_invert.strategies.base import from_spec
from bo_invert.types import JSON, Cost, State, Trial
from bo_invert.types import Query as Asked


def _gives(answer: type[answers.Answer], status: int = 200) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": answer}}


router = APIRouter(prefix="/v1")
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
_LOOK = problems.documented(404)
_CREATE = problems.documented(400, 409)
_WRITE = problems.documented(400, 404, 409)
_ASK = problems.documented(400, 404, 409, 429, 504)
_PAGE = 1000
_POINTS = 2000
"""Points of a curve, at most; more would not be seen."""


def _name(study: str) -> str:
    """A study's name from its path segment, in which a slash may be hidden."""
    return unquote(study)


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


On = Annotated[Desk, Depends(_desk)]


async def _meant(desk: On, study: str, study_id: Annotated[str | None, Header(max_length=64)] = None) -> str:
    """A study's name, once it is sure that whoever says ``Study-Id`` means this one, not a deleted one of its name."""
    name = _name(study)
    if study_id is not None and (await desk.open(name)).journal.header.get("id") != study_id:
        raise StudyNotFound(f"study {name!r} was deleted, and another one of this name begun; open it again")
    return name


Study = Annotated[str, Depends(_meant)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]
After = Annotated[int, Query(ge=0, le=2**53)]
Limit = Annotated[int, Query(ge=1, le=_PAGE)]
Apart = Annotated[float, Query(ge=0, allow_inf_nan=False)]


@router.get("/studies", responses=_gives(answers.StudyPage))
async def studies(desk: On, after: After = 0, limit: Limit = 100) -> JSON:
    """The studies in this storage, in the order of their creation."""
    names = await desk.thread(desk.store.names)
    found = [await _summary(desk, name) for name in names[after : after + limit]]
    return {"studies": found, "next": after + limit if after + limit < len(names) else None}


@router.post("/studies", status_code=201, responses=_gives(answers.Study, 201) | _CREATE)
async def create(desk: On, given: schemas.NewStudy) -> JSON:
    """A new study, of a problem that is declared here or that the operator registered."""
    if (given.problem is None) == (given.registered is None):
        raise InvalidInput("give either 'problem', or the name of a 'registered' one")
    if given.name in (".", ".."):
        raise InvalidInput(f"a study cannot be called {given.name!r}")
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
    header |= {
        "problem": problem.to_json(),
        "problem_name": given.problem_name or problem.name,
        "strategy": strategy.spec(),
        "seed": given.seed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "id": uuid.uuid4().hex,
    }
    try:
        await desk.thread(desk.store.create, given.name, header)
    except StudyExists:
        if not given.exist_ok:
            raise
        known = (await desk.open(given.name)).journal.header
        for what in ("problem", "strategy", "seed"):
            if known[what] != header[what]:
                raise StudyExists(f"study {given.name!r} was begun with another {what}; choose another name") from None
    return await _summary(desk, given.name)


@router.get("/studies/{study}", responses=_gives(answers.Study) | _LOOK)
async def study(desk: On, name: Study) -> JSON:
    """One study: what it is about, what it found, what it spent."""
    return await _summary(desk, name)


@router.delete("/studies/{study}", status_code=204, responses=_LOOK)
async def delete(desk: On, name: Study) -> None:
    """Forget a study and all that was told."""
    await desk.thread(desk.store.delete, name)
    desk.forget(name)


@router.post("/studies/{study}/ask", responses=_gives(answers.Trials) | _ASK)
async def ask(desk: On, name: Study, given: schemas.NewAsk, key: Key = None) -> JSON:
    """Trials to evaluate next. They are in the log before they are sent, and lent to the worker for the lease.

    The same ``Idempotency-Key`` again is answered with the same trials. None at all means: wait for open trials, or
    the budget is spent, or the strategy is done.
    """
    opened = await desk.open(name)
    if opened.why_not:
        raise InvalidInput(opened.why_not)
    lease = given.lease if given.worker is None else given.lease or LEASE
    terms = Terms(given.worker, lease, key)
    if given.worker is not None and lease is not None:
        await desk.beat(opened, given.worker, lease)
    trials = await desk.ask(name, given.count, given.budget, given.retries, terms, given.known)
    return {"trials": [_shown(trial, opened) for trial in trials]}


@router.get("/studies/{study}/trials", responses=_gives(answers.TrialPage) | _LOOK)
async def trials(desk: On, name: Study, after: After = 0, limit: Limit = 100, state: State | None = None) -> JSON:
    """Trials from number ``after`` on, in order; with ``state`` those that are in it."""
    opened = await desk.open(name)
    log = await desk.thread(opened.journal.read)
    page: list[JSON] = []
    number = after
    while number < len(log) and len(page) < limit:
        trial = log[number]
        number += 1
        if state is None or trial.state is state:
            page.append(_shown(trial, opened))
    return {"trials": page, "next": number if number < len(log) else None}


@router.get("/studies/{study}/columns", responses=_gives(answers.Columns) | _LOOK)
async def columns(
    desk: On,
    name: Study,
    after: After = 0,
    limit: Annotated[int, Query(ge=1, le=20_000)] = 20_000,
    since: After = 0,
) -> JSON:
    """Trials from number ``after`` on, one list per quantity: what plots need. At most 32 coordinates are sent.

    With ``since`` only those that have changed behind this position of the log; ``events`` is its position now.
    """
    opened = await desk.open(name)

    def table() -> JSON:
        log = opened.journal.read()
        events = log.seq
        rows = log.changed(since, after)[:limit]
        ends = [trial.attempts[-1].ended if trial.attempts else None for trial in rows]
        return {
            "number": [trial.number for trial in rows],
            "state": [str(trial.state) for trial in rows],
            "origin": [trial.origin for trial in rows],
            "loss": [trial.loss for trial in rows],
            "feasible": [trial.feasible for trial in rows],
            "calls": [trial.cost.calls for trial in rows],
            "ended": ends,
            "worker": [trial.attempts[-1].worker if trial.attempts else None for trial in rows],
            "point": [[round(float(x), 5) for x in trial.point[:32]] for trial in rows],
            "next": rows[-1].number + 1 if len(rows) == limit else None,
            "events": events,
            "total": len(log),
        }

    return await desk.thread(table)


@router.get("/studies/{study}/gallery", responses=_gives(answers.Gallery) | _LOOK)
async def gallery(desk: On, name: Study, count: Annotated[int, Query(ge=1, le=24)] = 8) -> JSON:
    """The best designs as pictures (PNG, base64), where the operator's problem can draw them."""
    opened = await desk.open(name)
    problem = None if opened.why_not else await desk.problem(name)
    draw = None if problem is None else problem.draw
    if problem is None or draw is None:
        return {"pictures": []}

    def drawn() -> list[JSON]:
        best = [trial for trial in History(opened.journal.trials).ranking if trial.feasible][:count]
        pictures = [data_uri(png(as_picture(draw(problem.decode(trial.point))))) for trial in best]
        return [{"number": t.number, "loss": t.loss, "picture": p} for t, p in zip(best, pictures, strict=True)]

    return {"pictures": await desk.thread(drawn)}


@router.get("/studies/{study}/trials/{number}", responses=_gives(answers.Trial) | _LOOK)
async def one_trial(desk: On, name: Study, number: int) -> JSON:
    """One trial."""
    opened = await desk.open(name)
    return _shown(await _trial(desk, opened, name, number), opened)


@router.post("/studies/{study}/trials/{number}/tell", responses=_gives(answers.Trial) | _WRITE)
async def tell(desk: On, name: Study, number: int, given: schemas.Tell) -> JSON:
    """What came of a trial. Once this is answered it is on the disk; the same again changes nothing."""
    opened = await desk.open(name)
    problem = await desk.problem(name)
    known = await _trial(desk, opened, name, number)
    refuse_shape(given.outputs, problem.outputs)
    extra = {"point": given.point, "gradient": given.gradient, "trace": _trace(given.trace)}
    for what in ("point", "gradient"):
        if extra[what] is not None and len(extra[what] or ()) != problem.space.domain.dim:
            raise InvalidInput(f"{what} has {problem.space.domain.dim} coordinates, got {len(extra[what] or ())}")
    outcome = problem.outcome(given.outputs, _cost(given.cost, known.query), **extra)
    told = await desk.thread(opened.journal.finish, number, outcome, given.attempt)
    return _shown(told, opened)


@router.post("/studies/{study}/trials/{number}/fail", responses=_gives(answers.Trial) | _WRITE)
async def fail(desk: On, name: Study, number: int, given: schemas.Fail) -> JSON:
    """A trial gave no outputs."""
    opened = await desk.open(name)
    problem = await desk.problem(name)
    known = await _trial(desk, opened, name, number)
    verdict: Verdict = Infeasible(given.reason) if given.infeasible else Failed(given.reason)
    outcome = problem.outcome(verdict, _cost(given.cost, known.query))
    told = await desk.thread(opened.journal.finish, number, outcome, given.attempt)
    return _shown(told, opened)


@router.post("/studies/{study}/trials/{number}/heartbeat", responses=_gives(answers.Held) | _WRITE)
async def heartbeat(desk: On, name: Study, number: int, given: schemas.Heartbeat) -> JSON:
    """A sign of life of the worker of a trial. ``held`` says whether the trial is still its own."""
    opened = await desk.open(name)
    trial = await _trial(desk, opened, name, number)
    held = trial.state is State.RUNNING and given.attempt == len(trial.attempts) - 1
    worker = trial.attempts[-1].worker if held else None
    if worker is not None:
        await desk.thread(opened.journal.beat, worker)
    return {"held": held, "state": str(trial.state)}


@router.post("/studies/{study}/heartbeat", responses=_gives(answers.Heard) | _WRITE)
async def alive(desk: On, name: Study, given: schemas.Alive) -> JSON:
    """A sign of life of a worker, for all its trials."""
    opened = await desk.open(name)
    await desk.thread(opened.journal.beat, given.worker)
    return {"worker": given.worker}


@router.post("/studies/{study}/trials/{number}/release", responses=_gives(answers.Trial) | _WRITE)
async def release(desk: On, name: Study, number: int, given: schemas.Release) -> JSON:
    """Give a trial back that will not be finished; somebody else gets it. ``lost`` bills it in full."""
    opened = await desk.open(name)
    trial = await _trial(desk, opened, name, number)
    if given.lost:
        if given.attempt == len(trial.attempts) - 1:
            await desk.thread(opened.journal.abandon, {number})
    else:
        await desk.thread(opened.journal.release, number, given.attempt, Cost(**given.cost.model_dump()))
    return _shown(await _trial(desk, opened, name, number), opened)


@router.post("/studies/{study}/trials/{number}/cancel", responses=_gives(answers.Trial) | _WRITE)
async def cancel(desk: On, name: Study, number: int, given: schemas.Cancel) -> JSON:
    """Give up an open trial."""
    opened = await desk.open(name)
    await _trial(desk, opened, name, number)
    return _shown(await desk.thread(opened.journal.cancel, number, given.reason), opened)


@router.post("/studies/{study}/observations", status_code=201, responses=_gives(answers.Trials, 201) | _WRITE)
async def add(desk: On, name: Study, given: schemas.Observations, key: Key = None) -> JSON:
    """What was measured elsewhere: known to the strategy, free of charge."""
    opened = await desk.open(name)
    problem = await desk.problem(name)
    queries, outcomes = [], []
    for one in given.observations:
        answers = [a for a in (one.outputs, _verdict(one)) if a is not None]
        if len(answers) != 1:
            raise InvalidInput("an observation has either outputs, or a reason why it failed or is infeasible")
        if one.outputs is not None:
            refuse_shape(one.outputs, problem.outputs)
        queries.append(Asked(_point(one.point, problem), origin="data"))
        outcomes.append(problem.outcome(answers[0], Cost()))
    made = await desk.thread(opened.journal.add, queries, outcomes, key)
    return {"trials": [_shown(trial, opened) for trial in made]}


@router.post("/studies/{study}/enqueue", status_code=201, responses=_gives(answers.Trial, 201) | _WRITE)
async def enqueue(desk: On, name: Study, given: schemas.Enqueue, key: Key = None) -> JSON:
    """A design to be evaluated before anything the strategy proposes."""
    opened = await desk.open(name)
    problem = await desk.problem(name)
    if (given.point is None) == (given.parameters is None):
        raise InvalidInput("give either 'point' or 'parameters'")
    if given.parameters is not None:
        point = problem.space.domain.encode([given.parameters])[0]
    else:
        point = problem.space.domain.project(_point(given.point or [], problem))
    made = await desk.thread(opened.journal.enqueue, Asked(point, origin="user"), key)
    return _shown(made, opened)


@router.get("/studies/{study}/best", responses=_gives(answers.Best) | _LOOK)
async def best(desk: On, name: Study) -> JSON:
    """The feasible trial of lowest loss; null when there is none yet."""
    opened = await desk.open(name)
    found = await desk.thread(lambda: opened.journal.best)
    return {"best": None if found is None else _shown(found, opened)}


@router.get("/studies/{study}/solutions", responses=_gives(answers.Trials) | _LOOK)
async def solutions(desk: On, name: Study, count: Annotated[int, Query(ge=1, le=100)] = 8, apart: Apart = 0.05) -> JSON:
    """Good trials that differ: best first, each at least ``apart`` (share of the domain's width) from those before."""
    opened = await desk.open(name)

    def chosen() -> list[Trial]:
        picked: list[Trial] = []
        for trial in History(opened.journal.trials).ranking:
            if len(picked) == count or not trial.feasible:
                break
            gaps = [float(np.abs(trial.point - other.point).max()) for other in picked]
            width = 6.0 if opened.domain is None else 1.0  # a latent lies within about three deviations
            if not gaps or min(gaps) >= apart * width:
                picked.append(trial)
        return picked

    return {"trials": [_shown(trial, opened) for trial in await desk.thread(chosen)]}


@router.get("/studies/{study}/curve", responses=_gives(answers.Curve) | _LOOK)
async def curve(desk: On, name: Study) -> JSON:
    """Lowest feasible loss by calls spent; a step wherever it falls, and the end."""
    opened = await desk.open(name)
    calls, losses = await desk.thread(lambda: best_so_far(opened.journal.trials))
    falls = np.flatnonzero(losses < np.concatenate([[np.inf], losses[:-1]]))
    rows = np.unique([*falls[-_POINTS:], len(calls) - 1])
    return {
        "calls": calls[rows].tolist(),
        "losses": [float(loss) if np.isfinite(loss) else None for loss in losses[rows]],
    }


@router.get("/studies/{study}/log", responses=_gives(answers.Events) | _LOOK)
async def log(desk: On, name: Study, after: After = 0, limit: Limit = _PAGE) -> JSON:
    """The events behind position ``after``: all that is known of a study, as it happened."""
    opened = await desk.open(name)
    events = await desk.thread(desk.store.events, name, after, limit)
    return {"header": opened.journal.header if after == 0 else None, "events": events}


@router.get("/studies/{study}/live", response_class=StreamingResponse, responses=_STREAM | _LOOK)
async def live(desk: On, name: Study, request: Request, after: After = 0) -> StreamingResponse:
    """Server-sent events: a summary of the study whenever its log has grown."""
    await desk.open(name)

    async def events() -> AsyncIterator[str]:
        try:
            async for seq in desk.changes(name, after):
                data = None if seq is None else json.dumps(await _summary(desk, name))
                yield ": still here\n\n" if data is None else f"id: {seq}\ndata: {data}\n\n"
        except StudyNotFound:
            yield "event: gone\ndata: {}\n\n"

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


async def _summary(desk: Desk, name: str) -> JSON:
    opened = await desk.open(name)
    return await desk.thread(_described, name, opened)


def _described(name: str, opened: Opened) -> JSON:
    journal = opened.journal
    log = journal.read()
    header, spent = journal.header, journal.ledger
    best = None if log.best is None else log.best.loss
    goal = Goal(header["problem"]["objective"], header["problem"]["outputs"])
    states = {str(state): len(log.within(state)) for state in State}
    return {
        "name": name,
        "problem": header["problem"],
        "problem_name": header["problem_name"],
        "strategy": header["strategy"],
        "seed": header["seed"],
        "created": header["created"],
        "trials": len(log),
        "events": log.seq,
        "states": {state: count for state, count in states.items() if count},
        "spent": {
            "calls": spent.calls,
            "values": spent.values,
            "gradients": spent.gradients,
            "attempts": spent.attempts,
            "failed": spent.failed,
            "infeasible": spent.infeasible,
            "lost": spent.lost,
            "running": spent.running,
            "seconds": spent.seconds,
            "asking": spent.asking,
            "asks": spent.asks,
        },
        "best_loss": best,
        "best": None if best is None else goal.value(best),
        "best_is": goal.label,
        "raised": goal.is_raised,
        "asks_here": not opened.why_not,
        "why_not": opened.why_not,
    }


def _shown(trial: Trial, opened: Opened) -> JSON:
    design = None if opened.domain is None else opened.domain.values(trial.point[None])[0]
    return schemas.trial_json(trial, design)


async def _trial(desk: Desk, opened: Opened, name: str, number: int) -> Trial:
    log = await desk.thread(opened.journal.read)
    if not 0 <= number < len(log):
        raise StudyNotFound(f"study {name!r} has no trial {number}; it has {len(log)}, numbered from 0")
    return log[number]


def _cost(given: schemas.Spent | None, query: Asked) -> Cost:
    return query.cost if given is None else Cost(**given.model_dump())


def _trace(values: list[float | None] | None) -> list[float] | None:
    return None if values is None else [float("nan") if value is None else value for value in values]


def _verdict(one: schemas.Observation) -> Verdict | None:
    if one.failed is not None:
        return Failed(one.failed)
    return None if one.infeasible is None else Infeasible(one.infeasible)


def _point(values: list[float], problem: Problem) -> Any:
    if len(values) != problem.space.domain.dim:
        raise InvalidInput(f"a point has {problem.space.domain.dim} coordinates, got {len(values)}")
    return np.asarray(values, dtype=np.float64)
