"""Predictions of a study at any designs, from models that are fitted once per state of its log."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.errors import printable
from bo_invert.history import History
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.report.dataframe import records_frame
from bo_invert.report.table import Table, counted
from bo_invert.types import JSON, Array, Mask

if TYPE_CHECKING:
    import pandas as pd

    from bo_invert.models.prediction.predictor import Moments, Predictor

_MAX_ROWS = 8
"""Largest number of points and of outputs in a printed table. Engineering choice."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predicted distribution of one quantity at b points; all shapes are ``(b,)``.

    Args:
        mean: Mean.
        std: Standard deviation.
        low: 5 % quantile.
        median: Median.
        high: 95 % quantile.
    """

    mean: Array
    std: Array
    low: Array
    median: Array
    high: Array

    @staticmethod
    def of(moments: Moments, column: int) -> Predicted:
        """Return one column of moments."""
        return Predicted(
            moments.mean[:, column], moments.std[:, column], *moments.quantiles[..., column]
        )

    def to_json(self) -> JSON:
        """Return lists; numbers that are not finite are null."""
        return {
            name: [value if math.isfinite(value) else None for value in values.tolist()]
            for name, values in vars(self).items()
        }

    @staticmethod
    def from_json(data: JSON) -> Predicted:
        """Return the distribution of lists; null is infinite."""
        return Predicted(**{name: np.array(values, dtype=float) for name, values in data.items()})


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """Predictions at b points.

    A low to high interval holds an outcome with a probability of 90 %.

    Args:
        points: Points, shape ``(b, d)``.
        outputs: Distribution of each output by name.
        loss: Distribution of the loss, lower is better.
        feasible: Probability that the oracle returns outputs and all constraints hold, ``(b,)``.
        hit: Probability that all outputs lie within the tolerance of the target, shape ``(b,)``;
            None without a tolerance.
        plausibility: Share of the reference measure that is less plausible, shape ``(b,)``; None
            without a reference measure.
        about: Description of the models.
        domain: Search domain.
        notes: Sentences about points that no study can evaluate.
    """

    points: Array
    outputs: Mapping[str, Predicted]
    loss: Predicted
    feasible: Array
    hit: Array | None
    plausibility: Array | None
    about: str
    domain: Domain
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.points)

    def records(self) -> list[dict[str, Any]]:
        """Return one dictionary per point: parameters, then predictions.

        Keys are the parameters; ``NAME.mean``, ``NAME.std``, ``NAME.low``, ``NAME.median`` and
        ``NAME.high`` of each output and of the loss; ``feasible``, and where they exist ``hit``
        and ``plausibility``.
        """
        rows: list[dict[str, Any]] = [
            self.domain.named(point, measured=True) for point in self.points
        ]
        columns: dict[str, Array | None] = {
            f"{name}.{key}": values
            for name, one in {**self.outputs, "loss": self.loss}.items()
            for key, values in vars(one).items()
        }
        columns |= {"feasible": self.feasible, "hit": self.hit, "plausibility": self.plausibility}
        for key, values in columns.items():
            for row, value in zip(rows, values if values is not None else (), strict=False):
                row[key] = float(value)
        return rows

    def to_json(self) -> JSON:
        """Return points and predictions as lists; ``from_json`` reads them."""
        share = {name: getattr(self, name) for name in ("feasible", "hit", "plausibility")}
        return {
            "about": self.about,
            "notes": list(self.notes),
            "points": self.points.tolist(),
            "outputs": {name: one.to_json() for name, one in self.outputs.items()},
            "loss": self.loss.to_json(),
            **{name: None if one is None else one.tolist() for name, one in share.items()},
        }

    @staticmethod
    def from_json(data: JSON, domain: Domain) -> Predictions:
        """Return the predictions of JSON data."""
        outputs = {name: Predicted.from_json(one) for name, one in data["outputs"].items()}
        hit, plausible = (data[name] for name in ("hit", "plausibility"))
        return Predictions(
            np.array(data["points"]), outputs, Predicted.from_json(data["loss"]),
            np.array(data["feasible"]), None if hit is None else np.array(hit),
            None if plausible is None else np.array(plausible), data["about"], domain,
            tuple(data.get("notes", ())),
        )  # fmt: skip

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per point; the columns are the keys of ``records``."""
        return records_frame(self.records())

    def __repr__(self) -> str:
        shown = dict(list(self.outputs.items())[:_MAX_ROWS]) | {"loss": self.loss}
        columns = {name: _intervals(one) for name, one in shown.items()}
        for name in ("feasible", "hit", "plausibility"):
            values = getattr(self, name)
            if values is not None and not (values == 1.0).all():
                columns[name] = [f"{value:.2g}" for value in values]
        rows = tuple(zip(*(column[:_MAX_ROWS] for column in columns.values()), strict=True))
        more = [
            f"and {rest} more {kind}"
            for rest, kind in (
                (len(self) - _MAX_ROWS, "points"),
                (len(self.outputs) - _MAX_ROWS, "outputs"),
            )
            if rest > 0
        ]
        head = f"{len(self)} predictions, median and 90 % interval; {self.about}"
        return printable("\n".join([head, Table(tuple(columns), rows).text(), *more, *self.notes]))


