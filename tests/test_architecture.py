"""The rules of the house, read off the source with the standard library's ``ast``."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import bo_invert
from bo_invert import registry

ROOT = Path(bo_invert.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
ROOMS = {"spaces", "oracles", "strategies", "models", "realism", "stores", "executors", "generators", "report"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


@cache
def imports(path: Path, *, at_import_time: bool = False) -> frozenset[str]:
    """Dotted names a file imports; with ``at_import_time`` only those that run when the file is imported."""
    return frozenset(_walk(ast.parse(path.read_text()), at_import_time))


def _walk(tree: ast.AST, at_import_time: bool) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if at_import_time and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)
        yield from _walk(node, at_import_time)


def room(name: str) -> str:
    """The folder of a module directly under the package, or the module itself."""
    return name.split(".")[1] if name.count(".") else name


def own(names: frozenset[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == "bo_invert"}


def tops(names: frozenset[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


LEAKS = {
    "sqlalchemy": {"bo_invert.storage.sql"},
    "botorch": {
        "bo_invert.models",
        "bo_invert.strategies.gp",
        "bo_invert.strategies.polish",
        "bo_invert.strategies.peers.botorch",
    },
    "gpytorch": {
        "bo_invert.models",
        "bo_invert.strategies.gp",
        "bo_invert.strategies.polish",
        "bo_invert.strategies.peers.botorch",
    },
    "ax": {
        "bo_invert.strategies.ax.strategy",
        "bo_invert.strategies.ax.conversion",
        "bo_invert.strategies.ax.generation_node",
    },
    "cma": {"bo_invert.strategies.peers.cmaes"},
    "optuna": {"bo_invert.strategies.peers.optuna"},
    "mlflow": {"bo_invert.report.mlflow.client"},
    "nevergrad": {"bo_invert.strategies.peers.nevergrad"},
    "typer": {"bo_invert.cli"},
    # To pack what a child process serves: it travels through a pipe to a process begun here, and nowhere else.
    "loky": {
        "bo_invert.execution.processes",
        "bo_invert.execution.dask",
        "bo_invert.execution.worker_process",
        "bo_invert.execution.worker_main",
    },
    "fastapi": {"bo_invert.service"},
    "starlette": {"bo_invert.service"},
    "uvicorn": {"bo_invert.service"},
    "httpx": {"bo_invert.service", "bo_invert.oracles.io.http_requests", "bo_invert.oracles.http"},
    "onnxruntime": {"bo_invert.oracles.onnx"},
    "distributed": {"bo_invert.execution.dask"},
    "dask": {"bo_invert.execution.dask"},
    "submitit": {"bo_invert.execution.slurm"},
    "neuralfoil": {"bo_invert.problems.examples.airfoil"},
    "aerosandbox": {"bo_invert.problems.examples.airfoil"},
    "rdkit": {"bo_invert.generators.selfies", "bo_invert.problems.examples.molecules"},
    "selfies": {"bo_invert.generators.selfies"},
    "pydantic": {"bo_invert.service"},
    "anyio": {"bo_invert.service"},
}


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_third_parties_stay_where_they_belong(path: Path) -> None:
    name = module_name(path)
    for package in tops(imports(path)) & set(LEAKS):
        allowed = LEAKS[package]
        assert any(name == home or name.startswith((f"{home}.", f"{home}_")) for home in allowed), (
            f"{name} imports {package}, which belongs in {sorted(allowed)}"
        )
    if room(name) in {"types", "errors", "rng", "registry", "stores", "report"}:
        assert "torch" not in tops(imports(path)), f"{name} must do without torch"


UNPICKLE = {"pickle", "_pickle", "dill", "cloudpickle", "jsonpickle", "shelve", "marshal", "joblib"}
RUN = {"code", "codeop", "pty", "runpy", "imp", "ctypes"}
BUILTINS = {"eval", "exec", "compile", "__import__", "__builtins__", "breakpoint"}
CALLS = re.compile(
    r"(builtins\..*|torch\.(load|jit\.load|hub\..*|package\..*)|yaml\.(load|load_all|unsafe_load\w*|full_load\w*)"
    r"|os\.(system|popen|exec\w*|spawn\w*|posix_spawn\w*)|subprocess\.(getoutput|getstatusoutput)"
    r"|asyncio\.(subprocess\.)?create_subprocess_shell|.*\.(read_pickle|to_pickle|read_hdf)|tempfile\.mktemp"
    r"|torch\.manual_seed|numpy\.random\.seed|random\.seed)"
)
SWITCHES = {"shell": "False", "weights_only": "True", "allow_pickle": "False"}
"""Arguments that are either left out or this."""
DOORS = {
    "importlib": {
        "bo_invert",
        "bo_invert.registry",
        "bo_invert.problems.loading",
        "bo_invert.benchmark.runner",
        "bo_invert.problems.provenance",
    },
    "subprocess": {
        "bo_invert.problems.git",
        "bo_invert.execution.subprocess_run",
        "bo_invert.execution.worker_process",
    },
    "multiprocessing.reduction": {"bo_invert.execution.worker_process", "bo_invert.execution.worker_main"},
}
"""Who may import by name, start other programs, and unpack what a process begun by itself sends back."""
CALL_DOORS = {"bo_invert.generators.weights": ["torch.load"]}
"""Who may read pickles, restricted; the test below says how."""


def code_from_data(tree: ast.AST) -> Iterator[str]:
    """What in a file could make code of data, whatever it was imported as."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {(one.asname or one.name).split(".")[0]: one.name if one.asname else one.name.split(".")[0]
                      for one in node.names}  # fmt: skip
        elif isinstance(node, ast.ImportFrom):
            known |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    yield from sorted(tops(frozenset(known.values())) & (UNPICKLE | RUN))
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
                if keyword.arg is None and ast.unparse(node.func) in ("np.load", "subprocess.run", "subprocess.Popen"):
                    yield f"{ast.unparse(node.func)}(**...)"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_code_from_data(path: Path) -> None:
    assert list(code_from_data(ast.parse(path.read_text()))) == CALL_DOORS.get(module_name(path), [])
    for package, doors in DOORS.items():
        found = tops(imports(path)) | imports(path)
        assert package not in found or module_name(path) in doors, f"{package} in {module_name(path)}"


