"""Names of the outputs of a problem."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral

from bo_invert.errors import InvalidInputError
from bo_invert.objectives.base import Objective
from bo_invert.objectives.outcome_constraint import OutcomeConstraint
from bo_invert.oracles.base import Oracle
from bo_invert.problems.plausibility_output import derived_output
from bo_invert.user_data import scalar, whole_number


def oracle_output_names(
    given: Sequence[str] | int | None,
    oracle: Oracle | None,
    objective: Objective,
    constraints: Sequence[OutcomeConstraint],
) -> tuple[str, ...]:
    """Return the names of the outputs of an oracle.

    Args:
        given: names or number of outputs from the user; None for a default.
        oracle: oracle; its own names are the first default.
        objective: objective; the names that it and the constraints read are the second default.
        constraints: outcome constraints.

    Raises:
        InvalidInputError: names are empty or repeated, or their number is unknown.
    """
    if isinstance(given, str):
        given = [given]
    if isinstance(scalar(given), Integral):
        count = whole_number("Problem", "outputs", given)
        given = ["y"] if count == 1 else [f"y{i}" for i in range(count)]
    own = None if oracle is None else oracle.outputs
    if given is not None and (getattr(given, "ndim", 1) == 0 or not isinstance(given, Iterable)):
        raise InvalidInputError(
            f"Problem: outputs must be names or their number, got {given!r:.200}"
        )
    names = own if given is None else tuple(given)
    if names is None:
        read = dict.fromkeys([*objective.names, *(one.output for one in constraints)])
        names = tuple(name for name in read if name != derived_output(objective))
    if not names:
        size = objective.size
        if size is None:
            raise InvalidInputError(
                f"Problem: the number of outputs of {objective} is unknown. Pass outputs=[names]."
            )
        names = ("y",) if size == 1 else tuple(f"y{i}" for i in range(size))
    if not all(isinstance(n, str) and n for n in names) or len(set(names)) != len(names):
        raise InvalidInputError(
            f"Problem: outputs must be different, non-empty names, got {list(names)}"
        )
    return names
