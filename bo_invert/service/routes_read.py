"""GET routes of the HTTP API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from concurrent.futures import BrokenExecutor
from contextlib import aclosing, suppress
from enum import StrEnum
from typing import Annotated
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from bo_invert.domains.box_domain import BoxDomain
from bo_invert.domains.gaussian_domain import GaussianDomain
from bo_invert.errors import (
    InvalidInputError,
    StorageBusyError,
    StorageError,
    StudyDamagedError,
    StudyNotFoundError,
)
from bo_invert.history import History, best_so_far
from bo_invert.report.pictures import data_uri, png
from bo_invert.service import responses
from bo_invert.service.dependencies import (
    PAGE,
    PREFIX,
    READ_ERRORS,
    After,
    Limit,
    Studies,
    Study,
    StudyName,
    TrialNumber,
)
from bo_invert.service.live_events import LiveEvents, Summary
from bo_invert.service.open_studies import OpenStudies, why_not
from bo_invert.service.pages import CHUNK, PAGE_BYTES, Page, encoded
from bo_invert.service.remote_requests import RemoteRequest
from bo_invert.storage.log_summary import StudyEntry
from bo_invert.study.design_pictures import design_pictures
from bo_invert.study.plots import StudyPlots
from bo_invert.study.recommendation import known_noisy
from bo_invert.study.solution_choice import choose_trials, distinct_trials
from bo_invert.types import State

_COLUMNS, _ROUNDED = 200, 9
"""Bytes of a trial in columns without its point, and of a coordinate with five decimals. JSON of
both has at most this length, but for long names of workers."""
_STEP = 16
"""Number of studies that a list reads at once. Engineering choice: bounds the memory for headers,
which may have the size of the largest body."""
PlotName = StrEnum(  # type: ignore[misc]
    "PlotName", [name for name in StudyPlots.NAMES if name != "solutions"]
)
"""Plots of the API; ``solutions`` calls the judge."""
_WITHOUT_TARGET = (
    "timeline", "pareto_front", "hypervolume_history", "predicted_vs_observed", "posterior",
)  # fmt: skip
router = APIRouter(prefix=PREFIX)


async def summary(studies: OpenStudies, name: str) -> responses.StudyResponse:
    """Summarise a study."""
    return await studies.thread(responses.StudyResponse.of_open, await studies.open(name))


async def read_summary(studies: OpenStudies, client: str, name: str) -> Summary:
    """Return the summary of a study as JSON text.

    Raises:
        StudyNotFoundError: no study has this name.
        StorageError: it could not be read.
    """
    if studies.reads is None:
        made = await summary(studies, name)
        return Summary(made.events, made.model_dump_json())
    request = RemoteRequest(f"{PREFIX}/studies/{quote(name, safe='')}".encode())
    try:
        reply = await studies.reads.run(client, name, request)
    except BrokenExecutor:
        reply = None
    if reply is not None and reply.status == 404:
        raise StudyNotFoundError(f"no study named {name!r}")
    if reply is None or reply.status != 200:
        raise StorageBusyError(f"study {name!r} could not be read; try again")
    return Summary(int(dict(reply.headers)[b"etag"].strip(b'"')), reply.body.decode())


@router.get("/studies", response_model=responses.StudyPage)
async def studies(studies: Studies, after: After = 0, limit: Limit = 100) -> Response:
    """List the studies in order of creation, those that cannot be read with the reason.

    A page ends early if its studies are large.
    """
    page, damaged, end = Page(), list[dict[str, str]](), after
    while True:
        start, step = end, min(after + limit - end, _STEP)
        entries = await studies.thread(studies.store.summaries, start, step + 1)
        for entry in entries[:step]:
            end += 1
            try:
                page.add(await _listed(studies, entry))
            except (StudyDamagedError, StudyNotFoundError) as error:
                damaged.append({"name": entry.name, "detail": str(error)})
            if page.full:
                break
        following = end if end - start < len(entries) else None
        if following is None or page.full or end == after + limit:
            return page.response("studies", damaged=damaged, next=following)


async def _listed(studies: OpenStudies, entry: StudyEntry) -> responses.StudyResponse:
    """Describe a study in a list, without its events if their summary is stored."""
    if entry.header is None or entry.summary is None:
        study = await studies.open(entry.name)
        made = await studies.thread(responses.StudyResponse.of_open, study)
        with suppress(StorageError):  # a read-only storage stores none
            await studies.thread(studies.store.summarise, entry.name, study.journal.summary)
        return made
    header = json.loads(entry.header)
    reason = why_not(entry.name, header, studies.registered)
    return responses.StudyResponse.of(entry.name, header, entry.summary, reason)


@router.get("/studies/{study}", response_model=responses.StudyResponse, responses=READ_ERRORS)
def study(study: Study) -> Response:
    """Return one study: problem, strategy, incumbent and costs."""
    made = responses.StudyResponse.of_open(study)
    # The tag is the position of the last event; streams compare it without reading the body.
    headers = {"ETag": f'"{made.events}"'}
    return Response(encoded(made), headers=headers, media_type="application/json")


@router.get("/studies/{study}/trials", response_model=responses.TrialPage, responses=READ_ERRORS)
def trials(
    study: Study, after: After = 0, limit: Limit = 100, state: State | None = None
) -> Response:
    """List trials from number `after` on, all or those in one state.

    A page ends early if its trials are large.
    """
    log = study.journal.read()
    end, page, following = len(log), Page(), after
    for number in range(after, end):
        following = number + 1
        if state is None or log[number].state is state:
            page.add(responses.TrialResponse.of(log[number], study.domain))
            if page.full or len(page) == limit:
                break
    return page.response("trials", next=following if following < end else None)


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
    width = min(32, len(changed[0].point)) if changed else 0
    limit = min(limit, PAGE_BYTES // (_COLUMNS + _ROUNDED * width))
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
    """Return pictures of the best designs, if the registered problem has images or draws them."""
    problem = study.registered.match(study.journal.header)
    if problem is None:
        return responses.GalleryResponse(pictures=[])
    if study.journal.header["problem"]["objective"]["type"] == "pareto":
        best = study.results.front.spread(count)
    else:
        ranking = History(study.journal.trials).ranking
        best = [trial for trial in ranking if trial.feasible and trial.loss is not None][:count]
    pictures = design_pictures(problem, [problem.decode(trial.point) for trial in best]) or []
    pixels = [png(picture) for picture in pictures]
    return responses.GalleryResponse.model_validate(
        {
            "pictures": [
                {"number": trial.number, "loss": trial.loss, "picture": data_uri(one)}
                for trial, one in zip(best, pixels, strict=bool(pixels))
            ]
        }
    )


@router.get("/studies/{study}/trials/{number}", responses=READ_ERRORS)
def one_trial(study: Study, number: TrialNumber) -> responses.TrialResponse:
    """Return one trial."""
    return responses.TrialResponse.of(study.trial(number), study.domain)


@router.get("/studies/{study}/best", responses=READ_ERRORS)
def best(study: Study) -> responses.BestResponse:
    """Return the incumbent; for a noisy oracle, also the trial that a model recommends."""
    trial = study.journal.best
    recommended, expected = None, None
    results = study.results
    if trial is not None and results.problem is not None and results.noisy:
        with suppress(InvalidInputError):  # no observed point is probably feasible
            found = results.recommend(noisy=True)
            recommended = responses.TrialResponse.of(found.trial, study.domain)
            low, middle, high = map(found.goal.value, found.loss)
            expected = [min(low, high), middle, max(low, high)]
    return responses.BestResponse(
        best=None if trial is None else responses.TrialResponse.of(trial, study.domain),
        recommended=recommended,
        expected=expected,
    )


@router.get("/studies/{study}/plots/{plot}", responses=READ_ERRORS)
def plot(
    study: Study,
    plot: Annotated[PlotName, Path(description="Name of the plot.")],
    target: Annotated[
        str | None, Query(max_length=200, description="Output to show; default: the objective.")
    ] = None,
) -> responses.PlotResponse:
    """Return the data of a plot of `study.plot`: panels with axes and layers.

    Plots of a model need the problem: a declared or registered one.
    """
    events = study.journal.changed(0)[1]
    options = {} if target is None or plot in _WITHOUT_TARGET else {"target": target}
    made = getattr(study.results.plot, plot)(**options)
    return responses.PlotResponse(chart=made.chart.to_json(), events=events)


@router.get(
    "/studies/{study}/solutions", response_model=responses.TrialsResponse, responses=READ_ERRORS
)
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
) -> Response:
    """List the best trials with different designs, best first, as `Study.solutions` without judge.

    Solutions of a target are one of each branch first. Closer points fill the list if there are too
    few. Large trials shorten it.
    """
    history = History(study.journal.trials)
    if study.no_problem:
        domain = GaussianDomain if study.domain is None else BoxDomain
        found = distinct_trials(history, count, domain.separation if apart is None else apart)
    else:
        noisy = known_noisy(study.journal.header["strategy"], history)
        found = choose_trials(study.problem.statement, history, count, noisy, apart).trials
    page = Page()
    for trial in found:
        if not page.full:
            page.add(responses.TrialResponse.of(trial, study.domain))
    return page.response("trials")


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


@router.get("/studies/{study}/log", response_model=responses.EventsResponse, responses=READ_ERRORS)
def log(studies: Studies, study: Study, after: After = 0, limit: Limit = PAGE) -> Response:
    """List the events of the log after position `after`; a page ends early if they are large."""
    events = studies.store.events(study.journal.name, after, limit, PAGE_BYTES)
    page = Page()
    for event in events:
        page.add(event)
    cut = page.full or len(events) == limit
    return page.response(
        "events",
        header=study.journal.header if after == 0 else None,
        next=after + len(events) if cut else None,
    )


@router.get(
    "/studies/{study}/live",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **READ_ERRORS},
)
async def live(
    request: Request, studies: Studies, study: StudyName, after: After = 0
) -> StreamingResponse:
    """Stream a summary of the study as server-sent event whenever its log grows."""
    stream: LiveEvents = request.app.state.live
    client = request.scope["token"].name
    await read_summary(studies, client, study)  # fails if there is no such study

    async def events() -> AsyncIterator[str]:
        try:
            async with aclosing(stream.follow(client, study, after)) as news:
                async for summary in news:
                    if summary is None:
                        yield ": keep-alive\n\n"
                    else:
                        event = f"id: {summary.events}\ndata: {summary.text}\n\n"
                        for start in range(0, len(event), CHUNK):
                            yield event[start : start + CHUNK]
        except StudyNotFoundError:
            yield "event: gone\ndata: {}\n\n"
        except StorageError:
            return  # the client connects again

    return StreamingResponse(
        events(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
