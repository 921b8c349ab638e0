"""Outputs that a problem derives from points without a call: plausibility, change of a design."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bo_invert.errors import InvalidInputError, require
from bo_invert.objectives.base import Objective
from bo_invert.objectives.nearest import CHANGE, Nearest
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.single_output import PLAUSIBILITY, Plausibility
from bo_invert.oracles.raw_outputs import as_outputs
from bo_invert.types import Array
from bo_invert.user_data import real_array, vector
from bo_invert.user_tables import record


def reads_plausibility(objective: Objective) -> bool:
    """Return True if an objective is, or contains, ``Plausibility``."""
    if isinstance(objective, Pareto):
        return objective.plausibility is not None
    return isinstance(objective, Plausibility)


def derived_output(objective: Objective) -> str:
    """Return the name of the output that an objective adds to those of an oracle, or ``""``."""
    if isinstance(objective, Nearest):
        return CHANGE
    return PLAUSIBILITY if reads_plausibility(objective) else ""


@dataclass(frozen=True)
class OutputNames:
    """Names of the outputs of an oracle and of a problem.

    Args:
        oracle: names of the outputs of the oracle.
        problem: the same, and ``"plausibility"`` or ``"change"`` if the objective reads it.
    """

    oracle: tuple[str, ...]
    problem: tuple[str, ...]

    @staticmethod
    def of(oracle: tuple[str, ...], objective: Objective) -> OutputNames:
        """Return the names for an objective.

        Raises:
            InvalidInputError: the oracle has an output with the name of a derived one.
        """
        derived = derived_output(objective)
        if not derived:
            return OutputNames(oracle, oracle)
        if derived in oracle:
            raise InvalidInputError(
                f"Problem: outputs must not contain {derived!r}, which {objective} adds, got "
                f"{list(oracle)}. Rename the output, or write Maximize({derived!r})."
            )
        return OutputNames(oracle, (*oracle, derived))

    def reported(self, answer: object) -> tuple[str, ...]:
        """Return the names of the outputs that an answer must have.

        These are the outputs of the oracle. An answer that holds the derived one too, as that of a
        worker of a server, has all outputs.
        """
        if self.oracle == self.problem:
            return self.problem
        named = record(answer)
        if named is not None:
            return self.problem if self.problem[-1] in named else self.oracle
        try:
            complete = vector(answer).shape == (len(self.problem),)
        except TypeError:
            complete = False
        return self.problem if complete else self.oracle

    def complete(
        self, answer: object, point: Array | None, derive: Callable[[Array], object]
    ) -> Array:
        """Return the outputs ``(m,)`` of an answer, with the derived one if there is any.

        Args:
            answer: raw outputs of the oracle, or an error.
            point: point ``(d,)``; None if the answer holds the derived output, or none is read.
            derive: function from points ``(1, d)`` to the derived output ``(1,)``.

        Raises:
            EvaluationError: the answer is one, or is no finite vector of the outputs.
            InvalidInputError: the derived output is no number.
        """
        names = self.reported(answer)
        y = as_outputs(answer, names)
        if names == self.problem:
            return y
        assert point is not None
        derived = real_array(self.problem[-1], derive(point[None]))
        require(
            derived.shape == (1,), f"{self.problem[-1]}: must be one number, got {derived!r:.80}"
        )
        return np.append(y, derived)
