"""The header of a study: the facts that never change, written once when the study is created."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from bo_invert.problems.problem import Problem
from bo_invert.problems.provenance import provenance
from bo_invert.strategies.base import Strategy
from bo_invert.types import JSON


def new_header(
    problem: Problem,
    strategy: Strategy,
    seed: int,
    *,
    problem_name: str | None = None,
    made_with: JSON = None,
) -> dict[str, JSON]:
    """Return the header of a new study.

    Args:
        problem: Problem to invert.
        strategy: Strategy that proposes the points.
        seed: Root of all random choices.
        problem_name: Name of the problem in reports. Default: ``problem.name``.
        made_with: Provenance from a client. Default: versions and oracle of this process.
    """
    return {
        "problem": problem.to_json(),
        "problem_name": problem_name or problem.name,
        "strategy": strategy.spec(),
        "seed": seed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "id": uuid.uuid4().hex,
        "provenance": made_with or provenance(problem.oracle, problem.space),
    }
