"""HTML templates of the reports, rendered by Jinja with automatic escaping."""

from __future__ import annotations

import base64
import gzip
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment
    from plotly.graph_objects import Figure


def render(name: str, **values: object) -> str:
    """Render a template of the folder ``templates``."""
    return _environment().get_template(name).render(values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("bo_invert.report"), autoescape=True, undefined=StrictUndefined
    )
    made.globals.update(figure_json=_figure_json, now=datetime.now, plotly=_packed_plotly)
    return made


@cache
def _packed_plotly() -> str:
    """Return plotly.js as gzip in base64: 2 MB instead of 5 MB."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode("ascii")


def _figure_json(figure: Figure) -> Markup:
    # Without "<" no text of the figure can end the <script> element.
    return Markup(str(figure.to_json()).replace("<", "\\u003c"))
