"""Registry access to the example problems, and the cache of their models."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Generic, TypeVar

from bo_invert import registry
from bo_invert.errors import InvalidInputError
from bo_invert.oracles.gradient_proxy import GradientProxy
from bo_invert.problems.problem import Problem
from bo_invert.user_code import own_settings
from bo_invert.user_data import plain_options

V = TypeVar("V")


@own_settings()
def ready_problem(name: str, **options: Any) -> Problem:
    """Create an example problem.

    - ``digits``: slant of a digit, in the latent of a VAE or a GAN;
    - ``molecules``: drug-likeness, penalised logP or targets, in the latent of a SELFIES VAE;
    - ``arm``, ``sine``, ``shell``: targets for a robot arm, a sum of waves, a nanosphere's
      spectrum;
    - ``hartmann6``: minimisation with six local minima;
    - ``branin25``: minimisation with two active coordinates of 25;
    - ``ackley10``, ``levy16``, ``rosenbrock8``: minimisation; ``seed`` shifts the optimum;
    - ``airfoil``: lift-to-drag ratio of a small NeuralFoil network, judged by a large one;
    - ``mixed``, ``mixed_ackley``: typed parameters, with and without a constraint.

    Args:
        name: name of the problem.
        options: arguments of the problem, for example ``target=0.5``.

    Raises:
        InvalidInputError: unknown problem or option.
    """
    given = {key: plain_options(value) for key, value in options.items()}
    return registry.resolve("problems", name)(**given)  # type: ignore[no-any-return]


def without_gradients(problem: Problem) -> Problem:
    """Return a problem without the gradient proxy of its oracle.

    Raises:
        InvalidInputError: the oracle is no ``GradientProxy``.
    """
    if not isinstance(problem.oracle, GradientProxy):
        raise InvalidInputError(
            f"without_gradients: the oracle of {problem.name!r} must be a GradientProxy, "
            f"got {problem.oracle!r}"
        )
    return Problem(
        problem.space, problem.oracle.oracle, problem.objective, name=problem.name,
        judge=problem.judge, realism=problem.realism, plausibility=problem.plausibility,
    )  # fmt: skip


class OncePerKey(Generic[V]):
    """Thread-safe cache of values that take long to make.

    A second thread with the same key waits for the value.
    """

    def __init__(self) -> None:
        self._values: dict[Hashable, V] = {}
        self._lock = Lock()

    @own_settings()
    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """Return the value of a key; the first call makes it."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
            return self._values[key]
