"""HTML of charts: panels in a grid that follows the width of the page, legend and notes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from plotly.graph_objects import Figure

from bo_invert.errors import printable
from bo_invert.report.charts import plotly_renderer
from bo_invert.report.charts.chart import Chart, Panel, Scale
from bo_invert.report.charts.palette import STYLES, Style
from bo_invert.report.charts.text import value_text
from bo_invert.report.pictures import data_uri, png
from bo_invert.report.templating import render


@dataclass(frozen=True, eq=False)
class PanelView:
    """Panel of a page: an interactive figure, or a picture with a caption.

    Args:
        figure: figure; None for a picture.
        source: picture as data URI; empty for a figure.
        title: caption of the picture.
        wide: the panel has the width of the page.
        place: row and column of a corner plot, from 1; None in a grid.
    """

    figure: Figure | None
    source: str
    title: str
    wide: bool
    place: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class ChartView:
    """Chart as the templates read it; all texts are unescaped.

    Args:
        chart: the chart.
        key: identifier within its page, of letters and digits.
        panels: panels.
        legend: names with their styles.
        alt: description for readers without pictures.
    """

    chart: Chart
    key: str
    panels: tuple[PanelView, ...]
    legend: tuple[tuple[str, Style], ...]
    alt: str

    @property
    def pictures(self) -> bool:
        """True if the panels are pictures."""
        return all(panel.source for panel in self.panels)

    @property
    def gradient(self) -> str:
        """Colours of the scale as CSS; empty without a scale."""
        scale = self.chart.scale
        return "" if scale is None else f"linear-gradient(to right,{','.join(_rising(scale))})"

    @property
    def ends(self) -> tuple[str, str]:
        """Texts of the lowest and highest value of the scale."""
        scale = self.chart.scale
        ends = (0.0, 0.0) if scale is None else sorted((scale.first, scale.last))
        return value_text(ends[0]), value_text(ends[1])


def chart_view(chart: Chart, key: str = "chart") -> ChartView:
    """Return a chart for the macro ``chart`` of the templates."""
    figures = iter(plotly_renderer.panel_figures(chart))
    panels = [_panel(panel, next(figures)) for panel in chart.panels]
    if chart.corner:
        cells = chart.cells(chart.corner)
        panels = [
            replace(panel, place=(row + 1, column + 1))
            for panel, (row, column) in zip(panels, cells, strict=True)
        ]
    legend = tuple((printable(name), STYLES[role]) for name, role in chart.legend.items())
    alt = printable(". ".join([chart.heading, *chart.notes]))
    return ChartView(chart, key, tuple(panels), legend, alt)


def chart_page(chart: Chart) -> str:
    """Return a page with one chart, without external resources."""
    return render("chart.html", title=printable(chart.heading), subtitle="", one=chart_view(chart))


def _panel(panel: Panel, figure: Figure) -> PanelView:
    if panel.picture is None:
        return PanelView(figure, "", "", panel.wide)
    return PanelView(None, data_uri(png(panel.picture)), printable(panel.title), False)


def _rising(scale: Scale) -> tuple[str, ...]:
    return scale.colours if scale.first <= scale.last else scale.colours[::-1]
