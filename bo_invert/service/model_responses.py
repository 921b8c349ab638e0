"""Responses about models: predictions, remaining gain, Pareto front and hypervolume."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bo_invert.service.responses import ResponseBody
from bo_invert.types import JSON


class PredictedResponse(ResponseBody):
    """Distribution of a quantity at each design; null for infinite numbers."""

    mean: list[float | None]
    std: Annotated[list[float | None], Field(description="Standard deviation.")]
    low: Annotated[list[float | None], Field(description="5 % quantile.")]
    median: list[float | None]
    high: Annotated[list[float | None], Field(description="95 % quantile.")]


class PredictionsResponse(ResponseBody):
    """Predictions at designs, in their order."""

    about: Annotated[str, Field(description="Description of the models.")]
    notes: Annotated[
        list[str], Field(description="Sentences about designs that violate input constraints.")
    ]
    points: list[list[float]]
    outputs: dict[str, PredictedResponse]
    loss: PredictedResponse
    feasible: Annotated[
        list[float], Field(description="Probability of outputs that satisfy all constraints.")
    ]
    hit: Annotated[
        list[float] | None, Field(description="Probability of the target within its tolerance.")
    ]
    plausibility: list[float] | None


class OutlookResponse(ResponseBody):
    """Gain that further calls can bring, in units of the loss, or hypervolume for `pareto`."""

    decided: Annotated[bool, Field(description="False if no model predicts the outputs.")]
    why: Annotated[str, Field(description="Reason if it is not decided.")]
    calls: int
    best: float | None
    expected: Annotated[float | None, Field(description="Expected remaining gain.")]
    bound: Annotated[
        float | None, Field(description="Upper bound of the gain with a probability of 95 %.")
    ]
    chance: Annotated[float | None, Field(description="Probability that a better design exists.")]
    rate: Annotated[float | None, Field(description="Share of recent calls with improvements.")]
    scale: float | None
    ended: Annotated[str, Field(description="Reason for which a stop rule ended the last run.")]
    text: Annotated[str, Field(description="The same in words.")]


class FrontResponse(ResponseBody):
    """Pareto front, sorted by the first criterion, best first."""

    labels: Annotated[list[str], Field(description="Names of the criteria.")]
    directions: Annotated[list[str], Field(description="`minimize` or `maximize` each.")]
    reference: Annotated[
        list[float] | None, Field(description="Reference point, as values; null without a front.")
    ]
    hypervolume: float
    expected: Annotated[
        bool, Field(description="Values are expected ones under a model, for a noisy oracle.")
    ]
    numbers: Annotated[list[int], Field(description="Numbers of the trials.")]
    values: Annotated[list[list[float]], Field(description="Values of the criteria of each trial.")]
    parameters: Annotated[
        list[dict[str, JSON]] | None, Field(description="Designs by parameter; null for a latent.")
    ]
    compromise: Annotated[
        int | None, Field(description="Trial nearest to the best value of each criterion.")
    ]
    units: Annotated[dict[str, str], Field(description="Units of parameters and outputs.")]


class HypervolumeResponse(ResponseBody):
    """Hypervolume by spent calls."""

    calls: list[int]
    volumes: list[float]
    reference: list[float] | None
