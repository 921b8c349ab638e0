"""Black-box inversion: find the inputs of a function you cannot invert, with few calls.

Everything public is listed in ``__all__`` and imported when it is first used, so ``import bo_invert`` costs little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Box": "spaces.box",
    "Latent": "spaces.latent",
    "Pixels": "spaces.pixels",
    "Float": "parameters",
    "Int": "parameters",
    "Choice": "parameters",
    "Oracle": "oracles.base",
    "Function": "oracles.function",
    "TorchModule": "oracles.torch",
    "Estimator": "oracles.estimator",
    "Twin": "oracles.twin",
    "Minimize": "objectives",
    "Maximize": "objectives",
    "Target": "objectives",
    "Composite": "objectives",
    "OutcomeConstraint": "objectives",
    "Problem": "problem",
    "Study": "study",
    "Trial": "types",
    "Query": "types",
    "Descent": "types",
    "State": "types",
    "Ledger": "log",
    "Strategy": "strategies.base",
    "Proposal": "strategies.base",
    "Request": "strategies.base",
    "Statement": "statement",
    "Domain": "domain",
    "Failed": "errors",
    "Infeasible": "errors",
    "BoInvertError": "errors",
    "InvalidInput": "errors",
    "Unsuitable": "errors",
    "compare": "comparison",
    "Comparison": "comparison",
    "ready_problem": "examples.base",
}

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from bo_invert.comparison import Comparison, compare
    from bo_invert.domain import Domain
    from bo_invert.errors import BoInvertError, Failed, Infeasible, InvalidInput, Unsuitable
    from bo_invert.examples.base import ready_problem
    from bo_invert.log import Ledger
    from bo_invert.objectives import Composite, Maximize, Minimize, OutcomeConstraint, Target
    from bo_invert.oracles.base import Oracle
    from bo_invert.oracles.estimator import Estimator
    from bo_invert.oracles.function import Function
    from bo_invert.oracles.torch import TorchModule
    from bo_invert.oracles.twin import Twin
    from bo_invert.parameters import Choice, Float, Int
    from bo_invert.problem import Problem
    from bo_invert.spaces.box import Box
    from bo_invert.spaces.latent import Latent
    from bo_invert.spaces.pixels import Pixels
    from bo_invert.statement import Statement
    from bo_invert.strategies.base import Proposal, Request, Strategy
    from bo_invert.study import Study
    from bo_invert.types import Descent, Query, State, Trial


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bo_invert' has no attribute {name!r}")
    value = getattr(import_module(f"bo_invert.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
