"""Views of studies and trials: text for terminals, HTML for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.errors import printable
from bo_invert.history import History, Ledger, best_so_far
from bo_invert.report.pictures import image_tag
from bo_invert.report.templating import render
from bo_invert.types import JSON, Array, State, Trial

_PHRASES = {
    "y": "y = {}",
    "design": "x = {}",
    "constraints": "violates a constraint",
    "reason": "{}",
}
"""Phrases for the facts of a trial; default: name and fact."""


def study_text(
    name: str,
    problem_name: str,
    strategy_name: str,
    trials: Sequence[Trial],
    ledger: Ledger,
    front: str = "",
) -> str:
    """Return problem, trial counts, best trial or Pareto front, and cost in a few lines."""
    history = History(trials)
    lines = [
        f"Study {name!r}: {problem_name} by {strategy_name}",
        f"  trials  {counts_text(trials)}",
    ]
    if front:
        lines.append(f"  front   {front}")
    elif history.best is not None:
        lines.append(f"  best    {trial_text(history.best)}")
    elif history.completed:
        lines.append("  best    none feasible yet")
    elif history.failed and history.failed[-1].outcome is not None:
        lines.append(f"  best    none. Last error: {history.failed[-1].outcome.reason}")
    seconds = f"{ledger.seconds:.3g} s in the oracle, {ledger.asking:.3g} s in the strategy"
    return printable("\n".join([*lines, f"  spent   {ledger} ({seconds})"]))


def study_html(
    name: str,
    problem_name: str,
    strategy_name: str,
    trials: Sequence[Trial],
    ledger: Ledger,
    picture: ArrayLike | None = None,
    front: str = "",
) -> str:
    """Return trial counts, best design, cost and curve of a study.

    Args:
        name: name of the study.
        problem_name: name of its problem.
        strategy_name: name of its strategy.
        trials: its trials.
        ledger: its cost.
        picture: picture of the best design, ``(height, width[, 3])``.
        front: size and hypervolume of a Pareto front, in place of the best design.
    """
    best = None if front else History(trials).best
    facts = {
        "problem": problem_name,
        "strategy": strategy_name,
        "trials": counts_text(trials),
        "spent": str(ledger),
        "seconds": f"{ledger.seconds:.3g} in the oracle, {ledger.asking:.3g} in the strategy",
    }
    if front:
        facts["front"] = front
    if best is not None:
        facts |= {"best": f"trial {best.number}"} | trial_facts(best)
    return render(
        "card.html",
        title=f"Study {name}",
        facts=facts,
        picture="" if picture is None else image_tag(picture, "the best design"),
        line=None if front else _sparkline(trials),
    )


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
        facts["outside of the search space" if trial.outside else "constraints"] = (
            "for models only" if trial.outside else "violated"
        )
    if trial.outcome is not None and trial.outcome.reason:
        facts["reason"] = trial.outcome.reason
    if "plausibility" in trial.query.meta:
        facts["plausibility"] = f"{trial.query.meta['plausibility']:.2g}"
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
    vector = isinstance(design, np.ndarray) and design.ndim == 1
    numbers = vector and np.issubdtype(design.dtype, np.number)
    return vector_text(design.astype(float)) if numbers else ""


def vector_text(vector: Array, longest: int = 8) -> str:
    """Format numbers with four digits; cut vectors with more than ``longest`` of them."""
    values = [f"{v:.4g}" for v in vector[:longest]] + ["..."] * (len(vector) > longest)
    return values[0] if len(vector) == 1 else f"({', '.join(values)})"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _sparkline(trials: Sequence[Trial], width: int = 180, height: int = 60) -> JSON | None:
    """Return size and corners of the best-so-far curve; None before there are two finite losses."""
    calls, losses = best_so_far(trials)
    known = losses < float("inf")
    finite = losses[known]
    if len(finite) < 2 or calls[-1] == 0 or finite.max() == finite.min():
        return None
    xs = 2 + (width - 4) * calls[known] / calls[-1]
    ys = 2 + (height - 4) * (finite.max() - finite) / (finite.max() - finite.min())
    corners = zip(np.repeat(xs, 2)[1:], np.repeat(ys, 2)[:-1], strict=True)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return {"width": width, "height": height, "points": points}
