"""Colours and markers of the roles in charts, for colour-blind readers (Okabe & Ito 2008)."""

from __future__ import annotations

from dataclasses import dataclass

from bo_invert.report.figures import COLOURS

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, _, GREY = COLOURS


@dataclass(frozen=True)
class Style:
    """Style of a role.

    Args:
        colour: colour as ``#rrggbb``.
        symbol: circle, square, diamond, triangle, cross, star, hatch or none.
        dash: solid, dash or dot.
        filled: False for the outline of the marker.
        size: diameter of the marker in pixels.
        opacity: opacity of markers, in (0, 1].
        width: width of a line in pixels.
    """

    colour: str
    symbol: str = "circle"
    dash: str = "solid"
    filled: bool = True
    size: float = 7.0
    opacity: float = 1.0
    width: float = 2.0


STYLES = {
    "trial": Style(BLUE, opacity=0.75),
    "past": Style(GREY, "square", opacity=0.9),
    "outside": Style(GREY, "square", filled=False),
    "violated": Style(ORANGE, "triangle", filled=False, size=8.0),
    "failed": Style(PURPLE, "cross", size=8.0),
    "pending": Style(SKY, "circle", filled=False, size=8.0),
    "best": Style(VERMILION, "star", size=14.0),
    "best line": Style(VERMILION, "none"),
    "model": Style(GREEN, "none"),
    "model point": Style(GREEN, "diamond", size=8.0),
    "exact": Style(GREY, "none", dash="dash", width=1.5),
    "target": Style(GREY, "none", dash="dot", width=1.5),
    "excluded": Style("#9ca3af", "hatch", filled=False, opacity=0.9),
    "doubtful": Style("#ffffff", "hatch", opacity=0.9),
    "axis": Style(GREY, "none", width=1.2, opacity=0.7),
    "guide": Style(GREY, "none", width=0.8, opacity=0.4),
    "bar": Style(BLUE, "square", size=11.0),
    "second": Style(SKY, "square", size=11.0),
    "running": Style(SKY, "square", size=11.0),
    "completed": Style(BLUE, "square", size=11.0),
    "failure": Style(PURPLE, "square", size=11.0),
    "violation": Style(ORANGE, "square", size=11.0),
    "beyond": Style(GREEN, "square", size=11.0),
    "lost": Style(GREY, "square", size=11.0),
    "background": Style(GREY, "circle", size=3.5, opacity=0.35),
    "front": Style(VERMILION, "circle", size=9.0),
    "reference": Style(GREY, "cross", size=9.0),
    "front line": Style(VERMILION, "none", width=1.5),
    "first": Style(VERMILION, "star", size=13.0),
    "solution 2": Style(BLUE, "circle", size=9.0),
    "solution 3": Style(GREEN, "square", size=9.0),
    "solution 4": Style(ORANGE, "diamond", size=9.0),
    "solution 5": Style(PURPLE, "triangle", size=9.0),
    "branch 1": Style(BLUE, "circle", size=5.0, opacity=0.6, width=1.2),
    "branch 2": Style(ORANGE, "square", size=5.0, opacity=0.6, width=1.2),
    "branch 3": Style(GREEN, "diamond", size=5.0, opacity=0.6, width=1.2),
    "branch 4": Style(PURPLE, "triangle", size=5.5, opacity=0.6, width=1.2),
    "branch 5": Style(SKY, "circle", size=5.0, opacity=0.6, width=1.2),
    "other branches": Style(GREY, "circle", size=4.5, opacity=0.5, width=1.2),
    "verified": Style(VERMILION, "star", size=10.0),
}
"""Style of each role."""

HEAT = (
    "#00204d", "#17366d", "#39486b", "#575d6d", "#707173",
    "#8a8779", "#a69d75", "#c4b56c", "#e4cf5b", "#ffea46",
)  # fmt: skip
"""Colours from the lowest to the highest value: Cividis (Nuñez, Anderton & Renslow 2018), whose
lightness rises evenly for all readers."""

RANKED = (BLUE, "#4a8fbd", "#86a9bd", "#b3b1ad", "#c79d7a", "#cf8140", VERMILION)
"""Colours from the worst to the best value, visible on light and dark backgrounds."""


def rgba(colour: str, opacity: float) -> str:
    """Return a colour with an opacity as CSS text."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
