"""Tasks of ``inverse_posterior.py``: problems with reference samples of their posterior.

Two tasks are deterministic: the sine waves and the robot arm, whose reference samples are the draws
of the reference measure whose outputs are within the tolerance. The others are stochastic
simulators of the benchmark of Lueckmann et al. 2021, "Benchmarking simulation-based inference".
Observations and reference samples are files of its package: ``pip install --no-deps sbibm``.
"""

from __future__ import annotations

import bz2
import importlib.util
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

import bo_invert as bi
from bo_invert.problems.examples import arm, sine
from bo_invert.types import Array

TOLERANCE = 0.05
"""Accepted deviation of the outputs of deterministic tasks, as in ``inverse_coverage.py``."""
REFERENCE = 10_000
"""Number of reference samples of a deterministic task."""
SPREAD = math.sqrt(0.1)
"""Standard deviation of the noise of ``gaussian_linear_uniform``."""
Simulate = Callable[[Array, np.random.Generator], Array]


@dataclass(frozen=True)
class Task:
    """Simulator with a prior.

    Args:
        dim: Number of parameters d.
        outputs: Names of the c outputs.
        simulate: Function from parameters ``(n, d)`` and a generator to outputs ``(n, c)``.
        upper: Half width of the box of a uniform prior, shape ``(d,)``; None for a normal prior.
        factor: Matrix A of the parameters A z of a normal prior, z ~ N(0, I), shape ``(d, d)``.
        statistic: Function from observations of the benchmark to outputs ``(1, c)``.
        stochastic: Repeated calls differ.
    """

    dim: int
    outputs: tuple[str, ...]
    simulate: Simulate
    upper: Array | None = None
    factor: Array | None = None
    statistic: Callable[[Array], Array] = lambda raw: raw
    stochastic: bool = True

    def prior(self, rng: np.random.Generator, n: int) -> Array:
        """Draw n parameters ``(n, d)``."""
        if self.upper is not None:
            return rng.uniform(-self.upper, self.upper, (n, self.dim))
        assert self.factor is not None
        return rng.standard_normal((n, self.dim)) @ self.factor.T

    def space(self) -> bi.Box | bi.Latent:
        """Return the box of a uniform prior, or the whitened space of a normal one."""
        if self.upper is not None:
            return bi.Box(-self.upper, self.upper)
        factor = self.factor
        assert factor is not None
        return bi.Latent(lambda z: np.asarray(z) @ factor.T, self.dim)

    def problem(self, value: Array) -> bi.Problem:
        """Return the problem of an observation ``(c,)``, without an oracle."""
        tolerance = 0.0 if self.stochastic else TOLERANCE
        target = bi.Target(value.tolist(), tolerance=tolerance)
        return bi.Problem(self.space(), None, target, outputs=list(self.outputs))


def _two_moons(x: Array, rng: np.random.Generator) -> Array:
    """A crescent of radius N(0.1, 0.01^2) at (-|x0 + x1|, x1 - x0) / sqrt(2) + (0.25, 0)."""
    angle = rng.uniform(-math.pi / 2, math.pi / 2, len(x))
    radius = rng.normal(0.1, 0.01, len(x))
    moon = np.stack([radius * np.cos(angle) + 0.25, radius * np.sin(angle)], 1)
    shift = np.stack([-np.abs(x.sum(1)), x[:, 1] - x[:, 0]], 1) / math.sqrt(2.0)
    return np.asarray(moon + shift)


def _gaussian_mixture(x: Array, rng: np.random.Generator) -> Array:
    """Normal noise with the standard deviation 1 or 0.1, with equal probability."""
    scale = np.where(rng.random((len(x), 1)) < 0.5, 1.0, 0.1)
    return np.asarray(x + scale * rng.standard_normal(x.shape))


def _gaussian_linear(x: Array, rng: np.random.Generator) -> Array:
    return np.asarray(x + SPREAD * rng.standard_normal(x.shape))


def _slcp(x: Array, rng: np.random.Generator) -> Array:
    """Four draws of a 2-d normal distribution: mean x0, x1; deviations x2^2, x3^2; tanh x4."""
    normals = rng.standard_normal((len(x), 4, 2))
    first, second, rho = x[:, 2, None] ** 2, x[:, 3, None] ** 2, np.tanh(x[:, 4, None])
    mixed = rho * normals[..., 0] + np.sqrt(1.0 - rho**2) * normals[..., 1]
    draws = np.stack(
        [x[:, 0, None] + first * normals[..., 0], x[:, 1, None] + second * mixed], axis=2
    )
    return draws.reshape(len(x), 8)


