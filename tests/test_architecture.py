"""Tests of imports, third-party packages and code from data, based on ``ast``."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import bo_invert
from bo_invert import registry

ROOT = Path(bo_invert.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

VOCABULARY = {
    "domains", "errors", "hashing", "history", "objectives", "registry", "types", "user_code",
    "user_data", "user_tables",
}  # fmt: skip
"""Modules of the vocabulary: every package may import them; they import only one another."""

MAY_IMPORT = {
    "execution": set(),
    "oracles": {"execution"},
    "storage": set(),
    "report": set(),
    "models": set(),
    "strategies": {"models"},
    "generators": {"models.optim"},
    "spaces": {"generators"},
    "problems": {"spaces", "oracles", "generators", "models.optim"},
    "study": {
        "problems", "spaces", "oracles", "strategies", "storage", "execution", "report", "models",
    },
    "problem_doctor": {"problems", "spaces", "oracles", "strategies", "report"},
    "benchmark": {"study", "problems", "strategies", "storage", "report"},
    "service": {"study", "problems", "strategies", "storage", "report", "models"},
    "integrations": {"study", "problems", "spaces", "strategies", "storage"},
    "cli": {"*"},
    "testing": {"*"},
}  # fmt: skip
"""Packages that each package may import besides the vocabulary and itself."""

TYPES_ONLY = {
    "report.mlflow": {"study"},
    "problem_doctor": {"study"},
    "benchmark": {"oracles"},
}
"""Further imports that are allowed under ``TYPE_CHECKING``."""

MODEL_LAYERS = (
    {"array_module", "base", "blas_threads", "data_subset", "outliers"},
    {"output_transforms"},
    {"optim"},
    {"gp", "linear", "least_squares", "forest"},
    {"acquisition"},
    {"fitted_model", "observed_derivatives"},
    {"model_comparison", "noise_test"},
)
"""Layers of ``models`` from the lowest; other files are at the top. Imports go downwards."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path, *, typing: bool = False) -> frozenset[str]:
    """Return the dotted names that a file imports, in functions too.

    With ``typing``, imports under ``TYPE_CHECKING`` are included.
    """
    return frozenset(_walk(tree(path), typing))


def _walk(parent: ast.AST, typing: bool) -> Iterator[str]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not typing:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)
        yield from _walk(node, typing)


def own(path: Path, *, typing: bool = False) -> set[str]:
    """Return the modules of this package that a file imports, without the prefix ``bo_invert.``."""
    return {
        name.removeprefix("bo_invert.")
        for name in imports(path, typing=typing)
        if name.startswith("bo_invert.")
    }


