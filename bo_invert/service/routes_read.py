"""GET routes of the HTTP API."""

from __future__ import annotations

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
from bo_invert.service import responses
from bo_invert.service.dependencies import (
    PAGE,
    PREFIX,
    READ_ERRORS,
    After,
    Limit,
    Studies,
    StudyName,
    TrialNumber,
)
from bo_invert.service.open_studies import OpenStudies
from bo_invert.study.recommendation import known_noisy
from bo_invert.study.solutions import distinct_trials, leading_trial
from bo_invert.types import State, Trial

router = APIRouter(prefix=PREFIX)
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


async def summary(studies: OpenStudies, name: str) -> responses.StudyResponse:
    """Summarise a study."""
    return await studies.thread(responses.StudyResponse.of, await studies.open(name))


@router.get("/studies")
async def studies(studies: Studies, after: After = 0, limit: Limit = 100) -> responses.StudyPage:
    """List the studies in order of creation."""
    names = await studies.thread(studies.store.names)
    page = [await summary(studies, name) for name in names[after : after + limit]]
    more = after + limit if after + limit < len(names) else None
    return responses.StudyPage(studies=page, next=more)


@router.get("/studies/{study}", responses=READ_ERRORS)
async def study(studies: Studies, name: StudyName) -> responses.StudyResponse:
    """Return one study: problem, strategy, incumbent and costs."""
    return await summary(studies, name)


@router.get("/studies/{study}/trials", responses=READ_ERRORS)
async def trials(
    studies: Studies,
    name: StudyName,
    after: After = 0,
    limit: Limit = 100,
    state: State | None = None,
) -> responses.TrialPage:
    """List trials from number `after` on, all or those in one state."""
    study = await studies.open(name)
    log = await studies.thread(study.journal.read)
    page: list[responses.TrialResponse] = []
    number = after
    while number < len(log) and len(page) < limit:
        trial = log[number]
        number += 1
        if state is None or trial.state is state:
            page.append(responses.TrialResponse.of(trial, study.domain))
    return responses.TrialPage(trials=page, next=number if number < len(log) else None)


@router.get("/studies/{study}/columns", responses=READ_ERRORS)
async def columns(
    studies: Studies,
    name: StudyName,
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
    study = await studies.open(name)

    def table() -> responses.ColumnsResponse:
        log = study.journal.read()
        events = log.seq
        return responses.ColumnsResponse.of(log.changed(since, after), limit, events, len(log))

    return await studies.thread(table)


@router.get("/studies/{study}/gallery", responses=READ_ERRORS)
async def gallery(
    studies: Studies, name: StudyName, count: Annotated[int, Query(ge=1, le=24)] = 8
) -> responses.GalleryResponse:
    """Return pictures of the best designs, if the registered problem can draw them."""
    study = await studies.open(name)
    problem = await studies.thread(studies.registered.match, study.journal.header)
    draw = None if problem is None else problem.draw
    if problem is None or draw is None:
        return responses.GalleryResponse(pictures=[])

    def pictures() -> list[responses.DesignPicture]:
        ranking = History(study.journal.trials).ranking
        best = [(t, t.loss) for t in ranking if t.feasible and t.loss is not None][:count]
        pixels = [png(as_picture(draw(problem.decode(trial.point)))) for trial, _ in best]
        return [
            responses.DesignPicture(number=trial.number, loss=loss, picture=data_uri(one))
            for (trial, loss), one in zip(best, pixels, strict=True)
        ]

    return responses.GalleryResponse(pictures=await studies.thread(pictures))


@router.get("/studies/{study}/trials/{number}", responses=READ_ERRORS)
async def one_trial(
    studies: Studies, name: StudyName, number: TrialNumber
) -> responses.TrialResponse:
    """Return one trial."""
    study = await studies.open(name)
    trial = await studies.thread(study.trial, number)
    return responses.TrialResponse.of(trial, study.domain)


@router.get("/studies/{study}/best", responses=READ_ERRORS)
async def best(studies: Studies, name: StudyName) -> responses.BestResponse:
    """Return the incumbent: the feasible trial with the lowest loss."""
    study = await studies.open(name)
    trial = await studies.thread(lambda: study.journal.best)
    found = None if trial is None else responses.TrialResponse.of(trial, study.domain)
    return responses.BestResponse(best=found)


@router.get("/studies/{study}/solutions", responses=READ_ERRORS)
async def solutions(
    studies: Studies,
    name: StudyName,
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
    study = await studies.open(name)
    problem = None if study.why_not else await studies.problem(name)

    def chosen() -> list[Trial]:
        history = History(study.journal.trials)
        noisy = known_noisy(study.journal.header["strategy"], history)
        first = leading_trial(problem.statement, history) if problem and noisy else None
        domain = GaussianDomain if study.domain is None else BoxDomain
        separation = domain.separation if apart is None else apart
        return distinct_trials(history, count, separation, first)

    found = await studies.thread(chosen)
    return responses.TrialsResponse(
        trials=[responses.TrialResponse.of(trial, study.domain) for trial in found]
    )


@router.get("/studies/{study}/curve", responses=READ_ERRORS)
async def curve(studies: Studies, name: StudyName) -> responses.CurveResponse:
    """Return the lowest feasible loss by spent calls: the last 2000 improvements and the end."""
    study = await studies.open(name)
    calls, losses = await studies.thread(lambda: best_so_far(study.journal.trials))
    falls = np.flatnonzero(losses < np.concatenate([[np.inf], losses[:-1]]))
    rows = np.unique([*falls[-2000:], len(calls) - 1])
    return responses.CurveResponse(
        calls=calls[rows].tolist(),
        losses=[float(loss) if np.isfinite(loss) else None for loss in losses[rows]],
    )


@router.get("/studies/{study}/log", responses=READ_ERRORS)
async def log(
    studies: Studies, name: StudyName, after: After = 0, limit: Limit = PAGE
) -> responses.EventsResponse:
    """List the events of the log after position `after`."""
    study = await studies.open(name)
    events = await studies.thread(studies.store.events, name, after, limit)
    header = study.journal.header if after == 0 else None
    return responses.EventsResponse(header=header, events=events)


@router.get(
    "/studies/{study}/live", response_class=StreamingResponse, responses=_STREAM | READ_ERRORS
)
async def live(
    studies: Studies, name: StudyName, request: Request, after: After = 0
) -> StreamingResponse:
    """Stream a summary of the study as server-sent event whenever its log grows."""
    await studies.open(name)

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

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)
