"""What a request says besides its body, and what may come of it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Depends, Header, Query, Request

from bo_invert.errors import StudyNotFoundError
from bo_invert.service import http_errors as problems
from bo_invert.service import responses as answers
from bo_invert.service.open_studies import Desk

PREFIX = "/v1"
PAGE = 1000
"""Trials or events of one page, at most."""
LOOK = problems.documented(404)
CREATE = problems.documented(400, 409)
WRITE = problems.documented(400, 404, 409)
ASK = problems.documented(400, 404, 409, 429, 504)


def gives(answer: type[answers.Answer], status: int = 200) -> dict[int | str, dict[str, Any]]:
    """What is answered when all is well."""
    return {status: {"model": answer}}


def study_name(segment: str) -> str:
    """A study's name from its path segment, in which a slash may be hidden."""
    return unquote(segment)


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


On = Annotated[Desk, Depends(_desk)]


async def _meant(
    desk: On, study: str, study_id: Annotated[str | None, Header(max_length=64)] = None
) -> str:
    """A study's name, once it is sure that whoever says ``Study-Id`` means this one, not a deleted one of its name."""
    name = study_name(study)
    if study_id is not None and (await desk.open(name)).journal.header.get("id") != study_id:
        raise StudyNotFoundError(
            f"study {name!r} was deleted, and another one of this name begun; open it again"
        )
    return name


Study = Annotated[str, Depends(_meant)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]
After = Annotated[int, Query(ge=0, le=2**53)]
Limit = Annotated[int, Query(ge=1, le=PAGE)]
