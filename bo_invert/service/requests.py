"""What crosses the wire: declarations, numbers and words; bounded, finite, and nothing that is not named here."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
)

from bo_invert.problems.problem import REALISM
from bo_invert.study.input_validation import FARTHEST
from bo_invert.types import JSON

MOST = 10_000
"""Numbers in one vector."""
AT_ONCE = 1000
"""Trials in one request."""

_CLOSED = {"additionalProperties": False}
"""Says of a dict that all its keys are names; without it OpenAPI would allow any others."""


def _integer(value: object) -> object:
    """JSON knows one kind of number: 1.0 is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _storable(value: JsonValue) -> JsonValue:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("text must be valid unicode") from None
    return value


Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Word = Annotated[str, Field(max_length=200)]
Reason = Annotated[str, Field(max_length=2000)]
Vector = Annotated[list[FiniteFloat], Field(max_length=MOST)]
Point = Annotated[
    list[Annotated[FiniteFloat, Field(ge=-FARTHEST, le=FARTHEST)]], Field(max_length=MOST)
]
Integer = Annotated[int, BeforeValidator(_integer)]
Count = Annotated[Integer, Field(ge=0, le=1_000_000_000)]
Whole = Annotated[Integer, Field(ge=-(2**53), le=2**53)]
"""A whole number that survives a language whose only numbers are doubles."""
Plain = Annotated[JsonValue, AfterValidator(_storable)]
"""Any JSON. Pydantic refuses halves of characters in text, but not within ``JsonValue``."""
Outputs = (
    FiniteFloat
    | Vector
    | Annotated[dict[Name, FiniteFloat], Field(max_length=MOST, json_schema_extra=_CLOSED)]
)


