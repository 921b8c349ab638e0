"""Gallery: the best designs of each method beside the nearest real ones, as one picture."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.report.objective_view import Goal
from bo_invert.report.performance import starts
from bo_invert.report.ranking import implausible, unconfirmed
from bo_invert.report.runs import Find, Picture, Run, as_picture, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def gallery_png(
    runs: Sequence[Run], real: ArrayLike | None = None, columns: int = 5, dpi: int = 110
) -> bytes | None:
    """Draw a PNG with one row per method: its best designs, each beside the nearest real picture.

    Args:
        runs: runs of any methods; those without pictures are omitted. A row shows the best
            designs of one seed, or the best one of each seed.
        real: real pictures in [0, 1], shape ``(n, height, width[, 3])``; None to omit them.
        columns: designs per method.
        dpi: dots per inch.

    Returns:
        The bytes of the file; None if no run has a picture.
    """
    from matplotlib.figure import Figure

    rows = _rows([run for run in runs if run.finds and run.finds[0].picture is not None], columns)
    if not rows:
        return None
    library = None if real is None else np.array([as_picture(image) for image in np.asarray(real)])
    across = max(len(cells) for _, cells in rows)
    step, widths = (1, [1.0]) if library is None else (2, [1.0, 0.62])
    shapes = [picture.shape for _, cells in rows for *_, picture in cells]
    flat = min(1.0, max(height / width for height, width, *_ in shapes))
    # Inches: flat pictures are wider and lower, at a constant area.
    across_one, down_one, above = 1.3 * flat**-0.5, 1.23 * flat**0.5, 0.62
    height = 0.9 + (down_one + above) * len(rows)
    figure = Figure(figsize=(2.3 + across * sum(widths) * across_one, height), facecolor="white")
    grid = figure.add_gridspec(
        len(rows),
        1 + across * step,
        left=0.01,
        right=0.99,
        top=1 - 0.85 / height,
        bottom=0.06 / height,
        wspace=0.12,
        hspace=above / down_one,
        width_ratios=[1.9 * 1.3 / across_one, *widths * across],
    )
    begun = starts(runs)
    for i, (label, cells) in enumerate(rows):
        _words(figure.add_subplot(grid[i, 0]), label, [run for run, *_ in cells], begun)
        for j, (run, find, picture) in enumerate(cells):
            _show(figure.add_subplot(grid[i, 1 + step * j]), picture, _caption(find, run.goal))
            if library is not None and library.shape[1:] == picture.shape:
                axes = figure.add_subplot(grid[i, 2 + step * j])
                _show(axes, _nearest(library, picture), "nearest\nreal")
    beside = "" if library is None else ", each with the nearest real picture"
    front = Goal(rows[0][1][0][0].goal).kind == "hypervolume"
    which = "Designs of the Pareto front" if front else "Best designs"
    head = f"{which} of each method{beside}  ({Goal(rows[0][1][0][0].goal).words()})"
    figure.text(0.01, 1 - 0.2 / height, head, fontsize=11, va="center", parse_math=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def _rows(runs: Sequence[Run], columns: int) -> list[tuple[str, list[tuple[Run, Find, Picture]]]]:
    """Return label and designs of each method on each problem."""
    methods = grouped(runs, lambda run: (run.problem, run.label))
    several = len({problem for problem, _ in methods}) > 1
    rows = []
    for (problem, label), own in methods.items():
        # With several seeds, the best design of each one represents the method.
        best = [(run, find) for run in own for find in run.finds[: 1 if len(own) > 1 else None]]
        cells = [(run, find, find.picture) for run, find in best if find.picture is not None]
        rows.append((f"{label}\n{problem}" if several else label, cells[:columns]))
    return rows


def _nearest(library: Picture, picture: Picture) -> Picture:
    squares = (library.astype(float) - picture.astype(float)) ** 2
    nearest: Picture = library[int(squares.reshape(len(library), -1).sum(axis=1).argmin())]
    return nearest


def _show(axes: Axes, picture: Picture, caption: str) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(caption, fontsize=8, pad=3, parse_math=False, color="#374151")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color="#9ca3af", linewidth=0.6)


def _caption(find: Find, goal: Mapping[str, Any]) -> str:
    """Return claimed and judged result: a maximised output, or the distance to a target."""
    sought = Goal(goal)
    if sought.kind == "hypervolume":  # a design of the front has several values
        return ", ".join(f"{value:.3g}" for value in find.y[:4])
    name, digits = ("off by", ".2e") if sought.kind == "target" else ("claimed:", ".3g")
    lines = [f"{name} {sought.value(find.loss):{digits}}"]
    if find.judged is not None:
        violated = " (infeasible)" if find.upheld is False else ""
        lines.append(f"judged: {sought.value(find.judged):{digits}}{violated}")
    if find.plausibility is not None:
        lines.append(f"plausibility: {find.plausibility:.2f}")
    return "\n".join(lines)


def _words(
    axes: Axes, label: str, runs: Sequence[Run], begun: Mapping[tuple[str, int], float]
) -> None:
    axes.axis("off")
    lines = [line for part in label.splitlines() for line in textwrap.wrap(part, 20)]
    axes.text(
        0.0, 0.62, "\n".join(lines), fontsize=11, fontweight="bold", va="center", parse_math=False
    )
    seeds = list(dict.fromkeys(runs))
    counts = {
        "unconfirmed": sum(unconfirmed(run, begun[run.problem, run.seed]) for run in seeds),
        "implausible": sum(map(implausible, seeds)),
        "infeasible": sum(run.best is None for run in seeds),
    }
    share = f" ({{}} of {len(seeds)})" if len(seeds) > 1 else ""
    warnings = "\n".join(word + share.format(count) for word, count in counts.items() if count)
    axes.text(0.0, 0.3, warnings, fontsize=9, color="#b42318", va="center", parse_math=False)
