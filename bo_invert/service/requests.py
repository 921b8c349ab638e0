"""Bodies of the requests as pydantic models; ``problem_schema`` holds problems."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from bo_invert.service.problem_schema import (
    ParameterValue,
    ProblemDeclaration,
    Provenance,
    StrategySpec,
)
from bo_invert.service.schema_types import (
    CLOSED,
    VECTOR,
    AnyJSON,
    Integer,
    Name,
    RequestBody,
    StudyTitle,
    Vector,
)
from bo_invert.storage.trial_transitions import Purpose
from bo_invert.study.input_validation import LARGEST_COORDINATE
from bo_invert.types import Cost

BATCH = 1000
"""Largest number of trials in one request. Engineering choice: bounds the work for one request."""

DESIGN = "Exact design of the point, if its decoding would round it; null otherwise."

Reason = Annotated[str, Field(max_length=2000)]
Point = Annotated[
    list[Annotated[FiniteFloat, Field(ge=-LARGEST_COORDINATE, le=LARGEST_COORDINATE)]],
    Field(max_length=VECTOR),
]
Count = Annotated[Integer, Field(ge=0, le=1_000_000_000)]
Outputs = (
    FiniteFloat
    | Vector
    | Annotated[dict[Name, FiniteFloat], Field(max_length=VECTOR, json_schema_extra=CLOSED)]
)
Extra = Annotated[
    dict[Name, Annotated[str, Field(max_length=2000)] | bool | FiniteFloat | int | None],
    Field(max_length=200, json_schema_extra=CLOSED, description="Further measured values by name."),
]
Parameters = Annotated[dict[Name, AnyJSON], Field(max_length=2000, json_schema_extra=CLOSED)]
AttemptNumber = Annotated[Count, Field(description="Number of the attempt, from the ask.")]


class CreateStudyRequest(
    RequestBody,
    json_schema_extra={
        "examples": [
            {
                "name": "wing-1",
                "problem": {
                    "space": {
                        "type": "box",
                        "parameters": {
                            "span": {"type": "float", "low": 1.0, "high": 3.0},
                            "ribs": {"type": "int", "low": 2, "high": 12},
                        },
                    },
                    "outputs": ["drag", "lift"],
                    "objective": {"type": "minimize", "output": "drag"},
                    "constraints": ["lift >= 2.5"],
                },
                "strategy": {"name": "auto"},
                "seed": 0,
            }
        ]
    },
):
    """New study of a declared or a registered problem."""

    name: StudyTitle
    problem: ProblemDeclaration | None = None
    registered: Annotated[Name | None, Field(description="Name of a registered problem.")] = None
    problem_name: Name | None = None
    strategy: StrategySpec = StrategySpec(name="auto")
    seed: Annotated[Integer, Field(ge=0, le=2**53)] = 0
    exist_ok: Annotated[bool, Field(description="Accept an existing study that is equal.")] = False
    provenance: Provenance | None = None


class AskRequest(
    RequestBody,
    json_schema_extra={"examples": [{"count": 1, "worker": "lab-2", "lease": 600, "budget": 100}]},
):
    """Request for trials."""

    count: Annotated[Integer, Field(ge=1, le=BATCH)] = 1
    worker: Name | None = None
    lease: Annotated[
        Annotated[FiniteFloat, Field(ge=1, le=31_536_000)] | None,
        Field(description="Seconds without heartbeat until the trial is lost."),
    ] = None
    budget: Annotated[
        Annotated[Integer, Field(ge=1, le=1_000_000_000)] | None,
        Field(description="Largest number of calls of the study."),
    ] = None
    retries: Annotated[
        Integer, Field(ge=0, le=100, description="Further attempts at a failed trial.")
    ] = 0
    known: Annotated[
        Annotated[list[Count], Field(max_length=BATCH)] | None,
        Field(
            description="Running trials that the worker knows of. Its other running trials are "
            "returned again; without this field, none are.",
        ),
    ] = None
    round_size: Annotated[
        Integer,
        Field(
            ge=0,
            le=BATCH,
            description="Number of points that the strategy proposes at once, and only if no trial "
            "waits; those that are not started wait. 0: the strategy proposes missing trials.",
        ),
    ] = 0
    fixed: Annotated[
        dict[Name, ParameterValue],
        Field(
            max_length=VECTOR,
            json_schema_extra=CLOSED,
            description="Values of parameters that do not vary in this ask, as in "
            '`{"solvent": "water"}`. Waiting trials with other values are left out.',
        ),
    ] = {}
    purpose: Annotated[
        Purpose,
        Field(
            description="`search`: proposals of the strategy. `refine`: refine the best point by "
            "descents, Gauss-Newton steps or a local model; needs an observation. `all`: search "
            "all solutions of a target."
        ),
    ] = "search"
    hope_level: Annotated[
        Annotated[FiniteFloat, Field(gt=0, le=0.5)] | None,
        Field(
            description="Estimate from time to time whether the target can be reached, and spend "
            "these asks on the designs that most probably meet it, as the rule `verdict` does. It "
            "is the largest probability of an unreachable target."
        ),
    ] = None
    under_way: Annotated[
        Annotated[list[Count], Field(max_length=BATCH)],
        Field(
            description="Trials that the worker still evaluates. After the end of their lease they "
            "are given to other workers only.",
        ),
    ] = []


class ReportedCost(RequestBody):
    """Cost of an attempt."""

    values: Count = 0
    gradients: Count = 0
    seconds: Annotated[FiniteFloat, Field(ge=0, le=1e12)] = 0.0

    def to_cost(self) -> Cost:
        """Convert to a cost."""
        return Cost(self.values, self.gradients, self.seconds)


class Conditions(RequestBody):
    """Conditions of a run instead of the suggested ones, and further measured values."""

    point: Annotated[
        Point | None, Field(description="Last point of a descent, or point of the conditions.")
    ] = None
    parameters: Annotated[
        Parameters | None,
        Field(description="Conditions by name; parameters without a value are the suggested ones."),
    ] = None
    design: Annotated[AnyJSON, Field(description=DESIGN)] = None
    outside: Annotated[
        bool, Field(description="Accept conditions outside the search domain, for models only.")
    ] = False
    extra: Extra | None = None


class TellRequest(
    Conditions,
    json_schema_extra={"examples": [{"attempt": 0, "outputs": {"drag": 0.1, "lift": 2.6}}]},
):
    """Outcome of an attempt: outputs in order or by name."""

    outputs: Outputs
    attempt: AttemptNumber | None = None
    cost: ReportedCost | None = None
    gradient: Annotated[Vector | None, Field(description="Gradient of the loss.")] = None
    trace: Annotated[
        Annotated[list[FiniteFloat | None], Field(max_length=VECTOR)] | None,
        Field(description="Losses of a descent."),
    ] = None


class AmendRequest(
    Conditions,
    json_schema_extra={
        "examples": [{"outputs": {"drag": 0.1, "lift": 2.6}, "reason": "typing error"}]
    },
):
    """Correction of an outcome; omitted fields stay as they are."""

    outputs: Outputs | None = None
    failed: Annotated[Reason | None, Field(description="Reason of the failure.")] = None
    infeasible: Annotated[Reason | None, Field(description="Reason of the infeasibility.")] = None
    reason: Annotated[Reason, Field(description="Reason of the correction.")] = ""
    revision: Annotated[
        Count | None,
        Field(
            description="Number of corrections that the client knows of; another number is a "
            "conflict. Null: not checked."
        ),
    ] = None


class FailRequest(
    Conditions,
    json_schema_extra={
        "examples": [{"attempt": 0, "reason": "the mesh has holes", "infeasible": True}]
    },
):
    """Failed attempt; ``infeasible`` if the design can never be evaluated."""

    reason: Reason = ""
    infeasible: bool = False
    attempt: AttemptNumber | None = None
    cost: ReportedCost | None = None


class TrialHeartbeatRequest(RequestBody, json_schema_extra={"examples": [{"attempt": 0}]}):
    """Heartbeat for one trial."""

    attempt: AttemptNumber


class WorkerHeartbeatRequest(RequestBody, json_schema_extra={"examples": [{"worker": "lab-2"}]}):
    """Heartbeat for all trials of a worker."""

    worker: Name


class ReleaseRequest(
    RequestBody, json_schema_extra={"examples": [{"attempt": 0, "cost": {"seconds": 12.5}}]}
):
    """Release of an unfinished attempt."""

    attempt: AttemptNumber
    cost: ReportedCost = ReportedCost()
    lost: Annotated[
        bool, Field(description="Bill the largest possible cost of the query as lost.")
    ] = False


class CancelRequest(
    RequestBody, json_schema_extra={"examples": [{"reason": "the machine is needed elsewhere"}]}
):
    """Cancellation of a pending trial."""

    reason: Reason = "cancelled by the user"


class ReportedObservation(RequestBody):
    """Outcome at a point that the study did not propose."""

    point: Point | None = None
    parameters: Annotated[Parameters | None, Field(description="Design instead of a point.")] = None
    design: Annotated[AnyJSON, Field(description=DESIGN)] = None
    outside: Annotated[
        bool, Field(description="Accept a design outside the search domain, for models only.")
    ] = False
    extra: Extra | None = None
    outputs: Outputs | None = None
    failed: Annotated[Reason | None, Field(description="Reason of the failure.")] = None
    infeasible: Annotated[Reason | None, Field(description="Reason of the infeasibility.")] = None
    cost: Annotated[ReportedCost | None, Field(description="Billed cost; default: none.")] = None


class ObservationsRequest(
    RequestBody,
    json_schema_extra={
        "examples": [
            {
                "observations": [
                    {"point": [0.2, 0.7], "outputs": [0.4, 2.9]},
                    {"point": [0.9, 0.1], "failed": "it broke"},
                ]
            }
        ]
    },
):
    """Observations from outside the study."""

    observations: Annotated[list[ReportedObservation], Field(min_length=1, max_length=BATCH)]


class EndRequest(
    RequestBody, json_schema_extra={"examples": [{"reason": "no improvement in 30 calls"}]}
):
    """Reason for which a stop rule ended a run."""

    reason: Reason


class PredictRequest(
    RequestBody,
    json_schema_extra={"examples": [{"parameters": [{"span": 2.0, "ribs": 7}]}]},
):
    """Designs to predict, as named parameters or as points."""

    points: Annotated[list[Point], Field(max_length=BATCH)] | None = None
    parameters: (
        Annotated[
            list[Annotated[dict[Name, AnyJSON], Field(max_length=2000, json_schema_extra=CLOSED)]],
            Field(max_length=BATCH),
        ]
        | None
    ) = None
    noise: Annotated[
        bool, Field(description="Predict single outcomes; false: expected outputs.")
    ] = True


class EnqueueRequest(
    RequestBody, json_schema_extra={"examples": [{"parameters": {"span": 2.0, "ribs": 7}}]}
):
    """Design or point to evaluate before the proposals of the strategy."""

    point: Point | None = None
    design: Annotated[AnyJSON, Field(description=DESIGN)] = None
    parameters: Parameters | None = None


Cells = Annotated[
    dict[Name, Annotated[str, Field(max_length=2000)] | bool | FiniteFloat | int | None],
    Field(max_length=2000, json_schema_extra=CLOSED),
]


class TableBody(RequestBody):
    """Table as the text of a CSV file, or as rows."""

    csv: Annotated[str | None, Field(description="Text of a CSV file with a header.")] = None
    rows: Annotated[list[Cells] | None, Field(max_length=BATCH)] = None
    columns: Annotated[
        Annotated[dict[Name, Name], Field(max_length=200, json_schema_extra=CLOSED)],
        Field(description="Name of the quantity in each column that has another name."),
    ] = {}
    decimal: Annotated[
        Literal[".", ","] | None,
        Field(description="Decimal sign of numbers in text; null: the numbers decide."),
    ] = None
    thousands: Annotated[
        Literal[",", ".", " ", "'", ""] | None,
        Field(description="Separator of groups in text, empty for none; null: the numbers decide."),
    ] = None


class ResultsRequest(
    TableBody, json_schema_extra={"examples": [{"csv": "trial,drag,lift\n1,0.1,2.6\n"}]}
):
    """Results of trials, with a column `trial`."""

    outside: Annotated[
        Literal["error", "model"],
        Field(description="Conditions outside the search domain: report, or for models only."),
    ] = "error"


class TableRequest(
    TableBody,
    json_schema_extra={"examples": [{"csv": "span,ribs,drag,lift\n2.0,7,0.1,2.6\n"}]},
):
    """Observations with inputs and outputs."""

    outside: Annotated[
        Literal["error", "model", "skip"],
        Field(description="Designs outside the search domain: report, for models only, leave out."),
    ] = "error"
    blank: Annotated[
        Literal["pending", "failed", "failed-open", "skip"],
        Field(
            description="Rows without outputs: queue, record failures (of open trials only with "
            "`failed-open`), leave out."
        ),
    ] = "pending"
    repeats: Annotated[
        Literal["skip", "add"], Field(description="Rows that are recorded already.")
    ] = "skip"
