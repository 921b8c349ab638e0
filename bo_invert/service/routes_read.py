"""GET routes of the HTTP API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import islice
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from bo_invert.errors import StudyDamagedError, StudyNotFoundError
from bo_invert.history import History, best_so_far
from bo_invert.report.pictures import data_uri, png
from bo_invert.report.runs import as_picture
from bo_invert.search_domain import BoxDomain, GaussianDomain
from bo_invert.service import responses
from bo_invert.service.dependencies import (
    PAGE,
    PREFIX,
    READ_ERRORS,
    After,
    Limit,
    Studies,
    Study,
    TrialNumber,
)
from bo_invert.service.open_studies import OpenStudies
from bo_invert.study.recommendation import known_noisy
from bo_invert.study.solutions import distinct_trials, leading_trial
from bo_invert.types import State

router = APIRouter(prefix=PREFIX)


async def summary(studies: OpenStudies, name: str) -> responses.StudyResponse:
    """Summarise a study."""
    return await studies.thread(responses.StudyResponse.of, await studies.open(name))


@router.get("/studies")
async def studies(studies: Studies, after: After = 0, limit: Limit = 100) -> responses.StudyPage:
    """List the studies in order of creation, those that cannot be read with the reason."""
    names = await studies.thread(studies.store.names)
    page, damaged = [], []
    for name in names[after : after + limit]:
        try:
            page.append(await summary(studies, name))
        except (StudyDamagedError, StudyNotFoundError) as error:
            damaged.append(responses.DamagedStudy(name=name, detail=str(error)))
    end = after + limit
    following = end if end < len(names) else None
    return responses.StudyPage(studies=page, damaged=damaged, next=following)


@router.get("/studies/{study}", responses=READ_ERRORS)
def study(study: Study) -> responses.StudyResponse:
    """Return one study: problem, strategy, incumbent and costs."""
    return responses.StudyResponse.of(study)


@router.get("/studies/{study}/trials", responses=READ_ERRORS)
def trials(
    study: Study, after: After = 0, limit: Limit = 100, state: State | None = None
) -> responses.TrialPage:
    """List trials from number `after` on, all or those in one state."""
    log = study.journal.read()
    end = len(log)
    numbers = (n for n in range(after, end) if state is None or log[n].state is state)
    page = list(islice(numbers, limit))
    following = page[-1] + 1 if len(page) == limit else end
    return responses.TrialPage(
        trials=[responses.TrialResponse.of(log[number], study.domain) for number in page],
        next=following if following < end else None,
    )


@router.get("/studies/{study}/columns", responses=READ_ERRORS)
def columns(
    study: Study,
    after: After = 0,
    limit: Annotated[int, Query(ge=1, le=20_000)] = 20_000,
    since: Annotated[
        int, Query(ge=0, le=2**53, description="Position of the log; only changed trials follow.")
    ] = 0,
) -> responses.ColumnsResponse:
    """List trials as one list per quantity, for plots.

    With `since`, only trials that changed after this position of the log are returned. `events` is
    the present position.
    """
    changed, events = study.journal.changed(since, after)
    rows = changed[:limit]
    last = [trial.attempts[-1] if trial.attempts else None for trial in rows]
    return responses.ColumnsResponse(
        number=[trial.number for trial in rows],
        state=[trial.state for trial in rows],
        origin=[trial.origin for trial in rows],
        loss=[trial.loss for trial in rows],
        feasible=[trial.feasible for trial in rows],
        calls=[trial.cost.calls for trial in rows],
        ended=[None if attempt is None else attempt.ended for attempt in last],
        position=[trial.position for trial in rows],
        worker=[None if attempt is None else attempt.worker for attempt in last],
        point=[[round(float(x), 5) for x in trial.point[:32]] for trial in rows],
        next=rows[-1].number + 1 if len(rows) == limit else None,
        events=events,
        total=study.journal.size,
    )


@router.get("/studies/{study}/gallery", responses=READ_ERRORS)
def gallery(
    study: Study, count: Annotated[int, Query(ge=1, le=24)] = 8
) -> responses.GalleryResponse:
    """Return pictures of the best designs, if the registered problem can draw them."""
    problem = study.registered.match(study.journal.header)
    if problem is None or problem.draw is None:
        return responses.GalleryResponse(pictures=[])
    ranking = History(study.journal.trials).ranking
    best = [trial for trial in ranking if trial.feasible and trial.loss is not None][:count]
    pixels = [png(as_picture(problem.draw(problem.decode(trial.point)))) for trial in best]
    return responses.GalleryResponse.model_validate(
        {
            "pictures": [
                {"number": trial.number, "loss": trial.loss, "picture": data_uri(one)}
                for trial, one in zip(best, pixels, strict=True)
            ]
        }
    )


@router.get("/studies/{study}/trials/{number}", responses=READ_ERRORS)
def one_trial(study: Study, number: TrialNumber) -> responses.TrialResponse:
    """Return one trial."""
    return responses.TrialResponse.of(study.trial(number), study.domain)


@router.get("/studies/{study}/best", responses=READ_ERRORS)
def best(study: Study) -> responses.BestResponse:
    """Return the incumbent: the feasible trial with the lowest loss."""
    trial = study.journal.best
    return responses.BestResponse(
        best=None if trial is None else responses.TrialResponse.of(trial, study.domain)
    )


@router.get("/studies/{study}/solutions", responses=READ_ERRORS)
def solutions(
    study: Study,
    count: Annotated[int, Query(ge=1, le=100)] = 8,
    apart: Annotated[
        float | None,
        Query(
            ge=0,
            allow_inf_nan=False,
            description="Smallest root-mean-square difference of the coordinates of two points; "
            "default: 0.02 in a box, 0.2 in a latent.",
        ),
    ] = None,
) -> responses.TrialsResponse:
    """List the best trials with different designs, best first, as `Study.solutions` without judge.

    Closer points fill the list if there are too few.
    """
    problem = None if study.no_problem else study.problem
    history = History(study.journal.trials)
    noisy = known_noisy(study.journal.header["strategy"], history)
    first = leading_trial(problem.statement, history) if problem and noisy else None
    domain = GaussianDomain if study.domain is None else BoxDomain
    separation = domain.separation if apart is None else apart
    found = distinct_trials(history, count, separation, first)
    return responses.TrialsResponse(
        trials=[responses.TrialResponse.of(trial, study.domain) for trial in found]
    )


@router.get("/studies/{study}/curve", responses=READ_ERRORS)
def curve(study: Study) -> responses.CurveResponse:
    """Return the lowest feasible loss by spent calls: the last 2000 improvements and the end."""
    calls, losses = best_so_far(study.journal.trials)
    falls = np.flatnonzero(losses < np.concatenate([[np.inf], losses[:-1]]))
    rows = np.unique([*falls[-2000:], len(calls) - 1])
    return responses.CurveResponse(
        calls=calls[rows].tolist(),
        losses=[float(loss) if np.isfinite(loss) else None for loss in losses[rows]],
    )


@router.get("/studies/{study}/log", responses=READ_ERRORS)
def log(
    studies: Studies, study: Study, after: After = 0, limit: Limit = PAGE
) -> responses.EventsResponse:
    """List the events of the log after position `after`."""
    events = studies.store.events(study.journal.name, after, limit)
    return responses.EventsResponse(
        header=study.journal.header if after == 0 else None, events=events
    )


@router.get(
    "/studies/{study}/live",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **READ_ERRORS},
)
async def live(studies: Studies, study: Study, after: After = 0) -> StreamingResponse:
    """Stream a summary of the study as server-sent event whenever its log grows."""
    name = study.journal.name

    async def events() -> AsyncIterator[str]:
        try:
            async for seq in studies.changes(name, after):
                if seq is None:
                    yield ": keep-alive\n\n"
                else:
                    data = (await summary(studies, name)).model_dump_json()
                    yield f"id: {seq}\ndata: {data}\n\n"
        except StudyNotFoundError:
            yield "event: gone\ndata: {}\n\n"

    return StreamingResponse(
        events(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
