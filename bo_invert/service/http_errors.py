"""What went wrong, as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse

from bo_invert.errors import (
    BoInvertError,
    InvalidInputError,
    MissingExtraError,
    ProblemChangedError,
    SchemaTooNewError,
    StorageError,
    StudyExistsError,
    StudyNotFoundError,
    TellConflictError,
    UnsuitableStrategyError,
)

_MEDIA = "application/problem+json"
_STATUS: tuple[tuple[type[BoInvertError], int], ...] = (
    (StudyNotFoundError, 404),
    (StudyExistsError, 409),
    (TellConflictError, 409),
    (ProblemChangedError, 409),
    (UnsuitableStrategyError, 422),
    (MissingExtraError, 422),
    (InvalidInputError, 422),
    (SchemaTooNewError, 500),
    (
        StorageError,
        503,
    ),  # locked, full, or cut off: what was asked for may be possible a little later
)
_TITLES = {
    400: "bad request",
    401: "no token, or a wrong one",
    403: "not allowed",
    404: "not found",
    405: "method not allowed",
    408: "the request took too long",
    409: "conflict",
    411: "length required",
    413: "too large",
    415: "not JSON",
    422: "cannot be what was meant",
    429: "too many requests",
    431: "too large headers",
    500: "the server failed",
    503: "busy, try again",
    504: "the ask took too long",
}


class Wrong(BaseModel):
    """What went wrong; ``detail`` says what would help."""

    type: str
    title: str
    status: int
    detail: str
    error: str | None = None
    """Which error of the Python library it is."""
    errors: list[dict[str, str]] | None = None
    """Where in the request which value cannot be."""


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Errors with these statuses, as OpenAPI tells of them."""
    content = {_MEDIA: {"schema": {"$ref": f"#/components/schemas/{Wrong.__name__}"}}}
    return {status: {"description": _TITLES[status], "content": content} for status in statuses}


def response(
    status: int, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """An answer that says what went wrong."""
    title = _TITLES.get(status, "error")
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(content, status, headers, media_type=_MEDIA)


def explained(error: BoInvertError) -> JSONResponse:
    """The answer to a request that an error of this library ended."""
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    headers = {"Retry-After": "1"} if status == 503 else None
    return response(status, str(error), headers, error=type(error).__name__)
