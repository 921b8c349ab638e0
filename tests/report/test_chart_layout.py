"""Tests of the layout of charts in matplotlib: widths of panels with proportions, notes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from bo_invert.report.charts.chart import Axis, Chart, Panel, Scale
from bo_invert.report.charts.layers import Heat, Points
from bo_invert.report.charts.matplotlib_renderer import figure
from bo_invert.report.charts.palette import HEAT

DOTS = Points("trial", "", np.array([0.1, 0.9]), np.array([0.2, 0.8]))
FREE = Panel(Axis("a"), Axis("b"), (DOTS,))
SCALE = Scale("y", 0.0, 1.0, tuple(HEAT))


def shaped(aspect: float) -> Panel:
    """Return a panel with equal scales that is ``aspect`` times as wide as it is high."""
    heat = Heat(
        "y", np.linspace(0, aspect, 4), np.linspace(0, 1, 3), np.arange(12.0).reshape(3, 4) / 11
    )
    return Panel(Axis("u", bounds=(0.0, aspect)), Axis("v", bounds=(0.0, 1.0)), (heat,), equal=True)


def drawn(*panels: Panel, width: int = 1200, **options: Any) -> tuple[Any, list[Any]]:
    """Return a figure and the boxes of its panels in pixels."""
    made = figure(Chart("test", "", panels, **options), width)
    made.draw_without_rendering()
    boxes = [one.get_window_extent() for one in made.axes[: len(panels)]]
    return made, boxes


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("aspect", [0.7, 1.15])
def test_panels_with_proportions_have_no_gaps(count: int, aspect: float) -> None:
    made, boxes = drawn(*[shaped(aspect)] * count, scale=SCALE)
    size = made.get_size_inches() * 100
    assert size[0] <= 1200
    for box in boxes:
        assert box.width / box.height == pytest.approx(aspect, rel=0.01)
    gaps = [right.x0 - left.x1 for left, right in pairwise(boxes)]
    assert all(10 < gap < 0.4 * boxes[0].width for gap in gaps)
    used = boxes[-1].x1 - boxes[0].x0
    # A single narrow panel stands in a figure of the least width.
    assert used > (0.5 if size[0] == 560 else 0.75) * size[0]


def test_other_panels_use_the_rest_of_the_width() -> None:
    made, (triangle, free) = drawn(shaped(1.0), FREE, scale=SCALE)
    assert made.get_size_inches()[0] == 12.0
    assert triangle.width == pytest.approx(triangle.height, rel=0.01)
    assert free.width > 1.5 * triangle.width
    assert free.x0 - triangle.x1 < 0.5 * triangle.width


def test_free_panels_share_the_width() -> None:
    made, boxes = drawn(FREE, FREE, FREE)
    assert made.get_size_inches()[0] == 12.0
    np.testing.assert_allclose([box.width for box in boxes], boxes[0].width, rtol=0.02)


def test_narrow_figures_keep_one_column() -> None:
    made, boxes = drawn(shaped(1.15), FREE, shaped(0.7), width=400, scale=SCALE)
    assert made.get_size_inches()[0] == 4.0
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("letters", ["W", "il.", "The median of the model "])
def test_notes_end_inside_the_figure(letters: str, width: int) -> None:
    words = (" ".join([letters * 3] * 200))[:700]
    made, _ = drawn(FREE, width=width, notes=(words,))
    (note,) = (text for text in made.texts if text.get_text().startswith(letters[0]))
    box = note.get_window_extent()
    assert box.x1 <= width
    assert box.x1 > 0.6 * width
