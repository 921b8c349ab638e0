"""JSON schema of problem declarations; ``problems.json_declaration`` checks their consistency."""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    FiniteFloat,
    GetCoreSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from bo_invert.domains.reference_measure import DATA_REALISM, REALISM
from bo_invert.errors import blank
from bo_invert.types import JSON

VECTOR = 10_000
"""Largest number of entries in a vector. Engineering choice: bounds the work for one request."""
FIELDS = 100
"""Largest number of fields of an object, known or not. Engineering choice: each unknown one is
an error to report."""
CLOSED = {"additionalProperties": False}
"""OpenAPI attribute of dicts that allow no keys besides those that match the pattern of names."""


def _integer(value: object) -> object:
    """Convert an integral float, because JSON has one type of number: 1.0 is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _json(value: JSON) -> JSON:
    """Reject what a file of JSON text cannot hold: surrogates, NaN, infinity and deep nesting."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("text must be valid Unicode") from None
    except RecursionError:
        raise ValueError("lists and objects must not be nested as deeply") from None
    except ValueError:
        raise ValueError("numbers must be finite") from None
    return value


def _bound_errors(schema: object) -> None:
    """Bound the errors of all lists and dicts in a schema of pydantic.

    A body can hold a million invalid items. Validation of a list ends at its first error, and that
    of a dict before its first item if there are too many.
    """
    if isinstance(schema, list | tuple):
        for part in schema:
            _bound_errors(part)
    elif isinstance(schema, dict):
        # Each application builds on the schemas of the models; bounds are set once.
        before = schema.get("function")
        check = before.get("function") if isinstance(before, dict) else None
        if isinstance(check, partial) and check.func is _few:
            return
        for part in list(schema.values()):
            _bound_errors(part)
        if schema.get("type") == "list":
            schema["fail_fast"] = True
        elif schema.get("type") == "dict":
            items = cast(core_schema.DictSchema, dict(schema))
            few = partial(_few, items.get("max_length", VECTOR))
            schema.clear()
            schema.update(core_schema.no_info_before_validator_function(few, items))


def _few(most: int, value: object) -> object:
    """Reject an object with too many members before they are validated."""
    if isinstance(value, dict) and len(value) > most:
        raise ValueError(f"object must have at most {most} members, got {len(value)}")
    return value


