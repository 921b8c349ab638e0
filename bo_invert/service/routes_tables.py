"""Routes of tables: observations and results of many trials, and open trials to complete."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from bo_invert.errors import InvalidInputError
from bo_invert.service import requests, responses
from bo_invert.service.dependencies import PREFIX, READ_ERRORS, WRITE_ERRORS, After, Limit, Study
from bo_invert.service.open_studies import OpenStudy
from bo_invert.service.pages import Page
from bo_invert.study.cell_numbers import NumberReader
from bo_invert.study.csv_table import Table, csv_table, read_table
from bo_invert.study.pending import TRIAL, PendingTrials, pending_record
from bo_invert.study.table_records import AddedTrials, TableOptions, add_table, tell_table
from bo_invert.types import State, Trial

router = APIRouter(prefix=PREFIX)
_ROWS = 1000
"""Largest number of rows of each kind in a response. Engineering choice: bounds its size."""


@router.post("/studies/{study}/table", status_code=201, responses=WRITE_ERRORS)
def add(study: Study, body: requests.TableRequest) -> responses.TableResponse:
    """Add the observations of a table with inputs and outputs; invalid rows are listed.

    A repetition adds nothing: rows that are recorded already are left out.
    """
    options = TableOptions(body.outside, body.blank, body.repeats, "ignore")
    return _response(add_table(study.problem, study.journal, _table(study, body, []), options))


@router.post("/studies/{study}/results", responses=WRITE_ERRORS)
def tell(study: Study, body: requests.ResultsRequest) -> responses.TableResponse:
    """Record results of trials from a table with a column `trial`; invalid rows are listed.

    Rows without outputs are skipped. Parameters that differ from the suggested ones are the
    conditions of the run.
    """
    options = TableOptions(outside=body.outside, errors="ignore")
    return _response(
        tell_table(study.problem, study.journal, _table(study, body, [TRIAL]), options)
    )


@router.get(
    "/studies/{study}/pending",
    response_model=responses.PendingResponse,
    responses={**READ_ERRORS, 200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def pending(
    study: Study,
    after: After = 0,
    limit: Limit = 100,
    form: Annotated[
        Literal["json", "csv"],
        Query(alias="format", description="JSON, or a CSV file with empty outputs to complete."),
    ] = "json",
) -> Response:
    """List the open trials from number `after` on: number, parameters and empty outputs.

    A page ends early if its trials are large. CSV holds one page.
    """
    log, page = study.journal.read(), Page()
    outputs, shown = study.journal.header["problem"]["outputs"], list[Trial]()
    waiting = [t for t in log.within(State.QUEUED, State.RUNNING, State.LOST) if t.number >= after]
    for trial in waiting[:limit]:
        if page.full:
            break
        shown.append(trial)
        page.add(pending_record(trial, outputs, study.domain))
    following = waiting[len(shown)].number if len(shown) < len(waiting) else None
    if form == "csv":
        text = PendingTrials(shown, outputs, study.domain).to_csv()
        return Response(text, media_type="text/csv")
    return page.response("pending", next=following)


def _table(
    study: OpenStudy, body: requests.TableRequest | requests.ResultsRequest, first: list[str]
) -> Table:
    """Return the table of a request."""
    if (body.csv is None) == (body.rows is None):
        raise InvalidInputError("body must have either 'csv' or 'rows'")
    problem, numbers = study.problem, NumberReader(body.decimal, body.thousands)
    names = [*first, *problem.space.domain.parameters, *problem.output_names.oracle]
    if body.csv is None:
        return read_table(body.rows, names, body.columns, numbers, problem.units)
    return csv_table(body.csv, [*names, *body.columns], body.columns, numbers, problem.units)


def _response(found: AddedTrials) -> responses.TableResponse:
    """Return the records of a table, with at most ``_ROWS`` rows of each kind."""
    rows = responses.TableRow
    return responses.TableResponse(
        trials=[trial.number for trial in found],
        rejected=[rows(row=one.row, reason=one.reason) for one in found.rejected[:_ROWS]],
        repeated=[
            responses.RepeatedRow(row=row, trial=trial) for row, trial in found.repeated[:_ROWS]
        ],
        skipped=[rows(row=one.row, reason=one.reason) for one in found.skipped[:_ROWS]],
        failed=[rows(row=one.row, reason=one.reason) for one in found.failed[:_ROWS]],
        waiting=[
            responses.RepeatedRow(row=row, trial=trial) for row, trial in found.waiting[:_ROWS]
        ],
        summary="\n".join(found.summary.split("\n")[:_ROWS]),
    )