def _slcp_statistic(raw: Array) -> Array:
    """Return means, log variances and Fisher's z of the correlation: sufficient statistics."""
    draws = raw.reshape(-1, 4, 2)
    mean, off = draws.mean(1), draws - draws.mean(1, keepdims=True)
    variance = (off**2).mean(1) + 1e-12
    correlation = (off[..., 0] * off[..., 1]).mean(1) / np.sqrt(variance.prod(1))
    angle = np.arctanh(np.clip(correlation, -1 + 1e-6, 1 - 1e-6))
    return np.column_stack([mean, np.log(variance), angle])


@cache
def _stimulus() -> tuple[Array, Array]:
    """Return the matrix ``(100, 10)`` of a frozen input, and the factor A of the prior."""
    stimulus = np.random.RandomState(42).randn(100)  # frozen in the benchmark
    design = np.zeros((100, 10))
    design[:, 0] = 1.0
    for lag in range(9):
        design[lag:, lag + 1] = stimulus[: 100 - lag]
    rough = np.eye(9) - np.diag(np.ones(8), -1)
    smooth = rough @ rough + np.diag(np.sqrt(np.arange(9) / 9))
    precision = np.zeros((10, 10))
    precision[0, 0], precision[1:, 1:] = 0.5, smooth.T @ smooth
    return design, np.linalg.cholesky(np.linalg.inv(precision))


def _bernoulli(x: Array, rng: np.random.Generator) -> Array:
    """Number of spikes and spike-triggered sums of a logistic model: sufficient statistics."""
    design, _ = _stimulus()
    spikes = rng.random((len(x), 100)) < 1.0 / (1.0 + np.exp(-x @ design.T))
    return np.asarray(spikes @ design)


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"y{j}" for j in range(count))


@cache
def task(name: str) -> Task:
    """Return a task by its name."""
    if name == "sine":
        return Task(2, ("y",), lambda x, _: sine.waves(x), np.ones(2), stochastic=False)
    if name == "arm":
        return Task(
            4, ("across", "along"), lambda x, _: np.asarray(arm.tip(x)), arm.UPPER, stochastic=False
        )
    if name == "two_moons":
        return Task(2, _names(2), _two_moons, np.ones(2))
    if name == "gaussian_mixture":
        return Task(2, _names(2), _gaussian_mixture, np.full(2, 10.0))
    if name == "gaussian_linear_uniform":
        return Task(10, _names(10), _gaussian_linear, np.ones(10))
    if name == "slcp":

        def simulate(x: Array, rng: np.random.Generator) -> Array:
            return _slcp_statistic(_slcp(x, rng))

        return Task(5, _names(5), simulate, np.full(5, 3.0), statistic=_slcp_statistic)
    if name == "bernoulli_glm":
        return Task(10, _names(10), _bernoulli, factor=_stimulus()[1])
    raise ValueError(f"unknown task {name!r}")


TASKS = (
    "sine", "arm", "two_moons", "gaussian_mixture", "gaussian_linear_uniform", "slcp",
    "bernoulli_glm",
)  # fmt: skip


@cache
def observed(name: str, number: int) -> tuple[Array, Array]:
    """Return an observation ``(c,)`` and reference samples ``(r, d)`` of its posterior.

    Args:
        name: Name of the task.
        number: Number of the observation, from 1 to 10.
    """
    made = task(name)
    if made.stochastic:
        value = made.statistic(_file(name, number, "observation.csv"))[0]
        return value, _file(name, number, "reference_posterior_samples.csv.bz2")
    rng = np.random.default_rng([number, 5])
    # The truth lies anywhere within the tolerance of the observation.
    value = made.simulate(made.prior(rng, 1), rng)[0]
    value = value + rng.uniform(-TOLERANCE, TOLERANCE, len(value))
    found: list[Array] = []
    while sum(map(len, found)) < REFERENCE:
        drawn = made.prior(rng, 500_000)
        inside = np.abs(made.simulate(drawn, rng) - value) <= TOLERANCE
        found.append(drawn[inside.all(1)])
    return value, np.concatenate(found)[:REFERENCE]


def _file(name: str, number: int, which: str) -> Array:
    spec = importlib.util.find_spec("sbibm")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("The reference samples need `pip install --no-deps sbibm`.")
    folder = Path(spec.submodule_search_locations[0]) / "tasks" / name / "files"
    data = (folder / f"num_observation_{number}" / which).read_bytes()
    text = (bz2.decompress(data) if which.endswith("bz2") else data).decode()
    return np.loadtxt(io.StringIO(text), delimiter=",", skiprows=1, ndmin=2)
