"""Black-box inversion: find the inputs of a function without a known inverse, with few calls.

``__all__`` lists the public names. Each is imported on first use, so ``import bo_invert`` is fast.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast
from warnings import warn

__version__ = "0.1.0"

_HOME = {
    "Box": "spaces.box",
    "Latent": "spaces.latent",
    "Pixels": "spaces.pixels",
    "Float": "domains.parameters",
    "Int": "domains.parameters",
    "Choice": "domains.parameters",
    "When": "domains.conditions",
    "Fixed": "domains.fixed",
    "AtMost": "domains.input_constraints",
    "AtLeast": "domains.input_constraints",
    "Exactly": "domains.input_constraints",
    "Feasible": "domains.input_constraints",
    "InputConstraint": "domains.input_constraints",
    "Oracle": "oracles.base",
    "Function": "oracles.function",
    "TorchModule": "oracles.torch",
    "Estimator": "oracles.estimator",
    "GradientProxy": "oracles.gradient_proxy",
    "Isolated": "oracles.isolated",
    "Command": "oracles.command",
    "Http": "oracles.http",
    "Onnx": "oracles.onnx",
    "Cached": "oracles.cached",
    "Minimize": "objectives.single_output",
    "Maximize": "objectives.single_output",
    "Target": "objectives.target",
    "Composite": "objectives.composite",
    "Pareto": "objectives.pareto",
    "Plausibility": "objectives.single_output",
    "Nearest": "objectives.nearest",
    "OutcomeConstraint": "objectives.outcome_constraint",
    "Problem": "problems.problem",
    "Study": "study.study",
    "Predictions": "study.predictions",
    "Trial": "types",
    "Query": "types",
    "Descent": "types",
    "State": "types",
    "Ledger": "history",
    "Strategy": "strategies.base",
    "Proposal": "strategies.base",
    "Request": "strategies.base",
    "ProblemStatement": "objectives.problem_statement",
    "Domain": "domains.search_domain",
    "FailedError": "errors",
    "InfeasibleError": "errors",
    "BoInvertError": "errors",
    "InvalidInputError": "errors",
    "UnsuitableStrategyError": "errors",
    "compare": "benchmark.compare",
    "Comparison": "benchmark.compare",
    "to_mlflow": "report.mlflow.tracking",
    "mlflow_tracking": "report.mlflow.tracking",
    "ready_problem": "problems.examples.base",
    "doctor": "problem_doctor.doctor",
    "DoctorReport": "problem_doctor.findings",
}

_REALISM = {
    "Controls": "problem_doctor.control_regressors",
    "DesignRealism": "generators.design_plausibility",
    "Gaps": "problem_doctor.control_regressors",
    "Measure": "generators.latent_plausibility",
    "control_regressors": "problem_doctor.control_regressors",
    "fit_measure": "generators.latent_plausibility",
}

_RENAMED = {
    "Checkup": "DoctorReport",
    "Statement": "ProblemStatement",
    "Twin": "GradientProxy",
}
"""Former public names, deprecated aliases of the present ones."""

_MOVED = {
    "ax_bridge": "strategies.ax.conversion",
    "ax_node": "strategies.ax.generation_node",
    "bench": "benchmark",
    "checkup": "problem_doctor",
    "comparison": "benchmark.compare",
    "cost_ledger": "history",
    "conformance": "testing",
    "declared": "problems.json_declaration",
    "demo": "cli.demo",
    "digests": "hashing",
    "domain": "domains.search_domain",
    "duels": "report.pairwise_comparison",
    "examples.ackley": "problems.examples.synthetic_functions",
    "examples.branin": "problems.examples.synthetic_functions",
    "examples.digits_materials": "problems.examples.digits",
    "examples.hartmann": "problems.examples.synthetic_functions",
    "examples.levy": "problems.examples.synthetic_functions",
    "examples.mixed_ackley": "problems.examples.mixed",
    "examples.molecules_materials": "problems.examples.molecules",
    "examples.molecules_realism": "problems.examples.molecules_plausibility",
    "examples.rosenbrock": "problems.examples.synthetic_functions",
    "examples": "problems.examples",
    "executors": "execution",
    "identity": "hashing",
    "journal": "storage.optimistic_journal",
    "ledger": "history",
    "log": "storage.log_replay",
    "mlflow_bridge": "report.mlflow.tracking",
    "models.botorch": "models.botorch_adapter",
    "oracles.twin": "oracles.gradient_proxy",
    "parameters": "domains.parameters",
    "performance": "report.performance",
    "problem": "problems.problem",
    "provenance": "problems.recorded_versions",
    "realism.controls": "problem_doctor.control_regressors",
    "realism.designs": "generators.design_plausibility",
    "realism.reference": "generators.latent_plausibility",
    "recommendation": "study.recommendation",
    "reference": "domains.reference_measure",
    "reference_measure": "domains.reference_measure",
    "report.curves": "report.figures",
    "report.notebook": "report.study_view",
    "report.profiles": "report.figures",
    "report.text": "report.study_view",
    "rng": "strategies.base",
    "runner": "study.runner",
    "runs": "report.runs",
    "search_domain": "domains.search_domain",
    "solutions": "study.solutions",
    "sources": "problems.loading",
    "statement": "objectives.problem_statement",
    "statistics": "report.statistical_tests",
    "stores": "storage",
    "strategies.prior": "strategies.sampling",
    "strategies.random": "strategies.sampling",
    "strategies.sobol": "strategies.sampling",
    "transfer": "storage.export_import",
}
"""Former module paths; packages stand for all of their modules."""

__all__ = ["__version__", "realism", "stop", *_HOME]

if TYPE_CHECKING:
    from importlib.abc import Loader  # importing it at run time costs 15 ms

    from bo_invert.benchmark.compare import Comparison as Comparison, compare as compare
    from bo_invert.domains.fixed import Fixed as Fixed
    from bo_invert.domains.input_constraints import (
        AtLeast as AtLeast,
        AtMost as AtMost,
        Exactly as Exactly,
        Feasible as Feasible,
        InputConstraint as InputConstraint,
    )
    from bo_invert.domains.parameters import Choice as Choice, Float as Float, Int as Int
    from bo_invert.domains.search_domain import Domain as Domain
    from bo_invert.errors import (
        BoInvertError as BoInvertError,
        FailedError as FailedError,
        InfeasibleError as InfeasibleError,
        InvalidInputError as InvalidInputError,
        UnsuitableStrategyError as UnsuitableStrategyError,
    )
    from bo_invert.history import Ledger as Ledger
    from bo_invert.objectives.composite import Composite as Composite
    from bo_invert.objectives.nearest import Nearest as Nearest
    from bo_invert.objectives.outcome_constraint import OutcomeConstraint as OutcomeConstraint
    from bo_invert.objectives.pareto import Pareto as Pareto
    from bo_invert.objectives.problem_statement import ProblemStatement as ProblemStatement
    from bo_invert.objectives.single_output import (
        Maximize as Maximize,
        Minimize as Minimize,
        Plausibility as Plausibility,
    )
    from bo_invert.objectives.target import Target as Target
    from bo_invert.oracles.base import Oracle as Oracle
    from bo_invert.oracles.cached import Cached as Cached
    from bo_invert.oracles.command import Command as Command
    from bo_invert.oracles.estimator import Estimator as Estimator
    from bo_invert.oracles.function import Function as Function
    from bo_invert.oracles.gradient_proxy import GradientProxy as GradientProxy
    from bo_invert.oracles.http import Http as Http
    from bo_invert.oracles.isolated import Isolated as Isolated
    from bo_invert.oracles.onnx import Onnx as Onnx
    from bo_invert.oracles.torch import TorchModule as TorchModule
    from bo_invert.problem_doctor.doctor import doctor as doctor
    from bo_invert.problem_doctor.findings import DoctorReport as DoctorReport
    from bo_invert.problems.examples.base import ready_problem as ready_problem
    from bo_invert.problems.problem import Problem as Problem
    from bo_invert.report.mlflow.tracking import (
        mlflow_tracking as mlflow_tracking,
        to_mlflow as to_mlflow,
    )
    from bo_invert.spaces.box import Box as Box
    from bo_invert.spaces.latent import Latent as Latent
    from bo_invert.spaces.pixels import Pixels as Pixels
    from bo_invert.strategies.base import (
        Proposal as Proposal,
        Request as Request,
        Strategy as Strategy,
    )
    from bo_invert.study import stop as stop
    from bo_invert.study.predictions import Predictions as Predictions
    from bo_invert.study.study import Study as Study
    from bo_invert.types import Descent as Descent, Query as Query, State as State, Trial as Trial


class _SilentLoggers:
    """Import hook that adds a null handler to ``bo_invert.*`` before the first module that logs.

    It defers ``import logging``, which takes longer than the rest of ``import bo_invert``.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        """Find no module."""
        if self in sys.meta_path and fullname.startswith("bo_invert."):
            sys.meta_path.remove(self)
            import logging

            logging.getLogger("bo_invert").addHandler(logging.NullHandler())


