"""Bodies of requests and responses about targets: verdicts, posteriors, further targets."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat

from bo_invert.service.problem_schema import (
    ConstraintDeclaration,
    Objective,
    StrategySpec,
)
from bo_invert.service.requests import BATCH
from bo_invert.service.responses import ResponseBody, TrialResponse
from bo_invert.service.schema_types import (
    CLOSED,
    VECTOR,
    Integer,
    Name,
    RequestBody,
    StudyTitle,
    Text,
    Vector,
)
from bo_invert.types import JSON

Named = Annotated[
    dict[str, JSON], Field(description="Values of the parameters, or coordinates of a latent.")
]


NamedOutputs = Annotated[
    dict[Name, FiniteFloat], Field(max_length=VECTOR, json_schema_extra=CLOSED)
]


class ReachableRequest(RequestBody, json_schema_extra={"examples": [{"values": [{"lift": 2.6}]}]}):
    """Targets whose attainability is asked for."""

    values: Annotated[
        Annotated[list[Vector], Field(min_length=1, max_length=BATCH)]
        | Annotated[list[NamedOutputs], Field(min_length=1, max_length=BATCH)]
        | None,
        Field(
            description="Values of the wanted outputs of each target, in order or by name. Null: a "
            "grid over the observed outputs and beyond, for one and two outputs."
        ),
    ] = None
    tolerance: Annotated[
        Annotated[FiniteFloat, Field(gt=0)] | None,
        Field(description="Tolerance of a target without one, in the units of the outputs."),
    ] = None


class RetargetRequest(
    RequestBody,
    json_schema_extra={
        "examples": [
            {
                "name": "wing-2",
                "objective": {
                    "type": "target",
                    "outputs": ["lift"],
                    "value": [2.6],
                    "tolerance": 0.1,
                },
            }
        ]
    },
):
    """New study for another objective, on the observations of a study."""

    name: StudyTitle
    objective: Objective
    constraints: Annotated[
        Annotated[list[ConstraintDeclaration | Text], Field(max_length=1000)] | None,
        Field(description="Outcome constraints; null: those of the study."),
    ] = None
    strategy: Annotated[
        StrategySpec | None, Field(description="Strategy; null: that of the study.")
    ] = None
    seed: Annotated[
        Annotated[Integer, Field(ge=0, le=2**53)] | None,
        Field(description="Random seed; null: the one after that of the study."),
    ] = None
    exist_ok: Annotated[bool, Field(description="Accept an existing study that is equal.")] = False


class NearestOutputsResponse(ResponseBody):
    """Attainable outputs that are nearest to a target."""

    outputs: dict[str, float]
    spread: Annotated[dict[str, float], Field(description="Standard deviation of each output.")]
    wanted: Annotated[dict[str, str], Field(description="Wanted value or range, as text.")]
    excess: Annotated[float, Field(description="Distance from the target in tolerances.")]
    point: list[float]
    values: Named
    trial: Annotated[
        int | None, Field(description="Trial with these outputs; null if a model predicts them.")
    ]


class LimitResponse(ResponseBody):
    """Limit that keeps the outputs from the target."""

    kind: str
    name: str
    side: int
    text: str


class VerdictResponse(ResponseBody):
    """Verdict on the target of a study."""

    status: Annotated[str, Field(description="`reached`, `unreachable` or `undecided`.")]
    probability: Annotated[
        float | None, Field(description="Probability that some valid design meets the target.")
    ]
    calls: int
    nearest: NearestOutputsResponse | None
    limited_by: Annotated[list[str], Field(description="Limits in words.")]
    limits: list[LimitResponse]
    why: Annotated[str, Field(description="Reason for `undecided`, or empty.")]
    text: Annotated[str, Field(description="The same in one line.")]


class ReachableResponse(ResponseBody):
    """Attainability of targets, in their order."""

    names: Annotated[list[str], Field(description="Wanted outputs.")]
    tolerances: list[float]
    values: Annotated[list[list[float]], Field(description="Targets.")]
    probability: Annotated[
        list[float], Field(description="Probability that some valid design meets each target.")
    ]
    verified: Annotated[list[bool], Field(description="True where a trial meets the target.")]
    excess: Annotated[
        list[float], Field(description="Distance of the nearest outputs, in tolerances.")
    ]
    nearest: Annotated[list[list[float]], Field(description="Nearest outputs.")]
    why: Annotated[str, Field(description="Reason to doubt the model, or empty.")]


class PosteriorResponse(ResponseBody):
    """Samples of the designs that meet the target."""

    points: list[list[float]]
    parameters: Annotated[
        list[dict[str, JSON]] | None, Field(description="Designs by parameter; null for a latent.")
    ]
    outputs: Annotated[dict[str, list[float]], Field(description="Predicted outputs by name.")]
    hit: Annotated[list[float], Field(description="Probability to meet the target.")]
    branches: Annotated[list[int], Field(description="Branch, numbered by falling mass.")]
    branch_masses: list[float]
    verified_share: Annotated[
        float, Field(description="Share of the samples near a design that meets the target.")
    ]
    reachable_mass: Annotated[
        float, Field(description="Share of the reference measure that meets the target.")
    ]
    text: Annotated[str, Field(description="Summary in words.")]


class PredictedSolutionResponse(ResponseBody):
    """Design that most probably meets the target."""

    point: list[float]
    values: Named
    outputs: Annotated[
        dict[str, list[float]],
        Field(description="Lower end, median and upper end of the 90 % interval by output."),
    ]
    hit: Annotated[float, Field(description="Probability to meet the target.")]
    trial: Annotated[
        int | None, Field(description="Trial that observed the design; null if it is predicted.")
    ]


class YieldResponse(ResponseBody):
    """Quality of a design under noise of its inputs, with a central 90 % interval."""

    kind: Annotated[str, Field(description="`yield` or `expected loss`.")]
    expected: float
    low: float
    high: float


class RecommendationResponse(ResponseBody):
    """Trial to act on."""

    trial: TrialResponse
    robust: Annotated[
        YieldResponse | None, Field(description="Its yield; null without noise of the inputs.")
    ]
    nominal: Annotated[
        YieldResponse | None, Field(description="Yield of the trial of the lowest loss.")
    ]
    text: Annotated[str, Field(description="The same in words.")]


class ParameterTolerance(ResponseBody):
    """Moves of one parameter."""

    name: str
    value: float
    alone: Annotated[list[float], Field(description="Interval while the other parameters stay.")]
    box: Annotated[list[float], Field(description="Interval of the box of all.")]


class TolerancesResponse(ResponseBody):
    """Tolerances of a design under the models, with the checks of the oracle so far."""

    trial: int
    probability: Annotated[float, Field(description="Stated share of the box.")]
    found: Annotated[bool, Field(description="A box of this share exists under the models.")]
    expected: Annotated[
        float,
        Field(
            description="Expected share of the box that meets the target; without a box, the "
            "probability of the design itself."
        ),
    ]
    interval: Annotated[list[float], Field(description="5 and 95 % quantiles of this share.")]
    calls: Annotated[int, Field(description="Oracle calls that checked the box.")]
    parameters: list[ParameterTolerance]
    to_measure: Annotated[
        list[dict[str, JSON]],
        Field(description="Designs whose outcomes would inform most; empty for a latent."),
    ]
    note: str
