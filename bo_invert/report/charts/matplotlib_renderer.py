"""Matplotlib figures of charts, for PNG and SVG files without a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath

from bo_invert.report.charts import layers
from bo_invert.report.charts.chart import Axis, Chart, Panel, Scale
from bo_invert.report.charts.palette import STYLES
from bo_invert.report.charts.text import shortened, wrapped

_DPI = 100
"""Dots per inch of the layout. Engineering choice: sizes in pixels are hundredths of an inch."""
_NARROWEST = 330
"""Least width of a panel in pixels. Engineering choice: narrower panels go to the next row."""
_HEIGHT, _PICTURE = 290, 150
"""Heights of a panel with axes and of a picture in pixels. Engineering choice."""
_MARKERS = {
    "circle": "o", "square": "s", "diamond": "D", "triangle": "^", "cross": "x", "star": "*",
    "none": "",
}  # fmt: skip
_DASHES = {"solid": "-", "dash": "--", "dot": ":"}
_TURNED = {"rotation": 35, "rotation_mode": "anchor"}
_INK, _SOFT = "#1f2937", "#4b5563"
_NOTE, _LINE = 7.5, 15.0
"""Font size of notes in points, height of a line in pixels. Engineering choice."""
_NARROW = 700
"""Width in pixels below which the colour bar lies below the panels. Engineering choice."""
_BAR = 110
"""Width of a vertical colour bar with its labels in pixels. Engineering choice."""
_CORNER = 130
"""Least width of a panel of a corner plot in pixels. Engineering choice: two labels fit."""
_LARGEST, _LEAST_WIDTH = 1.6, 560
"""Factor by which proportioned panels may grow, and least width of their figure in pixels.
Engineering choice."""


def figure(chart: Chart, width: int = 1200) -> Figure:
    """Return a figure of ``width`` pixels at 100 dpi; narrow figures have fewer columns.

    Charts whose panels all have proportions of their own, such as triangles, are as wide as these.
    """
    pictures = all(panel.picture is not None for panel in chart.panels) and chart.panels
    least = _PICTURE if pictures else _NARROWEST
    wide = any(panel.wide for panel in chart.panels)
    columns = max(1, min(chart.columns_wide, len(chart.panels), width // least))
    columns = 1 if wide else columns
    rows = max(1, -(-len(chart.panels) // columns))
    columns = max(1, -(-len(chart.panels) // rows))
    corner = chart.corner > 0 and width >= chart.corner * _CORNER
    if chart.corner:
        columns = chart.corner if corner else max(1, min(2, width // _CORNER))
        rows = chart.corner if corner else -(-len(chart.panels) // columns)
    # Pictures have their own proportions, the others a comfortable one.
    usual = min(_HEIGHT + 40, width // columns) if not pictures else width // columns + 34
    heights = [
        max(
            panel.height or usual
            for panel in chart.panels[i * columns : (i + 1) * columns] or [_EMPTY]
        )
        for i in range(rows)
    ]
    if chart.corner:
        width = min(width, max(_LEAST_WIDTH, columns * _NARROWEST))
        heights = [min(width // columns, _HEIGHT)] * rows
    widths, heights, width = _fitted(chart, columns, heights, width)
    title = wrapped(chart.heading, width // 9, lines=3)
    head = 16 + 18 * (1 + title.count("\n")) if title else 6
    legend = chart.legend
    names = [shortened(name, max(40, (width - 60) // 7)) for name in legend]
    side_by_side = max(1, int(width // (44 + 6.2 * max(map(len, names), default=0))))
    notes = [wrapped(note, _characters(note, width - 20), lines=8) for note in chart.notes]
    lines = sum(1 + note.count("\n") for note in notes)
    below = _LINE * lines + 8 if lines else 0
    foot = 22 * -(-len(legend) // side_by_side) + (8 if legend else 0) + below
    with mpl.rc_context({"text.parse_math": False, "svg.fonttype": "path", "font.size": 9}):
        height = sum(heights) + head + foot
        made = Figure(figsize=(width / _DPI, height / _DPI), facecolor="white")
        engine = ConstrainedLayoutEngine()
        made.set_layout_engine(engine)
        engine.set(
            rect=(0.0, foot / height, 1.0, 1.0 - (head + foot) / height), w_pad=0.06, h_pad=0.06
        )
        grid = made.add_gridspec(rows, columns, height_ratios=heights, width_ratios=widths)
        axes = []
        for panel, (row, column) in zip(chart.panels, chart.cells(columns), strict=True):
            one = made.add_subplot(grid[row, column])
            axes.append(one)
            _draw(one, panel, chart.scale, round(widths[column]))
            if corner:  # columns share the horizontal axis, rows the vertical one
                one.label_outer()
        if title:
            made.text(
                10 / width, 1 - 10 / height, title, fontsize=11, va="top", color=_INK,
                fontweight="bold", parse_math=False,
            )  # fmt: skip
        if chart.scale is not None and axes:
            _colour_bar(made, axes, chart.scale, narrow=width < _NARROW)
        if legend:
            handles = [_handle(role) for role in legend.values()]
            made.legend(
                handles, names, loc="lower left",
                bbox_to_anchor=(6 / width, (2 + below) / height), ncols=side_by_side, frameon=False,
                fontsize=8.5, handletextpad=0.5, columnspacing=1.2, borderaxespad=0.0,
                labelcolor=_INK,
            )  # fmt: skip
        if notes:
            made.text(
                10 / width, 6 / height, "\n".join(notes), fontsize=_NOTE, va="bottom",
                color=_SOFT, linespacing=_LINE * 72 / _DPI / (1.2 * _NOTE), parse_math=False,
            )  # fmt: skip
    return made


_EMPTY = Panel()


def _fitted(
    chart: Chart, columns: int, heights: list[int], width: int
) -> tuple[list[float], list[int], int]:
    """Return widths of the columns, heights of the rows, and the width of the figure, in pixels.

    Panels with proportions of their own would leave gaps in columns that are wider than they are.
    """
    room = width - (_BAR if chart.scale is not None and width >= _NARROW else 0)
    natural: list[float] = []
    for column in range(columns):
        panels = chart.panels[column::columns]
        shapes = [_aspect(panel) for panel in panels]
        known = [shape * heights[row] for row, shape in enumerate(shapes) if shape is not None]
        natural.append(max(known) if known and len(known) == len(shapes) else 0.0)
    if (columns == 1 and len(chart.panels) > 1) or not any(natural):
        return [room / columns] * columns, heights, width
    if all(natural):
        growth = min(_LARGEST, room / sum(natural))
        heights = [round(one * growth) for one in heights]
        natural = [one * growth for one in natural]
        return natural, heights, min(width, max(_LEAST_WIDTH, round(sum(natural)) + width - room))
    fixed = [min(one, room / columns) for one in natural]
    rest = (room - sum(fixed)) / fixed.count(0.0)
    return [one or rest for one in fixed], heights, width


def _aspect(panel: Panel) -> float | None:
    """Return width by height of a panel with proportions of its own, else None."""
    if panel.picture is not None:
        return float(panel.picture.shape[1] / panel.picture.shape[0])
    if not panel.equal or panel.x.bounds is None or panel.y.bounds is None:
        return None
    return float(np.ptp(panel.x.bounds) / np.ptp(panel.y.bounds))


def _characters(text: str, width: int) -> int:
    """Return the number of characters of a text in a line of ``width`` pixels."""
    if not text.strip():
        return width
    length = TextPath((0, 0), text, size=_NOTE).get_extents().width * _DPI / 72.0
    # Lines differ in their letters, so a twentieth of the width is a margin.
    return max(12, int(0.95 * width * len(text) / max(length, 1.0)))


def _draw(axes: Axes, panel: Panel, scale: Scale | None, width: int) -> None:
    characters = max(16, width // 9)
    if panel.title:
        text = wrapped(panel.title, characters, lines=3)
        axes.set_title(text, fontsize=9, color=_INK, parse_math=False, loc="left", pad=5)
    if panel.picture is not None:
        axes.imshow(panel.picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color="#9ca3af", linewidth=0.6)
        return
    message = panel.message
    for level, layer in enumerate(panel.layers):
        _DRAW[type(layer)](axes, layer, scale, level)
    if message:
        axes.text(
            0.5, 0.5, wrapped(message, characters, lines=6), transform=axes.transAxes,
            ha="center", va="center", fontsize=9, color=_SOFT, parse_math=False,
        )  # fmt: skip
    if panel.equal:
        axes.set_aspect("equal")
    _axis(axes, "x", panel.x, characters, width)
    _axis(axes, "y", panel.y, characters, width)
    if not panel.bare:
        axes.grid(True, color="#e5e7eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color("#9ca3af")
    axes.tick_params(colors=_SOFT, labelsize=8, length=3)
    if panel.bare:
        axes.spines[:].set_visible(False)
        axes.set_yticks([])
        axes.tick_params(length=0)


def _axis(axes: Axes, which: Literal["x", "y"], axis: Axis, characters: int, width: int) -> None:
    """Set label, scale, levels and bounds of one axis."""
    if axis.top:
        axes.xaxis.tick_top()
    getattr(axes, f"set_{which}label")(
        wrapped(axis.label, characters if which == "x" else 36), fontsize=8.5, color=_SOFT,
        parse_math=False,
    )  # fmt: skip
    if axis.log:
        getattr(axes, f"set_{which}scale")("log")
    if axis.bounds is not None:
        getattr(axes, f"set_{which}lim")(*axis.bounds)
    if axis.ticks is not None:
        texts = [wrapped(text, 14 if which == "x" else 18) for _, text in axis.ticks]
        positions = [position for position, _ in axis.ticks]
        # Texts that do not fit side by side are turned.
        longest = max((len(line) for text in texts for line in text.split("\n")), default=0)
        crowded = which == "x" and (6.0 * longest + 8.0) * len(texts) > 0.8 * width
        texts = [text.replace("\n", " ") for text in texts] if crowded else texts
        getattr(axes, f"set_{which}ticks")(
            positions, texts, parse_math=False,
            **(_TURNED | {"ha": "left" if axis.top else "right"} if crowded else {}),
        )  # fmt: skip
    elif not axis.log:
        axes.locator_params(axis=which, nbins=_ticks(width) if which == "x" else 6)


def _ticks(width: int) -> int:
    """Return the largest number of ticks of a horizontal axis of ``width`` pixels."""
    return 6 if width >= 400 else 5 if width >= 260 else 3


def _colour_bar(made: Figure, axes: list[Axes], scale: Scale, narrow: bool) -> None:

    norm = Normalize(*scale.range)
    colours = _colours(scale) if scale.first <= scale.last else _colours(scale).reversed()
    place: dict[str, Any] = {"fraction": 0.05, "pad": 0.02, "aspect": 30}
    if narrow:
        place = {"location": "bottom", "fraction": 0.04, "pad": 0.02, "aspect": 34, "shrink": 0.8}
    bar = made.colorbar(ScalarMappable(norm, colours), ax=axes, **place)
    bar.set_label(wrapped(scale.name, 34), fontsize=8.5, color=_SOFT, parse_math=False)
    bar.ax.tick_params(labelsize=8, colors=_SOFT)
    bar.outline.set_visible(False)


def _colours(scale: Scale) -> Colormap:

    return LinearSegmentedColormap.from_list("chart", list(scale.colours))


def _handle(role: str) -> Artist:

    style = STYLES[role]
    if style.symbol == "hatch":
        face = "#8a8779" if style.filled else "white"
        return Patch(facecolor=face, edgecolor=style.colour, hatch="////", lw=0)
    if style.symbol == "none":
        return Line2D([], [], color=style.colour, lw=style.width, ls=_DASHES[style.dash])
    face = style.colour if style.filled else "none"
    return Line2D(
        [], [], ls="", marker=_MARKERS[style.symbol], color=style.colour, mfc=face, ms=6.5,
        alpha=style.opacity if style.opacity > 0.5 else 0.6,
    )  # fmt: skip


def _points(axes: Axes, layer: layers.Points, scale: Scale | None, level: int) -> None:
    style = STYLES[layer.role]
    if layer.low is not None and layer.high is not None:
        axes.vlines(layer.x, layer.low, layer.high, color=style.colour, alpha=0.4, lw=1.1,
                    zorder=2 + level)  # fmt: skip
    options: dict[str, Any] = {"marker": _MARKERS[style.symbol], "s": style.size**2 * 0.62}
    if layer.values is not None:
        assert scale is not None
        colours = [scale.colour(share) for share in scale.share(layer.values)]
        options |= {"s": 34, "c": colours, "edgecolors": "white", "linewidths": 0.5}
    elif style.symbol == "cross":
        options |= {"c": style.colour, "linewidths": 1.5}
    elif style.filled:
        options |= {"c": style.colour, "edgecolors": "white", "linewidths": 0.5,
                    "alpha": style.opacity}  # fmt: skip
    else:
        options |= {"facecolors": "none", "edgecolors": style.colour, "linewidths": 1.3}
    axes.scatter(layer.x, layer.y, zorder=3 + level, **options)


def _line(axes: Axes, layer: layers.Line, scale: Scale | None, level: int) -> None:
    style = STYLES[layer.role]
    axes.plot(
        layer.x, layer.y, color=style.colour, lw=style.width, ls=_DASHES[style.dash],
        drawstyle="steps-post" if layer.step else "default", zorder=2 + level,
    )  # fmt: skip


def _band(axes: Axes, layer: layers.Band, scale: Scale | None, level: int) -> None:
    axes.fill_between(
        layer.x, layer.low, layer.high, color=STYLES[layer.role].colour, alpha=0.18, lw=0,
        step="post" if layer.step else None, zorder=2 + level,
    )  # fmt: skip


def _bars(axes: Axes, layer: layers.Bars, scale: Scale | None, level: int) -> None:
    style = STYLES[layer.role]
    axes.barh(layer.y, layer.end - layer.start, layer.height, left=layer.start, color=style.colour,
              alpha=style.opacity, zorder=2 + level)  # fmt: skip
    if layer.low is not None and layer.high is not None:
        reach = np.array([layer.end - layer.low, layer.high - layer.end])
        axes.errorbar(layer.end, layer.y, xerr=reach, fmt="none", ecolor=_SOFT, elinewidth=1.2,
                      capsize=2.5, zorder=3 + level)  # fmt: skip


def _heat(axes: Axes, layer: layers.Heat, scale: Scale | None, level: int) -> None:
    assert scale is not None
    if not layers.has_data(layer):
        return
    steps = scale.levels(15)
    z = np.ma.masked_invalid(layer.z)
    colours = _colours(scale) if scale.first <= scale.last else _colours(scale).reversed()
    axes.contourf(layer.x, layer.y, z, steps, cmap=colours, extend="both", zorder=1)
    axes.contour(layer.x, layer.y, z, steps, colors="white", linewidths=0.3, alpha=0.5, zorder=1)


def _hatch(axes: Axes, layer: layers.Hatch, scale: Scale | None, level: int) -> None:
    style = STYLES[layer.role]
    axes.plot(*layer.lines(), color=style.colour, lw=0.9, alpha=style.opacity, zorder=1.5)


def _paths(axes: Axes, layer: layers.Paths, scale: Scale | None, level: int) -> None:
    assert scale is not None
    for y, share in zip(layer.y, scale.share(layer.values), strict=True):
        faint = 0.25 + 0.7 * share**2
        axes.plot(layer.x, y, color=scale.colour(share), lw=0.8 + share, alpha=faint, zorder=2)


def _labels(axes: Axes, layer: layers.Labels, scale: Scale | None, level: int) -> None:

    halo = [withStroke(linewidth=2.2, foreground="white")]
    sides = {"above": "bottom", "middle": "center", "below": "top"}
    anchors = {"left": "left", "centre": "center", "right": "right"}
    for x, y, text in zip(layer.x, layer.y, layer.texts, strict=True):
        axes.text(x, y, text, ha=anchors[layer.anchor], va=sides[layer.side], fontsize=7.5,
                  color=_INK, parse_math=False, zorder=9, path_effects=halo)  # fmt: skip


_DRAW: dict[type[layers.Layer], Callable[[Axes, Any, Scale | None, int], None]] = {
    layers.Points: _points, layers.Line: _line, layers.Band: _band, layers.Bars: _bars,
    layers.Heat: _heat, layers.Hatch: _hatch, layers.Paths: _paths, layers.Labels: _labels,
}  # fmt: skip
