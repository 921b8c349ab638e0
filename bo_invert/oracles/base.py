"""The contract of an oracle: designs in, raw outputs out. It never knows the objective.

A batched oracle answers n designs at once; any other is called once per design. Either way one bad design costs its
own attempt and not its neighbours'.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert import registry
from bo_invert.errors import EvaluationError, FailedError, InvalidInputError
from bo_invert.hashing import Digest, digest
from bo_invert.types import JSON, Array

if TYPE_CHECKING:
    import torch


#: Begins every reason that is about the problem's making, not about a design: names, shapes, types.
MISFIT = "it does not fit the problem: "


@dataclass(frozen=True, eq=False)
class Answer:
    """What one design got: outputs ``(m,)`` or the verdict why there are none, and the calls it took."""

    y: Array | None
    verdict: EvaluationError | None = None
    calls: int = 1


class Oracle(ABC):
    """Designs to raw outputs.

    Attributes:
        outputs: names of the m outputs; None when only the problem knows them.
        batched: whether ``__call__`` takes many designs at once.
        differentiable: whether ``forward`` works.
        waits: whether a call does its work outside this process, so that threads are enough to have several at once.
    """

    outputs: tuple[str, ...] | None = None
    batched: bool = False
    differentiable: bool = False
    waits: bool = False

    @abstractmethod
    def __call__(self, designs: Sequence[Any]) -> Any:
        """Raw outputs of designs: an array ``(n, m)`` or ``(n,)``, or a list of n arrays, numbers or dicts.

        Raises anything; ``InfeasibleError`` says that the design cannot be evaluated at all.
        """

    def forward(self, designs: torch.Tensor) -> torch.Tensor:
        """Outputs ``(n, m)`` of designs ``(n, ...)``, with gradients flowing. Only if ``differentiable``."""
        raise FailedError(f"{type(self).__name__} is not differentiable")

    @property
    def exact_forward(self) -> bool:
        """Whether ``forward`` is the oracle itself; False for a stand-in, whose finds are then verified."""
        return True

    @property
    def placement(self) -> Mapping[str, Any]:
        """Device and dtype that ``forward`` wants its designs in, as keyword arguments of ``torch.Tensor.to``."""
        return {}

    def answers(self, designs: Sequence[Any], outputs: Sequence[str]) -> list[Answer]:
        """One answer per design; never raises on account of a design."""
        if self.batched and len(designs) > 1:
            try:
                raw = self(designs)
                if len(raw) == len(designs):
                    return [answer_of(row, outputs) for row in raw]
            except (Exception, SystemExit):
                pass  # one of the designs is at fault: ask for each alone, and bill the batch to each as well
            return [self._single(designs[i : i + 1], outputs, calls=2) for i in range(len(designs))]
        return [self._single(designs[i : i + 1], outputs, calls=1) for i in range(len(designs))]

    def _single(self, design: Sequence[Any], outputs: Sequence[str], calls: int) -> Answer:
        try:
            raw = self(design)
            if isinstance(raw, Mapping) or not hasattr(raw, "__len__") or len(raw) != 1:
                shape = getattr(raw, "shape", None) or (
                    len(raw) if hasattr(raw, "__len__") else type(raw).__name__
                )
                return Answer(
                    None,
                    FailedError(f"the oracle answered one design with {shape}, expected one row"),
                    calls,
                )
            return answer_of(raw[0], outputs, calls)
        except EvaluationError as verdict:
            return Answer(None, verdict, calls)
        except InvalidInputError as error:
            return Answer(None, FailedError(f"{MISFIT}{error}"), calls)
        except (Exception, SystemExit) as error:
            return Answer(None, FailedError(f"{type(error).__name__}: {error}"), calls)

    def interrupt(self) -> None:  # noqa: B027
        """End the calls that are under way in this process: nobody waits for them any more. They may still answer."""

    def to_json(self) -> JSON:
        """What is known of it, for people who read a log; it does not identify an oracle."""
        return {"type": type(self).__name__}

    @property
    def inside(self) -> Any:
        """The function, module, estimator ... that answers: what a log names. Default: the oracle itself."""
        return self

    def digest(self) -> Digest | None:
        """sha256 of what answers, read without calling it; None where that cannot be. A study warns when it changed."""
        return digest(self.inside)


def answer_of(raw: Any, outputs: Sequence[str], calls: int = 1) -> Answer:
    """The answer that one row of raw outputs, or a verdict, amounts to; see ``as_outputs``."""
    try:
        return Answer(as_outputs(raw, outputs), None, calls)
    except EvaluationError as verdict:
        return Answer(None, verdict, calls)


def as_outputs(raw: Any, outputs: Sequence[str]) -> Array:
    """One design's raw outputs as a finite array ``(m,)`` in the order of ``outputs``.

    Raises:
        FailedError: names are missing, the shape is not ``(m,)``, or a value is not a finite number.
        Infeasible, Failed: if ``raw`` is such a verdict.
    """
    y = shaped_outputs(raw, outputs)
    if not np.isfinite(y).all():
        raise FailedError(f"an output is not finite: {dict(zip(outputs, y.tolist(), strict=True))}")
    return y


def shaped_outputs(raw: Any, outputs: Sequence[str]) -> Array:
    """Like ``as_outputs``, but the numbers may be anything, NaN too."""
    if isinstance(raw, EvaluationError):
        raise raw
    if isinstance(raw, Mapping):
        missing = [name for name in outputs if name not in raw]
        if missing:
            given = [str(name) for name in raw]
            near = difflib.get_close_matches(missing[0], given, n=1)
            hint = (
                f"is {near[0]!r} meant to be {missing[0]!r}?"
                if near
                else _meant(given, len(outputs))
            )
            raise FailedError(
                f"{MISFIT}outputs {missing} are missing; given were {sorted(given)}; {hint} (objective and constraints "
                "name outputs)"
            )
        raw = [raw[name] for name in outputs]
    if raw is None:
        raise FailedError(f"{MISFIT}the answer is None; is a return missing?")
    if hasattr(raw, "detach"):
        raw = raw.detach().cpu().numpy()
    try:
        y = np.atleast_1d(np.asarray(raw, dtype=np.float64))
    except (TypeError, ValueError):
        raise FailedError(
            f"{MISFIT}{raw!r:.80} is no number, vector of numbers or dict of numbers"
        ) from None
    if y.shape != (len(outputs),):
        hint = ""
        if y.ndim == 1 and len(y) > len(outputs):
            names = ["a", "b", "c"][: len(y)]
            listed = ", ".join(map(repr, names)) + (", ..." if len(y) > len(names) else "")
            hint = f"; name all {len(y)} in Problem(outputs=[{listed}]) and {_meant(names, len(outputs))}"
        raise FailedError(
            f"{MISFIT}outputs of shape {y.shape}, expected shape ({len(outputs)},) for {list(outputs)}{hint}"
        )
    return y


def _meant(given: Sequence[str], wanted: int) -> str:
    """How an objective names its outputs."""
    if not given:
        return "the oracle must answer them"
    if wanted == 1:
        name = repr(given[0])
        return f"say which is meant, as in bi.Minimize({name}), bi.Maximize({name}) or bi.Target({{{name}: number}})"
    shown = ", ".join(f"{name!r}: number" for name in given[:2])
    return f"say which are meant, as in bi.Target({{{shown}}})"


def as_oracle(oracle: Any) -> Oracle:
    """An oracle from whatever can be one: an ``Oracle``, a torch module, an estimator with ``predict``, a callable.

    Raises:
        InvalidInputError: it is none of these.
    """
    if isinstance(oracle, Oracle):
        return oracle
    # A module is recognised by name, so that torch is not imported for those who do not use it.
    module = any(
        c.__name__ == "Module" and c.__module__.startswith("torch.") for c in type(oracle).__mro__
    )
    kind = "torch" if module else "estimator" if hasattr(oracle, "predict") else "function"
    if kind == "function" and not callable(oracle):
        raise InvalidInputError(
            f"an oracle is a callable, a torch module or an estimator, got {type(oracle).__name__}"
        )
    made: Oracle = registry.resolve("oracles", kind)(oracle)
    return made
