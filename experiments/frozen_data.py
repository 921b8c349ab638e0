"""Data sets of frozen_regressors.py: scikit-learn's, and made ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from sklearn import datasets

from bo_invert.types import Array

#: Rows of a made data set, and largest number of rows used of a real one.
ROWS = 800
#: Noise of made outputs, in their standard deviations.
NOISE = 0.1


@dataclass(frozen=True, eq=False)
class Data:
    """Inputs ``(n, d)`` and outputs ``(n, m)`` with their names."""

    x: Array
    y: Array
    names: tuple[str, ...]


def data_of(source: str, outputs: int, rng: np.random.Generator) -> Data:
    """Draw a data set with this number of outputs; see rules 3 and 4 of frozen_regressors.py."""
    x, y = _made(source, outputs, rng) if source in _MADE else _real(source, outputs, rng)
    rows = rng.permutation(len(x))[:ROWS]
    x, y = x[rows], y[rows]
    names = ("y",) if y.shape[1] == 1 else tuple(f"y{j}" for j in range(y.shape[1]))
    return Data(x[:, np.ptp(x, axis=0) > 0], y, names)


def _real(source: str, outputs: int, rng: np.random.Generator) -> tuple[Array, Array]:
    loaded = getattr(datasets, f"load_{source}")()
    x = np.asarray(loaded.data, dtype=float)
    if source == "digits":
        classes = rng.permutation(10)[:outputs]
        return x, (loaded.target[:, None] == classes).astype(float)
    own = [loaded.target[:, None]] if source == "diabetes" else []
    count = outputs - len(own)
    columns = rng.permutation(x.shape[1])
    y = np.concatenate([*own, x[:, columns[:count]]], axis=1)
    return x[:, np.sort(columns[count:])], y


def friedman1(u: Array) -> Array:
    """Compute Friedman's first function of unit inputs ``(n, 10)``; five have no effect."""
    wave = 10.0 * np.sin(np.pi * u[:, 0] * u[:, 1])
    return np.asarray(wave + 20.0 * (u[:, 2] - 0.5) ** 2 + 10.0 * u[:, 3] + 5.0 * u[:, 4])


def _circuit(u: Array) -> tuple[Array, Array]:
    """Return resistance and reactance of Friedman's circuit, for unit inputs ``(n, 4)``."""
    low = np.array([0.0, 40.0 * np.pi, 0.0, 1.0])
    high = np.array([100.0, 560.0 * np.pi, 1.0, 11.0])
    r, w, inductance, capacity = (low + u * (high - low)).T
    return r, w * inductance - 1.0 / (w * capacity)


def friedman2(u: Array) -> Array:
    """Compute Friedman's second function, an impedance, of unit inputs ``(n, 4)``."""
    return np.hypot(*_circuit(u))


def friedman3(u: Array) -> Array:
    """Compute Friedman's third function, a phase angle, of unit inputs ``(n, 4)``."""
    resistance, reactance = _circuit(u)
    return np.arctan2(reactance, resistance)


def sparse(u: Array, rng: np.random.Generator) -> Array:
    """Compute a drawn function of four to eight of the unit inputs ``(n, d)``.

    Each active input has a bump or a wave, and each neighbouring pair a product term.
    """
    active = rng.permutation(u.shape[1])[: rng.integers(4, 9)]
    v = 2.0 * u[:, active] - 1.0
    weights, places = rng.normal(size=len(active)), rng.uniform(-0.8, 0.8, len(active))
    bumps = np.exp(-(((v - places) / 0.5) ** 2))
    waves = np.sin(np.pi * (v - places) * rng.uniform(0.5, 1.5, len(active)))
    single = np.where(rng.random(len(active)) < 0.5, bumps, waves) @ weights
    pairs = (v[:, 1:] * v[:, :-1]) @ rng.normal(size=len(active) - 1)
    return np.asarray(single + pairs)


_MADE = {"friedman1": friedman1, "friedman2": friedman2, "friedman3": friedman3, "sparse": None}


def _made(source: str, outputs: int, rng: np.random.Generator) -> tuple[Array, Array]:
    function = _MADE[source]
    dims = {"friedman1": 10, "friedman2": 4, "friedman3": 4}
    d = dims.get(source) or int(rng.choice([8, 16, 24, 32]))
    # Gaussian copula: unit variances, correlations from a few common factors.
    common = rng.uniform(0.0, 0.8)
    loads = rng.normal(size=(max(1, d // 3), d))
    loads /= np.linalg.norm(loads, axis=0)
    z = np.sqrt(common) * rng.normal(size=(ROWS, len(loads))) @ loads
    u = ndtr(z + np.sqrt(1.0 - common) * rng.normal(size=(ROWS, d)))
    columns = []
    for number in range(outputs):
        roles = np.arange(d) if number == 0 else rng.permutation(d)
        columns.append(sparse(u, rng) if function is None else function(u[:, roles]))
    y = np.stack(columns, axis=1)
    return u, y + NOISE * y.std(axis=0) * rng.normal(size=y.shape)
