"""Objectives and problem statement.

An objective is a function from raw outputs y ``(..., m)`` to a loss ``(...)``; lower is better.
The formulas use operators that numpy arrays and torch tensors share. They score observed outputs,
samples of a surrogate and descents on a device.
"""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.errors import InvalidInputError, printable
from bo_invert.parameters import snapped
from bo_invert.search_domain import Domain
from bo_invert.types import JSON, Array
from bo_invert.user_code import DeviceConstants, call_user_code, guard_methods
from bo_invert.user_data import real, real_vector, record, require_names

Tensor = Any
"""Array of numpy or tensor of torch."""


class Objective(ABC):
    """Function from named outputs to a loss."""

    structured: bool = False
    """True unless the loss is plus or minus one output: surrogates then model y, not the loss."""

    def __init_subclass__(cls) -> None:
        guard_methods(cls, ("loss", "satisfied"))

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the outputs that it reads; empty for all outputs in their order."""

    @property
    def size(self) -> int | None:
        """Number of outputs that it reads without names; None for any number."""
        return 1

    @abstractmethod
    def bind(self, outputs: Sequence[str]) -> Objective:
        """Return a copy that holds the positions of its outputs.

        Raises:
            InvalidInputError: a named output is missing, or a name is missing and there are
                several outputs.
        """

    @abstractmethod
    def loss(self, y: Tensor) -> Tensor:
        """Compute the loss ``(...)`` of outputs ``(..., m)``. The objective must be bound."""

    def satisfied(self, y: Tensor) -> bool:
        """Return True if outputs ``(m,)`` lie within a tolerance, at which a run stops."""
        return False

    @abstractmethod
    def to_json(self) -> JSON:
        """Return the JSON form that identifies the objective in a log."""


def _position(name: str | None, outputs: Sequence[str], where: str) -> int:
    if name is None:
        if len(outputs) > 1:
            example = f"bi.{where.partition('(')[0]}({outputs[0]!r})"
            raise InvalidInputError(
                f"{where}: the oracle has outputs {list(outputs)}; name the one you mean, as in "
                f"{example}"
            )
        return 0
    if name not in outputs:
        raise InvalidInputError(f"{where}: no output {name!r}; the oracle has {list(outputs)}")
    return list(outputs).index(name)


@lru_cache
def _positions(indices: tuple[int, ...]) -> DeviceConstants:
    return DeviceConstants(np.array(indices, dtype=np.int64))


def _columns(y: Tensor, indices: tuple[int, ...]) -> Tensor:
    """Return the columns ``indices`` of ``y`` ``(..., m)``."""
    if isinstance(y, np.ndarray):
        return y[..., list(indices)]
    if indices == tuple(range(y.shape[-1])):
        return y
    return y.index_select(-1, _positions(indices).like(y)[0])


@dataclass(frozen=True)
class _OneOutput(Objective):
    """Objective of one output, at position ``index``; None stands for the only output."""

    output: str | None = None
    index: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        return () if self.output is None else (self.output,)

    def bind(self, outputs: Sequence[str]) -> Self:
        return replace(self, index=_position(self.output, outputs, str(self)))

    def to_json(self) -> JSON:
        return {"type": type(self).__name__.lower(), "output": self.output}

    def __str__(self) -> str:
        return printable(f"{type(self).__name__}({self.output or ''})")


class Minimize(_OneOutput):
    """Objective with the loss ``y_i``: minimisation of an output."""

    def loss(self, y: Tensor) -> Tensor:
        return y[..., self.index]


class Maximize(_OneOutput):
    """Objective with the loss ``-y_i``: maximisation of an output."""

    def loss(self, y: Tensor) -> Tensor:
        return -y[..., self.index]


@dataclass(frozen=True, init=False)
class Target(Objective):
    """Objective of an inversion: mean squared distance from a target.

    ``loss(y) = mean_i ((y_i - value_i) / scale_i)^2``.

    Args:
        value: a number, a vector, or ``{"output name": number}``.
        tolerance: largest ``|y_i - value_i|`` of every output at which a run stops, in units of
            the outputs; 0 to use the whole budget.
        scale: unit of the distance, one number or one per output.
        output: name of the output of a single number.
    """

    value: tuple[float, ...]
    tolerance: float
    scale: tuple[float, ...]
    outputs: tuple[str, ...]
    indices: tuple[int, ...]
    structured = True

    def __init__(
        self,
        value: ArrayLike | Mapping[str, float],
        tolerance: float = 0.0,
        scale: ArrayLike = 1.0,
        output: str | None = None,
    ) -> None:
        named, units = record(value), record(scale)
        names = tuple(named or (() if output is None else (output,)))
        if named is not None and output is not None:
            require_names("Target: output", [output], named)
        if units is not None:
            require_names("Target: scale", names, units)
            scale = [units[name] for name in names]
        if named is not None:
            value = [real("Target", f"value of {name!r}", one) for name, one in named.items()]
        values = real_vector("Target", "value", value)
        scales, tolerance = (
            real_vector("Target", "scale", scale),
            real("Target", "tolerance", tolerance),
        )
        if scales.size not in (1, values.size):
            raise InvalidInputError(
                f"Target: scale must be one number or {len(values)} numbers, got {scale!r}"
            )
        scales = np.broadcast_to(scales, values.shape)
        if not (scales > 0).all() or tolerance < 0:
            raise InvalidInputError(
                f"Target: scale must be > 0 and tolerance >= 0, got {scale!r}, {tolerance!r}"
            )
        if names and len(names) != len(values):
            raise InvalidInputError(
                f"Target: output={output!r} names one output, the target has {len(values)} values"
            )
        # The class is frozen, so attributes are set in its dictionary.
        vars(self).update(
            value=tuple(values.tolist()), tolerance=tolerance, scale=tuple(scales.tolist()),
            outputs=names, indices=tuple(range(len(values))),
        )  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        return self.outputs

    @property
    def size(self) -> int | None:
        return len(self.value)

    def bind(self, outputs: Sequence[str]) -> Target:
        if not self.outputs and len(self.value) != len(outputs):
            raise InvalidInputError(
                f"{self}: the target has {len(self.value)} value{'s' * (len(self.value) != 1)}, "
                f"the oracle has outputs {list(outputs)}; give one value per output, or name the "
                "outputs you mean: Target({'name': value})"
            )
        bound = copy.copy(self)  # ``replace`` fails, because fields differ from arguments
        if self.outputs:
            positions = tuple(_position(name, outputs, str(self)) for name in self.outputs)
            vars(bound)["indices"] = positions
        return bound

    def residuals(self, y: Tensor) -> Tensor:
        """Compute the residuals ``(y - value) / scale`` of k outputs, shape ``(..., k)``."""
        if isinstance(y, np.ndarray):
            return (y[..., list(self.indices)] - np.asarray(self.value)) / np.asarray(self.scale)
        value, scale = self._constants.like(y)
        return (_columns(y, self.indices) - value) / scale

    @cached_property
    def _constants(self) -> DeviceConstants:
        return DeviceConstants(np.array(self.value), np.array(self.scale))

    def loss(self, y: Tensor) -> Tensor:
        return (self.residuals(y) ** 2).mean(-1)

    def satisfied(self, y: Tensor) -> bool:
        ends = [(v - self.tolerance, v + self.tolerance) for v in self.value]
        return self.tolerance > 0 and all(
            low <= snapped(float(y[i]), low, high) <= high
            for i, (low, high) in zip(self.indices, ends, strict=True)
        )

    def to_json(self) -> JSON:
        return {
            "type": "target", "value": list(self.value), "tolerance": self.tolerance,
            "scale": list(self.scale), "outputs": list(self.outputs),
        }  # fmt: skip

    def __str__(self) -> str:
        shown = self.value if len(self.value) < 6 else (*self.value[:5], "...")
        return f"Target({', '.join(str(v) for v in shown)})"


@dataclass(frozen=True)
class Composite(Objective):
    """Objective with any function of the outputs as its loss.

    Args:
        fn: function from outputs ``(..., m)`` to a loss ``(...)``. Written with operators and
            methods that numpy arrays and torch tensors share, such as ``(y ** 2).sum(-1)``, it
            also works in acquisition functions and descents.
        outputs: names of the outputs in the order of ``fn``; empty for all outputs.
        name: name that identifies the function in a log.
    """

    fn: Callable[[Tensor], Tensor]
    outputs: tuple[str, ...] = ()
    name: str = ""
    indices: tuple[int, ...] | None = None
    structured = True

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.outputs)

    @property
    def size(self) -> int | None:
        return None

    def bind(self, outputs: Sequence[str]) -> Composite:
        if not self.outputs:
            return self
        return replace(self, indices=tuple(_position(n, outputs, str(self)) for n in self.outputs))

    def loss(self, y: Tensor) -> Tensor:
        return call_user_code(self.fn, y if self.indices is None else _columns(y, self.indices))

    def to_json(self) -> JSON:
        name = self.name or getattr(self.fn, "__qualname__", type(self.fn).__name__)
        return {"type": "composite", "name": name, "outputs": list(self.outputs)}

    def __str__(self) -> str:
        return printable(f"Composite({self.to_json()['name']})")


def objective_from_json(data: JSON) -> Minimize | Maximize | Target:
    """Return the objective of a ``to_json`` dict; a ``Composite`` has none, because it is code.

    Optional keys: ``output``; of a target also ``outputs``, ``tolerance`` and ``scale``.

    Raises:
        InvalidInputError: a target has other than one value per output.
    """
    kinds: dict[str, type[Minimize | Maximize]] = {"minimize": Minimize, "maximize": Maximize}
    if data["type"] in kinds:
        return kinds[data["type"]](data.get("output"))
    value, names, scale = data["value"], data.get("outputs") or (), data.get("scale")
    if names and len(names) != len(value):
        raise InvalidInputError(
            f"Target: value must have one number per output of {list(names)}, got {len(value)}"
        )
    named = dict(zip(names, value, strict=True)) if names else value
    return Target(named, data.get("tolerance", 0.0), 1.0 if scale is None else scale)


_CONSTRAINT = re.compile(r"^\s*(?P<output>.+?)\s*(?P<sense><=|>=)\s*(?P<bound>[-+0-9.eE]+)\s*$")


@dataclass(frozen=True)
class OutcomeConstraint:
    """Outcome constraint: an upper or lower bound on a named output."""

    output: str
    sense: str
    bound: float
    index: int = 0

    def __init_subclass__(cls) -> None:
        guard_methods(cls, ("excess",))

    def __post_init__(self) -> None:
        vars(self)["bound"] = real("constraint", "bound", self.bound)  # the class is frozen
        if self.sense not in ("<=", ">="):
            raise InvalidInputError(
                f"constraint must be 'output <= number' or 'output >= number', got {self}"
            )

    @staticmethod
    def parse(text: str | JSON | OutcomeConstraint) -> OutcomeConstraint:
        """Parse ``"confidence >= 0.9"`` or a ``to_json`` dict; return a constraint as it is."""
        if isinstance(text, OutcomeConstraint):
            return text
        if not isinstance(text, str):
            return OutcomeConstraint(text["output"], text["sense"], float(text["bound"]))
        match = _CONSTRAINT.match(text)
        try:
            if match is None or "<=" in match["output"] or ">=" in match["output"]:
                raise ValueError
            return OutcomeConstraint(match["output"], match["sense"], float(match["bound"]))
        except ValueError:
            raise InvalidInputError(
                f"cannot parse the constraint {text!r}; write 'output <= number' or "
                "'output >= number'"
            ) from None

    def bind(self, outputs: Sequence[str]) -> OutcomeConstraint:
        return replace(self, index=_position(self.output, outputs, str(self)))

    def excess(self, y: Tensor) -> Tensor:
        """Compute the excess ``(...)`` of outputs ``(..., m)``; <= 0 if the constraint holds."""
        value = y[..., self.index]
        return value - self.bound if self.sense == "<=" else self.bound - value

    def to_json(self) -> JSON:
        return {"output": self.output, "sense": self.sense, "bound": self.bound}

    def __str__(self) -> str:
        return printable(f"{self.output} {self.sense} {self.bound:g}")


@dataclass(frozen=True, eq=False)
class ProblemStatement:
    """Domain, outputs, objective and constraints of a problem, and access to gradients.

    Args:
        name: name of the problem, for messages.
        domain: search domain.
        outputs: names of the m outputs of the oracle.
        objective: objective bound to the outputs.
        constraints: outcome constraints bound to the outputs.
        differentiable: True if descents and gradient queries are possible.
        features: pure function from points ``(n, d)`` to numeric features ``(n, p)`` of their
            designs, without oracle calls; None if the space has no features. Not in ``to_json``.
        identify: pure function from points ``(n, d)`` to n names of designs, equal for equal
            designs; None if the space cannot compare designs. Not in ``to_json``.
    """

    name: str
    domain: Domain
    outputs: tuple[str, ...]
    objective: Objective
    constraints: tuple[OutcomeConstraint, ...] = ()
    differentiable: bool = False
    features: Callable[[Array], Array] | None = None
    identify: Callable[[Array], list[str]] | None = None

    def to_json(self) -> JSON:
        return {
            "domain": self.domain.to_json(),
            "outputs": list(self.outputs),
            "objective": self.objective.to_json(),
            "constraints": [constraint.to_json() for constraint in self.constraints],
        }
