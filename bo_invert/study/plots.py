"""Plots of a study: ``study.plot.slice()`` and others, with Optuna's names where they exist."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from bo_invert.domains.constrained_box import stored_domain
from bo_invert.errors import InvalidInputError, one_of, require
from bo_invert.history import History
from bo_invert.objectives.outcome_constraint import OutcomeConstraint
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.pareto_front import non_dominated
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.problems.json_declaration import declared_problem
from bo_invert.problems.problem import Problem
from bo_invert.report.charts.chart import Chart
from bo_invert.report.charts.contour import contour
from bo_invert.report.charts.latent_map import latent_map
from bo_invert.report.charts.optimization_history import (
    hypervolume_history,
    optimization_history,
)
from bo_invert.report.charts.parallel_coordinate import parallel_coordinate
from bo_invert.report.charts.param_importances import param_importances
from bo_invert.report.charts.pareto_front import Objectives, pareto_front
from bo_invert.report.charts.plot import Plot
from bo_invert.report.charts.predicted_vs_observed import predicted_vs_observed
from bo_invert.report.charts.slice import slice_chart
from bo_invert.report.charts.solutions import Shown, solutions_chart
from bo_invert.report.charts.study_data import StudyData
from bo_invert.report.charts.timeline import timeline
from bo_invert.report.objective_view import Goal
from bo_invert.report.runs import Picture
from bo_invert.storage.journal_base import JournalBase
from bo_invert.study.design_pictures import design_pictures
from bo_invert.study.front import HypervolumeCurve, ParetoFront, require_pareto, stored_objective
from bo_invert.study.outlook import Outlook
from bo_invert.study.posterior import Posterior
from bo_invert.study.recommendation import Recommendation, recommend
from bo_invert.study.solutions import Solutions
from bo_invert.types import Array, Trial
from bo_invert.user_code import own_settings
from bo_invert.user_data import whole_number
from bo_invert.user_tables import record

if TYPE_CHECKING:
    from bo_invert.models.prediction.predictor import Predictor
    from bo_invert.study.plot_model import PlotModel


class PlottedStudy(Protocol):
    """Study with the attributes that plots read; see ``StudyResults``."""

    name: str
    journal: JournalBase
    problem: Problem | None

    @property
    def statement(self) -> ProblemStatement: ...
    @property
    def trials(self) -> tuple[Trial, ...]: ...
    @property
    def history(self) -> History: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...
    @property
    def noisy(self) -> bool: ...
    @property
    def front(self) -> ParetoFront: ...
    @property
    def hypervolume(self) -> HypervolumeCurve: ...
    def solutions(self, count: int = 1) -> Solutions: ...
    def recommend(self, *, noisy: bool | None = None) -> Recommendation: ...
    def outlook(self) -> Outlook: ...
    def posterior(self) -> Posterior: ...
    def predictor(self, statement: ProblemStatement, history: History) -> Predictor: ...


class StudyPlots:
    """Plots of a study.

    Each method returns a ``Plot``, which shows itself in a notebook and has ``save("plot.html")``,
    ``save("plot.png")``, ``data`` (a data frame) and ``figure`` (Plotly). No plot calls the oracle.

    Args:
        study: The study.
    """

    NAMES = (
        "optimization_history", "slice", "contour", "parallel_coordinate", "param_importances",
        "pareto_front", "hypervolume_history", "timeline", "predicted_vs_observed", "latent_map",
        "posterior", "solutions",
    )  # fmt: skip
    """Names of the plots."""

    def __init__(self, study: PlottedStudy) -> None:
        self._study = study

    def optimization_history(self, target: str | None = None) -> Plot:
        """Plot values over calls, and the best one so far; past data are marked.

        Args:
            target: Output to show. Default: the value that the objective rates; the hypervolume
                of a ``Pareto`` objective.
        """
        if target is None and self._pareto_study:
            return self.hypervolume_history()
        return self._made(lambda data: optimization_history(data, target))

    def hypervolume_history(self) -> Plot:
        """Plot the hypervolume of the Pareto front over calls.

        Raises:
            InvalidInputError: The objective is not ``Pareto``.
        """
        found = self._study.hypervolume
        return self._made(
            lambda data: hypervolume_history(data, found.calls.astype(float), found.volumes)
        )

    def slice(self, params: Sequence[str] | None = None, target: str | None = None) -> Plot:
        """Plot values over each parameter, with the model through the trial to act on.

        Inside of constraints, the other parameters follow; see ``docs/plots.md``.

        Args:
            params: Names of parameters. Default: all, at most 12.
            target: Output to show. Default: the value that the objective rates.
        """
        return self._made(lambda data: slice_chart(data, params, target))

    def contour(self, params: Sequence[str] | None = None, target: str | None = None) -> Plot:
        """Plot the model over pairs of parameters, and three parts of a mixture as a triangle.

        Args:
            params: Names of two or more parameters. Default: the four most important ones.
            target: Output to show. Default: the value that the objective rates.

        Raises:
            InvalidInputError: There are less than three observations or two parameters.
        """
        return self._made(lambda data: contour(data, params, target))

    def parallel_coordinate(
        self, params: Sequence[str] | None = None, target: str | None = None
    ) -> Plot:
        """Plot all parameters side by side, one line for each trial.

        Args:
            params: Names of parameters. Default: all, at most 12.
            target: Output that colours the lines. Default: the value that the objective rates.
        """
        return self._made(lambda data: parallel_coordinate(data, params, target))

    def param_importances(
        self, params: Sequence[str] | None = None, target: str | None = None
    ) -> Plot:
        """Plot the importance of each parameter: Sobol indices of the model with intervals.

        Inside of constraints, they are Shapley effects.

        Args:
            params: Names of parameters. Default: the 20 most important ones.
            target: Output. Default: the value that the objective rates.

        Raises:
            InvalidInputError: There are less than three observations.
        """
        return self._made(lambda data: param_importances(data, params, target))

    def pareto_front(self, targets: Mapping[str, str] | Sequence[str] | None = None) -> Plot:
        """Plot outputs against each other, and the trials that none dominates.

        Args:
            targets: Directions by output, ``{"cost": "minimize", "yield": "maximize"}``.
                A list of names suffices for criteria of the objective. Default: all criteria of a
                ``Pareto`` objective.

        Raises:
            InvalidInputError: The study has one objective, and ``targets`` names less than two.
        """
        return self._made(lambda data: pareto_front(data, self._objectives(data, targets)))

    def timeline(self) -> Plot:
        """Plot the times at which attempts ran, by worker or trial."""
        return self._made(lambda data: timeline(data, time.time()))

    def predicted_vs_observed(self) -> Plot:
        """Plot leave-one-out predictions beside the observed values, with their calibration.

        Raises:
            InvalidInputError: There are less than three observations.
        """

        def make(data: StudyData) -> Chart:
            return predicted_vs_observed(data, plot_model(self._study).left_out())

        return self._made(make)

    def latent_map(self, target: str | None = None) -> Plot:
        """Plot the points in two dimensions, with decoded designs if these are images.

        Args:
            target: Output that colours the points. Default: the value that the objective rates.
        """
        return self._made(lambda data: latent_map(data, target, self._draw))

    def posterior(self, params: Sequence[str] | None = None) -> Plot:
        """Plot samples of the designs that meet the target; see ``Posterior.plot``.

        Args:
            params: Names of at most six parameters.

        Raises:
            InvalidInputError: As ``Study.posterior`` and ``Posterior.plot``.
        """
        return self._made(lambda _: self._study.posterior().plot(params).chart)

    def solutions(self, count: int = 6) -> Plot:
        """Plot the best designs: pictures if they are images, else their parameters.

        The judge of the problem is called once for each, as by ``study.solutions``.

        Args:
            count: Largest number of designs.
        """
        return self.designs(self._study.solutions(whole_number("plot.solutions", "count", count)))

    def designs(self, found: Solutions) -> Plot:
        """Plot the designs of ``study.solutions``, as ``solutions`` does."""
        shown = [
            Shown(
                one.trial, (f"{place + 1}. {head}", *facts), one.picture,
                f"{place + 1}. {head}: {found.brief(place)}",
            )
            for place, one in enumerate(found)
            for head, *facts in [found.facts(place)]
        ]  # fmt: skip
        title = "Best designs" if found.criteria is None else "Designs of the Pareto front"
        return self._made(lambda data: solutions_chart(data, shown, title))

    def __dir__(self) -> list[str]:
        return [*self.NAMES, "NAMES"]

    def __repr__(self) -> str:
        return f"plots of study {self._study.name!r}: " + ", ".join(
            f"{name}()" for name in self.NAMES
        )

    @property
    def _pareto_study(self) -> bool:
        return bool(self._study.journal.header["problem"]["objective"]["type"] == "pareto")

    @own_settings()
    def _made(self, make: Callable[[StudyData], Chart]) -> Plot:
        return Plot(replace(make(study_data(self._study)), subject=self._study.name))

    def _draw(self, points: Array) -> list[Picture] | None:
        problem = self._study.problem
        return None if problem is None else design_pictures(problem, problem.space.decode(points))

    def _objectives(self, data: StudyData, targets: object) -> Objectives:
        """Return the values of the objectives at the completed trials, and the front."""
        trials = data.completed
        if targets is None:
            objective = _pareto(self._study, "plot.pareto_front")
            y = np.array([trial.y for trial in trials], dtype=float).reshape(
                len(trials), len(data.outputs)
            )
            found = self._study.front
            better = tuple(1 if one == "maximize" else -1 for one in found.directions)
            labels = tuple(map(data.label, found.labels))
            return Objectives(
                labels, better, trials, objective.values(y), found.trials, found.values,
                found.reference, found.hypervolume,
            )  # fmt: skip
        named = _directions(data, targets)
        better = tuple(1 if one == "maximize" else -1 for one in named.values())
        columns = [[data.value(t, data.quantity(name)) for t in trials] for name in named]
        values = np.array(columns, dtype=float).T.reshape(len(trials), len(named))
        usable = np.flatnonzero([trial.feasible for trial in trials])
        rows = usable[non_dominated(-values[usable] * np.array(better))]
        front = [trials[row] for row in rows]
        return Objectives(
            tuple(map(data.label, named)), better, trials, values, front, values[rows]
        )


def _directions(data: StudyData, targets: object) -> dict[str, str]:
    """Return directions by output; a list of names takes those of the objective.

    Raises:
        InvalidInputError: there are less than two outputs, one is unknown, or its direction is.
    """
    where = "plot.pareto_front"
    named = record(targets)
    if named is None:
        if isinstance(targets, str) or not isinstance(targets, Iterable):
            raise InvalidInputError(
                f"{where}: targets must be directions by output, such as "
                f'{{"cost": "minimize", "yield": "maximize"}}, got {targets!r:.200}'
            )
        signs = {name: data.goal.better(name) for name in data.outputs}
        named = {}
        for name in targets:
            one_of(where, "targets", name, data.outputs)
            if not signs[name]:
                raise InvalidInputError(
                    f"{where}: the direction of {name!r} is unknown, because the objective does "
                    f'not rate it. Write {{"{name}": "minimize", ...}}'
                )
            named[name] = "maximize" if signs[name] > 0 else "minimize"
    for name, direction in named.items():
        one_of(where, "targets", name, data.outputs)
        one_of(where, "direction", direction, ("minimize", "maximize"))
    require(len(named) > 1, f"{where}: targets must name two outputs, got {targets!r:.200}")
    return dict(named)


def _pareto(study: PlottedStudy, where: str) -> Pareto:
    """Return the Pareto objective of a study.

    Raises:
        InvalidInputError: The study has one objective.
    """
    stored = study.journal.header["problem"]
    if stored["objective"]["type"] != "pareto":
        raise InvalidInputError(
            f"{where}: the study has one objective. Name at least two outputs with their "
            'directions: pareto_front({"cost": "minimize", "yield": "maximize"})'
        )
    if study.problem is not None:
        return require_pareto(study.problem.objective, where)
    return stored_objective(stored, where)


def study_data(study: PlottedStudy) -> StudyData:
    """Return a study as the charts read it; fits no model."""
    history = study.history
    header = study.journal.header["problem"]
    goal = Goal(header["objective"], study.outputs)
    problem = study.problem or declared_problem(study.journal.header)
    statement = None if problem is None else problem.statement
    leading, noisy = history.best, study.noisy
    expected: tuple[float, float, float] | None = None
    if goal.kind == "pareto":
        with suppress(InvalidInputError):  # a criterion is code, and the problem is unknown
            leading = study.front.compromise
    elif noisy and statement is not None and history.best is not None:
        with suppress(InvalidInputError):  # no point is probably feasible
            found = recommend(statement, history, noisy=True)
            low, middle, high = found.loss
            leading, expected = found.trial, (low, middle, high)
    constraints = tuple(map(OutcomeConstraint.parse, header.get("constraints", ())))
    return StudyData(
        study.name,
        study.trials,
        study.outputs,
        goal,
        tuple(one.bind(study.outputs) for one in constraints),
        stored_domain(header) if statement is None else statement.domain,
        noisy,
        leading,
        expected,
        study.journal.header.get("units", {}) if problem is None else problem.units,
        None if statement is None else partial(plot_model, study),
    )


def plot_model(study: PlottedStudy) -> PlotModel:
    """Return the models of a study for its plots; the last ones serve until the log grows.

    Raises:
        InvalidInputError: There are less than two observations, or only code can rebuild the
            problem of a study that was opened without it.
    """
    from bo_invert.study.plot_model import PlotModel

    problem = study.problem or declared_problem(study.journal.header)
    if problem is None:
        raise InvalidInputError(
            f"plot: study {study.name!r} was opened without its problem; pass problem= for models"
        )
    history = History(study.journal.trials)
    predictor = study.predictor(problem.statement, history)
    known = _models.get(study)
    if known is None or known.predictor is not predictor:
        known = _models[study] = PlotModel(problem.statement, predictor)
    return known


_models: WeakKeyDictionary[PlottedStudy, PlotModel] = WeakKeyDictionary()
