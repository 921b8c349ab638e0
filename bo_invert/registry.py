"""Registry of names: strategies, spaces, oracles and others, imported on first use.

Other packages add entries with entry points in the group ``bo_invert.strategies`` (or
``.spaces``, ``.oracles``, ...).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib import import_module, metadata
from operator import attrgetter
from typing import Any

from bo_invert.errors import InvalidInputError

_PEERS = "bo_invert.strategies.peers"

BUILTIN: dict[str, dict[str, str]] = {
    "strategies": {
        "random": "bo_invert.strategies.sampling:Random",
        "sobol": "bo_invert.strategies.sampling:Sobol",
        "prior": "bo_invert.strategies.sampling:Prior",
        "auto": "bo_invert.strategies.auto:Auto",
        "gp": "bo_invert.strategies.gp:GP",
        "turbo": "bo_invert.strategies.turbo:Turbo",
        "spherical": "bo_invert.strategies.spherical:Spherical",
        "ax": "bo_invert.strategies.ax.strategy:Ax",
        "cmaes": "bo_invert.strategies.peers.cmaes:CMAES",
        "pcn": "bo_invert.strategies.pcn:PCN",
        "forest": "bo_invert.strategies.forest:ForestSearch",
        "least_squares": "bo_invert.strategies.least_squares:LeastSquares",
        "inverse": "bo_invert.strategies.inverse:Inverse",
        "nearest": "bo_invert.strategies.nearest:NearestSearch",
        "retarget": "bo_invert.strategies.retarget:Retarget",
        "robust": "bo_invert.strategies.robust:Robust",
        "gradient": "bo_invert.strategies.gradient:Gradient",
        "gradient_gp": "bo_invert.strategies.gradient_gp:GradientGP",
        "amortized": "bo_invert.strategies.amortized:Amortized",
        "then": "bo_invert.strategies.then:Then",
        "polish": "bo_invert.strategies.polish:Polish",
        "differential_evolution": f"{_PEERS}.scipy:DifferentialEvolution",
        "dual_annealing": f"{_PEERS}.scipy:DualAnnealing",
        "scipy_least_squares": f"{_PEERS}.scipy:SciPyLeastSquares",
        "botorch": "bo_invert.strategies.peers.botorch:BoTorch",
        "optuna": "bo_invert.strategies.peers.optuna:Optuna",
        "nevergrad": "bo_invert.strategies.peers.nevergrad:Nevergrad",
        "trust_bo": "bo_invert.strategies.peers.trust_bo:TrustBO",
        "niching_cmaes": "bo_invert.strategies.peers.niching_cmaes:NichingCMAES",
        "ribs": "bo_invert.strategies.peers.ribs:Ribs",
    },
    "spaces": {
        "box": "bo_invert.spaces.box:Box",
        "latent": "bo_invert.spaces.latent:Latent",
        "pixels": "bo_invert.spaces.pixels:Pixels",
    },
    "oracles": {
        "function": "bo_invert.oracles.function:Function",
        "torch": "bo_invert.oracles.torch:TorchModule",
        "estimator": "bo_invert.oracles.estimator:Estimator",
        "twin": "bo_invert.oracles.gradient_proxy:GradientProxy",
        "isolated": "bo_invert.oracles.isolated:Isolated",
        "command": "bo_invert.oracles.command:Command",
        "http": "bo_invert.oracles.http:Http",
        "onnx": "bo_invert.oracles.onnx:Onnx",
        "cached": "bo_invert.oracles.cached:Cached",
    },
    "generators": {
        "vae": "bo_invert.generators.vae:VAE",
        "selfies": "bo_invert.generators.selfies.training:SelfiesVAE",
        "gan": "bo_invert.generators.gan:GAN",
    },
    "stores": {
        "memory": "bo_invert.storage.memory:MemoryStore",
        "sql": "bo_invert.storage.sql:SqlStore",
        "http": "bo_invert.service.client:RemoteStore",
    },
    "executors": {
        "serial": "bo_invert.execution.serial:SerialExecutor",
        "threads": "bo_invert.execution.threads:ThreadExecutor",
        "processes": "bo_invert.execution.processes:ProcessExecutor",
        "dask": "bo_invert.execution.dask:DaskExecutor",
        "slurm": "bo_invert.execution.slurm:SlurmExecutor",
    },
    "problems": {
        "digits": "bo_invert.problems.examples.digits:problem",
        "arm": "bo_invert.problems.examples.arm:problem",
        "sine": "bo_invert.problems.examples.sine:problem",
        "hartmann6": "bo_invert.problems.examples.synthetic_functions:hartmann6_problem",
        "mixed": "bo_invert.problems.examples.mixed:problem",
        "shell": "bo_invert.problems.examples.nanosphere_shell:problem",
        "ackley10": "bo_invert.problems.examples.synthetic_functions:ACKLEY10.problem",
        "levy16": "bo_invert.problems.examples.synthetic_functions:LEVY16.problem",
        "rosenbrock8": "bo_invert.problems.examples.synthetic_functions:ROSENBROCK8.problem",
        "branin25": "bo_invert.problems.examples.synthetic_functions:branin25_problem",
        "mixed_ackley": "bo_invert.problems.examples.mixed:mixed_ackley_problem",
        "molecules": "bo_invert.problems.examples.molecules:problem",
        "airfoil": "bo_invert.problems.examples.airfoil:problem",
    },
}

REMOVED: dict[str, dict[str, str]] = {
    "strategies": {
        "o3": "strategy 'o3' was removed in version 0.1.0: a benchmark found it on no task better "
        "than both 'auto' and 'prior'. Use 'auto'.",
    },
}
"""Removed names by kind: the version, the reason and the replacement. Stored studies with such a
strategy stay readable."""


def names(kind: str) -> list[str]:
    """Return the names of a kind, built in or installed, in alphabetical order."""
    return sorted({*BUILTIN[kind], *_entry_points(kind)})


def resolve(kind: str, name: str) -> Any:
    """Import the object of a name.

    Raises:
        InvalidInputError: no object of that kind has this name.
    """
    missing = why_missing(kind, name)
    if missing:
        raise InvalidInputError(missing)
    if name in BUILTIN[kind]:
        module, attribute = BUILTIN[kind][name].split(":")
        return attrgetter(attribute)(import_module(module))
    return _entry_points(kind)[name].load()


def why_missing(kind: str, name: str) -> str:
    """Return the reason why no object has a name; empty if one has it. Imports nothing."""
    if name in BUILTIN[kind] or name in _entry_points(kind):
        return ""
    if name in REMOVED.get(kind, {}):
        return REMOVED[kind][name]
    hint, known = did_you_mean(name, names(kind)), ", ".join(names(kind))
    return f"no {kind} named {name!r}{hint} Known: {known}."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name, with the most similar known one."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def _entry_points(kind: str) -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=f"bo_invert.{kind}")}
