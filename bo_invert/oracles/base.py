"""Contract of an oracle: designs to raw outputs; it does not know the objective.

A batched oracle evaluates n designs in one call; any other is called once per design. In both cases
a failing design costs its own attempt only.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

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
from bo_invert.oracles.raw_outputs import (
    MISMATCH as MISMATCH,
    MISMATCHES as MISMATCHES,
    answer_rows,
    as_outputs,
    in_order_of_labels,
    output_positions,
)
from bo_invert.types import JSON, Array, Design, frozen
from bo_invert.user_code import call_user_code
from bo_invert.user_data import number, scalar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

_OTHER_INPUTS = re.compile(
    r"is expecting \d+ features|features? shape mismatch|number of features .*training data"
    r"|expected 2D array, got|shapes cannot be multiplied|is present in model but not in pool"
    r"|incompatible with the layer: expected",
    re.IGNORECASE,
)
"""Messages of scikit-learn, XGBoost, LightGBM, torch, CatBoost and Keras about inputs whose number
or shape differs from that of the fit."""


@dataclass(frozen=True, eq=False)
class OracleResult:
    """Result of one design; its outputs are a read-only copy.

    Attributes:
        y: outputs ``(m,)``; None if there are none.
        error: reason why there are no outputs.
        calls: billed oracle calls.
    """

    y: Array | None
    error: EvaluationError | None = None
    calls: int = 1

    def __post_init__(self) -> None:
        if self.y is not None:
            object.__setattr__(self, "y", frozen(self.y))

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

    def passes_gradients(
        self, points: Array, decode: Callable[[torch.Tensor], torch.Tensor]
    ) -> bool:
        """Return False if outputs of ``forward`` turn out to have no gradient, without a call.

        Args:
            points: typical points ``(n, d)``.
            decode: differentiable map from points to designs.
        """
        return self.differentiable

    def forwarding(self) -> AbstractContextManager[Callable[[torch.Tensor], torch.Tensor]]:
        """Prepare many calls of ``forward`` and yield it; a descent calls it at each step."""
        return nullcontext(self.forward)

    @property
    def placement(self) -> Mapping[str, Any]:
        """Device and dtype of the designs of ``forward``, as arguments of ``torch.Tensor.to``."""
        return {}

    @property
    def input_names(self) -> tuple[str, ...] | None:
        """Names of the inputs; None if the oracle takes designs as they are."""
        return None

    def check_design(self, design: Design) -> None:  # noqa: B027
        """Check without a call that the oracle accepts designs like one of the space.

        Raises:
            InvalidInputError: calls with such designs cannot succeed.
        """

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
        raw = call_user_code(self, designs)
        rows = in_order_of_labels(answer_rows(raw, len(designs), self.outputs or outputs), raw)
        results = [result_of(row, outputs, own=self.outputs) for row in rows]
        return [result for result, _ in zip(results, designs, strict=True)]

    def _single(self, design: Sequence[Any], outputs: Sequence[str], calls: int) -> OracleResult:
        try:
            raw: object = call_user_code(self, design)  # user code may return anything
            if not isinstance(raw, Sized) or not raw.__len__():
                shape = getattr(raw, "shape", None) or type(raw).__name__
                raise FailedError(
                    f"the oracle must return one row for one design, got shape {shape}"
                )
            rows = answer_rows(raw, 1, self.outputs or outputs)
            if len(rows) != 1:
                shape = getattr(raw, "shape", None) or len(rows)
                raise FailedError(
                    f"the oracle must return one row for one design, got shape {shape}"
                )
            return OracleResult(as_outputs(rows[0], outputs, self.outputs), None, calls)
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
        output_positions(type(self).__name__, self.oracle.outputs, self.outputs or ())
        self.batched, self.waits = self.oracle.batched, self.oracle.waits

    def __call__(self, designs: Sequence[Design]) -> RawOutputs:
        return self.oracle(designs)

    @property
    def input_names(self) -> tuple[str, ...] | None:
        return self.oracle.input_names

    def check_design(self, design: Design) -> None:
        self.oracle.check_design(design)

    def answers(self, designs: Sequence[Design], outputs: Sequence[str]) -> list[OracleResult]:
        return self.oracle.answers(designs, outputs)

    def interrupt(self) -> None:
        self.oracle.interrupt()

    @property
    def implementation(self) -> object:
        return self.oracle.implementation

    def digest(self) -> Digest | None:
        return self.oracle.digest()


def time_limit(where: str, name: str, value: object) -> float | None:
    """Return a time limit above 0, in seconds; None for no limit."""
    return None if value is None else _duration(where, name, value, zero=False)


def pause(where: str, name: str, value: object) -> float:
    """Return a pause as a ``float`` of at least 0, in seconds."""
    return _duration(where, name, value, zero=True)


def _duration(where: str, name: str, value: object, *, zero: bool) -> float:
    try:
        found = math.nan if isinstance(scalar(value), bool) else number(value)
    except TypeError:
        found = math.nan
    if not (0 < found < math.inf or (zero and found == 0)):
        limit = ">= 0" if zero else "> 0"
        raise InvalidInputError(
            f"{where}: {name} must be a number of seconds {limit}, got {value!r}"
        )
    return found


def as_failure(error: BaseException) -> EvaluationError:
    """Convert an exception of an oracle call to the outcome of the call."""
    if isinstance(error, EvaluationError):
        return error
    if isinstance(error, (InvalidInputError, WorkerLoadError)):
        return FailedError(f"{MISMATCH}{error}")
    if _concerns_all_designs(error):
        return FailedError(f"{MISMATCH}{type(error).__name__}: {error}")
    prefix = "" if isinstance(error, WorkerDied) else f"{type(error).__name__}: "
    return FailedError(f"{prefix}{error}")


def _concerns_all_designs(error: BaseException) -> bool:
    """Return True for a model that is not fitted, or that expects inputs of another shape."""
    unfitted = any(kind.__name__ == "NotFittedError" for kind in type(error).__mro__)
    return unfitted or _OTHER_INPUTS.search(str(error)) is not None


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


def result_of(
    raw: object, outputs: Sequence[str], calls: int = 1, own: Sequence[str] | None = None
) -> OracleResult:
    """Convert raw outputs of one design, or an ``EvaluationError``; see ``as_outputs``."""
    try:
        return OracleResult(as_outputs(raw, outputs, own), None, calls)
    except EvaluationError as error:
        return OracleResult(None, error, calls)


def estimator_of(fn: object, outputs: Sequence[str] | None = None) -> Oracle | None:
    """Return the oracle of a method of an estimator that was fitted on a data frame.

    The method needs the names of the columns. Return None for other functions.
    """
    method, owner = getattr(fn, "__name__", ""), getattr(fn, "__self__", None)
    if method not in ("predict", "predict_proba") or not hasattr(owner, "fit"):
        return None
    kind = registry.resolve("oracles", "estimator")
    estimator = cast("Oracle", kind(owner, outputs, method=method))
    return None if estimator.input_names is None else estimator


def as_oracle(oracle: object) -> Oracle:
    """Wrap a torch module, an estimator with ``predict`` or a callable; return an oracle as it is.

    Raises:
        InvalidInputError: ``oracle`` is none of these.
    """
    if isinstance(oracle, Oracle):
        return oracle
    kind = "estimator" if hasattr(oracle, "predict") else "function"
    kind = "torch" if is_torch_module(oracle) else kind
    estimator = estimator_of(oracle)
    if estimator is not None:
        return estimator
    require(
        kind != "function" or callable(oracle),
        f"oracle must be a callable, a torch module or an estimator, got {type(oracle).__name__}",
    )
    made: Oracle = registry.resolve("oracles", kind)(oracle)
    return made


__getattr__ = deprecated_names(globals(), {"Answer": "OracleResult"})