def tops(names: Iterable[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def below(name: str, packages: Iterable[str]) -> bool:
    """Return whether a module is one of the packages or lies in one."""
    return any(one == "*" or name == one or name.startswith(f"{one}.") for one in packages)


INNER = [name for name in MODULES if name != "bo_invert"]


def test_every_package_is_on_the_whitelist() -> None:
    assert {name.split(".")[1] for name in INNER} == {*MAY_IMPORT, *VOCABULARY}


def test_packages_import_what_the_whitelist_allows() -> None:
    wrong = []
    for module in INNER:
        name = module.removeprefix("bo_invert.")
        home = name.split(".")[0]
        allowed = {home, *VOCABULARY, *MAY_IMPORT.get(home, ())}
        typed = {one for here, more in TYPES_ONLY.items() if below(name, [here]) for one in more}
        for target in own(MODULES[module], typing=True):
            if not below(target, allowed | typed):
                wrong.append(f"{name} must not import {target}")
        for target in own(MODULES[module]):
            if not below(target, allowed):
                wrong.append(f"{name} may import {target} only for types")
    assert wrong == []


def test_models_import_downwards() -> None:
    def layer(name: str) -> int:
        part = name.split(".")[1]
        levels = [level for level, parts in enumerate(MODEL_LAYERS) if part in parts]
        return levels[0] if levels else len(MODEL_LAYERS)

    wrong = []
    for module in filter(re.compile(r"bo_invert\.models\.").match, INNER):
        name = module.removeprefix("bo_invert.")
        for target in own(MODULES[module], typing=True):
            same = target.split(".")[:2] == name.split(".")[:2]
            if target.startswith("models.") and not same and layer(target) >= layer(name):
                wrong.append(f"{name} must not import {target}")
    assert wrong == []


@pytest.mark.parametrize("kind", sorted(registry.BUILTIN.keys() - {"problems"}))
def test_registered_implementations_do_not_import_one_another(kind: str) -> None:
    """Each can be deleted with its line in the registry."""
    registered = {
        path.split(":")[0].removeprefix("bo_invert.") for path in registry.BUILTIN[kind].values()
    }
    for name in registered:
        siblings = own(MODULES[f"bo_invert.{name}"], typing=True) & registered - {name}
        assert not siblings, f"{name} must not import {siblings}"


def test_no_import_cycle() -> None:
    graph = {name: own(path, typing=True) for name, path in MODULES.items() if name != "bo_invert"}
    graph = {name.removeprefix("bo_invert."): targets for name, targets in graph.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name in done:
            return
        for target in graph.get(name, set()) - {name}:
            visit(target, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


THIRD_PARTIES = {
    "aerosandbox": {"problems.examples.airfoil", "problems.examples.airfoil_shapes"},
    "anyio": {"service"},
    "ax": {"strategies.ax"},
    "botorch": {"models", "strategies.gp", "strategies.polish", "strategies.peers.botorch"},
    # Pickles for a worker process travel through a pipe to a child of this process only.
    "cloudpickle": {"execution.worker_main", "execution.supervised_process"},
    "cma": {"strategies.peers.cma_run"},
    "dask": {"execution.dask"},
    "distributed": {"execution.dask"},
    "fastapi": {"service"},
    "gest_api": {"integrations.gest"},
    "gpytorch": {"models", "strategies.gp", "strategies.polish", "strategies.peers.botorch"},
    "httpx": {"service", "oracles.io.http_deadlines", "oracles.http"},
    "loky": {"execution.dask"},
    "mlflow": {"report.mlflow.client"},
    "neuralfoil": {"problems.examples.airfoil", "problems.examples.airfoil_networks"},
    "nevergrad": {"strategies.peers.nevergrad"},
    "onnxruntime": {"oracles.onnx"},
    "optuna": {"integrations.optuna", "strategies.peers.optuna"},
    "pydantic": {"service"},
    "ribs": {"strategies.peers.ribs"},
    "rdkit": {"generators.selfies", "problems.examples"},
    "selfies": {"generators.selfies"},
    "sqlalchemy": {
        "storage.sql", "storage.sql_errors", "storage.sql_schema", "storage.sql_statements",
        "storage.sql_tables", "storage.sql_transactions",
    },
    "starlette": {"service"},
    "submitit": {"execution.slurm"},
    "trust_bo": {"strategies.peers.trust_bo"},
    "typer": {"cli"},
    "uvicorn": {"service"},
}  # fmt: skip
"""Modules that may import each third-party package."""

WITHOUT_TORCH = {"errors", "registry", "report", "storage", "types"}
"""Modules that import no torch, not even in functions."""


def test_third_parties_stay_where_they_belong() -> None:
    wrong = []
    for module, path in MODULES.items():
        name = module.removeprefix("bo_invert.")
        found = tops(imports(path))
        for package in found & set(THIRD_PARTIES):
            if not below(name, THIRD_PARTIES[package]):
                wrong.append(f"{name} must not import {package}")
        if "torch" in found and below(name, WITHOUT_TORCH):
            wrong.append(f"{name} must not import torch")
    assert wrong == []


UNPICKLE = {"pickle", "_pickle", "dill", "jsonpickle", "shelve", "marshal", "joblib"}
RUN = {"code", "codeop", "pty", "runpy", "imp", "ctypes"}
BUILTINS = {"eval", "exec", "compile", "__import__", "__builtins__", "breakpoint"}
CALLS = re.compile(
    r"(builtins\..*|torch\.(load|jit\.load|hub\..*|package\..*)|cloudpickle\.loads?|yaml\.(load|load_all|unsafe_load\w*|full_load\w*)"
    r"|os\.(system|popen|exec\w*|spawn\w*|posix_spawn\w*)|subprocess\.(getoutput|getstatusoutput)"
    r"|asyncio\.(subprocess\.)?create_subprocess_shell|.*\.(read_pickle|to_pickle|read_hdf)|tempfile\.mktemp"
    r"|torch\.manual_seed|numpy\.random\.seed|random\.seed)"
)
SWITCHES = {"shell": "False", "weights_only": "True", "allow_pickle": "False"}
"""Arguments that are absent or have this value."""
PRIVILEGED = {
    "importlib": {
        "bo_invert",
        "bo_invert.registry",
        "bo_invert.problems.loading",
        "bo_invert.benchmark.resumable_runs",
        "bo_invert.cli.main",
        "bo_invert.problems.recorded_versions",
        "bo_invert.strategies.ax",
    },
    "subprocess": {
        "bo_invert.problems.git",
        "bo_invert.execution.parent_death",
        "bo_invert.execution.process_group",
    },
    "multiprocessing.reduction": {
        "bo_invert.execution.supervised_process",
        "bo_invert.execution.worker_main",
    },
}
"""Modules that import by name, start programs, and unpickle results of their own children."""
UNPICKLERS = {"bo_invert.generators.weights": ["torch.load"]}
"""Modules that read pickles with ``weights_only=True``."""


def code_from_data(tree: ast.AST) -> Iterator[str]:
    """Yield the names in a file that can execute data, also under an alias."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                top = one.name.split(".")[0]
                known[one.asname or top] = one.name if one.asname else top
        elif isinstance(node, ast.ImportFrom):
            known |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    yield from sorted(tops(known.values()) & (UNPICKLE | RUN))
    yield from filter(CALLS.fullmatch, known.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in BUILTINS:
            yield node.id
        if isinstance(node, (ast.Name, ast.Attribute)):
            first, dot, rest = ast.unparse(node).partition(".")
            if CALLS.fullmatch(name := known.get(first, first) + dot + rest):
                yield name
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg in SWITCHES and ast.unparse(keyword.value) != SWITCHES[keyword.arg]:
                    yield f"{keyword.arg}={ast.unparse(keyword.value)}"
                if keyword.arg is None and ast.unparse(node.func) in (
                    "np.load",
                    "subprocess.run",
                    "subprocess.Popen",
                ):
                    yield f"{ast.unparse(node.func)}(**...)"


def test_no_code_from_data() -> None:
    found = {module: list(code_from_data(tree(path))) for module, path in MODULES.items()}
    assert {module: calls for module, calls in found.items() if calls} == UNPICKLERS
    for module, path in MODULES.items():
        names = tops(imports(path)) | imports(path)
        wrong = {
            name for name, users in PRIVILEGED.items() if name in names and module not in users
        }
        assert not wrong, module


def restricted(parsed: ast.AST) -> list[bool]:
    """Return for each use of ``torch.load`` whether it is a call that reads weights only."""
    nodes = list(ast.walk(parsed))
    calls = [
        {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    uses = sum(
        isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load" for node in nodes
    )
    sound = [
        call.get("weights_only") == "True" and not {None, "pickle_module"} & set(call)
        for call in calls
    ]
    return [*sound, *[False] * (uses - len(calls))]


@pytest.mark.parametrize("module", UNPICKLERS)
def test_weights_are_read_without_pickled_objects(module: str) -> None:
    assert restricted(tree(MODULES[module])) == [True]


@pytest.mark.parametrize(
    "snippet",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=sound)",
        "torch.load(path, None, pickle)",
        "torch.load(path, weights_only=True, pickle_module=pickle)",
        "torch.load(path, weights_only=True, **options)",
        "torch.load(path, weights_only=True); torch.load(path)",
        "load = torch.load",
    ],
)
def test_unrestricted_loading_is_found(snippet: str) -> None:
    assert restricted(ast.parse(snippet)) != [True]


@pytest.mark.parametrize(
    "snippet",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads as json_loads",
        "import _pickle",
        "def f():\n    import dill",
        "from joblib import load",
        "import joblib.numpy_pickle",
        "import marshal, json",
        "import shelve",
        "import runpy",
        "import ctypes",
        "eval('1')",
        "exec(text)",
        "run = eval",
        "compile(text, 'x', 'exec')",
        "__import__(name)",
        "__builtins__['eval'](text)",
        "import builtins\nbuiltins.exec(text)",
        "from builtins import eval as value",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=True)",
        "import torch as t\nt.load(path)",
        "from torch import load\nload(path)",
        "import torch\ntorch.jit.load(path)",
        "import torch\ntorch.hub.load(path, 'x')",
        "load(path, weights_only=False)",
        "load(path, weights_only=trusted)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=trusted)",
        "np.load(path, **options)",
        "import pandas as pd\npd.read_pickle(path)",
        "frame.to_pickle(path)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import yaml\nyaml.unsafe_load(text)",
        "import os\nos.system(command)",
        "from os import system\nsystem(command)",
        "import os\nos.popen(command)",
        "import os\nos.execvp(command, [])",
        "import subprocess\nsubprocess.run(command, shell=True)",
        "import subprocess\nsubprocess.run(command, shell=trusted)",
        "import subprocess\nsubprocess.run(command, **options)",
        "import subprocess\nsubprocess.getoutput(command)",
        "import asyncio\nasyncio.create_subprocess_shell(command)",
        "import tempfile\ntempfile.mktemp()",
        "import numpy as np\nnp.random.seed(0)",
        "import random\nrandom.seed(0)",
    ],
)
def test_code_from_data_is_found(snippet: str) -> None:
    assert list(code_from_data(ast.parse(snippet)))


@pytest.mark.parametrize(
    "snippet",
    [
        "import re\nre.compile('a')",
        "import json\njson.loads(text)",
        "model.eval()",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import yaml\nyaml.safe_load(text)",
        "import subprocess\nsubprocess.run(command, shell=False)",
        "import torch\ntorch.no_grad()",
        "import os\nos.replace(a, b)",
    ],
)
def test_harmless_code_is_allowed(snippet: str) -> None:
    assert list(code_from_data(ast.parse(snippet))) == []


def test_registry_points_at_what_exists() -> None:
    for kind, entries in registry.BUILTIN.items():
        for name in entries:
            assert registry.resolve(kind, name) is not None


HEAVY = {
    "ax", "botorch", "fastapi", "gpytorch", "matplotlib", "mlflow", "numpy", "pandas", "plotly",
    "scipy", "sqlalchemy", "torch",
}  # fmt: skip
"""Packages that a light import must not load."""


def loaded_by(code: str, packages: set[str]) -> set[str]:
    """Return the packages that a new process has loaded after the code."""
    code = f"{code}\nimport sys, json; print(json.dumps([*sys.modules]))"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return packages & set(json.loads(ran.stdout))


def test_importing_the_package_costs_nothing() -> None:
    assert loaded_by("import bo_invert", HEAVY - {"numpy"}) == set()


def test_a_study_of_a_plain_function_needs_no_torch() -> None:
    code = (
        "import bo_invert as bi\n"
        "p = bi.Problem(bi.Box([0.0], [1.0]), lambda x: float(x[0]), bi.Minimize())\n"
        "bi.Study.create('s', p, strategy='random').run(3)"
    )
    assert not loaded_by(code, {"torch"})


def test_the_first_ask_needs_no_torch() -> None:
    """The initial design needs numpy only."""
    code = (
        "import bo_invert as bi\n"
        "from bo_invert.strategies.base import from_spec\n"
        "for space in bi.Box([0.0] * 2, [1.0] * 2), bi.Latent(lambda z: z, 2):\n"
        "    for objective in bi.Minimize(), bi.Target([0.5]):\n"
        "        statement = bi.Problem(space, lambda x: float(x[0]), objective).statement\n"
        "        for name in 'gp', 'turbo', 'spherical', 'pcn', 'auto':\n"
        "            ask = from_spec(name).ask\n"
        "            assert ask(statement, (), bi.Request(budget=50, count=3)).queries\n"
    )
    assert not loaded_by(code, {"torch"})


def test_the_help_needs_nothing_heavy() -> None:
    assert loaded_by("import bo_invert.cli.main", HEAVY) == set()


PUBLIC = """
AtLeast AtMost BoInvertError Box Cached Choice Command Comparison Composite Descent DoctorReport
Domain Estimator Exactly FailedError Feasible Fixed Float Function GradientProxy Http
InfeasibleError InputConstraint Int InvalidInputError Isolated Latent Ledger Maximize Minimize
Nearest Onnx Oracle OutcomeConstraint Pareto Pixels Plausibility Predictions Problem
ProblemStatement
Proposal Query Request State Strategy Study Target TorchModule Trial UnsuitableStrategyError
When __version__ compare doctor mlflow_tracking ready_problem realism stop to_mlflow
"""


def test_public_names_are_pinned() -> None:
    assert sorted(bo_invert.__all__) == PUBLIC.split()
    for name in bo_invert.__all__:
        assert getattr(bo_invert, name) is not None


def test_no_public_name_is_shadowed_by_a_module() -> None:
    """Importing ``bo_invert.thing`` would replace the public ``thing`` by the module."""
    modules = {name.split(".")[1] for name in MODULES if name.count(".") >= 1}
    assert not modules & set(bo_invert.__all__)


def test_loggers_are_silent_and_imported_late() -> None:
    code = (
        "import sys, bo_invert; assert 'logging' not in sys.modules;"
        "import bo_invert.errors, logging; handlers = logging.getLogger('bo_invert').handlers;"
        "assert [type(one) for one in handlers] == [logging.NullHandler], handlers"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
