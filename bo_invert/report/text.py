"""Plain text of studies and trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bo_invert.history import History
from bo_invert.ledger import Ledger
from bo_invert.types import Array, State, Trial, printable

_PHRASES = {
    "y": "y = {}",
    "design": "x = {}",
    "constraints": "violates a constraint",
    "reason": "{}",
}
"""Phrases for the facts of a trial; default: name and fact."""


def study_text(
    name: str, problem_name: str, strategy_name: str, trials: Sequence[Trial], ledger: Ledger
) -> str:
    """Return problem, trial counts, best trial and cost of a study in a few lines."""
    history = History(trials)
    lines = [
        f"Study {name!r}: {problem_name} by {strategy_name}",
        f"  trials  {counts_text(trials)}",
    ]
    if history.best is not None:
        lines.append(f"  best    {trial_text(history.best)}")
    elif history.completed:
        lines.append("  best    none feasible yet")
    elif history.failed and history.failed[-1].outcome is not None:
        lines.append(f"  best    none. Last error: {history.failed[-1].outcome.reason}")
    seconds = f"{ledger.seconds:.3g} s in the oracle, {ledger.asking:.3g} s in the strategy"
    lines.append(f"  spent   {ledger} ({seconds})")
    return printable("\n".join(lines))


def counts_text(trials: Sequence[Trial]) -> str:
    """Return the number of trials in each state."""
    states = [trial.state for trial in trials]
    counted = [f"{states.count(state)} {state}" for state in State if state in states]
    return ", ".join(counted) or "none yet"


def trial_text(trial: Trial) -> str:
    """Return a trial as one line."""
    facts = trial_facts(trial).items()
    phrases = [_PHRASES.get(name, name + " {}").format(fact) for name, fact in facts]
    return printable(", ".join([f"trial {trial.number}", str(trial.state), *phrases]))


def trial_facts(trial: Trial) -> dict[str, str]:
    """Return loss, outputs, violation, reason of a failure, and design or point of a trial."""
    facts = {}
    if trial.loss is not None and trial.y is not None:
        facts = {"loss": f"{trial.loss:.6g}", "y": vector_text(trial.y)}
    if trial.state is State.COMPLETED and not trial.feasible:
        facts["constraints"] = "violated"
    if trial.outcome is not None and trial.outcome.reason:
        facts["reason"] = trial.outcome.reason
    design = design_text(trial)
    return facts | ({"design": design} if design else {"point": vector_text(trial.point)})


def design_text(trial: Trial) -> str:
    """Return parameters, a short vector or a string as text; empty for other designs."""
    try:
        design: Any = trial.design
    except Exception:  # an error of the user's decoder must not prevent the display of a trial
        return ""
    if isinstance(design, Mapping):
        return "{" + ", ".join(f"{k}: {_value(v)}" for k, v in design.items()) + "}"
    if isinstance(design, str):
        return repr(design)
    if (
        isinstance(design, np.ndarray)
        and design.ndim == 1
        and np.issubdtype(design.dtype, np.number)
    ):
        return vector_text(design.astype(float))
    return ""


def vector_text(vector: Array, longest: int = 8) -> str:
    """Format numbers with four digits; cut vectors with more than ``longest`` of them."""
    values = [f"{v:.4g}" for v in vector[:longest]] + ["..."] * (len(vector) > longest)
    return values[0] if len(vector) == 1 else f"({', '.join(values)})"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
