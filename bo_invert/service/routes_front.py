"""Routes of several criteria: the Pareto front and its hypervolume."""

from __future__ import annotations

from fastapi import APIRouter

from bo_invert.report.dataframe import trial_values
from bo_invert.service import model_responses
from bo_invert.service.dependencies import PREFIX, READ_ERRORS, Study
from bo_invert.types import Array

router = APIRouter(prefix=PREFIX)


@router.get("/studies/{study}/front", responses=READ_ERRORS)
def front(study: Study) -> model_responses.FrontResponse:
    """Return the feasible trials that no other one dominates, as `Study.front`."""
    found, domain = study.results.front, study.domain
    best = found.compromise
    return model_responses.FrontResponse(
        labels=list(found.labels),
        directions=list(found.directions),
        reference=_finite(found.reference),
        hypervolume=found.hypervolume,
        expected=found.expected,
        numbers=[trial.number for trial in found],
        values=found.values.tolist(),
        parameters=None if domain is None or not domain.parameters else [
            trial_values(trial, domain) for trial in found
        ],
        compromise=None if best is None else best.number,
        units=study.journal.header.get("units", {}),
    )  # fmt: skip


@router.get("/studies/{study}/hypervolume", responses=READ_ERRORS)
def hypervolume(study: Study) -> model_responses.HypervolumeResponse:
    """Return the hypervolume of the front after each number of calls, as `Study.hypervolume`."""
    curve = study.results.hypervolume
    return model_responses.HypervolumeResponse(
        calls=curve.calls.tolist(),
        volumes=curve.volumes.tolist(),
        reference=_finite(curve.reference),
    )


def _finite(reference: Array) -> list[float] | None:
    """Return a reference point; None if it is not finite, because there is no front."""
    values = reference.tolist()
    return values if all(abs(value) < float("inf") for value in values) else None
