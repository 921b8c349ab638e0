"""Objectives of JSON data."""

from __future__ import annotations

from bo_invert.errors import InvalidInputError
from bo_invert.objectives.base import Objective
from bo_invert.objectives.nearest import Nearest
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.single_output import Maximize, Minimize, Plausibility
from bo_invert.objectives.target import Target
from bo_invert.types import JSON


def objective_from_json(data: JSON) -> Objective:
    """Return the objective of a ``to_json`` dict; a ``Composite`` has none, because it is code.

    Optional keys: ``output``; of a target also ``outputs``, ``tolerance`` and ``scale``; of a
    ``pareto`` objective ``reference`` and ``scale``.

    Raises:
        InvalidInputError: a target has other than one value per output, or a criterion is code.
    """
    if data["type"] == "pareto":
        parts = [objective_from_json(one) for one in data["objectives"]]
        scale = data.get("scale")
        return Pareto(
            *parts, reference=data.get("reference"), scale=1.0 if scale is None else scale
        )
    if data["type"] == "nearest":
        target = objective_from_json(data["target"])
        assert isinstance(target, Target)
        return Nearest(
            data.get("x0"), target, data.get("weights"), bool(data.get("few", False)),
            point=data.get("point"),
        )  # fmt: skip
    if data["type"] == "plausibility":
        return Plausibility()
    if data["type"] == "composite":
        raise InvalidInputError(
            f"objective {data.get('name')!r} is a function, which JSON does not contain. Pass the "
            "problem."
        )
    kinds: dict[str, type[Minimize | Maximize]] = {"minimize": Minimize, "maximize": Maximize}
    if data["type"] in kinds:
        return kinds[data["type"]](data.get("output"))
    value, names, scale = data["value"], data.get("outputs") or (), data.get("scale")
    if names and len(names) != len(value):
        raise InvalidInputError(
            f"Target: value must have one number per output of {list(names)}, got {len(value)}"
        )
    named = dict(zip(names, value, strict=True)) if names else value
    weights = data.get("weights")
    return Target(
        named,
        data.get("tolerance", 0.0),
        1.0 if scale is None else scale,
        weights=1.0 if weights is None else weights,
        avoid=data.get("avoid"),
    )
