"""Contract of an oracle: designs to raw outputs; it does not know the objective.

A batched oracle evaluates n designs in one call; any other is called once per design. In both cases
a failing design costs its own attempt only.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bo_invert import registry
from bo_invert.errors import (
    EvaluationError,
    FailedError,
    InvalidInputError,
    deprecated_names,
)
from bo_invert.hashing import Digest, digest
from bo_invert.types import JSON, Array, Design

if TYPE_CHECKING:
    import torch


#: Prefix of failure reasons that concern names, shapes and types instead of one design.
MISMATCH = "mismatch with the problem: "
#: Prefixes of such reasons in logs; version 0.1 wrote the second one.
MISMATCHES = (MISMATCH, "it does not fit the problem: ")


@dataclass(frozen=True, eq=False)
class OracleResult:
    """Result of one design.

    Attributes:
        y: outputs ``(m,)``; None if there are none.
        error: reason why there are no outputs.
        calls: billed oracle calls.
    """

    y: Array | None
    error: EvaluationError | None = None
    calls: int = 1

    @property
    def outputs_or_error(self) -> Array | EvaluationError | None:
        """Outputs, or the error if there are none."""
        return self.y if self.error is None else self.error


RawOutputs = Sequence[object] | NDArray[Any]
"""Raw outputs of n designs: an array ``(n, m)`` or ``(n,)``, or n arrays, numbers or dicts."""


class Oracle(ABC):
    """Function from designs to raw outputs.

    Attributes:
        outputs: names of the m outputs; None if only the problem knows them.
        batched: ``__call__`` takes several designs at once.
        differentiable: ``forward`` is implemented.
        waits: calls wait for another process or machine, so that threads suffice to run several.
    """

    outputs: tuple[str, ...] | None = None
    batched: bool = False
    differentiable: bool = False
    waits: bool = False

    @abstractmethod
    def __call__(self, designs: Sequence[Design]) -> RawOutputs:
        """Return the raw outputs of n designs.

        Raises:
            InfeasibleError: the design can never be evaluated.
            Exception: the evaluation failed.
        """

    def forward(self, designs: torch.Tensor) -> torch.Tensor:
        """Return differentiable outputs ``(n, m)`` of designs ``(n, ...)``."""
        raise FailedError(f"{type(self).__name__} is not differentiable")

    @property
    def exact_forward(self) -> bool:
        """True if ``forward`` is the oracle itself, False if it approximates the oracle."""
        return True

    @property
    def placement(self) -> Mapping[str, Any]:
        """Device and dtype of the designs of ``forward``, as arguments of ``torch.Tensor.to``."""
        return {}

    def answers(self, designs: Sequence[Design], outputs: Sequence[str]) -> list[OracleResult]:
        """Evaluate designs and return one result per design; a design never raises.

        If a batch fails, each of its designs is evaluated alone and billed two calls.
        """
        if self.batched and len(designs) > 1:
            try:
                raw = self(designs)
                if len(raw) == len(designs):
                    return [result_of(row, outputs) for row in raw]
            except (Exception, SystemExit):
                pass  # one of the designs may be the cause: evaluate each alone
            return [self._single(designs[i : i + 1], outputs, calls=2) for i in range(len(designs))]
        return [self._single(designs[i : i + 1], outputs, calls=1) for i in range(len(designs))]

    def _single(self, design: Sequence[Any], outputs: Sequence[str], calls: int) -> OracleResult:
        try:
            raw = self(design)
            given: object = raw  # user code may return anything
            if isinstance(given, Sized) and not isinstance(given, Mapping) and len(given) == 1:
                return result_of(raw[0], outputs, calls)
            size = len(given) if isinstance(given, Sized) else type(given).__name__
            shape = getattr(raw, "shape", None) or size
            error: EvaluationError = FailedError(
                f"the oracle must return one row for one design, got shape {shape}"
            )
        except EvaluationError as raised:
            error = raised
        except InvalidInputError as raised:
            error = FailedError(f"{MISMATCH}{raised}")
        except (Exception, SystemExit) as raised:
            error = FailedError(f"{type(raised).__name__}: {raised}")
        return OracleResult(None, error, calls)

    def interrupt(self) -> None:  # noqa: B027
        """End the calls of this process, whose results are not needed any more."""

    def to_json(self) -> JSON:
        """Describe the oracle for readers of a log; the description is not an identity."""
        return {"type": type(self).__name__}

    @property
    def implementation(self) -> object:
        """Wrapped function, module or estimator, as recorded in logs; by default the oracle."""
        return self

    def digest(self) -> Digest | None:
        """Hash the implementation without calling it, so that a study can warn of changes.

        Returns:
            The digest; None if the implementation cannot be hashed.
        """
        return digest(self.implementation)


def result_of(raw: object, outputs: Sequence[str], calls: int = 1) -> OracleResult:
    """Convert one row of raw outputs, or an ``EvaluationError``, to a result."""
    try:
        return OracleResult(as_outputs(raw, outputs), None, calls)
    except EvaluationError as error:
        return OracleResult(None, error, calls)


def as_outputs(raw: object, outputs: Sequence[str]) -> Array:
    """Convert the raw outputs of one design to a finite array ``(m,)`` in the order of ``outputs``.

    Raises:
        FailedError: a name is missing, the shape is not ``(m,)``, or a value is not finite.
        EvaluationError: ``raw`` itself.
    """
    y = shaped_outputs(raw, outputs)
    if not np.isfinite(y).all():
        named = dict(zip(outputs, y.tolist(), strict=True))
        raise FailedError(f"an output is not finite: {named}")
    return y


def shaped_outputs(raw: object, outputs: Sequence[str]) -> Array:
    """Convert raw outputs as ``as_outputs``, but allow NaN and infinities."""
    if isinstance(raw, EvaluationError):
        raise raw
    if isinstance(raw, Mapping):
        missing = [name for name in outputs if name not in raw]
        if missing:
            given = [str(name) for name in raw]
            near = difflib.get_close_matches(missing[0], given, n=1)
            hint = f"Rename {near[0]!r} to {missing[0]!r}" if near else _naming(given, len(outputs))
            raise FailedError(
                f"{MISMATCH}outputs {missing} are missing, got {sorted(given)}. {hint}. "
                "Objective and constraints name the outputs."
            )
        raw = [raw[name] for name in outputs]
    if raw is None:
        raise FailedError(f"{MISMATCH}outputs must be numbers, got None; is a return missing?")
    if hasattr(raw, "detach"):
        raw = raw.detach().cpu().numpy()
    try:
        y = np.atleast_1d(np.asarray(raw, dtype=np.float64))
    except (TypeError, ValueError):
        raise FailedError(
            f"{MISMATCH}outputs must be a number, a vector or a dict of numbers, got {raw!r:.80}"
        ) from None
    if y.shape != (len(outputs),):
        hint = ""
        if y.ndim == 1 and len(y) > len(outputs):
            names = ["a", "b", "c"][: len(y)]
            listed = ", ".join(map(repr, names)) + (", ..." if len(y) > len(names) else "")
            naming = _naming(names, len(outputs))
            hint = f". Name all {len(y)} in Problem(outputs=[{listed}]). {naming}"
        raise FailedError(
            f"{MISMATCH}outputs must have shape ({len(outputs)},) for {list(outputs)}, "
            f"got {y.shape}{hint}"
        )
    return y


def _naming(given: Sequence[str], count: int) -> str:
    """Return a hint how an objective names its outputs."""
    if not given:
        return "The oracle must return them"
    if count == 1:
        name = repr(given[0])
        examples = f"bi.Minimize({name}), bi.Maximize({name}) or bi.Target({{{name}: number}})"
        return f"Name the output, as in {examples}"
    shown = ", ".join(f"{name!r}: number" for name in given[:2])
    return f"Name the outputs, as in bi.Target({{{shown}}})"


def as_oracle(oracle: object) -> Oracle:
    """Wrap a torch module, an estimator with ``predict`` or a callable; return an oracle as it is.

    Raises:
        InvalidInputError: ``oracle`` is none of these.
    """
    if isinstance(oracle, Oracle):
        return oracle
    # Modules are recognised by name, so that torch is imported only if it is used.
    is_module = any(
        c.__name__ == "Module" and c.__module__.startswith("torch.") for c in type(oracle).__mro__
    )
    kind = "torch" if is_module else "estimator" if hasattr(oracle, "predict") else "function"
    if kind == "function" and not callable(oracle):
        raise InvalidInputError(
            "oracle must be a callable, a torch module or an estimator, "
            f"got {type(oracle).__name__}"
        )
    made: Oracle = registry.resolve("oracles", kind)(oracle)
    return made


__getattr__ = deprecated_names(globals(), {"Answer": "OracleResult"})