def _visible(name: str) -> str:
    if blank(name):
        raise ValueError("name must have a visible character")
    return name


Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
StudyTitle = Annotated[
    str,
    Field(
        min_length=1, max_length=200,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
    ),
    AfterValidator(_visible),
]  # fmt: skip
"""Name of a study: not blank, also of characters without width."""
Text = Annotated[str, Field(max_length=200)]
Vector = Annotated[list[FiniteFloat], Field(max_length=VECTOR)]
Integer = Annotated[int, BeforeValidator(_integer)]
SafeInteger = Annotated[Integer, Field(ge=-(2**53), le=2**53)]
"""Integer that a double represents exactly, for languages without integers."""
AnyJSON = Annotated[JSON, AfterValidator(_json)]
Versions = Annotated[dict[Name, Text], Field(max_length=50, json_schema_extra=CLOSED)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class RequestBody(BaseModel, extra="forbid", allow_inf_nan=False, strict=True):
    """Base class of the request bodies; rejects unknown fields, other types, NaN and infinity."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema = handler(source)
        _bound_errors(schema)
        return schema

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: object) -> object:
        return _few(FIELDS, value)


ParameterValue = Text | bool | Annotated[int, Field(ge=-(2**53), le=2**53)] | FiniteFloat


class ParameterCondition(RequestBody):
    """Condition of a parameter: another parameter has one of the values."""

    parameter: Name
    values: Annotated[list[ParameterValue], Field(min_length=1, max_length=1000)]


Conditions = Annotated[
    list[ParameterCondition],
    Field(max_length=100, description="The parameter exists where all conditions hold."),
]


class FloatParameter(RequestBody):
    """Real parameter in ``[low, high]``; ``log`` searches it on a logarithmic scale.

    Values are ``low``, ``low + step``, ... with a ``step``, and have at most ``digits`` decimals.
    """

    type: Literal["float"]
    low: FiniteFloat
    high: FiniteFloat
    log: bool = False
    step: Annotated[FiniteFloat, Field(gt=0)] | None = None
    digits: Annotated[Integer, Field(ge=-300, le=300)] | None = None
    when: Conditions = []


class IntParameter(RequestBody):
    """Integer parameter in ``[low, high]``; ``log`` searches it on a logarithmic scale."""

    type: Literal["int"]
    low: SafeInteger
    high: SafeInteger
    log: bool = False
    when: Conditions = []


class ChoiceParameter(RequestBody):
    """Categorical parameter, or ordinal if ``ordered``."""

    type: Literal["choice"]
    values: Annotated[list[ParameterValue], Field(min_length=1, max_length=1000)]
    ordered: bool = False
    when: Conditions = []


class FixedParameter(RequestBody):
    """Parameter with one value, which is part of every design."""

    type: Literal["fixed"]
    value: ParameterValue
    when: Conditions = []


Names = Annotated[list[Name], Field(min_length=1, max_length=2000)]
Coefficients = Annotated[
    dict[Name, FiniteFloat], Field(min_length=1, max_length=2000, json_schema_extra=CLOSED)
]


class LinearConstraint(RequestBody):
    """Linear constraint ``lower <= sum of coefficients times values <= upper``."""

    type: Literal["linear"]
    coefficients: Coefficients
    lower: FiniteFloat | None = None
    upper: FiniteFloat | None = None


class CountConstraint(RequestBody):
    """Bounds on the number of non-zero parameters; a non-zero one is at least ``smallest``."""

    type: Literal["count"]
    of: Names
    most: Annotated[Integer, Field(ge=0, le=2000)]
    least: Annotated[Integer, Field(ge=0, le=2000)] = 0
    smallest: Annotated[FiniteFloat, Field(ge=0)] = 0.0


class ConstraintArrays(RequestBody):
    """Linear constraints ``A x <= b`` and ``A_eq x = b_eq`` on all parameters in their order."""

    A: Annotated[list[Vector], Field(max_length=100)] | None = None
    b: Vector | None = None
    A_eq: Annotated[list[Vector], Field(max_length=100)] | None = None
    b_eq: Vector | None = None


InputConstraints = Annotated[
    list[
        Annotated[str, Field(max_length=10_000)]
        | LinearConstraint
        | CountConstraint
        | ConstraintArrays
    ],
    Field(
        max_length=100,
        description="Constraints on the parameters, also as text: `a + b + c == 1`, `a <= b`, "
        "`at most 3 of a, b, c, d`.",
    ),
]


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
            Annotated[
                FloatParameter | IntParameter | ChoiceParameter | FixedParameter,
                Field(discriminator="type"),
            ],
        ],
        Field(min_length=1, max_length=2000, json_schema_extra=CLOSED),
    ]
    vector: bool = False
    data: DataMeasure | None = None
    constraints: InputConstraints = []


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


Range = Annotated[list[FiniteFloat | None], Field(min_length=2, max_length=2)]
"""Ends of a range; null for an open end."""


class TargetObjective(RequestBody):
    """Target objective; the loss is the weighted mean squared distance in units of ``scale``.

    Values are numbers or ranges; `avoid` holds intervals to avoid by output.
    """

    type: Literal["target"]
    value: Annotated[list[FiniteFloat | Range], Field(max_length=VECTOR)]
    tolerance: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    scale: Annotated[FiniteFloat, Field(gt=0)] | Vector | None = None
    outputs: Annotated[list[Name], Field(max_length=VECTOR)] = []
    weights: Vector | None = None
    avoid: Annotated[
        dict[Name, Annotated[Vector, Field(min_length=2, max_length=2)]] | None,
        Field(max_length=VECTOR, json_schema_extra=CLOSED),
    ] = None


class PlausibilityObjective(RequestBody):
    """Objective to maximise the plausibility, which the server appends to the outputs."""

    type: Literal["plausibility"]


class ParetoObjective(RequestBody):
    """Several criteria; the result is the Pareto front.

    The reference point has the sign of the outputs; null for an inferred one.
    """

    type: Literal["pareto"]
    objectives: Annotated[
        list[
            Annotated[
                MinimizeObjective | MaximizeObjective | TargetObjective | PlausibilityObjective,
                Field(discriminator="type"),
            ]
        ],
        Field(min_length=2, max_length=20),
    ]
    reference: Annotated[list[FiniteFloat | None], Field(max_length=20)] | None = None
    scale: Vector | None = None


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
        MinimizeObjective
        | MaximizeObjective
        | TargetObjective
        | PlausibilityObjective
        | ParetoObjective,
        Field(discriminator="type"),
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
