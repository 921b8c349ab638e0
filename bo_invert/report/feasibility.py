"""Reasons for which a study has no feasible trial."""

from __future__ import annotations

from collections.abc import Sequence

from bo_invert.report.table import counted
from bo_invert.types import State, Trial


def why_infeasible(trials: Sequence[Trial]) -> str:
    """Return the reason for which none of the trials is feasible, without a full stop.

    Args:
        trials: trials, of which no completed one satisfies the outcome constraints.
    """
    completed = [trial for trial in trials if trial.state is State.COMPLETED]
    failed = [trial for trial in trials if trial.state in (State.FAILED, State.INFEASIBLE)]
    inside = [trial for trial in completed if not trial.outside]
    parts = []
    if inside:
        violations = [trial.outcome.violation if trial.outcome else 0.0 for trial in inside]
        least = min(violations)
        parts.append(
            f"none of {counted(len(inside), 'completed trial')} satisfies the outcome constraints, "
            f"and the smallest violation is {least:.3g}, in trial "
            f"{inside[violations.index(least)].number}"
        )
    if len(inside) < len(completed):
        outside = len(completed) - len(inside)
        parts.append(
            f"{outside} of {counted(len(completed), 'completed trial')} are outside the "
            "search space"
        )
    if failed:
        last = f". Last error: {failed[-1].reason}" if failed[-1].reason else ""
        ended = counted(len(completed) + len(failed), "trial")
        parts.append(f"{len(failed)} of {ended} failed{last}")
    return "; ".join(parts) or "no trial is completed"
