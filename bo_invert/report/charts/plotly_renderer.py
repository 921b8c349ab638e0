"""Plotly figures of charts: one of all panels, and one for each panel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np
from plotly.graph_objects import Figure, Image
from plotly.subplots import make_subplots

from bo_invert.report.charts import layers
from bo_invert.report.charts.chart import Axis, Chart, Panel, Scale
from bo_invert.report.charts.palette import STYLES, Style, rgba
from bo_invert.report.charts.text import shortened, wrapped

_SYMBOLS = {"triangle": "triangle-up", "cross": "x", "none": "circle"}
_HEIGHT = 320
"""Height of a panel in pixels. Engineering choice."""
_GROUPS = 12
"""Number of colour groups of paths: one trace each. Engineering choice."""
_ANCHORS = {"left": "left", "centre": "center", "right": "right"}
_SIDES = {"above": "top", "middle": "middle", "below": "bottom"}


def panel_figures(chart: Chart) -> list[Figure]:
    """Return one figure for each panel, without legend and colour bar."""
    return [
        _figure(replace(chart, panels=(panel,), title="", subject=""), columns=1, legend=False)
        for panel in chart.panels
    ]


def figure(chart: Chart) -> Figure:
    """Return one figure with all panels, a legend and a colour bar."""
    columns = chart.corner or min(chart.columns_wide, len(chart.panels))
    return _figure(chart, columns, legend=True)


def _figure(chart: Chart, columns: int, legend: bool) -> Figure:
    corner, narrow = legend and chart.corner > 1, chart.corner > 1 and not legend
    cells = chart.cells(max(columns, 1))
    rows = 1 + max((row for row, _ in cells), default=0)
    heights: list[int] = [
        max(
            (panel.height or _HEIGHT for panel, (row, _) in zip(chart.panels, cells, strict=True)
             if row == i), default=_HEIGHT,
        )
        for i in range(rows)
    ]  # fmt: skip
    head = 46 if legend and chart.heading else 8
    below = 60 if legend and chart.legend else 0
    total = sum(heights) + head + below
    titles = [escape(wrapped(panel.title, 40), quote=False) for panel in chart.panels]
    titles = [title.replace("\n", "<br>") for title in titles]
    gaps = (0.3 / columns if columns > 1 else 0.0, min(110 / total, 0.9 / max(rows - 1, 1)))
    if corner:  # labels stand at the outer panels only
        gaps = (0.12 / columns, 0.12 / rows)
    made: Figure = make_subplots(
        rows=rows,
        cols=max(columns, 1),
        row_heights=heights,
        subplot_titles=titles if any(titles) else None,
        specs=[
            [{} if (i, j) in cells else None for j in range(max(columns, 1))] for i in range(rows)
        ],
        horizontal_spacing=gaps[0],
        vertical_spacing=gaps[1] if rows > 1 else 0.0,
    )
    named: set[str] = set()
    for panel, (row, column) in zip(chart.panels, cells, strict=True):
        place = {"row": row + 1, "col": column + 1}
        for layer in panel.layers:
            for trace in _TRACES[type(layer)](layer, chart.scale):
                name = trace.get("name", "")
                shown = legend and bool(name) and name not in named
                if trace["type"] not in ("heatmap", "contour", "image"):
                    trace["showlegend"] = shown
                    named |= {name} if shown else set()
                if name:
                    trace["legendgroup"] = trace["name"] = escape(name, quote=False)
                made.add_trace(trace, **place)
        _dress(made, panel, place)
        if corner and row + 1 < rows:
            made.update_xaxes(title=None, showticklabels=False, **place)
        if corner and column > 0:
            made.update_yaxes(title=None, showticklabels=False, **place)
    lines = 1 + max((title.count("<br>") for title in titles if title), default=-1)
    made.update_layout(
        height=total + 20 * lines,
        margin={"l": 46 if narrow else 64, "r": 12, "t": head + 20 * lines, "b": 54 + below},
        title=None if not (legend and chart.heading) else {
            "text": escape(shortened(chart.heading, 90), quote=False), "x": 0.0, "xanchor": "left",
            "font": {"size": 16},
        },
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0.0, "x": 0.0},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="closest",
        font={"color": "#6b7280", "size": 12},
        hoverlabel={"font": {"color": "#1b1f24"}, "bgcolor": "rgba(255,255,255,0.96)"},
        barmode="overlay",
    )  # fmt: skip
    made.update_annotations(font={"size": 12.5})
    if chart.scale is not None:
        made.update_layout(coloraxis=_colour_axis(chart.scale, legend))
    return made


def _colour_axis(scale: Scale, shown: bool) -> dict[str, Any]:
    last = len(scale.colours) - 1
    low, high = scale.range
    rising = scale.colours if scale.first <= scale.last else scale.colours[::-1]
    colours = [(i / last, colour) for i, colour in enumerate(rising)]
    name = escape(wrapped(scale.name, 18), quote=False).replace("\n", "<br>")
    return {
        "colorscale": colours,
        "cmin": low,
        "cmax": high,
        "showscale": shown,
        "colorbar": {"title": {"text": name, "side": "right"}, "thickness": 12, "x": 1.01},
    }


def _dress(made: Figure, panel: Panel, place: dict[str, int]) -> None:
    """Set titles, scales and levels of the axes of a panel."""
    if panel.picture is not None:
        pixels = np.asarray(panel.picture)
        colours = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
        made.add_trace(Image(z=colours, hoverinfo="skip"), **place)
        made.update_xaxes(visible=False, **place)
        made.update_yaxes(visible=False, **place)
        return
    grid = {"gridcolor": "rgba(128,128,128,0.2)", "zeroline": False, "automargin": True}
    if panel.message:
        made.add_annotation(
            text=escape(wrapped(panel.message, 40, lines=6), quote=False).replace("\n", "<br>"),
            xref="x domain", yref="y domain", x=0.5, y=0.5, showarrow=False, **place,
        )  # fmt: skip
    made.update_xaxes(**grid, **_axis(panel.x, 80 if panel.wide else 34), **place)
    made.update_yaxes(**grid, **_axis(panel.y, 34), **place)
    if panel.equal:
        anchor = next(made.select_xaxes(**place)).plotly_name.replace("axis", "")
        made.update_yaxes(scaleanchor=anchor, **place)
    if panel.bare:
        made.update_yaxes(visible=False, **place)
        made.update_xaxes(showgrid=False, **place)


def _axis(axis: Axis, longest: int) -> dict[str, Any]:
    text = escape(wrapped(axis.label, longest), quote=False).replace("\n", "<br>")
    found: dict[str, Any] = {"title": {"text": text, "standoff": 8}}
    if axis.top:
        found["side"] = "top"
    if axis.log:
        found |= {"type": "log", "exponentformat": "power", "nticks": 6}
    if axis.ticks is not None:
        found["tickvals"] = [position for position, _ in axis.ticks]
        texts = [escape(wrapped(text, 18), quote=False) for _, text in axis.ticks]
        found["ticktext"] = [text.replace("\n", "<br>") for text in texts]
    if axis.bounds is not None:
        ends = np.log10(axis.bounds) if axis.log else np.array(axis.bounds)
        found["range"] = ends.tolist()
    return found


Traces = list[dict[str, Any]]


def _points(layer: layers.Points, scale: Scale | None) -> Traces:
    style = STYLES[layer.role]
    if layer.values is None:
        symbol = _SYMBOLS.get(style.symbol, style.symbol)
        marker: dict[str, Any] = {
            "symbol": symbol if style.filled or symbol == "x" else f"{symbol}-open",
            "color": style.colour, "size": style.size, "opacity": style.opacity,
            "line": {"width": 1.0 if style.filled else 1.8,
                     "color": "rgba(255,255,255,0.9)" if style.filled else style.colour},
        }  # fmt: skip
    else:
        marker = {
            "color": layer.values, "coloraxis": "coloraxis", "size": 8,
            "line": {"width": 1, "color": "rgba(255,255,255,0.9)"},
        }  # fmt: skip
    trace: dict[str, Any] = {
        "type": "scatter", "mode": "markers", "name": layer.name, "x": layer.x, "y": layer.y,
        "marker": marker, **_hover(layer.texts),
    }  # fmt: skip
    if layer.low is not None and layer.high is not None:
        trace["error_y"] = {
            "type": "data", "symmetric": False, "array": layer.high - layer.y,
            "arrayminus": layer.y - layer.low, "thickness": 1.2, "width": 0,
            "color": rgba(style.colour, 0.5),
        }  # fmt: skip
    return [trace]


def _line(layer: layers.Line, scale: Scale | None) -> Traces:
    return [{**_plain_line(layer.x, layer.y, STYLES[layer.role], layer.step), "name": layer.name}]


def _plain_line(x: object, y: object, style: Style, step: bool = False) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "x": x, "y": y, "hoverinfo": "skip",
        "line": {"color": style.colour, "width": style.width, "dash": style.dash,
                 "shape": "hv" if step else "linear"},
    }  # fmt: skip


def _band(layer: layers.Band, scale: Scale | None) -> Traces:
    style = STYLES[layer.role]
    edge = {
        "type": "scatter", "mode": "lines", "x": layer.x, "hoverinfo": "skip",
        "line": {"width": 0, "color": style.colour, "shape": "hv" if layer.step else "linear"},
    }  # fmt: skip
    fill = {"fill": "tonexty", "fillcolor": rgba(style.colour, 0.18)}
    return [{**edge, "y": layer.low}, {**edge, "y": layer.high, "name": layer.name, **fill}]


def _bars(layer: layers.Bars, scale: Scale | None) -> Traces:
    style = STYLES[layer.role]
    trace: dict[str, Any] = {
        "type": "bar", "orientation": "h", "y": layer.y, "x": layer.end - layer.start,
        "base": layer.start, "width": layer.height, "name": layer.name, "textposition": "none",
        "marker": {"color": style.colour, "opacity": style.opacity}, **_hover(layer.texts),
    }  # fmt: skip
    if layer.low is not None and layer.high is not None:
        trace["error_x"] = {
            "type": "data", "symmetric": False, "array": layer.high - layer.end,
            "arrayminus": layer.end - layer.low, "thickness": 1.4, "width": 4, "color": "#6b7280",
        }  # fmt: skip
    return [trace]


def _heat(layer: layers.Heat, scale: Scale | None) -> Traces:
    common = {"x": layer.x, "y": layer.y, "z": layer.z, "coloraxis": "coloraxis"}
    hover = f"%{{z:.4g}}<extra>{escape(layer.name, quote=False)}</extra>"
    return [
        {"type": "contour", **common, "ncontours": 14, "connectgaps": False, "hovertemplate": hover,
         "line": {"width": 0.4, "color": "rgba(255,255,255,0.45)"}}
    ]  # fmt: skip


def _hatch(layer: layers.Hatch, scale: Scale | None) -> Traces:
    x, y = layer.lines()
    style = STYLES[layer.role]
    line = _plain_line(x, y, replace(style, width=1.0)) | {"name": layer.name}
    return [line | {"opacity": style.opacity}]


def _paths(layer: layers.Paths, scale: Scale | None) -> Traces:
    assert scale is not None
    shares = scale.share(layer.values)
    groups = np.minimum((shares * _GROUPS).astype(int), _GROUPS - 1)
    traces: Traces = []
    for group in range(_GROUPS):
        rows = np.flatnonzero(groups == group)
        if not len(rows):
            continue
        y = np.concatenate([np.append(layer.y[row], np.nan) for row in rows])
        x = np.tile(np.append(layer.x, np.nan), len(rows))
        share = (group + 0.5) / _GROUPS
        style = Style(scale.colour(share), width=1.0 + 1.2 * share)
        trace = _plain_line(x, y, style) | {"opacity": 0.25 + 0.7 * share**2}
        if layer.texts:
            texts = [layer.texts[row] for row in rows for _ in range(len(layer.x) + 1)]
            trace |= {"text": _breaks(texts), "hoverinfo": "text"}
        traces.append(trace)
    return traces


def _labels(layer: layers.Labels, scale: Scale | None) -> Traces:
    sides = {"left": "right", "right": "left", "centre": "center"}  # anchors seen from the point
    position = f"{_SIDES[layer.side]} {sides[layer.anchor]}"
    texts = [escape(text, quote=False).replace("\n", "<br>") for text in layer.texts]
    return [
        {"type": "scatter", "mode": "text", "x": layer.x, "y": layer.y, "text": texts,
         "textposition": position, "hoverinfo": "skip", "cliponaxis": False,
         "textfont": {"size": 11}}
    ]  # fmt: skip


_TRACES: dict[type[layers.Layer], Callable[[Any, Scale | None], Traces]] = {
    layers.Points: _points, layers.Line: _line, layers.Band: _band, layers.Bars: _bars,
    layers.Heat: _heat, layers.Hatch: _hatch, layers.Paths: _paths, layers.Labels: _labels,
}  # fmt: skip


def _hover(texts: Sequence[str]) -> dict[str, Any]:
    if not texts:
        return {"hoverinfo": "skip"}
    return {"text": _breaks(texts), "hovertemplate": "%{text}<extra></extra>"}


def _breaks(texts: Sequence[str]) -> list[str]:
    # Plotly reads a few HTML tags in texts; those of the user are shown as they are.
    return [escape(text, quote=False).replace("\n", "<br>") for text in texts]
