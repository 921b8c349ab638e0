"""Chart of leave-one-out predictions beside the observed values, with their calibration."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from bo_invert.report.charts.chart import Axis, Chart, Panel, floats
from bo_invert.report.charts.layers import Layer, Line, Points
from bo_invert.report.charts.study_data import StudyData, is_log
from bo_invert.report.charts.text import shortened
from bo_invert.types import Array

_MOST = 6
"""Largest number of outputs; those that are explained least are shown. Engineering choice."""
_LEVELS = np.linspace(0.05, 0.95, 19)
"""Probabilities of the calibration curve. Engineering choice: steps of 5 percentage points."""


class LeaveOneOut(Protocol):
    """Predictions of n observations, each by all others; see ``models.diagnostics.Forecasts``."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def values(self) -> Array: ...
    @property
    def median(self) -> Array: ...
    @property
    def explained(self) -> Array: ...
    def interval(self, level: float = 0.9) -> tuple[Array, Array]: ...
    def coverage(self, level: float = 0.9) -> Array: ...


def predicted_vs_observed(data: StudyData, forecasts: LeaveOneOut) -> Chart:
    """Return one panel for each modelled output, and one with the calibration.

    Args:
        data: the study.
        forecasts: leave-one-out predictions.
    """
    low, high = forecasts.interval(0.9)
    order = np.argsort(forecasts.explained, kind="stable")
    shown = sorted(order[:_MOST])
    panels = []
    columns: dict[str, list[object]] = {
        name: [] for name in ("output", "observed", "predicted", "low", "high")
    }
    for j in shown:
        name = data.label(forecasts.names[j])
        observed, median = forecasts.values[:, j], forecasts.median[:, j]
        ends = floats([min(observed.min(), median.min()), max(observed.max(), median.max())])
        minimised = name == data.quantity().label and data.quantity().better < 0
        log = minimised and is_log(np.concatenate([observed, median, low[:, j]]))
        inside = (observed >= low[:, j]) & (observed <= high[:, j])
        layers: list[Layer] = [Line("exact", "perfect prediction", ends, ends)]
        for mask, role, label in ((inside, "trial", "inside of its 90 % interval"),
                                  (~inside, "violated", "outside of its interval")):  # fmt: skip
            texts = tuple(
                f"observed {a:.4g}\npredicted {b:.4g} ({c:.4g} to {d:.4g})"
                for a, b, c, d in zip(observed[mask], median[mask], low[mask, j], high[mask, j],
                                      strict=True)
            )  # fmt: skip
            if mask.any():
                layers.append(
                    Points(role, label, observed[mask], median[mask], texts,
                           low=low[mask, j], high=high[mask, j])
                )  # fmt: skip
        panels.append(
            Panel(
                Axis("observed", log=log), Axis("predicted without it", log=log), tuple(layers),
                title=f"{shortened(name, 40)}: R² = {forecasts.explained[j]:.2f}, "
                f"{forecasts.coverage(0.9)[j]:.0%} in 90 % intervals",
            )
        )  # fmt: skip
        rows = zip(observed, median, low[:, j], high[:, j], strict=True)
        for row in rows:
            for column, value in zip(columns, (name, *map(float, row)), strict=True):
                columns[column].append(value)
    n = len(forecasts.values)
    panels.append(_calibration(forecasts))
    about = (
        f"Each of {n} observations is predicted from the others (leave-one-out). On a calibrated "
        "model, points scatter around the diagonal and the calibration follows it."
    )
    notes = [about]
    if len(forecasts.names) > _MOST:
        notes.append(f"The {_MOST} least explained of {len(forecasts.names)} outputs.")
    title = "Predicted and observed values"
    return Chart("predicted_vs_observed", title, tuple(panels), columns, tuple(notes))


def _calibration(forecasts: LeaveOneOut) -> Panel:
    shares = np.array([forecasts.coverage(float(level)).mean() for level in _LEVELS])
    diagonal = floats([0.0, 1.0])
    texts = tuple(
        f"{share:.0%} of the values in {level:.0%} intervals"
        for share, level in zip(shares, _LEVELS, strict=True)
    )
    return Panel(
        Axis("probability of the interval", bounds=(0.0, 1.0)),
        Axis("share of the values inside", bounds=(-0.02, 1.02)),
        (
            Line("exact", "perfect prediction", diagonal, diagonal),
            Line("model", "calibration of the model", _LEVELS, shares),
            Points("model point", "", _LEVELS, shares, texts),
        ),
        title="Calibration, all outputs",
    )  # fmt: skip
