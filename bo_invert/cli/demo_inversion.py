"""Last part of ``bo-invert demo``: questions about all inputs that reach a target."""

from __future__ import annotations

from bo_invert.objectives.target import Target
from bo_invert.problems.examples.base import ready_problem
from bo_invert.report.table import counted
from bo_invert.study.study import Study

TARGET, TOLERANCE = 1.98, 0.002
"""Output of ``sine`` and its tolerance. Engineering choice: 0.065 % of the box meets them, so 150
random draws miss with probability 0.91."""
SECOND, BEYOND = -1.2, 2.5
"""Another target, and one outside of the range [-2, 2] of ``sine``. Engineering choice."""
DRAWS, CALLS, CHECKS, FEW, LAST = 150, 60, 8, 12, 30
"""Random draws for comparison; calls of the search for all solutions, of the checks of tolerances,
of the second target, and of the verdict. Engineering choice: the part takes less than a minute."""


def inversion_text(seed: int) -> str:
    """Search all inputs of ``sine`` that reach a target, and describe what follows from the log.

    Args:
        seed: random seed of all studies.

    Returns:
        Branches, tolerances of one design, a second target, and the verdict on a third one.
    """
    problem = ready_problem("sine", target=[TARGET], tolerance=TOLERANCE)
    drawn = Study.create("random", problem, "random", seed=seed).run(DRAWS).history
    missed = float(abs(drawn.y[:, 0] - TARGET).min())
    study = Study.create("sine", problem, seed=seed).run(CALLS)
    first = study.spent.values
    study.run(CALLS, find="all")
    found = study.solutions(DRAWS)
    branches = {one.branch for one in found if one.branch is not None}
    kinds = "branches" if len(branches) != 1 else "branch"
    searched = counted(study.spent.values, "call")
    lines = [
        "All solutions: sine, 2 inputs",
        f"target {TARGET} ± {TOLERANCE}; the nearest of {DRAWS} random draws is {missed:.2g} away",
        f"one solution after {counted(first, 'call')}; {len(branches)} {kinds} after {searched}",
    ]
    if branches:
        lines.append(f"\n{found[0].tolerances(calls=CHECKS)}")
    other = study.retarget([SECOND])
    other.run(FEW)
    if other.best is not None and other.best.y is not None:
        lines.append(
            f"\nsecond target {SECOND}: y = {other.best.y[0]:.4g} after "
            f"{counted(other.spent.values, 'call')}, from the same observations"
        )
    beyond = study.retarget(Target([BEYOND], tolerance=TOLERANCE))
    beyond.run(LAST, stop="verdict")
    lines.append(f"target {BEYOND}: {beyond.verdict()}")
    return "\n".join(lines)
