"""ASGI application of the server: routes, middleware, error handlers and page.

========================================== ====================================================
``GET  /healthz``                          liveness; needs no token
``GET  /v1/studies``                       list of studies
``POST /v1/studies``                       creates a study
``GET  /v1/studies/{study}``               summary of a study; ``DELETE`` deletes it
``POST /v1/studies/{study}/ask``           starts trials and leases them to a worker
``POST .../trials/{number}/tell``          records outputs; also ``fail``, ``heartbeat``,
                                           ``release``, ``cancel``, ``amend``
``POST .../observations``, ``.../enqueue`` adds observations; queues a design
``POST .../table``, ``.../results``        observations and results of trials in a table
``GET  .../pending``                       open trials to complete, as JSON or CSV
``GET  .../trials``, ``best``              list of trials; incumbent
``GET  .../solutions``, ``curve``          best trials that differ; best loss by calls
``POST .../predict``, ``end``              predictions; reason of the end of a run
``GET  .../outlook``                       gain that further calls can bring
``GET  .../verdict``, ``posterior``        attainability of the target; designs that meet it
``POST .../reachable``                     attainability of further targets
``GET  .../predicted``                     design that most probably meets the target
``GET  .../recommended``                   trial to act on, with its yield
``GET  .../trials/{number}/tolerances``    moves of the parameters of a design
``POST .../retarget``                      creates a study for another objective
``GET  .../log``, ``live``                 events; server-sent events for changes
``GET  /``                                 web page
========================================== ====================================================
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bo_invert import __version__
from bo_invert.errors import BoInvertError, StudyDamagedError, StudyNotFoundError
from bo_invert.service import (
    page,
    routes_front,
    routes_inverse,
    routes_models,
    routes_read,
    routes_tables,
    routes_write,
)
from bo_invert.service.access_tokens import TokenLookup
from bo_invert.service.http_errors import (
    ProblemDetails,
    documented,
    problem_response,
    status_of,
)
from bo_invert.service.live_events import LiveEvents
from bo_invert.service.middleware import AccessControl
from bo_invert.service.open_studies import OpenStudies
from bo_invert.service.quotas import Admission, Memory
from bo_invert.service.remote_requests import RemoteRequests

_log = logging.getLogger(__name__)
_ROUTERS = (
    routes_read.router, routes_write.router, routes_tables.router, routes_models.router,
    routes_front.router, routes_inverse.router,
    page.router,
)  # fmt: skip


def create_app(
    studies: OpenStudies,
    tokens: TokenLookup,
    hosts: tuple[str, ...],
    admission: Admission | None = None,
) -> ASGIApp:
    """Return the server as one ASGI application.

    Args:
        studies: studies of the server.
        tokens: accepted tokens.
        hosts: accepted host names.
        admission: limits of each token; default: ``quotas.QUOTAS``.
    """
    memory = Memory()
    app: ASGIApp = create_api(studies)
    if studies.reads is not None:
        app = RemoteRequests(app, studies.reads, memory)
    names = {host.lower() for host in hosts}
    return AccessControl(app, tokens, names, admission or Admission(), memory)


def create_api(studies: OpenStudies) -> FastAPI:
    """Return the routes without access control, also for the processes that read."""
    app = _Application(
        title="bo_invert",
        version=__version__,
        description="Black-box inversion: ask for trials, tell their outcomes.",
        docs_url=None,  # these pages load scripts from other hosts
        redoc_url=None,
        lifespan=_lifespan,
        responses=documented(400, 401, 403, 408, 413, 422, 429, 500, 503),
        exception_handlers={
            BoInvertError: _library_error,
            RequestValidationError: _invalid_request,
            HTTPException: _http_error,
            TimeoutError: _ask_timeout,
            Exception: _unexpected_error,
        },
    )
    app.state.studies = studies
    app.state.live = LiveEvents(partial(routes_read.read_summary, studies), lambda: studies.closing)
    for router in _ROUTERS:
        app.include_router(router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    studies: OpenStudies = app.state.studies
    studies.start()
    _log.info(
        "server started; storage %s, up to %d ask processes", studies.store, studies.processes.count
    )
    expiry = asyncio.create_task(studies.expire_leases())
    try:
        yield
    finally:
        expiry.cancel()
        studies.stop()
        _log.info("server stopped")


class _Application(FastAPI):
    """Application that documents tokens and errors, and routes by encoded paths.

    Study names may hold slashes, which are percent-encoded in paths.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("raw_path"):
            scope = {**scope, "path": scope["raw_path"].decode("latin-1").partition("?")[0]}
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        parts = document["components"]
        parts["schemas"][ProblemDetails.__name__] = ProblemDetails.model_json_schema()
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        return document


async def _library_error(request: Request, error: BoInvertError) -> Response:
    studies: OpenStudies = request.app.state.studies
    name = unquote(request.path_params.get("study", ""))
    if isinstance(error, StudyNotFoundError):
        studies.forget(name)
    elif isinstance(error, StudyDamagedError) and name:
        with suppress(BoInvertError):  # the next list then reads the log, and reports the damage
            await studies.thread(studies.store.summarise, name, None)
    status = status_of(error)
    headers = {"Retry-After": "1"} if status == 503 else None
    return problem_response(status, str(error), headers, error=type(error).__name__)


async def _invalid_request(request: Request, error: RequestValidationError) -> Response:
    kind = request.headers.get("content-type", "")
    if request.method == "POST" and "json" not in kind:
        return problem_response(422, f"Content-Type must be application/json, got {kind!r}")
    errors = [
        {"where": ".".join(map(str, one["loc"])), "what": one["msg"]} for one in error.errors()[:20]
    ]
    detail = "; ".join(f"{one['where']}: {one['what']}" for one in errors[:3])
    in_outputs = any(one["where"].startswith("body.outputs") for one in errors)
    if request.url.path.endswith("/tell") and in_outputs:
        detail = f"outputs must be finite numbers ({detail}). Use fail for a trial without outputs."
    return problem_response(422, detail, errors=errors)


async def _http_error(request: Request, error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    if error.status_code == 405:
        routes = [route for router in _ROUTERS for route in router.routes]
        matching = [
            route
            for route in routes
            if isinstance(route, Route) and route.path_regex.match(request.scope["path"])
        ]
        methods = {method for route in matching for method in route.methods or ()}
        headers["Allow"] = ", ".join(sorted(methods))
    return problem_response(error.status_code, str(error.detail), headers)


async def _ask_timeout(_: Request, error: Exception) -> Response:
    return problem_response(504, "the strategy is still running; ask again for its trials")


async def _unexpected_error(_: Request, error: Exception) -> Response:
    return problem_response(500, f"{type(error).__name__}; the server's log has the details")
