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
    "Isolated": "oracles.isolated",
    "Command": "oracles.command",
    "Http": "oracles.http",
    "Onnx": "oracles.onnx",
    "Cached": "oracles.cached",
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
    "Ledger": "ledger",
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
    "to_mlflow": "mlflow_bridge",
    "mlflow_tracking": "mlflow_bridge",
    "ready_problem": "examples.base",
    "doctor": "checkup.examination",
    "Checkup": "checkup.findings",
}

__all__ = ["__version__", "realism", *_HOME]

if TYPE_CHECKING:
    from bo_invert import realism as realism
    from bo_invert.checkup.examination import doctor as doctor
    from bo_invert.checkup.findings import Checkup as Checkup
    from bo_invert.comparison import Comparison as Comparison
    from bo_invert.comparison import compare as compare
    from bo_invert.domain import Domain as Domain
    from bo_invert.errors import BoInvertError as BoInvertError
    from bo_invert.errors import Failed as Failed
    from bo_invert.errors import Infeasible as Infeasible
    from bo_invert.errors import InvalidInput as InvalidInput
    from bo_invert.errors import Unsuitable as Unsuitable
    from bo_invert.examples.base import ready_problem as ready_problem
    from bo_invert.ledger import Ledger as Ledger
    from bo_invert.mlflow_bridge import mlflow_tracking as mlflow_tracking
    from bo_invert.mlflow_bridge import to_mlflow as to_mlflow
    from bo_invert.objectives import Composite as Composite
    from bo_invert.objectives import Maximize as Maximize
    from bo_invert.objectives import Minimize as Minimize
    from bo_invert.objectives import OutcomeConstraint as OutcomeConstraint
    from bo_invert.objectives import Target as Target
    from bo_invert.oracles.base import Oracle as Oracle
    from bo_invert.oracles.cached import Cached as Cached
    from bo_invert.oracles.command import Command as Command
    from bo_invert.oracles.estimator import Estimator as Estimator
    from bo_invert.oracles.function import Function as Function
    from bo_invert.oracles.http import Http as Http
    from bo_invert.oracles.isolated import Isolated as Isolated
    from bo_invert.oracles.onnx import Onnx as Onnx
    from bo_invert.oracles.torch import TorchModule as TorchModule
    from bo_invert.oracles.twin import Twin as Twin
    from bo_invert.parameters import Choice as Choice
    from bo_invert.parameters import Float as Float
    from bo_invert.parameters import Int as Int
    from bo_invert.problem import Problem as Problem
    from bo_invert.spaces.box import Box as Box
    from bo_invert.spaces.latent import Latent as Latent
    from bo_invert.spaces.pixels import Pixels as Pixels
    from bo_invert.statement import Statement as Statement
    from bo_invert.strategies.base import Proposal as Proposal
    from bo_invert.strategies.base import Request as Request
    from bo_invert.strategies.base import Strategy as Strategy
    from bo_invert.study import Study as Study
    from bo_invert.types import Descent as Descent
    from bo_invert.types import Query as Query
    from bo_invert.types import State as State
    from bo_invert.types import Trial as Trial


def __getattr__(name: str) -> Any:
    if name == "realism":  # a room whose names are plain words: bi.realism.control_regressors
        return import_module("bo_invert.realism")
    if name not in _HOME:
        raise AttributeError(f"module 'bo_invert' has no attribute {name!r}")
    value = getattr(import_module(f"bo_invert.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
