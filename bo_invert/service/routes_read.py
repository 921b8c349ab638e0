"""The verbs that only look at a study."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from starlette.responses import StreamingResponse

from bo_invert.errors import StudyNotFoundError
from bo_invert.history import History, best_so_far
from bo_invert.report.pictures import data_uri, png
from bo_invert.report.runs import as_picture
from bo_invert.search_domain import BoxDomain, GaussianDomain
from bo_invert.service import responses as answers
from bo_invert.service.dependencies import LOOK, PAGE, PREFIX, After, Limit, On, Study, gives
from bo_invert.service.serialization import shown, summary, trial_of
from bo_invert.study.recommendation import known_noisy
from bo_invert.study.solutions import distinct_trials, leading_trial
from bo_invert.types import JSON, State, Trial

router = APIRouter(prefix=PREFIX)
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
_POINTS = 2000
"""Points of a curve, at most; more would not be seen."""
Apart = Annotated[float, Query(ge=0, allow_inf_nan=False)]


@router.get("/studies", responses=gives(answers.StudyPage))
async def studies(desk: On, after: After = 0, limit: Limit = 100) -> JSON:
    """The studies in this storage, in the order of their creation."""
    names = await desk.thread(desk.store.names)
    found = [await summary(desk, name) for name in names[after : after + limit]]
    return {"studies": found, "next": after + limit if after + limit < len(names) else None}


@router.get("/studies/{study}", responses=gives(answers.Study) | LOOK)
async def study(desk: On, name: Study) -> JSON:
    """One study: what it is about, what it found, what it spent."""
    return await summary(desk, name)


@router.get("/studies/{study}/trials", responses=gives(answers.TrialPage) | LOOK)
async def trials(
    desk: On, name: Study, after: After = 0, limit: Limit = 100, state: State | None = None
) -> JSON:
    """Trials from number ``after`` on, in order; with ``state`` those that are in it."""
    opened = await desk.open(name)
    log = await desk.thread(opened.journal.read)
    page: list[JSON] = []
    number = after
    while number < len(log) and len(page) < limit:
        trial = log[number]
        number += 1
        if state is None or trial.state is state:
            page.append(shown(trial, opened))
    return {"trials": page, "next": number if number < len(log) else None}


@router.get("/studies/{study}/columns", responses=gives(answers.Columns) | LOOK)
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


@router.get("/studies/{study}/gallery", responses=gives(answers.Gallery) | LOOK)
async def gallery(desk: On, name: Study, count: Annotated[int, Query(ge=1, le=24)] = 8) -> JSON:
    """The best designs as pictures (PNG, base64), where the operator's problem can draw them."""
    opened = await desk.open(name)
    problem = await desk.thread(desk.registered.known, opened.journal.header)
    draw = None if problem is None else problem.draw
    if problem is None or draw is None:
        return {"pictures": []}

    def drawn() -> list[JSON]:
        best = [trial for trial in History(opened.journal.trials).ranking if trial.feasible][:count]
        pictures = [data_uri(png(as_picture(draw(problem.decode(trial.point))))) for trial in best]
        return [
            {"number": t.number, "loss": t.loss, "picture": p}
            for t, p in zip(best, pictures, strict=True)
        ]

    return {"pictures": await desk.thread(drawn)}


@router.get("/studies/{study}/trials/{number}", responses=gives(answers.Trial) | LOOK)
async def one_trial(desk: On, name: Study, number: int) -> JSON:
    """One trial."""
    opened = await desk.open(name)
    return shown(await trial_of(desk, opened, name, number), opened)


@router.get("/studies/{study}/best", responses=gives(answers.Best) | LOOK)
async def best(desk: On, name: Study) -> JSON:
    """The feasible trial of lowest loss; null when there is none yet."""
    opened = await desk.open(name)
    found = await desk.thread(lambda: opened.journal.best)
    return {"best": None if found is None else shown(found, opened)}


@router.get("/studies/{study}/solutions", responses=gives(answers.Trials) | LOOK)
async def solutions(
    desk: On,
    name: Study,
    count: Annotated[int, Query(ge=1, le=100)] = 8,
    apart: Apart | None = None,
) -> JSON:
    """The best trials with different designs, best first: those of ``Study.solutions``, without judge.

    ``apart`` is the smallest root-mean-square difference of the coordinates of two points; default:
    0.02 in a box, 0.2 in a latent space. Closer points fill up the list if there are too few.
    """
    opened = await desk.open(name)
    problem = None if opened.why_not else await desk.problem(name)

    def chosen() -> list[Trial]:
        history = History(opened.journal.trials)
        noisy = known_noisy(opened.journal.header["strategy"], history)
        first = leading_trial(problem.statement, history) if problem and noisy else None
        domain = GaussianDomain if opened.domain is None else BoxDomain
        separation = domain.separation if apart is None else apart
        return distinct_trials(history, count, separation, first)

    return {"trials": [shown(trial, opened) for trial in await desk.thread(chosen)]}


@router.get("/studies/{study}/curve", responses=gives(answers.Curve) | LOOK)
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


@router.get("/studies/{study}/log", responses=gives(answers.Events) | LOOK)
async def log(desk: On, name: Study, after: After = 0, limit: Limit = PAGE) -> JSON:
    """The events behind position ``after``: all that is known of a study, as it happened."""
    opened = await desk.open(name)
    events = await desk.thread(desk.store.events, name, after, limit)
    return {"header": opened.journal.header if after == 0 else None, "events": events}


@router.get("/studies/{study}/live", response_class=StreamingResponse, responses=_STREAM | LOOK)
async def live(desk: On, name: Study, request: Request, after: After = 0) -> StreamingResponse:
    """Server-sent events: a summary of the study whenever its log has grown."""
    await desk.open(name)

    async def events() -> AsyncIterator[str]:
        try:
            async for seq in desk.changes(name, after):
                data = None if seq is None else json.dumps(await summary(desk, name))
                yield ": still here\n\n" if data is None else f"id: {seq}\ndata: {data}\n\n"
        except StudyNotFoundError:
            yield "event: gone\ndata: {}\n\n"

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)
