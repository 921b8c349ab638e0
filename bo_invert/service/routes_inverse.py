"""Routes about targets: verdicts, posteriors, predicted solutions, tolerances, further targets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from bo_invert.objectives.from_json import objective_from_json
from bo_invert.service import inverse_messages as messages
from bo_invert.service.dependencies import (
    PREFIX,
    READ_ERRORS,
    WRITE_ERRORS,
    Studies,
    Study as OpenedStudy,
    TrialNumber,
)
from bo_invert.service.open_studies import OpenStudies, OpenStudy
from bo_invert.service.pages import PAGE_BYTES
from bo_invert.service.requests import BATCH
from bo_invert.service.responses import StudyResponse, TrialResponse
from bo_invert.service.routes_read import summary
from bo_invert.study.study import Study
from bo_invert.study.yield_estimate import YieldEstimate

router = APIRouter(prefix=PREFIX)
Tolerance = Annotated[
    float | None,
    Query(
        gt=0,
        allow_inf_nan=False,
        description="Tolerance of a target without one, in the units of the outputs; default: 1 % "
        "of the least standard deviation of the outputs.",
    ),
]
Seed = Annotated[int, Query(ge=0, le=2**53)]


@router.get("/studies/{study}/verdict", responses=READ_ERRORS)
def verdict(
    study: OpenedStudy,
    alpha: Annotated[
        float, Query(gt=0, le=0.5, description="Largest probability of an unreachable target.")
    ] = 0.05,
    tolerance: Tolerance = None,
) -> messages.VerdictResponse:
    """Judge whether the target can be reached, as `Study.verdict`."""
    found = study.results.verdict(alpha=alpha, tolerance=tolerance)
    return messages.VerdictResponse.model_validate(found.to_json() | {"text": found.reason})


@router.post("/studies/{study}/reachable", responses=WRITE_ERRORS)
def reachable(study: OpenedStudy, body: messages.ReachableRequest) -> messages.ReachableResponse:
    """Estimate whether targets can be reached, as `Study.reachable`; a read-only token suffices."""
    found = study.results.reachable(body.values, tolerance=body.tolerance)
    return messages.ReachableResponse(
        names=list(found.names), tolerances=found.tolerances.tolist(),
        values=found.values.tolist(), probability=found.probability.tolist(),
        verified=found.verified.tolist(), excess=found.excess.tolist(),
        nearest=found.nearest.tolist(), why=found.why,
    )  # fmt: skip


@router.get("/studies/{study}/posterior", responses=READ_ERRORS)
def posterior(
    study: OpenedStudy,
    count: Annotated[int, Query(ge=1, le=BATCH)] = BATCH,
    tolerance: Tolerance = None,
    noise: Annotated[
        float | None,
        Query(
            ge=0,
            allow_inf_nan=False,
            description="Standard deviation of measurement noise of the target, instead of a "
            "tolerance.",
        ),
    ] = None,
    seed: Seed = 0,
) -> messages.PosteriorResponse:
    """Sample the designs that meet the target, as `Study.posterior`.

    There are fewer samples than `count` if they are large.
    """
    count = min(count, max(1, PAGE_BYTES // study.trial_bytes))
    found = study.results.posterior(count, tolerance=tolerance, noise=noise, seed=seed)
    domain = found.domain
    return messages.PosteriorResponse(
        points=found.points.tolist(),
        parameters=[domain.named(point, measured=True) for point in found.points]
        if domain.parameters
        else None,
        outputs={name: values.tolist() for name, values in found.outputs.items()},
        hit=found.hit.tolist(),
        branches=found.branches.tolist(),
        branch_masses=found.branch_masses.tolist(),
        verified_share=found.verified_share,
        reachable_mass=found.reachable_mass,
        text=str(found),
    )


@router.get("/studies/{study}/predicted", responses=READ_ERRORS)
def predicted(
    study: OpenedStudy, tolerance: Tolerance = None, seed: Seed = 0
) -> messages.PredictedSolutionResponse:
    """Return the design that most probably meets the target, as `Study.predicted_solution`."""
    found = study.results.predicted_solution(tolerance=tolerance, seed=seed)
    return messages.PredictedSolutionResponse(
        point=found.point.tolist(),
        values=study.results.statement.domain.named(found.point, measured=True),
        outputs={name: list(span) for name, span in found.outputs.items()},
        hit=found.hit,
        trial=found.trial,
    )


@router.get("/studies/{study}/recommended", responses=READ_ERRORS)
def recommended(study: OpenedStudy) -> messages.RecommendationResponse:
    """Return the trial to act on, as `Study.recommend`; with noise of the inputs, its yield."""
    found = study.results.recommend()
    return messages.RecommendationResponse(
        trial=TrialResponse.of(found.trial, study.domain),
        robust=_yield(found.robust),
        nominal=_yield(found.nominal),
        text=str(found),
    )


def _yield(found: YieldEstimate | None) -> messages.YieldResponse | None:
    return None if found is None else messages.YieldResponse.model_validate(found)


@router.get("/studies/{study}/trials/{number}/tolerances", responses=READ_ERRORS)
def tolerances(
    study: OpenedStudy,
    number: TrialNumber,
    probability: Annotated[
        float, Query(gt=0, lt=1, description="Share of the box that meets the target.")
    ] = 0.95,
) -> messages.TolerancesResponse:
    """Return by how much the parameters of a trial may move, as `Study.tolerances` without calls.

    Results for the designs `to_measure` narrow the answer.
    """
    trial = study.trial(number)
    found = study.results.tolerances(trial.number, probability, calls=0)
    return messages.TolerancesResponse(
        trial=trial.number,
        probability=found.probability,
        found=found.found,
        expected=found.expected,
        interval=list(found.interval),
        calls=found.calls,
        parameters=[
            messages.ParameterTolerance(
                name=name, value=found.values[name], alone=list(found.separate[name]),
                box=[found.lower[name], found.upper[name]],
            )
            for name in found.names
        ],
        to_measure=[one for one in found.to_measure if isinstance(one, dict)],
        note=found.note,
    )  # fmt: skip


@router.post("/studies/{study}/retarget", status_code=201, responses=WRITE_ERRORS)
async def retarget(
    studies: Studies, study: OpenedStudy, body: messages.RetargetRequest
) -> StudyResponse:
    """Create a study for another objective, with all observations, as `Study.retarget`."""
    await studies.thread(_retarget, studies, study, body)
    return await summary(studies, body.name)


def _retarget(studies: OpenStudies, study: OpenStudy, body: messages.RetargetRequest) -> None:
    """Create the study of a request; its observations are written with it."""
    rules = body.model_dump(mode="json", exclude_none=True).get("constraints")
    Study(study.journal.name, studies.store, study.problem).retarget(
        objective_from_json(body.objective.model_dump(mode="json", exclude_none=True)),
        body.name,
        strategy=None if body.strategy is None else body.strategy.model_dump(),
        constraints=rules,
        seed=body.seed,
        exist_ok=body.exist_ok,
    )
