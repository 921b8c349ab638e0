"""JSON schema of problem declarations; ``problems.json_declaration`` checks their consistency."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    FiniteFloat,
)

from bo_invert.domains.reference_measure import DATA_REALISM, REALISM
from bo_invert.service.schema_types import (
    CLOSED,
    VECTOR,
    AnyJSON,
    Integer,
    Name,
    RequestBody,
    SafeInteger,
    Sha256,
    Text,
    Vector,
    Versions,
)

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
    most: Annotated[Integer, Field(ge=1, le=2000)]
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

    Values are numbers or ranges; `avoid` holds intervals to avoid by output. The tolerance is one
    number, one per entry, or by output.
    """

    type: Literal["target"]
    value: Annotated[list[FiniteFloat | Range], Field(max_length=VECTOR)]
    tolerance: (
        Annotated[FiniteFloat, Field(ge=0)]
        | Vector
        | Annotated[dict[Name, FiniteFloat], Field(max_length=VECTOR, json_schema_extra=CLOSED)]
    ) = 0.0
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


class NearestObjective(RequestBody):
    """Least change of a design that reaches a target, by named values or by a point."""

    type: Literal["nearest"]
    x0: (
        Annotated[
            dict[Name, ParameterValue],
            Field(min_length=1, max_length=2000, json_schema_extra=CLOSED),
        ]
        | None
    ) = None
    point: Vector | None = None
    target: TargetObjective
    weights: (
        Annotated[FiniteFloat, Field(ge=0)]
        | Vector
        | Annotated[dict[Name, FiniteFloat], Field(max_length=VECTOR, json_schema_extra=CLOSED)]
        | None
    ) = None
    few: bool = False


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


Objective = Annotated[
    MinimizeObjective
    | MaximizeObjective
    | TargetObjective
    | PlausibilityObjective
    | NearestObjective
    | ParetoObjective,
    Field(discriminator="type"),
]
Size = Annotated[FiniteFloat, Field(ge=0)]
Deviation = Size | tuple[Literal["normal", "uniform"], Size]
"""Standard deviation of a normal deviation, or kind and size."""


class ProblemDeclaration(RequestBody):
    """Problem: space, outputs, objective and outcome constraints."""

    space: Annotated[BoxSpace | LatentSpace, Field(discriminator="type")]
    outputs: Annotated[list[Name], Field(max_length=VECTOR)] = []
    objective: Objective
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
    units: Annotated[
        Annotated[dict[Name, Text], Field(max_length=2000, json_schema_extra=CLOSED)] | None,
        Field(description="Units of parameters and outputs by name, for axes of plots."),
    ] = None
    input_noise: Annotated[
        Deviation
        | Annotated[dict[Name, Deviation], Field(max_length=2000, json_schema_extra=CLOSED)]
        | None,
        Field(description="Deviations of manufactured designs, by parameter or for all."),
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


class SourceProvenance(RequestBody):
    """Study whose observations the study begins with."""

    study: Text
    id: Text | None = None
    trials: Annotated[Integer, Field(ge=0)]


class Provenance(RequestBody):
    """Software, oracle and decoder of the worker that created the study."""

    python: Text | None = None
    packages: Versions = {}
    oracle: OracleProvenance | None = None
    decoder: DecoderProvenance | None = None
    source: SourceProvenance | None = None
