"""Parameters of requests besides the body, and documented error responses of the routes."""

from __future__ import annotations

from typing import Annotated, cast
from urllib.parse import unquote

from fastapi import Depends, Header, Path, Query, Request

from bo_invert.errors import StudyNotFoundError
from bo_invert.service.http_errors import documented
from bo_invert.service.open_studies import OpenStudies, OpenStudy

PREFIX = "/v1"
PAGE = 1000
"""Largest number of trials or events in one response."""
READ_ERRORS = documented(404)
CREATE_ERRORS = documented(400, 409)
WRITE_ERRORS = documented(400, 404, 409)
ASK_ERRORS = documented(400, 404, 409, 504)


async def _open_studies(request: Request) -> OpenStudies:
    return cast(OpenStudies, request.app.state.studies)


Studies = Annotated[OpenStudies, Depends(_open_studies)]


async def _checked_name(
    studies: Studies,
    study: Annotated[str, Path(description="Name of the study, percent-encoded.")],
    study_id: Annotated[
        str | None,
        Header(
            max_length=64,
            description="Id of the study; the request fails if the study was deleted and replaced.",
        ),
    ] = None,
) -> str:
    """Return a study's name if the study has the id of the header ``Study-Id``."""
    name = unquote(study)
    if study_id is not None and (await studies.open(name)).journal.header.get("id") != study_id:
        raise StudyNotFoundError(
            f"study {name!r} was deleted and created again; open the new one by its name"
        )
    return name


StudyName = Annotated[str, Depends(_checked_name)]


async def _open_study(studies: Studies, name: StudyName) -> OpenStudy:
    return await studies.open(name)


Study = Annotated[OpenStudy, Depends(_open_study)]
TrialNumber = Annotated[int, Path(description="Number of the trial, from 0.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=200,
        description="Key of the request; a repetition with the same key changes nothing.",
    ),
]
After = Annotated[int, Query(ge=0, le=2**53, description="Position of the first item.")]
Limit = Annotated[int, Query(ge=1, le=PAGE, description="Largest number of items.")]
