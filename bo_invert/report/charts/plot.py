"""Plot of a study: one chart as data, as an interactive figure, and as a file."""

from __future__ import annotations

import io
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bo_invert.errors import InvalidInputError, printable
from bo_invert.report.charts.chart import Chart
from bo_invert.report.pictures import data_uri
from bo_invert.report.templating import render
from bo_invert.types import JSON
from bo_invert.user_data import whole_number

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as StaticFigure
    from plotly.graph_objects import Figure

_KINDS = {
    ".html": "html", ".htm": "html", ".png": "png", ".svg": "svg", ".json": "json", ".csv": "csv",
}  # fmt: skip


class Plot:
    """Plot of a study, a method of ``study.plot``.

    Args:
        chart: its data.
    """

    def __init__(self, chart: Chart) -> None:
        self.chart = chart

    @cached_property
    def data(self) -> pd.DataFrame:
        """Data of the plot, one row per drawn item."""
        import pandas as pd

        return pd.DataFrame(dict(self.chart.columns))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that explain the plot."""
        return self.chart.notes

    @cached_property
    def figure(self) -> Figure:
        """Interactive figure of Plotly."""
        from bo_invert.report.charts import plotly_renderer

        return plotly_renderer.figure(self.chart)

    def to_matplotlib(self, width: int = 1200) -> StaticFigure:
        """Return a figure of matplotlib of ``width`` pixels at 100 dpi, at least 300."""
        from bo_invert.report.charts import matplotlib_renderer

        return matplotlib_renderer.figure(self.chart, whole_number("plot", "width", width, 300))

    def image(self, kind: str = "png", width: int = 1200, scale: float = 2.0) -> bytes:
        """Return the plot as a PNG or SVG file; the other arguments are those of ``save``."""
        stream, figure = io.BytesIO(), self.to_matplotlib(width)
        # No date and no version, so that equal plots are equal files.
        metadata = {"Software": None} if kind == "png" else {"Date": None}
        figure.savefig(stream, format=kind, dpi=100.0 * scale, metadata=metadata)
        return stream.getvalue()

    def show(self) -> None:
        """Show the interactive figure, in a notebook or a browser."""
        self.figure.show()

    def save(self, path: str | Path, *, width: int = 1200, scale: float = 2.0) -> Path:
        """Write the plot to a file and return its path.

        Args:
            path: file that ends in ``.html`` (interactive, opens offline), ``.png``, ``.svg``
                (both without a browser), ``.json`` (the data of ``chart``) or ``.csv`` (``data``).
            width: width of a PNG or SVG layout in pixels; below 700, panels stand in one column.
                A chart of few triangles is narrower.
            scale: pixels of a PNG file per pixel of the layout.

        Raises:
            InvalidInputError: the ending of the file is unknown.
        """
        file = Path(path)
        kind = _KINDS.get(file.suffix.lower())
        if kind is None:
            raise InvalidInputError(
                f"plot: path must end in {', '.join(_KINDS)}, got {file.name!r}. "
                f"Write {file.with_suffix('.html').name!r}."
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        if kind == "html":
            from bo_invert.report.charts.html import chart_page

            file.write_text(chart_page(self.chart), encoding="utf-8")
        elif kind == "csv":
            self.data.to_csv(file, index=False)
        elif kind == "json":
            file.write_text(json.dumps(self.chart.to_json(), allow_nan=False), encoding="utf-8")
        else:
            file.write_bytes(self.image(kind, width, scale))
        return file

    def __repr__(self) -> str:
        notes = "".join(f"\n  {note}" for note in self.notes)
        return printable(
            f"Plot({self.chart.heading}): .save('plot.html'), '.png', '.svg'; .data, .figure{notes}"
        )

    def _repr_html_(self) -> str:
        picture = self.image("png", 900, 1.6)
        return render("plot.html", source=data_uri(picture), chart=self.chart)

    def _repr_mimebundle_(self, **_: object) -> dict[str, JSON]:
        # Front ends with Plotly show the interactive figure, all others the picture.
        interactive = json.loads(self.figure.to_json())
        return {
            "application/vnd.plotly.v1+json": interactive,
            "text/html": self._repr_html_(),
            "text/plain": repr(self),
        }
