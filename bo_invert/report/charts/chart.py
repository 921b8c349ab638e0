"""Chart: plain data of a plot, which every renderer draws in the same way.

A chart has panels, a panel has two axes and layers (Wilkinson 2005, "The grammar of graphics").
Renderers are ``plotly_renderer``, ``matplotlib_renderer`` and the ``charts.js`` of the web page.
numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.report.charts.layers import Band, Bars, Hatch, Layer, Line, Points, has_data
from bo_invert.report.pictures import data_uri, png
from bo_invert.report.runs import Picture
from bo_invert.types import JSON, Array

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """Axis of a panel.

    Args:
        label: name of the quantity with its unit.
        log: logarithmic scale.
        ticks: positions and texts of levels, such as values of a choice; None for numbers.
        bounds: ends of the axis in its quantity; None to fit the data.
        top: True for a horizontal axis above the panel.
    """

    label: str = ""
    log: bool = False
    ticks: tuple[tuple[float, str], ...] | None = None
    bounds: Bounds | None = None
    top: bool = False


@dataclass(frozen=True)
class Scale:
    """Meaning of colours.

    Args:
        name: name of the values.
        first: value of the first colour.
        last: value of the last colour; values beyond the ends have their colours.
        colours: colours at equal steps, as ``#rrggbb``.
    """

    name: str
    first: float
    last: float
    colours: tuple[str, ...]

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value; equal ones are moved apart, also at 1e15."""
        low, high = sorted((self.first, self.last))
        return (low, high) if high > low else (low, low + max(1.0, 1e-6 * abs(low)))

    def levels(self, count: int) -> Array:
        """Return at most ``count`` rising values over the range."""
        levels: Array = np.unique(np.linspace(*self.range, count))
        return levels

    def share(self, values: Array) -> Array:
        """Return positions of values in the scale, in [0, 1]; equal ends map to 0.5."""
        width = self.last - self.first
        shares = (values - self.first) / width if width else np.full(np.shape(values), 0.5)
        return np.asarray(np.clip(shares, 0.0, 1.0))

    def colour(self, share: float) -> str:
        """Return the colour at a share in [0, 1], interpolated."""
        position = share * (len(self.colours) - 1)
        lower = min(int(position), len(self.colours) - 2)
        ends = (self.colours[lower], self.colours[lower + 1])
        first, second = ([int(one[i : i + 2], 16) for i in (1, 3, 5)] for one in ends)
        weight = position - lower
        mixed = (round(a + weight * (b - a)) for a, b in zip(first, second, strict=True))
        return "#" + "".join(f"{part:02x}" for part in mixed)


@dataclass(frozen=True, eq=False)
class Panel:
    """Two axes with layers, or a picture with a caption.

    Args:
        x: horizontal axis.
        y: vertical axis.
        layers: layers from the back to the front.
        title: text above the panel.
        picture: picture, bytes ``(height, width[, 3])``, instead of axes.
        bare: no frame, grid and ticks of the vertical axis.
        wide: the panel needs the width of a page.
        height: height in pixels; None for the default.
        equal: both axes have one scale, as in a ternary diagram.
        reason: why there is nothing to show, or empty; see ``message``.
    """

    x: Axis = Axis()
    y: Axis = Axis()
    layers: tuple[Layer, ...] = ()
    title: str = ""
    picture: Picture | None = None
    bare: bool = False
    wide: bool = False
    height: int | None = None
    equal: bool = False
    reason: str = ""

    @property
    def message(self) -> str:
        """Text that replaces an empty figure: the reason if no layer has data, else empty."""
        if self.picture is not None or any(map(has_data, self.layers)):
            return ""
        return self.reason or "No values to show."


@dataclass(frozen=True, eq=False)
class Chart:
    """Plot as plain data.

    Args:
        kind: name of the plot, such as ``"slice"``.
        title: title.
        panels: panels in reading order.
        columns: data of the plot as columns of equal length.
        notes: sentences below the plot.
        scale: meaning of the colours of heat maps, paths and points with values; None without.
        columns_wide: largest number of panels side by side.
        subject: name of the study; empty for none.
        corner: number of rows of a corner plot, whose panels fill a lower triangle row by row;
            0 for a grid. Narrow figures show its panels as a grid.
    """

    kind: str
    title: str
    panels: tuple[Panel, ...]
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    scale: Scale | None = None
    columns_wide: int = 3
    subject: str = ""
    corner: int = 0

    @property
    def heading(self) -> str:
        """Title with the name of the study."""
        return f"{self.title}: {self.subject}" if self.subject else self.title

    @property
    def legend(self) -> dict[str, str]:
        """Role of each name in the legend, in order of appearance."""
        named: dict[str, str] = {}
        for layer in self.layers():
            if isinstance(layer, Points) and layer.values is not None:
                continue
            if isinstance(layer, (Points, Line, Band, Bars, Hatch)) and layer.name:
                named.setdefault(layer.name, layer.role)
        return named

    def cells(self, columns: int) -> list[tuple[int, int]]:
        """Return row and column of each panel; those of a corner plot may form a triangle."""
        if self.corner and columns == self.corner:
            return [(row, column) for row in range(columns) for column in range(row + 1)]
        return [divmod(place, columns) for place in range(len(self.panels))]

    def layers(self) -> Iterator[Layer]:
        """Yield the layers of all panels."""
        for panel in self.panels:
            yield from panel.layers

    def to_json(self) -> JSON:
        """Return strict JSON for the web page; numbers that are not finite become null."""
        return plain(
            {
                "kind": self.kind,
                "title": self.heading,
                "panels": [_panel_json(panel) for panel in self.panels],
                "notes": list(self.notes),
                "legend": self.legend,
                "scale": self.scale,
                "columns_wide": self.columns_wide,
                "corner": self.corner,
            }
        )


def _panel_json(panel: Panel) -> JSON:
    found = {
        one.name: getattr(panel, one.name)
        for one in fields(panel)
        if one.name not in ("layers", "picture", "x", "y", "reason")
    }
    layers = [
        {"type": type(layer).__name__.lower()}
        | {one.name: getattr(layer, one.name) for one in fields(layer)}
        for layer in panel.layers
    ]
    picture = None if panel.picture is None else data_uri(png(panel.picture))
    found |= {"picture": picture, "message": panel.message}
    return {**found, "x": asdict(panel.x), "y": asdict(panel.y), "layers": layers}


def plain(value: object) -> JSON:
    """Convert arrays, tuples and numbers that are not finite to strict JSON."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, float):
        # Seven digits suffice for a plot and halve the size of the response.
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def floats(values: ArrayLike) -> Array:
    """Return values as a float64 array; None becomes NaN."""
    return np.array(values, dtype=np.float64)


def numbers_or_nan(values: Sequence[float | None]) -> Array:
    """Return numbers as an array with NaN for None."""
    return np.array([math.nan if one is None else one for one in values], dtype=np.float64)
