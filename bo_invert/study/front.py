"""Pareto front of a study and its hypervolume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.history import History, result_order
from bo_invert.models.acquisition.box_decomposition import hypervolume
from bo_invert.objectives.base import Objective
from bo_invert.objectives.from_json import objective_from_json
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.pareto_front import non_dominated, reference_point
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.report.dataframe import records_frame
from bo_invert.report.study_view import design_text
from bo_invert.report.table import Table, counted
from bo_invert.study.recommendation import expected_values
from bo_invert.types import JSON, Array, Indices, Mask, Trial

if TYPE_CHECKING:
    import pandas as pd


class HypervolumeCurve(NamedTuple):
    """Hypervolume after each number of calls.

    Args:
        calls: numbers of calls, shape ``(n,)``, increasing.
        volumes: hypervolume of the feasible trials after these calls, shape ``(n,)``, increasing.
        reference: reference point of all volumes, as values of the criteria, shape ``(k,)``.
    """

    calls: Indices
    volumes: Array
    reference: Array


@dataclass(frozen=True, eq=False, repr=False)
class ParetoFront(Sequence[Trial]):
    """Feasible trials that no other one dominates, sorted by the first criterion, best first.

    Args:
        trials: n trials.
        values: values of the criteria, shape ``(n, k)``, with the sign of the outputs. Those of a
            noisy oracle are expected values under a model of all observations.
        labels: names of the k criteria.
        directions: ``"minimize"`` or ``"maximize"`` for each criterion.
        reference: reference point of the hypervolume, as values, shape ``(k,)``; infinite without a
            front.
        hypervolume: volume between the front and the reference point.
        expected: True if the values are expected ones, for a noisy oracle.
    """

    trials: tuple[Trial, ...]
    values: Array
    labels: tuple[str, ...]
    directions: tuple[str, ...]
    reference: Array
    hypervolume: float
    expected: bool = False

    def __len__(self) -> int:
        return len(self.trials)

    @overload
    def __getitem__(self, index: int) -> Trial: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Trial, ...]: ...

    def __getitem__(self, index: int | slice) -> Trial | tuple[Trial, ...]:
        return self.trials[index]

    @property
    def compromise(self) -> Trial | None:
        """Trial nearest to the best value of each criterion, in ranges of the front; None if empty.

        It minimises ``sum_j ((l_j - min l_j) / (max l_j - min l_j))^2`` over the losses l of the
        front (compromise programming: Yu 1973, Zeleny 1973).
        """
        if not self.trials:
            return None
        return self.trials[int((self._scaled**2).sum(axis=1).argmin())]

    def spread(self, count: int) -> list[Trial]:
        """Return at most ``count`` trials spread over the front, in its order.

        The compromise is followed by the trials that are farthest from those chosen before, in
        ranges of the front (maximin design: Johnson, Moore & Ylvisaker 1990).
        """
        if count >= len(self):
            return list(self.trials)
        scaled = self._scaled
        chosen = [int((scaled**2).sum(axis=1).argmin())]
        while len(chosen) < count:
            gaps = np.linalg.norm(scaled[:, None] - scaled[chosen], axis=2).min(axis=1)
            chosen.append(int(gaps.argmax()))
        return [self.trials[i] for i in sorted(chosen)]

    @property
    def _scaled(self) -> Array:
        """Losses from 0 to 1 over the front, shape ``(n, k)``."""
        low, width = self.losses.min(axis=0), np.ptp(self.losses, axis=0)
        return np.asarray((self.losses - low) / np.where(width > 0.0, width, 1.0))

    @property
    def losses(self) -> Array:
        """Losses of the criteria, shape ``(n, k)``; lower is better."""
        signs = [1.0 if direction == "minimize" else -1.0 for direction in self.directions]
        return np.asarray(self.values * np.array(signs))

    def table(self) -> Table:
        """Return a table with one row per trial."""
        rows = tuple(
            (trial.number, *values, design_text(trial) or None)
            for trial, values in zip(self.trials, self.values.tolist(), strict=True)
        )
        reference = ", ".join(
            f"{label} {value:.4g}"
            for label, value in zip(self.labels, self.reference.tolist(), strict=True)
        )
        notes = [f"Hypervolume {self.hypervolume:.4g} up to the reference point ({reference})."]
        if self.expected:
            notes.append("The oracle is noisy: values are expected ones under a model of all data.")
        columns = ("trial", *map(" ".join, zip(self.directions, self.labels, strict=True)))
        shown = any(row[-1] is not None for row in rows)
        return Table(
            (*columns, "design") if shown else columns,
            rows if shown else tuple(row[:-1] for row in rows),
            notes=tuple(notes),
        )

    def summary(self) -> str:
        """Return the number of trials, the hypervolume and the range of each criterion."""
        if not self.trials:
            return "no feasible trial yet"
        ranges = ", ".join(
            f"{label} {low:.4g} to {high:.4g}"
            for label, low, high in zip(
                self.labels, self.values.min(0), self.values.max(0), strict=True
            )
        )
        return f"{counted(len(self), 'trial')}, hypervolume {self.hypervolume:.4g}, {ranges}"

    def to_dataframe(self) -> pd.DataFrame:
        """Return a data frame with the number of each trial and its values."""
        rows = zip(self.trials, self.values.tolist(), strict=True)
        return records_frame(
            [
                {"number": one.number, **dict(zip(self.labels, row, strict=True))}
                for one, row in rows
            ]
        )

    def __repr__(self) -> str:
        return self.table().text() if len(self) else "no feasible trial yet"

    def _repr_html_(self) -> str:
        return self.table().html() if len(self) else "<p>no feasible trial yet</p>"


def require_pareto(objective: Objective, where: str) -> Pareto:
    """Return the objective if it is ``Pareto``.

    Raises:
        InvalidInputError: it is another objective.
    """
    if not isinstance(objective, Pareto):
        raise InvalidInputError(
            f"{where}: the objective must be Pareto(...), got {objective}. Use study.best, the "
            "trial of lowest loss."
        )
    return objective


def pareto_front(
    objective: Pareto, history: History, statement: ProblemStatement | None = None
) -> ParetoFront:
    """Return the Pareto front of the completed trials.

    Args:
        objective: objective, bound to the outputs.
        history: trials of the study.
        statement: problem statement if the oracle is noisy: the front is that of the expected
            values at the observed points under a model of all observations, among the points that
            are feasible with a probability of at least 50 %. None for the observed values.
    """
    found = _criteria(objective, history, statement)
    mask = np.zeros(len(found.losses), dtype=bool)
    mask[found.feasible] = non_dominated(found.losses[found.feasible])
    rows = np.flatnonzero(mask)
    rows = rows[np.lexsort(found.losses[rows].T[::-1])]
    signs, reference = objective.signs, found.reference(objective)
    return ParetoFront(
        tuple(found.trials[row] for row in rows.tolist()),
        found.losses[rows] * signs,
        objective.labels,
        tuple("maximize" if sign < 0 else "minimize" for sign in signs),
        reference * signs,
        _hypervolume(found.losses[rows], reference),
        statement is not None,
    )


def hypervolume_curve(
    objective: Pareto, history: History, statement: ProblemStatement | None = None
) -> HypervolumeCurve:
    """Return the hypervolume after each number of calls.

    Every attempt moves the curve along, failed ones included. An observation of the user counts
    from the moment at which it was added. All volumes have one reference point, that of the present
    front; arguments are those of ``pareto_front``.
    """
    reference = _criteria(objective, history, statement).reference(objective)
    calls, volumes = criteria_trace(objective, history, statement).curve(reference)
    return HypervolumeCurve(calls, volumes, reference * objective.signs)


@dataclass(frozen=True, eq=False)
class CriteriaTrace:
    """Losses of the criteria in the order of the log.

    Args:
        calls: Numbers of calls after each trial, the first one 0, shape ``(n,)``.
        losses: Losses of the feasible trials, NaN for others, shape ``(n, k)``.
        given: Given reference point in losses, NaN where there is none, shape ``(k,)``.
    """

    calls: Indices
    losses: Array
    given: Array

    def curve(self, reference: Array) -> tuple[Indices, Array]:
        """Return rising numbers of calls ``(m,)`` and the hypervolumes after them ``(m,)``."""
        front, volumes = np.empty((0, len(reference))), [0.0]
        for new in self.losses[1:]:
            volume = volumes[-1]
            if not np.isnan(new).any() and not (front <= new).all(axis=1).any():
                front = np.vstack([front[(front < new).any(axis=1)], new])
                volume = max(volume, _hypervolume(front, reference))
            volumes.append(volume)
        last = np.flatnonzero(np.diff(self.calls, append=self.calls[-1] + 1))
        return self.calls[last], np.array(volumes)[last]

    def to_json(self) -> JSON:
        """Return the JSON form; null for NaN."""
        rows = [None if np.isnan(row).any() else row.tolist() for row in self.losses]
        given = [None if np.isnan(one) else one for one in self.given.tolist()]
        return {"calls": self.calls.tolist(), "losses": rows, "reference": given}

    @staticmethod
    def from_json(data: JSON) -> CriteriaTrace:
        """Return the trace of ``to_json``."""
        given = np.array([np.nan if one is None else one for one in data["reference"]])
        rows = [[np.nan] * len(given) if row is None else row for row in data["losses"]]
        return CriteriaTrace(np.array(data["calls"]), np.array(rows, dtype=float), given)


def criteria_trace(
    objective: Pareto, history: History, statement: ProblemStatement | None = None
) -> CriteriaTrace:
    """Return the losses of the criteria over calls; arguments are those of ``pareto_front``."""
    found = _criteria(objective, history, statement)
    losses = {
        trial.number: loss
        for trial, loss, feasible in zip(found.trials, found.losses, found.feasible, strict=True)
        if feasible
    }
    missing = np.full(len(objective.objectives), np.nan)
    calls, rows = [0], [missing]
    for trial in sorted((t for t in history.trials if not t.state.open), key=result_order):
        calls.append(calls[-1] + trial.cost.calls)
        rows.append(losses.get(trial.number, missing))
    return CriteriaTrace(np.array(calls), np.array(rows), objective.reference_losses)


def with_front(frame: pd.DataFrame, front: ParetoFront) -> pd.DataFrame:
    """Return a table of trials with the column ``front``: True for the trials of the front."""
    numbers = [trial.number for trial in front]
    return frame.assign(front=frame["number"].isin(numbers) if len(frame) else [])


class _Criteria(NamedTuple):
    """Losses ``(n, k)`` of the criteria of n trials, and the mask of the feasible ones."""

    trials: Sequence[Trial]
    losses: Array
    feasible: Mask

    def reference(self, objective: Pareto) -> Array:
        """Return the reference point in losses ``(k,)``."""
        usable = self.losses[self.feasible]
        return reference_point(usable[non_dominated(usable)], usable, objective.reference_losses)


def _criteria(objective: Pareto, history: History, statement: ProblemStatement | None) -> _Criteria:
    k = len(objective.objectives)
    if not history.completed:
        return _Criteria((), np.empty((0, k)), np.zeros(0, dtype=bool))
    if statement is None:
        losses = np.asarray(objective.losses(history.y)).reshape(-1, k)
        return _Criteria(history.completed, losses, history.violations <= 0.0)
    found = expected_values(statement, history)
    trials = [history.completed[position] for position in found.positions]
    outputs = found.outputs[1]
    if objective.plausibility is not None:  # known without noise
        index = objective.plausibility.index
        outputs[:, index] = history.y[found.positions, index]
    expected = np.asarray(objective.losses(outputs))
    inside = np.isfinite(history.violations[found.positions])
    return _Criteria(trials, expected, inside & (found.probability >= 0.5))


def _hypervolume(losses: Array, reference: Array) -> float:
    return hypervolume(losses, reference) if len(losses) else 0.0


def stored_objective(problem: JSON, where: str) -> Pareto:
    """Return the Pareto objective of a stored problem, bound to its outputs.

    Args:
        problem: entry ``problem`` of the header of a study.
        where: function that needs it, for messages.

    Raises:
        InvalidInputError: it is another objective, or a criterion is code.
    """
    objective = require_pareto(objective_from_json(problem["objective"]), where)
    return objective.bind(problem["outputs"])
