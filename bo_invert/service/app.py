"""ASGI application of the server: routes, middleware, error handlers and page.

========================================== ====================================================
``GET  /healthz``                          liveness; needs no token
``GET  /v1/studies``                       list of studies
``POST /v1/studies``                       creates a study
``GET  /v1/studies/{study}``               summary of a study; ``DELETE`` deletes it
``POST /v1/studies/{study}/ask``           starts trials and leases them to a worker
``POST .../trials/{number}/tell``          records outputs; also ``fail``, ``heartbeat``,
                                           ``release``, ``cancel``
``POST .../observations``, ``.../enqueue`` adds observations; queues a design
``GET  .../trials``, ``best``              list of trials; incumbent
``GET  .../solutions``, ``curve``          best trials that differ; best loss by calls
``GET  .../log``, ``live``                 events; server-sent events for changes
``GET  /``                                 web page
========================================== ====================================================
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bo_invert import __version__
from bo_invert.errors import BoInvertError, StudyNotFoundError
from bo_invert.service import page, routes_read, routes_write
from bo_invert.service.access_tokens import TokenLookup
from bo_invert.service.http_errors import (
    ProblemDetails,
    documented,
    error_response,
    problem_response,
)
from bo_invert.service.middleware import AccessControl, RateLimiter
from bo_invert.service.open_studies import OpenStudies

_log = logging.getLogger(__name__)
_ROUTERS = (routes_read.router, routes_write.router, page.router)


def create_app(
    studies: OpenStudies,
    tokens: TokenLookup,
    hosts: tuple[str, ...],
    asks: RateLimiter | None = None,
) -> ASGIApp:
    """Return the server as one ASGI application.

    Args:
        studies: studies of the server.
        tokens: accepted tokens.
        hosts: accepted host names.
        asks: rate limiter of asks; default: 50 a second for each token.
    """
    app = _DocumentedApp(
        title="bo_invert",
        version=__version__,
        description="Black-box inversion: ask for trials, tell their outcomes.",
        docs_url=None,  # these pages load scripts from other hosts
        redoc_url=None,
        lifespan=_lifespan,
        responses=documented(401, 403, 408, 413, 422, 500, 503),
    )
    app.state.studies = studies
    for router in _ROUTERS:
        app.include_router(router)
    app.add_exception_handler(BoInvertError, _library_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(TimeoutError, _ask_timeout)
    app.add_exception_handler(Exception, _unexpected_error)
    limiter = asks or RateLimiter(50.0, 100.0)
    return AccessControl(_RawPaths(app), tokens, hosts, _is_public, limiter, _is_ask)


def _is_public(path: str) -> bool:
    """Return whether a path needs no token: the page holds no data of studies."""
    return path in ("/", "/healthz") or path.startswith("/static/")


def _is_ask(path: str) -> bool:
    return path.endswith("/ask")


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    studies: OpenStudies = app.state.studies
    studies.processes.start()
    _log.info(
        "server started; storage %s, %d ask processes", studies.store, studies.processes.count
    )
    expiry = asyncio.create_task(studies.expire_leases())
    try:
        yield
    finally:
        expiry.cancel()
        with suppress(asyncio.CancelledError):
            await expiry
        studies.stop()
        _log.info("server stopped")


class _DocumentedApp(FastAPI):
    """Application whose OpenAPI document includes the tokens and the error schema."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        parts = document["components"]
        parts["schemas"][ProblemDetails.__name__] = ProblemDetails.model_json_schema()
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        return document


class _RawPaths:
    """ASGI middleware that routes by the encoded path, so that study names may hold slashes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("raw_path"):
            scope = {**scope, "path": scope["raw_path"].decode("latin-1").partition("?")[0]}
        await self._app(scope, receive, send)


async def _library_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BoInvertError)
    if isinstance(error, StudyNotFoundError) and "study" in request.path_params:
        request.app.state.studies.forget(unquote(request.path_params["study"]))
    return error_response(error)


async def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
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


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request.scope["path"]))
    return problem_response(error.status_code, str(error.detail), headers)


def _methods(path: str) -> list[str]:
    """Return the methods of all routes that match a path."""
    routes = [route for router in _ROUTERS for route in router.routes if isinstance(route, Route)]
    matching = [route for route in routes if route.path_regex.match(path)]
    return sorted({method for route in matching for method in route.methods or ()})


async def _ask_timeout(_: Request, error: Exception) -> Response:
    return problem_response(504, "the strategy is still running; ask again for its trials")


async def _unexpected_error(_: Request, error: Exception) -> Response:
    return problem_response(500, f"{type(error).__name__}; the server's log has the details")