class Wire(BaseModel):
    """Unknown fields are refused, and so are numbers that are not finite, or only look like numbers."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


def _example(body: JSON) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [body]})


class FloatParameter(Wire):
    """A real number between bounds, on a log scale if ``log``."""

    type: Literal["float"]
    low: FiniteFloat
    high: FiniteFloat
    log: bool = False


class IntParameter(Wire):
    """A whole number between bounds, both included."""

    type: Literal["int"]
    low: Whole
    high: Whole
    log: bool = False


class ChoiceParameter(Wire):
    """One of several values."""

    type: Literal["choice"]
    values: Annotated[
        list[Word | bool | Annotated[int, Field(ge=-(2**53), le=2**53)] | FiniteFloat],
        Field(min_length=1, max_length=1000),
    ]
    ordered: bool = False


class BoxSpace(Wire):
    """Named parameters; designs are dicts of them, or vectors of their values."""

    type: Literal["box"]
    parameters: Annotated[
        dict[
            Name,
            Annotated[FloatParameter | IntParameter | ChoiceParameter, Field(discriminator="type")],
        ],
        Field(min_length=1, max_length=2000, json_schema_extra=_CLOSED),
    ]
    vector: bool = False


class ReferenceMeasure(Wire):
    """A mixture of normals in whitened coordinates, and sorted log densities of held-out codes."""

    weights: Vector
    means: Annotated[list[Vector], Field(max_length=100)]
    factors: Annotated[list[Annotated[list[Vector], Field(max_length=2000)]], Field(max_length=100)]
    quantiles: Vector


class LatentSpace(Wire):
    """The latent of a generator that the evaluating side has; points are whitened codes."""

    type: Literal["latent"]
    dim: Annotated[Integer, Field(ge=1, le=10_000)]
    radius: Annotated[FiniteFloat, Field(gt=0)] | None = None
    reference: ReferenceMeasure | None = None


class MinimizeObjective(Wire):
    """The loss is one output."""

    type: Literal["minimize"]
    output: Name | None = None


class MaximizeObjective(Wire):
    """The loss is minus one output."""

    type: Literal["maximize"]
    output: Name | None = None


class TargetObjective(Wire):
    """The loss is the mean squared distance to a target, in units of ``scale``."""

    type: Literal["target"]
    value: Annotated[Vector, Field(min_length=1)]
    tolerance: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    scale: Annotated[FiniteFloat, Field(gt=0)] | Vector | None = None
    outputs: Annotated[list[Name], Field(max_length=MOST)] = []


class Bound(Wire):
    """One output must stay below or above a bound."""

    output: Name
    sense: Literal["<=", ">="]
    bound: FiniteFloat


class Declaration(Wire):
    """A problem: where to search, what comes out, what is wanted."""

    space: Annotated[BoxSpace | LatentSpace, Field(discriminator="type")]
    outputs: Annotated[list[Name], Field(max_length=MOST)] = []
    objective: Annotated[
        MinimizeObjective | MaximizeObjective | TargetObjective, Field(discriminator="type")
    ]
    constraints: Annotated[list[Bound | Word], Field(max_length=1000)] = []
    differentiable: bool = False
    realism: Annotated[FiniteFloat, Field(gt=0, le=1)] = REALISM
    identity: dict[str, Plain] | None = None


class StrategySpec(Wire):
    """The name of a strategy, and its options."""

    name: Name
    options: Annotated[dict[Name, Plain], Field(max_length=100, json_schema_extra=_CLOSED)] = {}


Versions = Annotated[dict[Name, Word], Field(max_length=50, json_schema_extra=_CLOSED)]


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class OracleNoted(Wire):
    """Which oracle it was, as far as it can be told: names, versions and a hash; nothing of it is run or opened."""

    name: Word
    type: Word
    sha256: Sha256 | None = None
    of: Word | None = None
    library: Versions = {}
    file: Word | None = None
    commit: Word | None = None


class DecoderNoted(Wire):
    """Which decoder it was."""

    sha256: Sha256
    of: Word


class Provenance(Wire):
    """What a study is made with, on the side that evaluates."""

    python: Word | None = None
    packages: Versions = {}
    oracle: OracleNoted | None = None
    decoder: DecoderNoted | None = None


class NewStudy(Wire):
    """A study to be created: of a declared problem, or of one that the operator registered under a name."""

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
    problem: Declaration | None = None
    registered: Name | None = None
    problem_name: Name | None = None
    strategy: StrategySpec = StrategySpec(name="auto")
    seed: Annotated[Integer, Field(ge=0, le=2**53)] = 0
    exist_ok: bool = False
    provenance: Provenance | None = None


class NewAsk(Wire):
    """A wish for trials.

    ``known`` are the numbers of running trials that the worker knows to be its own; others of its own are given to it
    again. Without it none are.
    """

    model_config = _example({"count": 1, "worker": "lab-2", "lease": 600, "budget": 100})

    count: Annotated[Integer, Field(ge=1, le=AT_ONCE)] = 1
    worker: Name | None = None
    lease: Annotated[FiniteFloat, Field(ge=1, le=31_536_000)] | None = None
    budget: Annotated[Integer, Field(ge=1, le=1_000_000_000)] | None = None
    retries: Annotated[Integer, Field(ge=0, le=100)] = 0
    known: Annotated[list[Count], Field(max_length=AT_ONCE)] | None = None


class Spent(Wire):
    """What an attempt took."""

    values: Count = 0
    gradients: Count = 0
    seconds: Annotated[FiniteFloat, Field(ge=0, le=1e12)] = 0.0


class Tell(Wire):
    """What came of an attempt: its outputs, in order or by name."""

    model_config = _example({"attempt": 0, "outputs": {"drag": 0.1, "lift": 2.6}})

    outputs: Outputs
    attempt: Count | None = None
    cost: Spent | None = None
    point: Point | None = None
    gradient: Vector | None = None
    trace: Annotated[list[FiniteFloat | None], Field(max_length=MOST)] | None = None


class Fail(Wire):
    """An attempt that gave no outputs; ``infeasible`` if the design can never be evaluated."""

    model_config = _example({"attempt": 0, "reason": "the mesh has holes", "infeasible": True})

    reason: Reason = ""
    infeasible: bool = False
    attempt: Count | None = None
    cost: Spent | None = None


class Heartbeat(Wire):
    """A sign of life."""

    model_config = _example({"attempt": 0})

    attempt: Count


class Alive(Wire):
    """A sign of life of a worker."""

    model_config = _example({"worker": "lab-2"})

    worker: Name


class Release(Wire):
    """An attempt given back; ``cost`` is what it took, nothing if the oracle was not called."""

    model_config = _example({"attempt": 0, "cost": {"seconds": 12.5}})

    attempt: Count
    cost: Spent = Spent()
    lost: bool = False


class Cancel(Wire):
    """An open trial given up."""

    model_config = _example({"reason": "the machine is needed elsewhere"})

    reason: Reason = "cancelled by the user"


class Observation(Wire):
    """Where something was measured, and what; ``cost`` is billed, and is nothing if left out."""

    point: Point
    outputs: Outputs | None = None
    failed: Reason | None = None
    infeasible: Reason | None = None
    cost: Spent | None = None


class Observations(Wire):
    """What is known from elsewhere."""

    model_config = _example(
        {
            "observations": [
                {"point": [0.2, 0.7], "outputs": [0.4, 2.9]},
                {"point": [0.9, 0.1], "failed": "it broke"},
            ]
        }
    )

    observations: Annotated[list[Observation], Field(min_length=1, max_length=AT_ONCE)]


class Enqueue(Wire):
    """A design of named parameters, or a point, to be evaluated before anything the strategy proposes."""

    model_config = _example({"parameters": {"span": 2.0, "ribs": 7}})

    point: Point | None = None
    parameters: (
        Annotated[dict[Name, Plain], Field(max_length=2000, json_schema_extra=_CLOSED)] | None
    ) = None
