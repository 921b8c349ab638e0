"""Ready problems by name."""

from __future__ import annotations

from typing import Any

from bo_invert import registry
from bo_invert.problem import Problem


def ready_problem(name: str, **options: Any) -> Problem:
    """A ready problem: ``"digits"``, ``"arm"``, ``"sine"``, ``"hartmann6"``, ``"mixed"``.

    Args:
        name: of the problem.
        options: passed on to it, for example ``target=0.5``.

    Raises:
        InvalidInput: there is no such problem, or it has no such option.
    """
    made: Problem = registry.resolve("problems", name)(**options)
    return made
