"""JSON schema of problem declarations; ``problems.json_declaration`` checks their consistency."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    FiniteFloat,
    JsonValue,
)

from bo_invert.reference_measure import DATA_REALISM, REALISM

VECTOR = 10_000
"""Largest number of entries in a vector. Engineering choice: bounds the work for one request."""
CLOSED = {"additionalProperties": False}
"""OpenAPI attribute of dicts that allow no keys besides those that match the pattern of names."""


def _integer(value: object) -> object:
    """Convert an integral float, because JSON has one type of number: 1.0 is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _unicode(value: JsonValue) -> JsonValue:
    """Reject surrogates, which pydantic rejects in text but not within ``JsonValue``."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("text must be valid Unicode") from None
    return value


Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
StudyTitle = Annotated[
    str,
    Field(
        min_length=1, max_length=200,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
    ),
]  # fmt: skip
"""Name of a study: not blank."""
Text = Annotated[str, Field(max_length=200)]
Vector = Annotated[list[FiniteFloat], Field(max_length=VECTOR)]
Integer = Annotated[int, BeforeValidator(_integer)]
SafeInteger = Annotated[Integer, Field(ge=-(2**53), le=2**53)]
"""Integer that a double represents exactly, for languages without integers."""
AnyJSON = Annotated[JsonValue, AfterValidator(_unicode)]
Versions = Annotated[dict[Name, Text], Field(max_length=50, json_schema_extra=CLOSED)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class RequestBody(BaseModel, extra="forbid", allow_inf_nan=False, strict=True):
    """Base class of the request bodies; rejects unknown fields, other types, NaN and infinity."""


class FloatParameter(RequestBody):
    """Real parameter in ``[low, high]``; ``log`` searches it on a logarithmic scale."""

    type: Literal["float"]
    low: FiniteFloat
    high: FiniteFloat
    log: bool = False


class IntParameter(RequestBody):
    """Integer parameter in ``[low, high]``; ``log`` searches it on a logarithmic scale."""

    type: Literal["int"]
    low: SafeInteger
    high: SafeInteger
    log: bool = False


class ChoiceParameter(RequestBody):
    """Categorical parameter, or ordinal if ``ordered``."""

    type: Literal["choice"]
    values: Annotated[
        list[Text | bool | Annotated[int, Field(ge=-(2**53), le=2**53)] | FiniteFloat],
        Field(min_length=1, max_length=1000),
    ]
    ordered: bool = False


class ReferenceMeasure(RequestBody):
    """Gaussian mixture in whitened coordinates, with sorted log densities of held-out codes."""

    weights: Vector
    means: Annotated[list[Vector], Field(max_length=100)]
    factors: Annotated[list[Annotated[list[Vector], Field(max_length=2000)]], Field(max_length=100)]
    quantiles: Vector


class DataMeasure(ReferenceMeasure):
    """Gaussian mixture in unit coordinates, with points of real designs."""

    rows: Annotated[list[Vector], Field(min_length=1, max_length=2000)]


class BoxSpace(RequestBody):
    """Space of named parameters; designs are dicts, or vectors of the values if ``vector``."""

    type: Literal["box"]
    parameters: Annotated[
        dict[
            Name,
            Annotated[FloatParameter | IntParameter | ChoiceParameter, Field(discriminator="type")],
        ],
        Field(min_length=1, max_length=2000, json_schema_extra=CLOSED),
    ]
    vector: bool = False
    data: DataMeasure | None = None


class LatentSpace(RequestBody):
    """Latent of a generator; points are whitened codes, which the worker decodes."""

    type: Literal["latent"]
    dim: Annotated[Integer, Field(ge=1, le=10_000)]
    radius: Annotated[FiniteFloat, Field(gt=0)] | None = None
    reference: ReferenceMeasure | None = None


class MinimizeObjective(RequestBody):
    """Objective to minimise one output."""

    type: Literal["minimize"]
    output: Name | None = None


class MaximizeObjective(RequestBody):
    """Objective to maximise one output."""

    type: Literal["maximize"]
    output: Name | None = None


class TargetObjective(RequestBody):
    """Target objective; the loss is the mean squared difference in units of ``scale``."""

    type: Literal["target"]
    value: Annotated[Vector, Field(min_length=1)]
    tolerance: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    scale: Annotated[FiniteFloat, Field(gt=0)] | Vector | None = None
    outputs: Annotated[list[Name], Field(max_length=VECTOR)] = []


class ConstraintDeclaration(RequestBody):
    """Outcome constraint: a bound on one output."""

    output: Name
    sense: Literal["<=", ">="]
    bound: FiniteFloat


class ProblemDeclaration(RequestBody):
    """Problem: space, outputs, objective and outcome constraints."""

    space: Annotated[BoxSpace | LatentSpace, Field(discriminator="type")]
    outputs: Annotated[list[Name], Field(max_length=VECTOR)] = []
    objective: Annotated[
        MinimizeObjective | MaximizeObjective | TargetObjective, Field(discriminator="type")
    ]
    constraints: Annotated[
        list[ConstraintDeclaration | Text],
        Field(max_length=1000, description="Bounds on outputs, also as text: `lift >= 2.5`."),
    ] = []
    differentiable: bool = False
    realism: Annotated[
        FiniteFloat | None,
        Field(
            gt=0,
            le=1,
            description=(
                "Share of the reference measure that is searched; default: "
                f"{REALISM} of a latent, {DATA_REALISM} of the data of a box."
            ),
        ),
    ] = None
    identity: Annotated[
        dict[str, AnyJSON] | None, Field(description="Space as the log stores it.")
    ] = None


class StrategySpec(RequestBody):
    """Strategy: registered name and options."""

    name: Name
    options: Annotated[dict[Name, AnyJSON], Field(max_length=100, json_schema_extra=CLOSED)] = {}


class OracleProvenance(RequestBody):
    """Provenance of an oracle: names, versions and a hash."""

    name: Text
    type: Text
    sha256: Sha256 | None = None
    of: Text | None = None
    library: Versions = {}
    file: Text | None = None
    commit: Text | None = None


class DecoderProvenance(RequestBody):
    """Provenance of a decoder."""

    sha256: Sha256
    of: Text


class Provenance(RequestBody):
    """Software, oracle and decoder of the worker that created the study."""

    python: Text | None = None
    packages: Versions = {}
    oracle: OracleProvenance | None = None
    decoder: DecoderProvenance | None = None
