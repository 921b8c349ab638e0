"""Questions about all designs that meet the target of a study."""

from __future__ import annotations

from bo_invert.history import History
from bo_invert.study.posterior import Posterior, PosteriorRequest, sample_posterior
from bo_invert.study.results import StudyResults
from bo_invert.user_code import own_settings
from bo_invert.user_data import whole_number


class StudyInversion(StudyResults):
    """Posterior of the designs of a study."""

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
                of the least standard deviation of the observed outputs.
            noise: Standard deviations of Gaussian measurement noise of the target, instead of a
                tolerance: one number, one per entry, or by name.
            seed: Seed of the samples.

        Raises:
            InvalidInputError: The objective is no ``Target``, there are fewer than two
                observations, or the study was opened without its problem.
        """
        n = whole_number("posterior", "n", n)
        problem = self._require_problem()
        statement, history = self.statement, History(self.journal.trials)
        seed = whole_number("posterior", "seed", seed, least=0)
        request = PosteriorRequest(n, tolerance, noise, seed)
        noisy = self._model_noise(statement, history)
        return sample_posterior(statement, history, noisy, request, problem.space.decode)
