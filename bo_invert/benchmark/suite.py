"""The public suite as data: problems, methods, and how long a run is.

A run has ``BUDGET`` calls and is read off on the way at ``CALLS``: what a method would have done with another budget in
mind is not measured. Each seed gives all methods the same problem; ``BATCH`` trials are under way at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bo_invert import registry
from bo_invert.errors import InvalidInputError
from bo_invert.problems.problem import Problem
from bo_invert.types import JSON

BUDGET = 200
CALLS = (50, 100, 200)
BATCH = 4


@dataclass(frozen=True)
class SuiteProblem:
    """A function ``seed -> Problem`` that can travel to another process.

    No problem of the suite offers gradients: it is for methods that work with values.

    Args:
        name: of the ready problem.
        optimum: the lowest loss there is, whatever the seed; None where nobody knows it.
        seeded: whether the seed draws a target or moves the optimum; otherwise it varies the methods alone.
        settings: further options of the ready problem.
        about: in a few words, for tables.
    """

    name: str
    optimum: float | None
    seeded: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""

    def __call__(self, seed: int) -> Problem:
        from bo_invert.problems.examples.base import ready_problem, without_gradients

        made = ready_problem(self.name, **self.settings, **({"seed": seed} if self.seeded else {}))
        return without_gradients(made) if made.statement.differentiable else made


_PLAIN = {"differentiable": False}
PROBLEMS = {
    problem.name: problem
    for problem in (
        SuiteProblem(
            "hartmann6", -3.322368011415514, seeded=False, settings=_PLAIN, about="6-d, six minima"
        ),
        SuiteProblem("ackley10", 0.0, settings=_PLAIN, about="10-d, moved, many minima"),
        SuiteProblem("levy16", 0.0, settings=_PLAIN, about="16-d, moved, many minima"),
        SuiteProblem(
            "rosenbrock8",
            0.0,
            settings=_PLAIN,
            about="8-d, moved, a bent valley over seven decades",
        ),
        SuiteProblem(
            "branin25", 10.0 / (8.0 * math.pi), settings=_PLAIN, about="25-d, two of them matter"
        ),
        SuiteProblem("mixed_ackley", 0.0, about="floats, integers and choices"),
        SuiteProblem("arm", 0.0, settings=_PLAIN, about="4-d, a target of 2 outputs"),
        SuiteProblem("sine", 0.0, settings=_PLAIN, about="2-d, a target of 1 output"),
        SuiteProblem("shell", 0.0, about="8-d, a target of 201 outputs"),
        SuiteProblem(
            "digits",
            None,
            seeded=False,
            settings={"goal": "maximize"},
            about="8-d latent, a forest",
        ),
    )
}

#: Labels to specs. Those that the registry does not know are no part of the default.
METHODS: dict[str, JSON] = {
    "auto": {"name": "auto"},
    "gp": {"name": "gp"},
    "turbo": {"name": "turbo"},
    "cmaes": {"name": "cmaes"},
    "least_squares": {"name": "least_squares"},
    "prior": {"name": "prior"},
    "random": {"name": "random"},
    "ax": {"name": "ax"},
    "botorch": {"name": "botorch"},
    "optuna gp": {"name": "optuna", "options": {"sampler": "gp"}},
    "optuna tpe": {"name": "optuna", "options": {"sampler": "tpe"}},
    "nevergrad": {"name": "nevergrad"},
    "differential_evolution": {"name": "differential_evolution"},
    "dual_annealing": {"name": "dual_annealing"},
    "scipy least squares": {"name": "scipy_least_squares"},
}

#: The peers by their strategies' names, and the packages whose versions belong to their results. Sampling is among
#: them: nothing of ours is in it. All other strategies are ours.
PEERS = {
    "prior": "numpy",
    "random": "numpy",
    "sobol": "scipy",
    "ax": "ax-platform",
    "botorch": "botorch",
    "optuna": "optuna",
    "nevergrad": "nevergrad",
    "cmaes": "cma",
    "differential_evolution": "scipy",
    "dual_annealing": "scipy",
    "scipy_least_squares": "scipy",
}


def calls_of(budget: int) -> tuple[int, ...]:
    """Where runs of this budget are read off: on the way, and at its end."""
    return (*(calls for calls in CALLS if calls < budget), budget)


def known_methods() -> dict[str, JSON]:
    """The methods of the suite that this version has, labels to specs."""
    known = registry.names("strategies")
    return {label: spec for label, spec in METHODS.items() if spec["name"] in known}


def own_labels(methods: Mapping[str, JSON]) -> frozenset[str]:
    """Labels of those among the methods that are ours; the others are peers."""
    return frozenset(label for label, spec in methods.items() if spec["name"] not in PEERS)


def chosen_problems(names: list[str] | None) -> dict[str, SuiteProblem]:
    """Some problems of the suite, or all that this version has.

    Raises:
        InvalidInputError: the suite has no such problem.
    """
    ready = registry.names("problems")
    if names is None:
        return {name: problem for name, problem in PROBLEMS.items() if name in ready}
    unknown = [name for name in names if name not in PROBLEMS]
    if unknown or not names:
        raise InvalidInputError(f"the suite has no problem {', '.join(unknown) or 'without a name'}; it has "
                           f"{', '.join(PROBLEMS)}")  # fmt: skip
    return {name: PROBLEMS[name] for name in names}
