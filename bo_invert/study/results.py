"""Results of a study: recommendation, predictions, solutions, fronts, reports."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.domains.constrained_box import stored_domain
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.errors import require
from bo_invert.history import History, best_so_far, without_lost_attempts
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.problems.problem import Problem
from bo_invert.report.dataframe import trials_frame
from bo_invert.report.objective_view import Goal
from bo_invert.report.study_view import study_html, study_text
from bo_invert.storage.journal_base import JournalBase
from bo_invert.study.design_pictures import design_picture
from bo_invert.study.front import (
    CriteriaTrace,
    HypervolumeCurve,
    ParetoFront,
    criteria_trace,
    hypervolume_curve,
    pareto_front,
    require_pareto,
    stored_objective,
    with_front,
)
from bo_invert.study.input_validation import design_points, request_designs
from bo_invert.study.outlook import MIN_OBSERVATIONS, Outlook, outlook
from bo_invert.study.plots import StudyPlots
from bo_invert.study.predictions import Predictions, PredictorCache, predictions
from bo_invert.study.recommendation import (
    NOISE_NOTE,
    Recommendation,
    recommend,
    suspected_noisy,
)
from bo_invert.study.report import write_study_report
from bo_invert.study.robustness import StudyRobustness
from bo_invert.study.solutions import Solutions, solutions
from bo_invert.study.table_designs import designs_of_file
from bo_invert.types import Array
from bo_invert.user_code import own_settings
from bo_invert.user_data import real, whole_number

if TYPE_CHECKING:
    import pandas as pd
    from ax.api.client import Client

    from bo_invert.models.prediction.predictor import Predictor


class StudyResults(StudyRobustness):
    """Read access to a study: its log, and what follows from it.

    Args:
        name: Name of the study.
        journal: Its log.
        problem: Its problem; None for a study that was opened without it.
    """

    def __init__(self, name: str, journal: JournalBase, problem: Problem | None) -> None:
        super().__init__(name, journal, problem)
        self._predictors = PredictorCache()

    @own_settings()
    def recommend(self, *, noisy: bool | None = None) -> Recommendation:
        """Recommend an observed point, with its expected outputs, without a call.

        The best value of a noisy oracle is biased by selection. This is therefore the point of
        lowest expected loss plus one standard deviation under a surrogate of all observations, with
        90 % intervals. For an
        exact oracle it is ``best``.

        Args:
            noisy: True if repeated calls at a point differ. Default: as declared to the strategy
                or as observed in the log; without a repeated point, as the outputs of close points
                suggest.

        Raises:
            InvalidInputError: There is no observation, or none satisfies the constraints.
        """
        if noisy is None:
            noisy = self.noisy or suspected_noisy(self.statement, self.history)
        return recommend(self.statement, self.history, noisy)

    @own_settings()
    def predict(
        self,
        X: object = None,
        *,
        points: object = None,
        noise: bool = True,
        decimal: str | None = None,
    ) -> Predictions:
        """Predict outputs and loss at designs, without a call.

        The models learn from all observations. A call after new ones fits them again, others take
        milliseconds. The 90 % intervals are calibrated on left-out observations.

        Args:
            X: n designs, one dict of parameters, or the path of a CSV file.
            points: Points ``(n, d)`` instead of designs.
            noise: Predict single outcomes with the noise of the oracle; False: expected outputs.
            decimal: Decimal sign of the CSV file, ``"."`` or ``","``; default: recognised.

        Raises:
            InvalidInputError: There are fewer than two observations, a design is outside the space,
                or the study was opened without its problem and not on a server.
        """
        units = self.journal.header.get("units", {})
        X, points = designs_of_file(X, points, self.domain, decimal, units)
        if self.problem is None:
            return self._remote_predictions(X, points, noise)
        problem = self._require_problem()
        at = design_points(problem.space, X, points, "predict")
        statement, history = self.statement, History(self.journal.trials)
        return predictions(statement, self.predictor(statement, history), at, noise)

    @own_settings()
    def solutions(self, count: int = 1, *, distance: float | None = None) -> Solutions:
        """Return the best ``count`` different designs with verdicts of the judge and plausibility.

        For a ``Target``, they are one of each branch of the solutions, and then those that cover
        most of the others. For a ``Pareto`` objective, they are spread over the front.

        The judge of the problem is called once for each. The result counts these calls; no
        ledger does, because no strategy sees the answers. For a noisy oracle, the recommended
        trial comes first.

        Args:
            count: Largest number of designs.
            distance: Root mean square difference of the coordinates from which two designs of a
                branch are different; default: 0.02 in a box, 0.2 in a latent.

        Raises:
            InvalidInputError: The study was opened without its problem, or an argument is invalid.
        """
        count = whole_number("solutions", "count", count)
        if distance is not None:
            distance = real("solutions", "distance", distance)
            require(distance >= 0.0, f"solutions: distance must be >= 0, got {distance!r}")
        found = solutions(self._require_problem(), self.history, count, self.noisy, distance)
        return found.with_tolerances(self.tolerances)

    @own_settings()
    def outlook(self) -> Outlook:
        """Estimate the gain that further calls can bring, with a 95 % bound, without a call.

        For ``Pareto``, it is a gain of hypervolume. Without enough observations, or if no model
        predicts the outputs, it is undecided.

        Raises:
            InvalidInputError: The study was opened without its problem.
        """
        statement, history = self.statement, History(self.journal.trials)
        goal = Goal(statement.objective.to_json(), statement.outputs)
        noisy = self._model_noise(statement, history)
        enough = len(history.completed) >= MIN_OBSERVATIONS
        predictor = self._predictors.get(statement, history, noisy) if enough else None
        return outlook(predictor, history, noisy, goal, self.improvements())

    @own_settings()
    def improvements(self) -> tuple[Array, Array]:
        """Return numbers of calls and the best feasible loss after each, shape ``(k,)`` each.

        Lost attempts do not count, so that an interrupted run is like one without a break. For
        several criteria the loss is minus the hypervolume; it is infinite without a front.
        """
        trials = without_lost_attempts(self.journal.trials)
        if not self._has_front:
            return best_so_far(trials)
        pareto = self._pareto("improvements")
        curve = hypervolume_curve(pareto, History(trials), self._model_statement)
        volumes = np.asarray(curve.volumes, dtype=float)
        return np.asarray(curve.calls, dtype=float), np.where(volumes > 0.0, -volumes, np.inf)

    @property
    @own_settings()
    def front(self) -> ParetoFront:
        """Pareto front: feasible trials that no other one dominates, for ``Pareto`` objectives.

        For a noisy oracle, it is that of the expected values under a model of all observations.

        Raises:
            InvalidInputError: The objective is not ``Pareto``, or holds code and the study was
                opened without its problem.
        """
        return pareto_front(self._pareto("front"), self.history, self._model_statement)

    @property
    @own_settings()
    def hypervolume(self) -> HypervolumeCurve:
        """Hypervolume of the front after each number of calls, for ``Pareto`` objectives.

        All values have one reference point: the given one, or that of the present front.
        """
        return hypervolume_curve(self._pareto("hypervolume"), self.history, self._model_statement)

    @property
    def criteria_trace(self) -> CriteriaTrace:
        """Losses of the criteria over calls, for ``Pareto`` objectives."""
        return criteria_trace(self._pareto("criteria_trace"), self.history, self._model_statement)

    @own_settings()
    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per trial: state, origin, parameters, outputs, loss, cost, reason.

        For ``Pareto`` objectives, the column ``front`` is True for the trials of the front.
        """
        frame = trials_frame(self.trials, self.outputs, self.domain)
        return with_front(frame, self.front) if self._has_front else frame

    @own_settings()
    def to_ax(self) -> Client:
        """Return an Ax ``Client`` with all trials, for the analyses and storage of Ax.

        Observations outside the search domain are left out, because Ax accepts none.
        """
        from bo_invert.strategies.ax.conversion import to_ax

        inside = [trial for trial in self.trials if not trial.outside]
        return to_ax(self.statement, inside, self.seed)

    def _remote_predictions(self, X: object, points: object, noise: bool) -> Predictions:
        """Return predictions of the server that holds the study."""
        body = {"noise": noise, **request_designs(X, points)}
        found = self.journal.predict(body)
        if found is None:
            self._require_problem()
        domain = stored_domain(self.journal.header["problem"])
        return Predictions.from_json(found, domain or gaussian_domain(len(found["points"][0])))

    @property
    def plot(self) -> StudyPlots:
        """Plots, such as ``study.plot.slice()`` or ``study.plot.contour().save("contour.png")``."""
        return StudyPlots(self)

    def predictor(self, statement: ProblemStatement, history: History) -> Predictor:
        """Return models of the log, fitted again after new outcomes."""
        noisy = self._model_noise(statement, history)
        return self._predictors.get(statement, history, noisy)

    @own_settings()
    def report(self, path: str | Path = "report.html") -> Path:
        """Write an offline HTML report: question, result, course, model and next steps.

        Designs that are images are drawn. The judge of the problem is called once for each of at
        most 8 designs; no ledger counts this.

        Args:
            path: File to write; its folder is created.

        Returns:
            The path.
        """
        return write_study_report(self, path)

    @property
    def _has_front(self) -> bool:
        objective = self.journal.header["problem"]["objective"]
        stored = objective.get("type") == "pareto"
        code = stored and any(one["type"] == "composite" for one in objective["objectives"])
        return stored and (self.problem is not None or not code)

    def _pareto(self, where: str) -> Pareto:
        if self.problem is not None:
            return require_pareto(self.problem.objective, where)
        return stored_objective(self.journal.header["problem"], where)

    @property
    def _model_statement(self) -> ProblemStatement | None:
        """Problem statement if the oracle is noisy, so that a model shows expected values."""
        # A model needs two observations.
        noisy = self.problem is not None and self.noisy and len(self.history.completed) > 1
        return self.statement if noisy else None

    def __repr__(self) -> str:
        text = study_text(
            self.name, self.problem_name, self._strategy_name, self.trials, self.spent,
            self._front_summary,
        )  # fmt: skip
        if self.noisy and self.best is not None:
            text += f"\n  note    {NOISE_NOTE}"
        return f"{text}\n  ended   {self.ended}" if self.ended else text

    @property
    def _front_summary(self) -> str:
        """Size and hypervolume of the Pareto front; empty without one."""
        if not self._has_front or self.best is None:
            return ""
        # Expected values of a noisy oracle need a model, which takes seconds.
        found = pareto_front(self._pareto("front"), self.history)
        return found.summary() + (" (observed values)" if self.noisy else "")

    def _repr_html_(self) -> str:
        best = None if self._has_front else self.best
        picture = None
        if self.problem is not None and best is not None:
            picture = design_picture(self.problem, best.design)
        html = study_html(
            self.name, self.problem_name, self._strategy_name, self.trials, self.spent, picture,
            self._front_summary,
        )  # fmt: skip
        return f"{html}<p>{escape(NOISE_NOTE)}</p>" if self.noisy and best is not None else html
