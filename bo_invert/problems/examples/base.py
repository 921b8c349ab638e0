"""Ready problems by name."""

from __future__ import annotations

from typing import Any

from bo_invert import registry
from bo_invert.errors import InvalidInputError
from bo_invert.oracles.gradient_proxy import GradientProxy
from bo_invert.problems.problem import Problem


def ready_problem(name: str, **options: Any) -> Problem:
    """A ready problem.

    - ``digits``: the latent of a VAE or a GAN of digits, judged by a forest or a network;
    - ``molecules``: drug-likeness, penalised logP or targets, in the latent of a SELFIES VAE of your molecules;
    - ``arm``, ``sine``, ``shell``: reach a target with a robot arm, a sum of waves, a nanosphere's spectrum;
    - ``hartmann6``, ``branin25``: minimise; six minima, and two of 25 coordinates that count;
    - ``ackley10``, ``levy16``, ``rosenbrock8``: minimise; shifted anew by every ``seed``;
    - ``airfoil``: the most lift per drag that a small network of NeuralFoil sees; a large one judges;
    - ``mixed``, ``mixed_ackley``: typed parameters, with and without a constraint.

    Args:
        name: of the problem.
        options: passed on to it, for example ``target=0.5``.

    Raises:
        InvalidInputError: there is no such problem, or it has no such option.
    """
    made: Problem = registry.resolve("problems", name)(**options)
    return made


def without_gradients(problem: Problem) -> Problem:
    """Return a problem without the gradient proxy of its oracle.

    Raises:
        InvalidInputError: the oracle is no ``GradientProxy``.
    """
    if not isinstance(problem.oracle, GradientProxy):
        raise InvalidInputError(
            f"without_gradients: the oracle of {problem.name!r} must be a Twin, got {problem.oracle!r}"
        )
    return Problem(
        problem.space, problem.oracle.oracle, problem.objective, name=problem.name,
        judge=problem.judge, realism=problem.realism, plausibility=problem.plausibility,
    )  # fmt: skip