class _MovedModules:
    """Deprecated aliases of modules that moved: the former path returns the module itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for a former path, None for any other name."""
        package, _, former = fullname.partition(".")
        known = former == "realism" or _present(former) is not None
        if package != "bo_invert" or not known:
            return None
        return ModuleSpec(fullname, cast("Loader", self), is_package=former == "realism")

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the module from its present path."""
        if spec.name == "bo_invert.realism":
            return _realism()
        present = f"bo_invert.{_present(spec.name.removeprefix('bo_invert.'))}"
        warn(f"{spec.name} moved to {present}", DeprecationWarning, stacklevel=2)
        module = import_module(present)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the spec of the present path, which the import system has replaced."""
        spec = module.__spec__
        if spec is not None and spec.loader_state is not None:
            module.__spec__ = spec.loader_state


def _present(former: str) -> str | None:
    """Return the present path of a former one, relative to the package; None if it did not move."""
    old = next((old for old in _MOVED if f"{former}.".startswith(f"{old}.")), None)
    return None if old is None else _MOVED[old] + former.removeprefix(old)


def _realism() -> ModuleType:
    """Return the namespace ``bo_invert.realism``: plausibility measures and control regressors."""
    namespace = ModuleType("bo_invert.realism", "Plausibility measures and control regressors.")
    for name, home in _REALISM.items():
        setattr(namespace, name, getattr(import_module(f"bo_invert.{home}"), name))
    vars(namespace).update(__all__=sorted(_REALISM), __dir__=lambda: sorted(_REALISM))
    return namespace


def __getattr__(name: str) -> Any:
    if name == "realism":
        return import_module("bo_invert.realism")
    if name == "stop":
        return import_module("bo_invert.study.stop")
    if name in _HOME:
        value = getattr(import_module(f"bo_invert.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    renamed = {**import_module("bo_invert.errors").RENAMED, **_RENAMED}
    if name not in renamed:
        raise AttributeError(f"module 'bo_invert' has no attribute {name!r}")
    warn(f"bo_invert.{name} is deprecated, use {renamed[name]}", DeprecationWarning, stacklevel=2)
    return getattr(sys.modules[__name__], renamed[name])


def __dir__() -> list[str]:
    return sorted(__all__)


# First in the list: the path of a former package would otherwise load its modules a second time.
# The second hook removes itself. The one after it, which an import then skips, is for built-ins.
sys.meta_path[:0] = [_MovedModules(), _SilentLoggers()]
