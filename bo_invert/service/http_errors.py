"""Error responses as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from bo_invert.errors import (
    BoInvertError,
    InvalidInputError,
    MissingExtraError,
    ProblemChangedError,
    SchemaTooNewError,
    StorageError,
    StudyDamagedError,
    StudyExistsError,
    StudyNotFoundError,
    StudyPausedError,
    TellConflictError,
    UnsuitableStrategyError,
)

_MEDIA = "application/problem+json"
_STATUS: tuple[tuple[type[BoInvertError], int], ...] = (
    (StudyNotFoundError, 404),
    (StudyExistsError, 409),
    (TellConflictError, 409),
    (StudyPausedError, 409),
    (ProblemChangedError, 409),
    (UnsuitableStrategyError, 422),
    (MissingExtraError, 422),
    (InvalidInputError, 422),
    (SchemaTooNewError, 500),
    (StudyDamagedError, 500),
    (StorageError, 503),  # locked, full or unreachable: a retry may succeed
)
"""Status codes of the library's errors; the first class that matches counts."""
_TITLES = {
    400: "bad request",
    401: "missing or unknown token",
    403: "forbidden",
    404: "not found",
    405: "method not allowed",
    408: "request timeout",
    409: "conflict",
    411: "length required",
    413: "request too large",
    415: "unsupported media type",
    422: "invalid argument",
    429: "too many requests",
    431: "request headers too large",
    500: "internal server error",
    503: "service unavailable, retry later",
    504: "ask timeout",
}


class ProblemDetails(BaseModel):
    """Problem details of RFC 9457; ``detail`` names the cause and the remedy."""

    type: str
    title: str
    status: int
    detail: str
    error: str | None = Field(None, description="Exception class of the Python library.")
    errors: list[dict[str, str]] | None = Field(
        None, description="Invalid values: `where` is the position, `what` the reason."
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI descriptions of error responses with these status codes."""
    content = {_MEDIA: {"schema": {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}}}
    return {status: {"description": _TITLES[status], "content": content} for status in statuses}


def problem_response(
    status: int, detail: str, headers: Mapping[str, str] | None = None, **more: object
) -> JSONResponse:
    """Return an error response."""
    content = {"type": "about:blank", "title": _TITLES.get(status, "error"), "status": status}
    return JSONResponse(content | {"detail": detail, **more}, status, headers, media_type=_MEDIA)


def status_of(error: BoInvertError) -> int:
    """Return the status code of an error of the library."""
    return next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
