"""Tolerances of a design: moves of its parameters with which its outputs stay within the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bo_invert.errors import printable
from bo_invert.report.dataframe import records_frame
from bo_invert.report.pictures import image_tag
from bo_invert.report.runs import Picture
from bo_invert.report.table import Table, counted
from bo_invert.report.templating import render
from bo_invert.types import JSON, Array, Design, Trial

if TYPE_CHECKING:
    import pandas as pd

    from bo_invert.models.inverse.moves import MoveBox

CHECK = "tolerances"
"""Key of the meta of a query that checks the tolerances of a design; logs hold it."""


@dataclass(frozen=True, eq=False, repr=False)
class Tolerances:
    """Moves of the parameters of a design with which its outputs stay within the target.

    Values are in the units of the parameters. Choices stay, as do parameters that decide whether
    others exist.

    Args:
        trial: Trial of the design.
        names: Names of the f parameters that may move.
        values: Their values in the design.
        separate: Ends of the interval of each parameter alone, by name. Up to each end, every value
            meets the target with at least the stated probability.
        lower: Lower ends of the box, by name.
        upper: Upper ends of the box, by name.
        probability: Stated probability.
        expected: Expected share of the box that meets the target and the constraints. Points of the
            box that input constraints exclude do not count. Without a box, it is the probability of
            the design itself under the model.
        interval: Quantiles of 5 and 95 % of this share under the model.
        calls: Oracle calls that checked these tolerances.
        to_measure: Designs whose outcomes would inform most about the box.
        note: Sentence on the limits of the result; empty without one.
        pictures: Designs at the ends of each parameter alone, with their captions.
        box: Box in the coordinates of the domain.
        draw: Function from n and a seed to n points uniform in the box.
        decode: Function from points to designs.
    """

    trial: Trial
    names: tuple[str, ...]
    values: Mapping[str, float]
    separate: Mapping[str, tuple[float, float]]
    lower: Mapping[str, float]
    upper: Mapping[str, float]
    probability: float
    expected: float
    interval: tuple[float, float]
    calls: int
    to_measure: Sequence[Design]
    note: str
    pictures: Sequence[tuple[Picture, tuple[str, ...]]]
    box: MoveBox
    draw: Callable[[int, int], Array]
    decode: Callable[[Array], Any]

    @property
    def found(self) -> bool:
        """True if some parameter may move in the box with the stated probability.

        Without a box, ``lower`` and ``upper`` are the values of the design.
        """
        moves = any(self.lower[name] < self.upper[name] for name in self.names)
        return moves and self.expected >= self.probability

    def sample(self, n: int, seed: int = 0) -> list[Design]:
        """Return n designs drawn uniformly from the box and the input constraints.

        Uniform means in the scale of each parameter, so in its logarithm with ``log``.
        """
        return list(self.decode(self.draw(n, seed)))

    def records(self) -> list[dict[str, Any]]:
        """Return one dictionary per parameter: value, ends alone, ends of the box."""
        return [
            {
                "parameter": name, "value": self.values[name], "alone from": self.separate[name][0],
                "alone to": self.separate[name][1], "box from": self.lower[name],
                "box to": self.upper[name],
            }
            for name in self.names
        ]  # fmt: skip

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per parameter; the columns are the keys of ``records``."""
        return records_frame(self.records())

    def to_json(self) -> JSON:
        """Return all numbers as JSON."""
        return {
            "trial": self.trial.number, "probability": self.probability, "found": self.found,
            "expected": self.expected,
            "interval": list(self.interval), "calls": self.calls, "note": self.note,
            "parameters": self.records(),
        }  # fmt: skip

    def table(self) -> Table:
        """Return a table with one row per parameter."""
        rows = tuple(tuple(row.values()) for row in self.records())
        columns = ("parameter", "value", "alone from", "alone to", "box from", "box to")
        low, high = self.interval
        share = (
            f"A design drawn uniformly from the box meets the target with probability "
            f"{self.expected:.1%} ({low:.1%} to {high:.1%}), after {counted(self.calls, 'check')}."
        )
        none = f"No box was found, after {counted(self.calls, 'check')}."
        text = share if self.found else none
        notes = (text, *([self.note] if self.note else []))
        caption = f"Tolerances of trial {self.trial.number}, probability {self.probability:g}"
        return Table(columns, rows, caption, notes)

    def __repr__(self) -> str:
        return printable(self.table().text())

    def _repr_html_(self) -> str:
        tiles = [(image_tag(one, lines[0]), list(lines)) for one, lines in self.pictures]
        return self.table().html() + (render("tiles.html", tiles=tiles) if tiles else "")
