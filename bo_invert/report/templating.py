"""HTML templates of the reports, rendered by Jinja with automatic escaping."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from plotly.graph_objects import Figure


def render(name: str, **values: object) -> str:
    """Render a template of the folder ``templates``."""
    return _environment().get_template(name).render(values)


def table_html(table: object) -> str:
    """Render a ``report.table.Table`` as ``<table>`` with caption, headers and notes."""
    macro = getattr(_environment().get_template("macros.html").module, "table")  # noqa: B009
    return str(macro(table))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("bo_invert.report"), autoescape=True, undefined=StrictUndefined
    )
    made.filters["figure_json"] = _figure_json
    return made


def _figure_json(figure: Figure) -> Markup:
    # Without "<" no text of the figure can end the <script> element.
    return Markup(str(figure.to_json()).replace("<", "\\u003c"))
