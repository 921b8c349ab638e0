"""HTML of studies, trials and comparisons for notebooks."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from bo_invert.history import History, best_so_far
from bo_invert.ledger import Ledger
from bo_invert.report.comparison_tables import comparison_tables
from bo_invert.report.pictures import image_tag
from bo_invert.report.runs import Run
from bo_invert.report.summary import summary_text
from bo_invert.report.templating import render
from bo_invert.report.text import counts_text, design_text, vector_text
from bo_invert.types import JSON, State, Trial

_BOX = (
    "font-family:system-ui,sans-serif;border:1px solid #8884;border-radius:10px;"
    "padding:12px 16px;max-width:56em"
)


def study_html(
    name: str,
    problem_name: str,
    strategy_name: str,
    trials: Sequence[Trial],
    ledger: Ledger,
    picture: ArrayLike | None = None,
) -> str:
    """Return trial counts, best design, cost and curve of a study.

    Args:
        name: name of the study.
        problem_name: name of its problem.
        strategy_name: name of its strategy.
        trials: its trials.
        ledger: its cost.
        picture: picture of the best design, ``(height, width[, 3])``.
    """
    best = History(trials).best
    facts = [
        ("problem", problem_name),
        ("strategy", strategy_name),
        ("trials", counts_text(trials)),
        ("spent", str(ledger)),
        ("seconds", f"{ledger.seconds:.3g} in the oracle, {ledger.asking:.3g} in the strategy"),
    ]
    if best is not None:
        facts += [("best", f"trial {best.number}"), *_result(best)]
    shown = "" if picture is None else image_tag(picture, "the best design")
    return _card(f"Study {name}", facts, shown, _sparkline(trials))


def trial_html(trial: Trial, picture: ArrayLike | None = None) -> str:
    """Return one trial, with a picture ``(height, width[, 3])`` of its design if given."""
    facts = [
        ("state", str(trial.state)),
        ("proposed by", trial.origin or "unknown"),
        *_result(trial),
    ]
    if trial.cost.calls:
        facts.append(("cost", f"{trial.cost.values} values, {trial.cost.gradients} gradients"))
    shown = "" if picture is None else image_tag(picture, "the design")
    return _card(f"Trial {trial.number}", facts, shown, None)


def comparison_html(runs: Sequence[Run]) -> str:
    """Return summary and tables of a comparison."""
    text, tables = summary_text(runs), comparison_tables(runs)
    return render("comparison.html", box=_BOX, text=text, tables=tables)


def _result(trial: Trial) -> list[tuple[str, str]]:
    facts = []
    if trial.loss is not None and trial.y is not None:
        facts += [("loss", f"{trial.loss:.6g}"), ("y", vector_text(trial.y))]
    if trial.state is State.COMPLETED and not trial.feasible:
        facts.append(("constraints", "violated"))
    if trial.outcome is not None and trial.outcome.reason:
        facts.append(("reason", trial.outcome.reason))
    design = design_text(trial)
    return [*facts, ("design", design) if design else ("point", vector_text(trial.point))]


def _card(title: str, facts: Sequence[tuple[str, str]], picture: str, line: JSON | None) -> str:
    """Render facts beside a picture, which is HTML, and a curve."""
    return render("card.html", box=_BOX, title=title, facts=facts, picture=picture, line=line)


def _sparkline(trials: Sequence[Trial], width: int = 180, height: int = 60) -> JSON | None:
    """Return size and corners of the best-so-far curve; None before there are two finite losses."""
    calls, losses = best_so_far(trials)
    known = losses < float("inf")
    if known.sum() < 2 or calls[-1] == 0 or losses[known].max() == losses[known].min():
        return None
    top, bottom = losses[known].max(), losses[known].min()
    xs = 2 + (width - 4) * calls[known] / calls[-1]
    ys = 2 + (height - 4) * (top - losses[known]) / (top - bottom)
    corners = [f"{xs[0]:.1f},{ys[0]:.1f}"]
    for i in range(1, len(xs)):
        corners += [f"{xs[i]:.1f},{ys[i - 1]:.1f}", f"{xs[i]:.1f},{ys[i]:.1f}"]
    return {"width": width, "height": height, "points": " ".join(corners)}
