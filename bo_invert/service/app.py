"""The server: routes, guard and page put together.

========================================== ======================================================================
``GET  /healthz``                          whether it is there; needs no token
``GET  /v1/studies``                       the studies, page by page
``POST /v1/studies``                       a new one, from a declaration
``GET  /v1/studies/{study}``               what it is about, found and spent; ``DELETE`` forgets it
``POST /v1/studies/{study}/ask``           trials, lent to a worker
``POST .../trials/{number}/tell``          what came of one; also ``fail``, ``heartbeat``, ``release``, ``cancel``
``POST .../observations``, ``.../enqueue`` what is known from elsewhere; what is to be tried first
``GET  .../trials``, ``best``              trials, page by page; the best one
``GET  .../solutions``, ``curve``          good ones that differ; best loss by calls
``GET  .../log``, ``live``                 the events; server-sent events for changes
``GET  /``                                 a page to watch it all on
========================================== ======================================================================
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bo_invert.errors import BoInvertError, StudyNotFoundError
from bo_invert.service import http_errors as problems
from bo_invert.service import routes_read as reading
from bo_invert.service import routes_write as writing
from bo_invert.service.dependencies import study_name
from bo_invert.service.middleware import Bucket, Guard
from bo_invert.service.open_studies import Desk
from bo_invert.service.page import page
from bo_invert.service.tokens import Finder

_ROUTERS = (reading.router, writing.router, page)


def create_app(
    desk: Desk, tokens: Finder, hosts: tuple[str, ...], asks: Bucket | None = None
) -> ASGIApp:
    """The whole of the server as one ASGI application.

    Args:
        desk: the studies.
        tokens: that are accepted.
        hosts: names under which the server may be addressed.
        asks: rate limit of asks, for each token; default: 50 a second.
    """
    from bo_invert import __version__

    app = _Described(
        title="bo_invert",
        version=__version__,
        description="Black-box inversion: ask for points, tell what came of them.",
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan,
        responses=problems.documented(401, 403, 408, 413, 422, 500, 503),
    )
    app.state.desk = desk
    for router in _ROUTERS:
        app.include_router(router)
    app.add_exception_handler(BoInvertError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(TimeoutError, _late)
    app.add_exception_handler(Exception, _unexpected)
    return Guard(_RawPaths(app), tokens, hosts, _public, asks or Bucket(50.0, 100.0), _limited)


def _public(path: str) -> bool:
    """The page is empty without a token; what is on it comes through the verbs."""
    return path in ("/", "/healthz") or path.startswith("/static/")


def _limited(path: str) -> bool:
    return path.endswith("/ask")


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    desk: Desk = app.state.desk
    desk.start()
    reaping = asyncio.create_task(desk.reap())
    try:
        yield
    finally:
        reaping.cancel()
        with suppress(asyncio.CancelledError):
            await reaping
        desk.stop()


class _Described(FastAPI):
    """With what only the guard and the handlers of errors know: tokens, and how errors look."""

    def openapi(self) -> dict[str, Any]:
        found = super().openapi()
        parts = found["components"]
        parts["schemas"][problems.Wrong.__name__] = problems.Wrong.model_json_schema()
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
        return found


class _RawPaths:
    """Routes see the path as it was sent, so that a study's name may hold a slash; see ``paths.study_name``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("raw_path"):
            scope = {**scope, "path": scope["raw_path"].decode("latin-1").partition("?")[0]}
        await self._app(scope, receive, send)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, BoInvertError)
    if isinstance(error, StudyNotFoundError) and "study" in request.path_params:
        request.app.state.desk.forget(study_name(request.path_params["study"]))
    return problems.explained(error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    kind = request.headers.get("content-type", "")
    if request.method == "POST" and "json" not in kind:
        return problems.response(
            422, f"say what the body is: Content-Type: application/json (it was {kind!r})"
        )
    wrong = [
        {"where": ".".join(map(str, one["loc"])), "what": one["msg"]} for one in error.errors()[:20]
    ]
    detail = "; ".join(f"{one['where']}: {one['what']}" for one in wrong[:3])
    if request.url.path.endswith("/tell") and any(
        one["where"].startswith("body.outputs") for one in wrong
    ):
        detail = f"outputs are finite numbers; a trial that gave none is told with fail instead ({detail})"
    return problems.response(422, detail, errors=wrong)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request.scope["path"]))
    return problems.response(error.status_code, str(error.detail), headers)


def _methods(path: str) -> list[str]:
    """What can be done at a path; a route by itself knows its own method alone."""
    routes = [route for router in _ROUTERS for route in router.routes if isinstance(route, Route)]
    return sorted(
        {
            method
            for route in routes
            if route.path_regex.match(path)
            for method in route.methods or ()
        }
    )


async def _late(_: Request, error: Exception) -> Response:
    return problems.response(
        504, "the strategy took too long; ask again, and what it proposed will be there"
    )


async def _unexpected(_: Request, error: Exception) -> Response:
    return problems.response(500, f"{type(error).__name__}; the server's log has more")
