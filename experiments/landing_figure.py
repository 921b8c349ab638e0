"""Draw the figure of the landing page from the stored runs of the airfoil experiment.

    python experiments/landing_figure.py

Input is ``docs/benchmarks/airfoil/attack.csv`` (``experiments/airfoil.py``), output
``docs/images/landing.png``.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bo_invert.problems.examples.airfoil_shapes import STATIONS, surfaces

DOCS = Path(__file__).parents[1] / "docs"
LATENT, BOX, LIST = "tab:blue", "tab:red", "0.45"
#: Label, colour and method of each row of shapes.
SHAPES = (
    ("Bayesian optimization in a latent space", LATENT, "auto"),
    ("gradient descent on raw parameters", BOX, "gradient in the box"),
    ("CMA-ES on raw parameters", BOX, "cmaes in the box"),
    ("best of 300 real airfoils", LIST, "screening"),
)


def main() -> None:
    """Write the figure."""
    runs = pd.read_csv(DOCS / "benchmarks" / "airfoil" / "attack.csv")
    plt.rcParams.update({"font.size": 13, "font.family": "sans-serif"})
    figure = plt.figure(figsize=(13, 5.6))
    grid = figure.add_gridspec(len(SHAPES), 2, width_ratios=(1.0, 1.15), hspace=0.75, wspace=0.12)
    scatter(figure.add_subplot(grid[:, 0]), runs)
    for row, (label, colour, method) in enumerate(SHAPES):
        axes = figure.add_subplot(grid[row, 1])
        chosen = runs[runs.method == method].sort_values("judged")
        shape(axes, chosen.iloc[len(chosen) // 2], label, colour)
    figure.savefig(DOCS / "images" / "landing.png", dpi=110, bbox_inches="tight")


def scatter(axes: Axes, runs: pd.DataFrame) -> None:
    """Draw claim against verdict, one point for each run."""
    in_box = runs.method.str.contains("in the box")
    from_list = runs.method.isin(["screening", "best of N"])
    for mask, colour, label in (
        (in_box, BOX, "search over raw parameters"),
        (~in_box & ~from_list, LATENT, "search in a latent space"),
        (from_list, LIST, "best of 300 samples"),
    ):
        axes.scatter(
            runs.judged[mask], runs.claimed[mask], s=42, alpha=0.6, color=colour, label=label
        )
    ends = np.array([80.0, 240.0])
    axes.plot(ends, ends, color="black", linewidth=1.0)
    axes.text(92, 88, "claim = judge", rotation=37, fontsize=11)
    axes.set(
        xlim=ends, ylim=ends, xlabel="lift/drag, judge", ylabel="lift/drag, claimed by the model"
    )
    axes.legend(loc="lower right", frameon=False, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)


def shape(axes: Axes, run: pd.Series, label: str, colour: str) -> None:
    """Draw the airfoil of a run with its claim and verdict."""
    upper, lower = surfaces([np.array(run.design.split(), dtype=float)])[0]
    axes.fill_between(STATIONS, lower, upper, color=colour, alpha=0.75, linewidth=0)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.08, 0.2), aspect="equal", anchor="W")
    axes.set_title(label, loc="left", fontsize=13)
    axes.text(1.06, 0.05, f"claim {run.claimed:.0f}\njudge {run.judged:.0f}", va="center")
    axes.axis("off")


if __name__ == "__main__":
    main()
