"""The header of a study: the facts that never change, written once when the study is created."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from bo_invert.errors import InvalidInputError, ProblemChangedError, require
from bo_invert.problems.json_diff import differences
from bo_invert.problems.problem import Problem
from bo_invert.problems.recorded_versions import provenance
from bo_invert.strategies.base import Strategy, from_spec
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
        **({"units": problem.units} if problem.units else {}),
    }


def check_problem(name: str, header: JSON, problem: Problem) -> None:
    """Check that a problem is the one of a study.

    Args:
        name: Name of the study.
        header: Its header.
        problem: Problem from the user.

    Raises:
        ProblemChangedError: The problem differs; the message lists the differences.
    """
    changes = differences(header["problem"], problem.to_json())
    require(
        not changes,
        f"study {name!r}: the problem must be the one that it was created with. "
        "Differences:\n  " + "\n  ".join(changes) + "\n"
        "Create a new study for the new problem; study.add() can copy known outcomes to it.",
        ProblemChangedError,
    )


def check_strategy(name: str, header: JSON, strategy: Strategy) -> None:
    """Raise ``InvalidInputError`` if a strategy is not the one of a study."""
    check_unchanged(name, "strategy", current_spec(header), strategy.spec())


def current_spec(header: JSON) -> JSON:
    """Return the spec of a study's strategy with the defaults of options newer than the study.

    A strategy that cannot be built any more has the stored spec.
    """
    strategy = buildable_strategy(header)
    return header["strategy"] if strategy is None else strategy.spec()


def buildable_strategy(header: JSON) -> Strategy | None:
    """Return the strategy of a study; None if it was removed or is not installed."""
    try:
        return from_spec(header["strategy"])
    except InvalidInputError:
        return None


def stored_strategy(name: str, header: JSON) -> Strategy:
    """Return the strategy of a study.

    Args:
        name: Name of the study.
        header: Its header.

    Raises:
        InvalidInputError: The strategy was removed, or is not installed.
    """
    try:
        return from_spec(header["strategy"])
    except InvalidInputError as error:
        raise InvalidInputError(no_strategy(name, str(error))) from None


def no_strategy(name: str, why: str) -> str:
    """Return the message that a study cannot continue with its strategy, with the remedy."""
    return (
        f"study {name!r}: {why.rstrip('.')}. The study is readable without its strategy. To "
        "continue, create a study with another strategy and copy the observations: "
        "new.add(points=old.history.points, Y=old.history.y). If the strategy "
        "is your own, pass it to Study.open(strategy=...)"
    )


def check_unchanged(name: str, field: str, stored: JSON, given: JSON) -> None:
    """Raise ``InvalidInputError`` if a field of a study differs from that of the user."""
    require(
        stored == given,
        f"study {name!r}: the {field} must be {stored!r}, got {given!r}. Choose another name, "
        "or continue the study as it is with Study.open",
    )
