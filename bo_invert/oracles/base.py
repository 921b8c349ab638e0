"""Contract of an oracle: designs to raw outputs; it does not know the objective.

A batched oracle evaluates n designs in one call; any other is called once per design. In both cases
a failing design costs its own attempt only.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bo_invert import registry
from bo_invert.errors import (
    EvaluationError,
    FailedError,
    InvalidInputError,
    deprecated_names,
    require,
)
from bo_invert.execution.base import WorkerDied, WorkerLoadError
from bo_invert.hashing import Digest, digest, is_torch_module
from bo_invert.types import JSON, Array, Design
from bo_invert.user_code import call_user_code

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

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
        exact_forward: ``forward`` is the oracle itself, not an approximation.
    """

    outputs: tuple[str, ...] | None = None
    batched: bool = False
    differentiable: bool = False
    waits: bool = False
    exact_forward: bool = True

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

    def forwarding(self) -> AbstractContextManager[Callable[[torch.Tensor], torch.Tensor]]:
        """Prepare many calls of ``forward`` and yield it; a descent calls it at each step."""
        return nullcontext(self.forward)

    @property
    def placement(self) -> Mapping[str, Any]:
        """Device and dtype of the designs of ``forward``, as arguments of ``torch.Tensor.to``."""
        return {}

    def answers(self, designs: Sequence[Design], outputs: Sequence[str]) -> list[OracleResult]:
        """Evaluate designs and return one result per design; a design never raises.

        If a batch fails, each of its designs is evaluated alone and billed two calls.
        """
        together = self.batched and len(designs) > 1
        if together:
            with suppress(Exception, SystemExit):  # one of the designs may be the cause
                return self._batch(designs, outputs)
        return [
            self._single(designs[i : i + 1], outputs, calls=2 if together else 1)
            for i in range(len(designs))
        ]

    def _batch(self, designs: Sequence[Design], outputs: Sequence[str]) -> list[OracleResult]:
        rows = call_user_code(self, designs)
        return [result_of(row, outputs) for row, _ in zip(rows, designs, strict=True)]

    def _single(self, design: Sequence[Any], outputs: Sequence[str], calls: int) -> OracleResult:
        try:
            raw = call_user_code(self, design)
            given: object = raw  # user code may return anything
            if not isinstance(given, Sized) or isinstance(given, Mapping) or len(given) != 1:
                size = len(given) if isinstance(given, Sized) else type(given).__name__
                shape = getattr(raw, "shape", None) or size
                raise FailedError(
                    f"the oracle must return one row for one design, got shape {shape}"
                )
            return OracleResult(as_outputs(raw[0], outputs), None, calls)
        except (Exception, SystemExit) as error:
            return OracleResult(None, as_failure(error), calls)

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


class OracleWrapper(Oracle):
    """Oracle that delegates to another one.

    Args:
        oracle: oracle, torch module, estimator or callable.
        outputs: names of the outputs; default: those of ``oracle``.
    """

    def __init__(self, oracle: object, outputs: Sequence[str] | None = None) -> None:
        self.oracle = as_oracle(oracle)
        self.outputs = self.oracle.outputs if outputs is None else tuple(outputs)
        self.batched, self.waits = self.oracle.batched, self.oracle.waits

    def __call__(self, designs: Sequence[Design]) -> RawOutputs:
        return self.oracle(designs)

    def answers(self, designs: Sequence[Design], outputs: Sequence[str]) -> list[OracleResult]:
        return self.oracle.answers(designs, outputs)

    def interrupt(self) -> None:
        self.oracle.interrupt()

    @property
    def implementation(self) -> object:
        return self.oracle.implementation

    def digest(self) -> Digest | None:
        return self.oracle.digest()


def as_failure(error: BaseException) -> EvaluationError:
    """Convert an exception of an oracle call to the outcome of the call."""
    if isinstance(error, EvaluationError):
        return error
    if isinstance(error, (InvalidInputError, WorkerLoadError)):
        return FailedError(f"{MISMATCH}{error}")
    prefix = "" if isinstance(error, WorkerDied) else f"{type(error).__name__}: "
    return FailedError(f"{prefix}{error}")


def answer_each(
    designs: Sequence[Design], convert: Callable[[Design], T], run: Callable[[list[T]], list[Any]]
) -> list[Any]:
    """Convert designs and evaluate the valid ones together.

    Args:
        designs: n designs.
        convert: function of one design; it raises ``FailedError`` or ``InvalidInputError``.
        run: function from converted designs to their results; called if there are any.

    Returns:
        The result of each design; the error if its conversion failed.
    """
    converted: dict[int, T] = {}
    rows: list[Any] = [None] * len(designs)
    for i, design in enumerate(designs):
        try:
            converted[i] = convert(design)
        except (FailedError, InvalidInputError) as error:
            rows[i] = as_failure(error)
    results = run(list(converted.values())) if converted else []
    for i, result in zip(converted, results, strict=True):
        rows[i] = result
    return rows


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
        raise FailedError(f"an output is not finite: {dict(zip(outputs, y.tolist(), strict=True))}")
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
    require(
        raw is not None,
        f"{MISMATCH}outputs must be numbers, got None; is a return missing?",
        FailedError,
    )
    raw = raw.detach().cpu().numpy() if hasattr(raw, "detach") else raw
    try:
        y = np.atleast_1d(np.array(raw, dtype=np.float64))  # a copy: the user may reuse an array
    except (TypeError, ValueError):
        raise FailedError(
            f"{MISMATCH}outputs must be a number, a vector or a dict of numbers, got {raw!r:.80}"
        ) from None
    if y.shape != (len(outputs),):
        hint = ""
        if y.ndim == 1 and len(y) > len(outputs):
            names = ["a", "b", "c"][: len(y)]
            listed = ", ".join(map(repr, names)) + (", ..." if len(y) > len(names) else "")
            hint = f". Name all {len(y)} in Problem(outputs=[{listed}]). "
            hint += _naming(names, len(outputs))
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
    kind = "estimator" if hasattr(oracle, "predict") else "function"
    kind = "torch" if is_torch_module(oracle) else kind
    require(
        kind != "function" or callable(oracle),
        f"oracle must be a callable, a torch module or an estimator, got {type(oracle).__name__}",
    )
    made: Oracle = registry.resolve("oracles", kind)(oracle)
    return made


__getattr__ = deprecated_names(globals(), {"Answer": "OracleResult"})
