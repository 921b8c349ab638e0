"""Routes of models: predictions at designs, and the gain that further calls can bring."""

from __future__ import annotations

from fastapi import APIRouter

from bo_invert.service import model_responses, requests
from bo_invert.service.dependencies import PREFIX, READ_ERRORS, WRITE_ERRORS, Study

router = APIRouter(prefix=PREFIX)


@router.post("/studies/{study}/predict", responses=WRITE_ERRORS)
def predict(study: Study, body: requests.PredictRequest) -> model_responses.PredictionsResponse:
    """Predict outputs and loss at designs, as `Study.predict`; a read-only token suffices."""
    found = study.results.predict(body.parameters, points=body.points, noise=body.noise)
    return model_responses.PredictionsResponse.model_validate(found.to_json())


@router.get("/studies/{study}/outlook", responses=READ_ERRORS)
def outlook(study: Study) -> model_responses.OutlookResponse:
    """Estimate the gain that further calls can bring, as `Study.outlook`."""
    found = study.results.outlook()
    return model_responses.OutlookResponse(
        **found.to_json(), ended=study.results.ended, text=str(found)
    )