def _intervals(one: Predicted) -> list[str]:
    rows = zip(one.median.tolist(), one.low.tolist(), one.high.tolist(), strict=True)
    return [f"{median:.4g} ({low:.4g} to {high:.4g})" for median, low, high in rows]


def predictions(
    statement: ProblemStatement, predictor: Predictor, points: Array, noise: bool
) -> Predictions:
    """Predict at points ``(b, d)``.

    Args:
        statement: Problem statement.
        predictor: Fitted models.
        points: Points of the domain.
        noise: Predict outcomes with the noise of the oracle, instead of expected outputs.
    """
    domain = statement.domain
    found = predictor.predict(points, noise)
    outputs = {name: Predicted.of(found.outputs, j) for j, name in enumerate(statement.outputs)}
    measured = domain.latent or domain.reference is not None
    plausibility = np.asarray(domain.plausibility(points)) if measured else None
    valid = domain.satisfied(points)
    feasible = np.where(valid, found.feasible, 0.0)
    return Predictions(
        points, outputs, Predicted.of(found.loss, 0), feasible, found.hit, plausibility,
        predictor.about, domain, _violations(domain, points, valid),
    )  # fmt: skip


def _violations(domain: Domain, points: Array, valid: Mask) -> tuple[str, ...]:
    """Return a note about the points that violate input constraints; empty if all are valid."""
    invalid = np.flatnonzero(~valid)
    if not len(invalid):
        return ()
    first = int(invalid[0])
    text = (
        f"{len(invalid)} of {counted(len(points), 'design')} cannot be evaluated, with probability "
        f"0 of feasibility: in design {first}, {domain.violated(points[first])}."
    )
    return (text,)


class PredictorCache:
    """Fitted models of a log, fitted again when its outcomes change. Threads may share it.

    Copies and pickles of a study have caches of their own, which are empty.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: object = None
        self._predictor: Predictor | None = None

    def get(self, statement: ProblemStatement, history: History, noisy: bool) -> Predictor:
        """Return models of all outcomes of a history.

        Raises:
            InvalidInputError: There are fewer than two observations.
        """
        # Outcomes are compared by identity: a new one replaces an amended one. Open trials do not
        # change a model.
        outcomes = tuple((t.number, t.outcome) for t in history.trials if not t.state.open)
        # A problem may change its plausibility floor after the study was opened.
        key = outcomes, noisy, statement.domain.floor
        with self._lock:
            if self._predictor is None or self._key != key:
                from bo_invert.models.prediction.fit import fit_predictor

                self._predictor = fit_predictor(statement, history, noisy=noisy)
                self._key = key
            return self._predictor
