"""Studies and trials as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bo_invert.history import History
from bo_invert.types import Array, Ledger, State, Trial, printable


def study_text(
    name: str, problem_name: str, strategy_name: str, trials: Sequence[Trial], ledger: Ledger
) -> str:
    """A study in a few lines: what it is about, how far it is, the best design, the bill."""
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
        lines.append(f"  best    none; the last trial said: {history.failed[-1].outcome.reason}")
    lines.append(
        f"  spent   {ledger} ({ledger.seconds:.3g} s in the oracle, {ledger.asking:.3g} s in the strategy)"
    )
    return printable("\n".join(lines))


def counts_text(trials: Sequence[Trial]) -> str:
    """How many trials stand where."""
    states = [trial.state for trial in trials]
    counted = [f"{states.count(state)} {state}" for state in State if state in states]
    return ", ".join(counted) or "none yet"


def trial_text(trial: Trial) -> str:
    """A trial in one line."""
    words = [f"trial {trial.number}", str(trial.state)]
    if trial.loss is not None and trial.y is not None:
        words += [f"loss {trial.loss:.6g}", f"y = {vector_text(trial.y)}"]
    if trial.state is State.COMPLETED and not trial.feasible:
        words.append("breaks a constraint")
    if trial.outcome is not None and trial.outcome.reason:
        words.append(trial.outcome.reason)
    design = design_text(trial)
    words.append(f"x = {design}" if design else f"point {vector_text(trial.point)}")
    return printable(", ".join(words))


def design_text(trial: Trial) -> str:
    """The design in words: parameters, a short vector, a string; empty for anything else or without a study."""
    try:
        design: Any = trial.design
    except Exception:  # showing a trial must never raise, whatever the user's decoder does
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
    """Numbers to four digits; a long vector is cut."""
    values = [f"{v:.4g}" for v in vector[:longest]]
    if len(vector) == 1:
        return values[0]
    return "(" + ", ".join([*values, *(["..."] if len(vector) > longest else [])]) + ")"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