def restricted(tree: ast.AST) -> list[bool]:
    """Of every call of ``torch.load`` whether it keeps to weights; False too for whoever passes it on."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"]
    words = [{keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords} for call in calls]
    named = sum(isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load" for node in ast.walk(tree))
    sound = [call.get("weights_only") == "True" and not {None, "pickle_module"} & set(call) for call in words]
    return [*sound, *[False] * (named - len(calls))]


@pytest.mark.parametrize("module", CALL_DOORS)
def test_the_door_for_weights_is_guarded(module: str) -> None:
    assert restricted(ast.parse(MODULES[module].read_text())) == [True]


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
def test_the_guard_bites(snippet: str) -> None:
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
def test_the_ban_bites(snippet: str) -> None:
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
def test_the_ban_lets_others_be(snippet: str) -> None:
    assert list(code_from_data(ast.parse(snippet))) == []


def test_no_import_cycle() -> None:
    graph = {name: own(imports(path)) - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name in done:
            return
        for target in graph.get(name, ()):
            visit(target, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_registry_points_at_what_exists() -> None:
    for kind, entries in registry.BUILTIN.items():
        for name in entries:
            assert registry.resolve(kind, name) is not None


def fresh(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_costs_nothing() -> None:
    heavy = (
        "{'torch', 'ax', 'botorch', 'gpytorch', 'fastapi', 'plotly', 'matplotlib', 'pandas', 'sqlalchemy', 'scipy', "
        "'mlflow'}"
    )
    loaded = fresh(f"import sys, bo_invert; print(sorted({heavy} & set(sys.modules)))")
    assert loaded.strip() == "[]"


def test_a_study_of_a_plain_function_needs_no_torch() -> None:
    code = (
        "import sys, bo_invert as bi\n"
        "p = bi.Problem(bi.Box([0.0], [1.0]), lambda x: float(x[0]), bi.Minimize())\n"
        "bi.Study.create('s', p, strategy='random').run(3)\n"
        "print('torch' in sys.modules)"
    )
    assert fresh(code).strip() == "False"


def test_the_first_ask_needs_no_torch() -> None:
    """Models come with the data: what a study begins with is numpy's work."""
    code = (
        "import sys, bo_invert as bi\n"
        "from bo_invert.strategies.base import from_spec\n"
        "for space in bi.Box([0.0] * 2, [1.0] * 2), bi.Latent(lambda z: z, 2):\n"
        "    for objective in bi.Minimize(), bi.Target([0.5]):\n"
        "        statement = bi.Problem(space, lambda x: float(x[0]), objective).statement\n"
        "        for name in 'gp', 'turbo', 'spherical', 'pcn', 'auto':\n"
        "            assert from_spec(name).ask(statement, (), bi.Request(budget=50, count=3)).queries\n"
        "print('torch' in sys.modules)"
    )
    assert fresh(code).strip() == "False"


def test_the_help_needs_nothing_heavy() -> None:
    heavy = "{'torch', 'ax', 'botorch', 'plotly', 'matplotlib', 'pandas', 'sqlalchemy', 'scipy', 'numpy'}"
    code = f"import sys, bo_invert.cli.main; print(sorted({heavy} & set(sys.modules)))"
    assert fresh(code).strip() == "[]"


def test_public_names_are_pinned() -> None:
    assert sorted(bo_invert.__all__) == [
        "BoInvertError",
        "Box",
        "Cached",
        "Checkup",
        "Choice",
        "Command",
        "Comparison",
        "Composite",
        "Descent",
        "Domain",
        "Estimator",
        "Failed",
        "Float",
        "Function",
        "Http",
        "Infeasible",
        "Int",
        "InvalidInput",
        "Isolated",
        "Latent",
        "Ledger",
        "Maximize",
        "Minimize",
        "Onnx",
        "Oracle",
        "OutcomeConstraint",
        "Pixels",
        "Problem",
        "Proposal",
        "Query",
        "Request",
        "State",
        "Statement",
        "Strategy",
        "Study",
        "Target",
        "TorchModule",
        "Trial",
        "Twin",
        "Unsuitable",
        "__version__",
        "compare",
        "doctor",
        "mlflow_tracking",
        "ready_problem",
        "realism",
        "to_mlflow",
    ]
    for name in bo_invert.__all__:
        assert getattr(bo_invert, name) is not None


def test_no_public_name_is_shadowed_by_a_module() -> None:
    """Importing ``bo_invert.thing`` would put the module where the public ``thing`` is expected."""
    modules = {name.split(".")[1] for name in MODULES if name.count(".") >= 1}
    assert not modules & set(bo_invert.__all__)
