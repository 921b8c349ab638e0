"""HTML of studies and comparisons for notebooks."""

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
from bo_invert.report.text import counts_text, trial_facts
from bo_invert.types import JSON, Trial

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
    facts = {
        "problem": problem_name,
        "strategy": strategy_name,
        "trials": counts_text(trials),
        "spent": str(ledger),
        "seconds": f"{ledger.seconds:.3g} in the oracle, {ledger.asking:.3g} in the strategy",
    }
    if best is not None:
        facts |= {"best": f"trial {best.number}"} | trial_facts(best)
    return render(
        "card.html",
        box=_BOX,
        title=f"Study {name}",
        facts=facts,
        picture="" if picture is None else image_tag(picture, "the best design"),
        line=_sparkline(trials),
    )


def comparison_html(runs: Sequence[Run]) -> str:
    """Return summary and tables of a comparison."""
    text, tables = summary_text(runs), comparison_tables(runs)
    return render("comparison.html", box=_BOX, text=text, tables=tables)


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
