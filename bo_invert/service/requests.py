"""Bodies of the requests as pydantic models; ``problem_schema`` holds problems."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, FiniteFloat

from bo_invert.ledger import Cost
from bo_invert.service.problem_schema import (
    CLOSED,
    VECTOR,
    AnyJSON,
    Integer,
    Name,
    ProblemDeclaration,
    Provenance,
    RequestBody,
    StrategySpec,
    Vector,
)
from bo_invert.study.input_validation import LARGEST_COORDINATE
from bo_invert.types import JSON

BATCH = 1000
"""Largest number of trials in one request. Engineering choice: bounds the work for one request."""

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
AttemptNumber = Annotated[Count, Field(description="Number of the attempt, from the ask.")]


def _example(body: JSON) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [body]})


class CreateStudyRequest(RequestBody):
    """New study of a declared or a registered problem."""

    model_config = _example(
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
    )

    name: Name
    problem: ProblemDeclaration | None = None
    registered: Annotated[Name | None, Field(description="Name of a registered problem.")] = None
    problem_name: Name | None = None
    strategy: StrategySpec = StrategySpec(name="auto")
    seed: Annotated[Integer, Field(ge=0, le=2**53)] = 0
    exist_ok: Annotated[bool, Field(description="Accept an existing study that is equal.")] = False
    provenance: Provenance | None = None


class AskRequest(RequestBody):
    """Request for trials."""

    model_config = _example({"count": 1, "worker": "lab-2", "lease": 600, "budget": 100})

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


class ReportedCost(RequestBody):
    """Cost of an attempt."""

    values: Count = 0
    gradients: Count = 0
    seconds: Annotated[FiniteFloat, Field(ge=0, le=1e12)] = 0.0

    def to_cost(self) -> Cost:
        """Convert to a cost."""
        return Cost(self.values, self.gradients, self.seconds)


class TellRequest(RequestBody):
    """Outcome of an attempt: outputs in order or by name."""

    model_config = _example({"attempt": 0, "outputs": {"drag": 0.1, "lift": 2.6}})

    outputs: Outputs
    attempt: AttemptNumber | None = None
    cost: ReportedCost | None = None
    point: Annotated[Point | None, Field(description="Last point of a descent.")] = None
    gradient: Annotated[Vector | None, Field(description="Gradient of the loss.")] = None
    trace: Annotated[
        Annotated[list[FiniteFloat | None], Field(max_length=VECTOR)] | None,
        Field(description="Losses of a descent."),
    ] = None


class FailRequest(RequestBody):
    """Failed attempt; ``infeasible`` if the design can never be evaluated."""

    model_config = _example({"attempt": 0, "reason": "the mesh has holes", "infeasible": True})

    reason: Reason = ""
    infeasible: bool = False
    attempt: AttemptNumber | None = None
    cost: ReportedCost | None = None


class TrialHeartbeatRequest(RequestBody):
    """Heartbeat for one trial."""

    model_config = _example({"attempt": 0})

    attempt: AttemptNumber


class WorkerHeartbeatRequest(RequestBody):
    """Heartbeat for all trials of a worker."""

    model_config = _example({"worker": "lab-2"})

    worker: Name


class ReleaseRequest(RequestBody):
    """Release of an unfinished attempt."""

    model_config = _example({"attempt": 0, "cost": {"seconds": 12.5}})

    attempt: AttemptNumber
    cost: ReportedCost = ReportedCost()
    lost: Annotated[
        bool, Field(description="Bill the largest possible cost of the query as lost.")
    ] = False


class CancelRequest(RequestBody):
    """Cancellation of a pending trial."""

    model_config = _example({"reason": "the machine is needed elsewhere"})

    reason: Reason = "cancelled by the user"


class ReportedObservation(RequestBody):
    """Outcome at a point that the study did not propose."""

    point: Point
    outputs: Outputs | None = None
    failed: Annotated[Reason | None, Field(description="Reason of the failure.")] = None
    infeasible: Annotated[Reason | None, Field(description="Reason of the infeasibility.")] = None
    cost: Annotated[ReportedCost | None, Field(description="Billed cost; default: none.")] = None


class ObservationsRequest(RequestBody):
    """Observations from outside the study."""

    model_config = _example(
        {
            "observations": [
                {"point": [0.2, 0.7], "outputs": [0.4, 2.9]},
                {"point": [0.9, 0.1], "failed": "it broke"},
            ]
        }
    )

    observations: Annotated[list[ReportedObservation], Field(min_length=1, max_length=BATCH)]


class EnqueueRequest(RequestBody):
    """Design or point to evaluate before the proposals of the strategy."""

    model_config = _example({"parameters": {"span": 2.0, "ribs": 7}})

    point: Point | None = None
    parameters: (
        Annotated[dict[Name, AnyJSON], Field(max_length=2000, json_schema_extra=CLOSED)] | None
    ) = None
