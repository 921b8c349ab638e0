"""Public benchmark suite: problems, methods, budget and batch size.

A run has ``BUDGET`` calls; intermediate results are read at ``CALLS``. Methods know the full budget
only. For each seed all methods solve the same problem, with ``BATCH`` concurrent trials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bo_invert import registry
from bo_invert.errors import InvalidInputError
from bo_invert.problems.examples.base import ready_problem, without_gradients
from bo_invert.problems.problem import Problem
from bo_invert.types import JSON

BUDGET = 200
CALLS = (50, 100, 200)
BATCH = 4


@dataclass(frozen=True)
class SuiteProblem:
    """Picklable function ``seed -> Problem`` without gradients.

    Args:
        name: name of the ready problem.
        optimum: global minimum of the loss for every seed; None if unknown.
        seeded: the seed draws a target or moves the optimum; otherwise it only seeds the methods.
        settings: further options of the ready problem.
        about: short description for tables.
    """

    name: str
    optimum: float | None
    seeded: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""

    def __call__(self, seed: int) -> Problem:
        made = ready_problem(self.name, **self.settings, **({"seed": seed} if self.seeded else {}))
        return without_gradients(made) if made.statement.differentiable else made


_PLAIN = {"differentiable": False}
PROBLEMS = {
    problem.name: problem
    for problem in (
        SuiteProblem(
            "hartmann6", -3.322368011415514, seeded=False, settings=_PLAIN, about="6-d, six minima"
        ),
        SuiteProblem("ackley10", 0.0, settings=_PLAIN, about="10-d, shifted, many minima"),
        SuiteProblem("levy16", 0.0, settings=_PLAIN, about="16-d, shifted, many minima"),
        SuiteProblem(
            "rosenbrock8",
            0.0,
            settings=_PLAIN,
            about="8-d, shifted, curved valley over seven decades",
        ),
        SuiteProblem(
            "branin25", 10.0 / (8.0 * math.pi), settings=_PLAIN, about="25-d, two active dimensions"
        ),
        SuiteProblem("mixed_ackley", 0.0, about="floats, integers and choices"),
        SuiteProblem("arm", 0.0, settings=_PLAIN, about="4-d, target with 2 outputs"),
        SuiteProblem("sine", 0.0, settings=_PLAIN, about="2-d, target with 1 output"),
        SuiteProblem("shell", 0.0, about="8-d, target with 201 outputs"),
        SuiteProblem(
            "digits",
            None,
            seeded=False,
            settings={"goal": "maximize"},
            about="8-d latent space, random forest",
        ),
    )
}

# Specs by label. Methods that the registry lacks are not part of the default.
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

# Packages of the peers by strategy name; results record their versions. Sampling counts as a peer.
# All other strategies belong to this library.
PEERS = {
    "prior": "numpy",
    "random": "numpy",
    "sobol": "scipy",
    "ax": "ax-platform",
    "botorch": "botorch",
    "optuna": "optuna",
    "nevergrad": "nevergrad",
    "trust_bo": "trust-bo",
    "cmaes": "cma",
    "differential_evolution": "scipy",
    "dual_annealing": "scipy",
    "scipy_least_squares": "scipy",
}


def calls_of(budget: int) -> tuple[int, ...]:
    """Return the numbers of calls at which runs of this budget are read."""
    return (*(calls for calls in CALLS if calls < budget), budget)


def known_methods() -> dict[str, JSON]:
    """Return the methods of the suite that are registered, specs by label."""
    known = registry.names("strategies")
    return {label: spec for label, spec in METHODS.items() if spec["name"] in known}


def own_labels(methods: Mapping[str, JSON]) -> frozenset[str]:
    """Return the labels of the library's own methods; the others are peers."""
    return frozenset(label for label, spec in methods.items() if spec["name"] not in PEERS)


def chosen_problems(names: list[str] | None) -> dict[str, SuiteProblem]:
    """Return the named problems of the suite, or all registered ones.

    Raises:
        InvalidInputError: the suite has no problem of this name.
    """
    ready = registry.names("problems")
    if names is None:
        return {name: problem for name, problem in PROBLEMS.items() if name in ready}
    unknown = [name for name in names if name not in PROBLEMS]
    if unknown or not names:
        raise InvalidInputError(
            f"suite: problems must be among {', '.join(PROBLEMS)}, got "
            f"{', '.join(unknown) or 'none'}"
        )
    return {name: PROBLEMS[name] for name in names}
