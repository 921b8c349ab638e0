"""POST and DELETE routes of the HTTP API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from bo_invert.domains.constrained_box import fixed_point_test
from bo_invert.errors import (
    EvaluationError,
    FailedError,
    InfeasibleError,
    InvalidInputError,
    StudyExistsError,
)
from bo_invert.problems.json_declaration import problem_from_declaration
from bo_invert.problems.problem import Problem
from bo_invert.service import requests, responses
from bo_invert.service.dependencies import (
    ASK_ERRORS,
    CREATE_ERRORS,
    PREFIX,
    READ_ERRORS,
    WRITE_ERRORS,
    IdempotencyKey,
    Studies,
    Study,
    StudyName,
    TrialNumber,
)
from bo_invert.service.open_studies import OpenStudy
from bo_invert.service.pages import PAGE_BYTES, Page, streamed
from bo_invert.service.registered_problems import RegisteredProblems
from bo_invert.service.responses import TrialResponse
from bo_invert.service.routes_read import summary
from bo_invert.service.schema_types import VECTOR
from bo_invert.storage.heartbeats import LEASE
from bo_invert.storage.journal_base import TakeRequest
from bo_invert.storage.optimistic_journal import Journal
from bo_invert.storage.trial_transitions import Assignment
from bo_invert.strategies.base import from_spec
from bo_invert.strategies.requirements import require_support
from bo_invert.study.amendments import amended_outcome, completed
from bo_invert.study.header import new_header
from bo_invert.study.input_validation import check_outputs, user_query
from bo_invert.study.placement import Outside, Place, conditions, place, stored_place
from bo_invert.types import JSON, Array, Cost, Query, State, Trial
from bo_invert.user_tables import require_names

router = APIRouter(prefix=PREFIX)


@router.post("/studies", status_code=201, responses=CREATE_ERRORS)
async def create(studies: Studies, body: requests.CreateStudyRequest) -> responses.StudyResponse:
    """Create a study of a declared or a registered problem."""
    header = await studies.thread(_header, studies.registered, body)
    try:
        await studies.thread(studies.store.create, body.name, header)
    except StudyExistsError:
        if not body.exist_ok:
            raise
        existing = (await studies.open(body.name)).journal.header
        for part in ("problem", "strategy", "seed"):
            if existing[part] != header[part]:
                raise StudyExistsError(
                    f"study {body.name!r} exists with another {part}; choose another name"
                ) from None
    return await summary(studies, body.name)


@router.delete("/studies/{study}", status_code=204, responses=READ_ERRORS)
async def delete(studies: Studies, name: StudyName) -> None:
    """Delete a study with all its trials."""
    await studies.thread(studies.store.delete, name)
    studies.forget(name)


@router.post("/studies/{study}/ask", response_model=responses.AskResponse, responses=ASK_ERRORS)
async def ask(
    request: Request,
    studies: Studies,
    study: Study,
    body: requests.AskRequest,
    key: IdempotencyKey = None,
) -> Response:
    """Start trials and lease them to the worker.

    A repetition with the same `Idempotency-Key` returns the same trials. Without trials, `why`
    gives the reason. There are fewer trials than `count` if they are large.
    """
    if study.why_not:
        raise InvalidInputError(study.why_not)
    count = min(body.count, max(1, PAGE_BYTES // await studies.thread(_trial_bytes, study)))
    lease = body.lease if body.worker is None else body.lease or LEASE
    if body.worker is not None and lease is not None:
        await studies.beat(study, body.worker, lease)
    domain = study.problem.space.domain
    fixed = await studies.thread(fixed_point_test, domain, body.fixed) if body.fixed else ()
    assignment = Assignment(body.worker, lease, key, body.round_size, body.under_way, *fixed)
    assignment = replace(assignment, purpose=body.purpose, hope_level=body.hope_level)
    take = TakeRequest(count, body.retries, assignment, body.known)
    trials = await study.queue.ask(take, body.budget, request.scope["token"].name)
    return await studies.thread(_asked, study, trials, body.budget)


def _trial_bytes(study: OpenStudy) -> int:
    return study.trial_bytes


def _asked(study: OpenStudy, trials: Sequence[Trial], budget: int | None) -> Response:
    """Return the response of an ask."""
    page = Page()
    for trial in trials:
        page.add(TrialResponse.of(trial, study.domain))
    return page.response("trials", why="" if trials else _why_none(study.journal, budget))


@router.post("/studies/{study}/trials/{number}/tell", responses=WRITE_ERRORS)
def tell(study: Study, number: TrialNumber, body: requests.TellRequest) -> TrialResponse:
    """Record the outputs of a trial; the response is sent once they are on disk."""
    problem = study.problem
    query = study.query(number)
    check_outputs(body.outputs, problem.output_names.reported(body.outputs))
    where = _conditions(study, number, body)
    outcome = problem.outcome(
        body.outputs,
        query.cost if body.cost is None else body.cost.to_cost(),
        query.point if where is None else where.point,
        gradient=None if body.gradient is None else _vector("gradient", body.gradient, problem),
        trace=body.trace and [float("nan") if loss is None else loss for loss in body.trace],
    )
    outcome = completed(problem, outcome, where, body.extra)
    return TrialResponse.of(study.journal.finish(number, outcome, body.attempt), study.domain)


@router.post("/studies/{study}/trials/{number}/fail", responses=WRITE_ERRORS)
def fail(study: Study, number: TrialNumber, body: requests.FailRequest) -> TrialResponse:
    """Record a failed or infeasible trial."""
    problem = study.problem
    query = study.query(number)
    error = InfeasibleError(body.reason) if body.infeasible else FailedError(body.reason)
    outcome = problem.outcome(error, query.cost if body.cost is None else body.cost.to_cost())
    outcome = completed(problem, outcome, _conditions(study, number, body), body.extra)
    return TrialResponse.of(study.journal.finish(number, outcome, body.attempt), study.domain)


@router.post("/studies/{study}/trials/{number}/amend", responses=WRITE_ERRORS)
def amend(study: Study, number: TrialNumber, body: requests.AmendRequest) -> TrialResponse:
    """Correct an outcome; the log retains the former one."""
    trial = study.trial(number)
    failure = _failure(body)
    if body.outputs is not None and failure is not None:
        raise InvalidInputError("body must have one of 'outputs', 'failed' and 'infeasible'")
    where = _place(study, trial, body, recorded=True)
    outcome = amended_outcome(study.problem, trial, failure or body.outputs, where, body.extra)
    revision = len(trial.amendments) if body.revision is None else body.revision
    amended = study.journal.amend(number, outcome, body.reason, revision)
    return TrialResponse.of(amended, study.domain)


def _conditions(study: OpenStudy, number: int, body: requests.Conditions) -> Place | None:
    """Return the end of a descent, or the place of a run; None for the suggested point."""
    trial = study.journal.cached_trial(number) or study.trial(number)
    if trial.query.descent is not None and body.point is not None:
        return Place(_vector("point", body.point, study.problem))
    return _place(study, trial, body)


def _place(
    study: OpenStudy,
    trial: Trial | None,
    body: requests.Conditions | requests.ReportedObservation,
    recorded: bool = False,
) -> Place | None:
    """Return the place of a point or of parameters; None without both.

    Args:
        study: Study.
        trial: Trial whose conditions the body holds; None for an observation.
        body: Body of the request.
        recorded: Parameters that are not given are those of the log; see ``conditions``.
    """
    problem = study.problem
    if body.point is not None:
        if body.parameters is not None:
            raise InvalidInputError("body must have only one of 'point' and 'parameters'")
        point = _vector("point", body.point, problem)
        found = stored_place(problem.space, point, body.design, body.outside)
        return found if trial is None else found.compared(trial)
    if body.parameters is None:
        return None
    if trial is None:
        require_names("parameters", problem.space.domain.parameters, body.parameters)
        return place(problem.space, body.parameters, body.outside)
    outside: Outside = "model" if body.outside else "error"
    return conditions(problem.space, trial, body.parameters, outside, recorded=recorded)


@router.post("/studies/{study}/trials/{number}/heartbeat", responses=WRITE_ERRORS)
def heartbeat(
    study: Study, number: TrialNumber, body: requests.TrialHeartbeatRequest
) -> responses.TrialHeartbeatResponse:
    """Record a heartbeat of the worker of a trial."""
    trial = study.trial(number)
    held = trial.state is State.RUNNING and body.attempt == len(trial.attempts) - 1
    worker = trial.attempts[-1].worker if held else None
    if worker is not None:
        study.journal.beat(worker)
    return responses.TrialHeartbeatResponse(held=held, state=trial.state)


@router.post("/studies/{study}/heartbeat", responses=WRITE_ERRORS)
def worker_heartbeat(
    study: Study, body: requests.WorkerHeartbeatRequest
) -> responses.WorkerHeartbeatResponse:
    """Record a heartbeat of a worker for all its trials."""
    study.journal.beat(body.worker)
    return responses.WorkerHeartbeatResponse(worker=body.worker)


@router.post("/studies/{study}/trials/{number}/release", responses=WRITE_ERRORS)
def release(study: Study, number: TrialNumber, body: requests.ReleaseRequest) -> TrialResponse:
    """Release an unfinished trial to other workers, or bill it as lost."""
    trial = study.trial(number)
    if not body.lost:
        study.journal.release(number, body.attempt, body.cost.to_cost())
    elif body.attempt == len(trial.attempts) - 1:
        study.journal.abandon({number})
    return TrialResponse.of(study.trial(number), study.domain)


@router.post("/studies/{study}/end", status_code=204, responses=WRITE_ERRORS)
def end(study: Study, body: requests.EndRequest) -> None:
    """Record why a stop rule ended a run; the same reason again changes nothing."""
    study.journal.end(body.reason)


@router.post("/studies/{study}/trials/{number}/cancel", responses=WRITE_ERRORS)
def cancel(study: Study, number: TrialNumber, body: requests.CancelRequest) -> TrialResponse:
    """Cancel a pending trial."""
    study.trial(number)  # raises if there is none
    return TrialResponse.of(study.journal.cancel(number, body.reason), study.domain)


@router.post("/studies/{study}/trials/{number}/retry", responses=WRITE_ERRORS)
def retry(study: Study, number: TrialNumber) -> TrialResponse:
    """Let a lost trial run again after the deaths of too many workers."""
    study.trial(number)  # raises if there is none
    return TrialResponse.of(study.journal.retry(number), study.domain)


@router.post(
    "/studies/{study}/observations",
    status_code=201,
    response_model=responses.TrialsResponse,
    responses=WRITE_ERRORS,
)
def add(study: Study, body: requests.ObservationsRequest, key: IdempotencyKey = None) -> Response:
    """Add observations from outside the study."""
    problem = study.problem
    queries, outcomes = [], []
    for one in body.observations:
        failure = _failure(one)
        if (one.outputs is None) == (failure is None):
            raise InvalidInputError("observation must have 'outputs', 'failed' or 'infeasible'")
        if failure is None:
            check_outputs(one.outputs, problem.output_names.reported(one.outputs))
        where = _place(study, None, one)
        if where is None:
            raise InvalidInputError("observation must have 'point' or 'parameters'")
        queries.append(Query(where.point, origin="data", design=where.design))
        cost = Cost() if one.cost is None else one.cost.to_cost()
        outcome = completed(
            problem, problem.outcome(failure or one.outputs, cost, where.point), None, one.extra
        )
        outcomes.append(replace(outcome, outside=where.outside))
    added = study.journal.add(queries, outcomes, key)
    return streamed("trials", (TrialResponse.of(trial, study.domain) for trial in added), 201)


@router.post("/studies/{study}/enqueue", status_code=201, responses=WRITE_ERRORS)
def enqueue(
    study: Study, body: requests.EnqueueRequest, key: IdempotencyKey = None
) -> TrialResponse:
    """Queue a design before the proposals of the strategy."""
    problem = study.problem
    if body.parameters is not None and body.point is None:
        query = user_query(problem.space, body.parameters, None)
    elif body.point is not None and body.parameters is None:
        point = _vector("point", body.point, problem)
        query = user_query(problem.space, None, point, body.design)
    else:
        raise InvalidInputError("body must have either 'point' or 'parameters'")
    trial = study.journal.enqueue(query, key)
    return TrialResponse.of(trial, study.domain)


def _header(registered: RegisteredProblems, body: requests.CreateStudyRequest) -> dict[str, JSON]:
    """Return the header of a new study."""
    if (body.problem is None) == (body.registered is None):
        raise InvalidInputError("body must have either 'problem' or 'registered'")
    if body.name in (".", ".."):
        raise InvalidInputError(f"name must not be '.' or '..', got {body.name!r}")
    if body.problem is None:
        source: dict[str, JSON] = {"registered": body.registered}
        problem = registered.problem(source["registered"])
    else:
        source = {"declared": body.problem.model_dump(mode="json", exclude_none=True)}
        _check_size(source["declared"]["space"])
        problem = problem_from_declaration(source["declared"], body.problem_name or body.name)
    strategy = from_spec(body.strategy.model_dump())
    require_support(strategy, problem.statement)
    made_with = body.provenance and body.provenance.model_dump()
    header = new_header(
        problem, strategy, body.seed, problem_name=body.problem_name, made_with=made_with
    )
    return source | header


def _check_size(space: JSON) -> None:
    """Check that the points of a declared box have few enough coordinates."""
    dim = sum(
        1 if one.get("ordered", True) else len(one["values"])
        for one in space.get("parameters", {}).values()
    )
    if dim > VECTOR:
        raise InvalidInputError(
            f"space: parameters must have at most {VECTOR} coordinates in total, got {dim}; each "
            "value of an unordered choice is one. Use fewer values, or ordered choices"
        )


def _failure(
    observation: requests.ReportedObservation | requests.AmendRequest,
) -> EvaluationError | None:
    if observation.failed is not None:
        return FailedError(observation.failed)
    return None if observation.infeasible is None else InfeasibleError(observation.infeasible)


def _vector(name: str, values: list[float], problem: Problem) -> Array:
    dim = problem.space.domain.dim
    if len(values) != dim:
        raise InvalidInputError(f"{name} must have {dim} coordinates, got {len(values)}")
    return np.asarray(values, dtype=np.float64)


def _why_none(journal: Journal, budget: int | None) -> str:
    """Return the reason why an ask has no trials; see ``AskResponse.why``."""
    log = journal.read()
    if log.committed > log.calls:
        return "wait"
    return "budget" if budget is not None and log.calls >= budget else "done"
