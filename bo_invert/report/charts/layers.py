"""Layers of a chart: points, lines, areas, bars, colours and texts, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bo_invert.types import Array, Mask


@dataclass(frozen=True, eq=False)
class Points:
    """Markers of one role.

    Args:
        role: key of ``palette.STYLES``.
        name: text of the legend; empty for none.
        x: positions, shape ``(n,)``.
        y: positions, shape ``(n,)``.
        texts: description of each point for the pointer; empty for none.
        values: values ``(n,)`` that colour the points; None for the colour of the role.
        low: lower ends ``(n,)`` of vertical error bars; None without error bars.
        high: upper ends, shape ``(n,)``.
    """

    role: str
    name: str
    x: Array
    y: Array
    texts: tuple[str, ...] = ()
    values: Array | None = None
    low: Array | None = None
    high: Array | None = None


@dataclass(frozen=True, eq=False)
class Line:
    """Line of one role; NaN is a gap. A step line keeps its value until the next point."""

    role: str
    name: str
    x: Array
    y: Array
    step: bool = False


@dataclass(frozen=True, eq=False)
class Band:
    """Area between two lines."""

    role: str
    name: str
    x: Array
    low: Array
    high: Array
    step: bool = False


@dataclass(frozen=True, eq=False)
class Bars:
    """Horizontal bars from ``start`` to ``end`` at the heights ``y``, with intervals.

    Args:
        role: key of ``palette.STYLES``.
        name: text of the legend; empty for none.
        y: centres, shape ``(n,)``.
        start: left ends, shape ``(n,)``.
        end: right ends, shape ``(n,)``.
        texts: description of each bar; empty for none.
        low: lower ends of intervals of ``end``, shape ``(n,)``; None without intervals.
        high: upper ends, shape ``(n,)``.
        height: height of a bar in units of the axis.
    """

    role: str
    name: str
    y: Array
    start: Array
    end: Array
    texts: tuple[str, ...] = ()
    low: Array | None = None
    high: Array | None = None
    height: float = 0.7


@dataclass(frozen=True, eq=False)
class Heat:
    """Values on a grid as colours.

    Args:
        name: name of the values.
        x: columns, shape ``(k,)``.
        y: rows, shape ``(l,)``.
        z: values, shape ``(l, k)``; NaN is empty.
    """

    name: str
    x: Array
    y: Array
    z: Array


@dataclass(frozen=True, eq=False)
class Hatch:
    """Hatched cells of a grid: a region that is excluded.

    Args:
        name: text of the legend.
        x: columns, shape ``(k,)``.
        y: rows, shape ``(l,)``.
        excluded: True for hatched cells, shape ``(l, k)``.
        role: ``"excluded"`` on cells without a colour, ``"doubtful"`` on colours.
    """

    name: str
    x: Array
    y: Array
    excluded: Mask
    role: str = "excluded"

    def lines(self) -> tuple[Array, Array]:
        """Return diagonals of excluded cells as ``x`` and ``y`` of one line with gaps."""
        whole = self.excluded
        cells = whole[:-1, :-1] & whole[1:, 1:] & whole[:-1, 1:] & whole[1:, :-1]
        rows, columns = np.nonzero(cells)
        # Every second diagonal, so that lines continue from cell to cell.
        chosen = (columns - rows) % 2 == 0
        rows, columns = rows[chosen], columns[chosen]
        gap = np.full(len(rows), np.nan)
        x = np.column_stack([self.x[columns], self.x[columns + 1], gap]).ravel()
        return x, np.column_stack([self.y[rows], self.y[rows + 1], gap]).ravel()


@dataclass(frozen=True, eq=False)
class Paths:
    """Lines over common positions, coloured by values; drawn in the order of the rows.

    Args:
        name: name of the values.
        x: positions, shape ``(k,)``.
        y: heights, shape ``(n, k)``; NaN is a gap.
        values: values of the lines, shape ``(n,)``.
        texts: description of each line; empty for none.
    """

    name: str
    x: Array
    y: Array
    values: Array
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Labels:
    """Texts at positions; ``anchor`` is left, centre or right, ``side`` above, middle or below."""

    x: Array
    y: Array
    texts: tuple[str, ...]
    anchor: str = "centre"
    side: str = "middle"


Layer = Points | Line | Band | Bars | Heat | Hatch | Paths | Labels


_FRAMES = ("axis", "guide")
"""Roles of lines that show no data."""


def has_data(layer: Layer) -> bool:
    """Return True if a layer shows a finite value; frames, texts and hatches alone show none."""
    if isinstance(layer, (Labels, Hatch)) or (isinstance(layer, Line) and layer.role in _FRAMES):
        return False
    if isinstance(layer, Heat):  # a cell needs four values
        fine = np.isfinite(layer.z)
        return bool((fine[:-1, :-1] & fine[1:, 1:] & fine[:-1, 1:] & fine[1:, :-1]).any())
    if isinstance(layer, Bars):
        return bool(np.isfinite(layer.end).any())
    heights = layer.low if isinstance(layer, Band) else layer.y
    return bool(np.isfinite(heights).any())
