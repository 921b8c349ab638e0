"""Robustness of designs of a study: tolerances, and yields under noise of the inputs."""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.storage.optimistic_journal import Journal
from bo_invert.storage.trial_transitions import Assignment
from bo_invert.study.input_validation import design_points, own_trial
from bo_invert.study.inversion import StudyInversion
from bo_invert.study.posterior import MIN_OBSERVATIONS, require_target
from bo_invert.study.recommendation import fitted_yields
from bo_invert.study.run_options import RunOptions
from bo_invert.study.runner import run
from bo_invert.study.solutions import Solution
from bo_invert.study.tolerances import Tolerances
from bo_invert.study.yield_estimate import YieldEstimate
from bo_invert.types import Design, Trial
from bo_invert.user_code import own_settings
from bo_invert.user_data import real, whole_number

if TYPE_CHECKING:
    from bo_invert.study.tolerance_checks import ToleranceRequest

_NO_ORACLE = (
    "The problem has no oracle, so these are limits of a model only. Measure the designs of "
    "to_measure, add their outcomes to the study, and ask again."
)
_NO_CALLS = "These are limits of a model only; calls > 0 checks them with the oracle."


class StudyRobustness(StudyInversion):
    """Tolerances and yields of the designs of a study."""

    @own_settings()
    def tolerances(
        self,
        design: Trial | Solution | int,
        probability: float = 0.95,
        calls: int = 20,
        *,
        executor: Executor | str | None = None,
    ) -> Tolerances:
        """Return the moves of each parameter with which the outputs stay within the target.

        They are the interval of each parameter alone, and the largest box of all parameters from
        which a uniformly drawn design meets the target and the constraints with this probability.
        The box maximises the sum of the logarithms of its moves down and up, under Gaussian
        processes of the outputs. Where their acceptance is least certain, the oracle checks it.

        Checks are ordinary trials of the study with the origin ``"tolerances"``. They end early
        once the share of the box is certain within 1 %. The same call again makes no further ones.

        Args:
            design: Trial that meets the target, its number, or a solution.
            probability: Probability in (0, 1).
            calls: Largest number of checks; 0 uses the model only.
            executor: Executor of the checks, see ``run``.

        Raises:
            InvalidInputError: The objective is no ``Target`` with a tolerance or ranges, the design
                does not meet it, no parameter can move, or there are fewer than two observations.
        """
        problem = self._require_problem()
        trial = design.trial if isinstance(design, Solution) else design
        trial = own_trial("tolerances", trial, self.journal)
        probability = real("tolerances", "probability", probability)
        if not 0.0 < probability < 1.0:
            raise InvalidInputError(
                f"tolerances: probability must be in (0, 1), got {probability!r}"
            )
        calls = whole_number("tolerances", "calls", calls, least=0)
        statement, history = self.statement, History(self.journal.trials)
        target = require_target(statement, "tolerances")
        if not target.satisfiable:
            raise InvalidInputError(
                f"tolerances: {target} must have a tolerance or ranges. Use Target(value, "
                "tolerance=...)"
            )
        # Gaussian processes need torch, which takes seconds to load.
        from bo_invert.study import tolerance_checks as checks

        noisy = self._model_noise(statement, history)
        if not noisy:
            checks.require_met(trial, statement)
        calling = calls > 0 and problem.oracle is not None
        if not calling and len(history.completed) < MIN_OBSERVATIONS:
            raise InvalidInputError(
                f"tolerances: the study must have at least {MIN_OBSERVATIONS} observations, got "
                f"{len(history.completed)}. Run it, or add observations"
            )
        request = checks.ToleranceRequest(trial, probability, noisy)
        note = "" if request.checks(history.trials) else _NO_CALLS
        if calling:
            self._check(request, calls, executor)
            note = ""
        elif calls:
            note = _NO_ORACLE
        return checks.tolerances_of(problem, History(self.journal.trials), request, note)

    @own_settings()
    def input_yield(self, design: Trial | Solution | int | Design) -> YieldEstimate:
        """Estimate the yield of a design under the noise of its inputs, without a call.

        It is the probability that a manufactured design meets the target and the constraints, or
        the expected loss of other objectives, under Gaussian processes of the outputs.

        Args:
            design: Trial, its number, a solution, or a design.

        Raises:
            InvalidInputError: The problem has no ``input_noise``, there are fewer than two
                observations, or the design is outside the space.
        """
        problem = self._require_problem()
        if isinstance(design, (Trial, Solution, int)):
            trial = design.trial if isinstance(design, Solution) else design
            point = own_trial("input_yield", trial, self.journal).point[None]
        else:
            point = design_points(problem.space, [design], None, "input_yield")
        statement, history = self.statement, History(self.journal.trials)
        noisy = self._model_noise(statement, history)
        return fitted_yields(statement, history, noisy).of(point)[0]

    def _check(
        self, request: ToleranceRequest, calls: int, executor: Executor | str | None
    ) -> None:
        """Check tolerances with up to this number of calls, those of earlier checks included.

        Raises:
            InvalidInputError: Another process writes the log of the study.
        """
        journal, problem = self.journal, self._require_problem()
        if not isinstance(journal, Journal):
            raise InvalidInputError(
                f"tolerances: study {self.name!r} must be in a local storage to make calls, and a "
                "server holds it. Use calls=0"
            )
        propose = partial(request.propose, self.statement, calls)

        def take(count: int, budget: int, retries: int, assignment: Assignment) -> list[Trial]:
            return list(
                self._with_designs(journal.take(propose, count, budget, retries, assignment))
            )

        left = calls - len(request.checks(journal.trials))
        pending = sum(trial.state.open for trial in journal.trials)
        if left + pending > 0:
            # Waiting trials of the user come first, and have calls of their own.
            budget = History(journal.trials).calls + left + pending
            options = RunOptions(budget=budget, executor=executor, stop_when_hit=False)
            run(problem, journal, take, options)
