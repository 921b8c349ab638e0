"""Questions about a target: all solutions, and whether it can be reached."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from bo_invert.history import History
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.study.estimate_cache import EstimateCache
from bo_invert.study.logged_study import LoggedStudy
from bo_invert.study.posterior import (
    Posterior,
    PosteriorRequest,
    checked_tolerance,
    require_target,
    sample_posterior,
)
from bo_invert.study.reachable import ReachableTargets, reachable, require_observations
from bo_invert.study.verdict import VerdictRequest, verdict
from bo_invert.study.verdict_result import Verdict
from bo_invert.user_code import own_settings
from bo_invert.user_data import whole_number

if TYPE_CHECKING:
    from bo_invert.models.inverse.attainability import Attainability


class StudyInversion(LoggedStudy):
    """Posterior of the designs of a target, and verdicts on this and other targets."""

    @own_settings()
    def verdict(self, *, alpha: float = 0.05, tolerance: float | None = None) -> Verdict:
        """Judge whether the target can be reached, without a call.

        ``p_reach`` is the share of functions, drawn from the posterior of the outputs, that some
        valid design brings into the target. Their deviations are widened so that left-out
        observations are covered. The target is

        - *reached* if a trial meets it,
        - *unreachable* if ``p_reach <= alpha`` at four estimates in a row, and the calls between
          them tried the designs that most probably meet the target; only ``run(stop="verdict")``
          asks for such calls,
        - *undecided* otherwise.

        The verdict is a function of the log. It also holds the nearest attainable outputs, their
        design, and what limits them.

        Args:
            alpha: Largest probability of a hit, in (0, 0.5].
            tolerance: Tolerance of a target without one, in the units of the outputs. Default: 1 %
                of the least standard deviation of the observed outputs. A target that states its
                own refuses it.

        Raises:
            InvalidInputError: The objective is no ``Target``, an argument is invalid, or the study
                was opened without its problem.
        """
        problem = self._require_problem()
        statement, history = self.statement, self.history
        noisy = self._model_noise(statement, history)
        request = VerdictRequest(alpha, tolerance, self.seed, noisy)
        return verdict(statement, history, request, self._estimates, problem.decode)

    @own_settings()
    def posterior(
        self,
        n: int = 1000,
        *,
        tolerance: float | None = None,
        noise: object = None,
        seed: int = 0,
    ) -> Posterior:
        """Sample designs given the target, without a call.

        ``p(x | y) ~ p(x) a(x)``: the reference measure of the space times the probability, under
        Gaussian processes of the outputs, that x meets the target and the outcome constraints. The
        samples come from sequential Monte Carlo, which keeps separate branches.

        Args:
            n: Number of samples.
            tolerance: Tolerance of a target without one, in the units of the outputs. Default: 1 %
                of the least standard deviation of the observed outputs. A target that states its
                own refuses it.
            noise: Standard deviations of Gaussian measurement noise of the target, instead of a
                tolerance: one number, one per entry, or by name; at least one > 0.
            seed: Seed of the samples.

        Raises:
            InvalidInputError: The objective is no ``Target``, an argument is invalid, there are
                fewer than two observations, or the study was opened without its problem.
        """
        n = whole_number("posterior", "n", n)
        problem = self._require_problem()
        statement, history = self.statement, History(self.journal.trials)
        seed = whole_number("posterior", "seed", seed, least=0)
        request = PosteriorRequest(n, tolerance, noise, seed)
        noisy = self._model_noise(statement, history)
        return sample_posterior(statement, history, noisy, request, problem)

    @own_settings()
    def reachable(
        self, values: object = None, *, tolerance: float | None = None
    ) -> ReachableTargets:
        """Estimate for many targets at once whether they can be reached, without a call.

        The targets replace the wanted values of the target of the problem. All share the drawn
        functions. 100 targets of 5 outputs and 8 inputs take about 3 seconds.

        Args:
            values: Targets: an array ``(t, k)`` of the k wanted outputs, a list of dicts, or a dict
                of columns. Default for one and two outputs: a grid over the observed range and a
                quarter beyond it.
            tolerance: Tolerance of a target without one, in the units of the outputs; as in
                ``verdict``.

        Returns:
            Probabilities, nearest outputs, and ``plot()`` for one and two outputs.

        Raises:
            InvalidInputError: The objective is no ``Target``, an argument is invalid, there are
                fewer than two observations, or the study was opened without its problem.
        """
        self._require_problem()
        statement, history = self.statement, History(self.journal.trials)
        target = require_target(statement, "reachable")
        tolerance = checked_tolerance(target, "reachable", tolerance, ranges=True)
        require_observations(history)
        noisy = self._model_noise(statement, history)
        estimate = self._estimates.get(
            statement, history, self.seed, noisy=noisy, tolerance=tolerance
        )
        return reachable(statement, history, values, estimate)

    def estimate(self, statement: ProblemStatement, history: History) -> Attainability:
        """Estimate whether the target of a log can be reached; for asks of a run."""
        noisy = self._model_noise(statement, history)
        return self._estimates.get(statement, history, self.seed, noisy=noisy)

    @cached_property
    def _estimates(self) -> EstimateCache:
        """Estimates of whether targets can be reached."""
        return EstimateCache()
