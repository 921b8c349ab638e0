"""Six problems of mixed parameters with known optima; each run draws its own instance.

The rule was written before any search ran on a drawn problem. An instance is a function of the
set's seed, the problem and the seed of the run. All losses are 0 at the optimum, which is unique in
the categories; the best design of any other category has at least ``GAP``.

- ``twelve``: a choice of 12, three floats and two integers. The categories have the offsets 0, 1/6,
  ..., 11/6 in random order, and each has its own place of the optimum.
- ``two choices``: choices of 5 and 6, three floats. The first one has offsets and places, the
  second one has offsets.
- ``fifty``: a choice of 50 and two floats. Offsets are uniform in [GAP, 1.5]; all categories share
  the place.
- ``conditional``: a choice of 3 and one common float; each category has an integer and two floats
  of its own, which have no effect in the others.
- ``choices only``: six choices of 4 to 6 values. Each wrong value costs its own amount, and three
  pairs of choices cost more if exactly one of them is right.
- ``interacting``: two choices of 6, two floats and an integer. The offset of each of the 36 pairs
  is drawn, so that neither choice has an effect of its own beyond chance.

Development uses any seed except ``ACCEPTANCE_SEED``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import bo_invert as bi
from bo_invert.types import Array

DEVELOPMENT_SEED = 2
#: Draws the instances of the published results; no search ran on them before.
ACCEPTANCE_SEED = 20261130

#: Least loss of a wrong category.
GAP = 1.0 / 6.0
WHOLE = (0, 10)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, eq=False)
class Instance:
    """Loss of a design: the offset of its categories, plus squared distances from a place.

    Args:
        parameters: parameters by name.
        choices: names of the choices, in the order of the axes of ``offsets``.
        offsets: loss of each combination of values, an array with one axis per choice.
        places: unit coordinates of the optimum, one row per value of the first choice; NaN where a
            parameter has no effect.
        numbers: names of floats and integers, in the order of the columns of ``places``.
    """

    parameters: Mapping[str, Any]
    choices: tuple[str, ...]
    offsets: Array
    places: Array
    numbers: tuple[str, ...] = ()

    def __call__(self, design: Mapping[str, Any]) -> float:
        index = tuple(self.parameters[name].values.index(design[name]) for name in self.choices)
        unit = [
            (design[name] - self.parameters[name].low)
            / (self.parameters[name].high - self.parameters[name].low)
            for name in self.numbers
        ]
        distances = np.square(np.array(unit) - self.places[index[0]])
        return float(self.offsets[index] + np.nansum(distances))

    @property
    def categories(self) -> dict[str, str]:
        """Values of the choices at the optimum."""
        best = np.unravel_index(int(np.argmin(self.offsets)), self.offsets.shape)
        return {
            name: self.parameters[name].values[i]
            for name, i in zip(self.choices, best, strict=True)
        }


def _values(count: int) -> bi.Choice:
    names = LETTERS if count <= len(LETTERS) else [f"v{i:02d}" for i in range(count)]
    return bi.Choice(*names[:count])


def _numbers(floats: int, integers: int) -> dict[str, Any]:
    reals = {f"x{i}": bi.Float(0.0, 1.0) for i in range(floats)}
    return reals | {f"n{i}": bi.Int(*WHOLE) for i in range(integers)}


def _places(rng: np.random.Generator, rows: int, numbers: Mapping[str, Any]) -> Array:
    """Draw a place per row inside the box; integers lie on whole numbers."""
    places = rng.uniform(0.1, 0.9, size=(rows, len(numbers)))
    whole = [isinstance(one, bi.Int) for one in numbers.values()]
    span = WHOLE[1] - WHOLE[0]
    return np.where(whole, np.rint(places * span) / span, places)


def twelve(rng: np.random.Generator) -> Instance:
    numbers = _numbers(3, 2)
    offsets = rng.permutation(12) / 6.0
    return Instance(
        {**numbers, "kind": _values(12)}, ("kind",), offsets, _places(rng, 12, numbers),
        tuple(numbers),
    )  # fmt: skip


def two_choices(rng: np.random.Generator) -> Instance:
    numbers = _numbers(3, 0)
    first, second = (GAP * rng.permutation(count) for count in (5, 6))
    return Instance(
        {**numbers, "kind": _values(5), "material": _values(6)}, ("kind", "material"),
        first[:, None] + second, _places(rng, 5, numbers), tuple(numbers),
    )  # fmt: skip


def fifty(rng: np.random.Generator) -> Instance:
    numbers = _numbers(2, 0)
    offsets = rng.uniform(GAP, 1.5, 50)
    offsets[rng.integers(50)] = 0.0
    place = _places(rng, 1, numbers)
    return Instance(
        {**numbers, "kind": _values(50)}, ("kind",), offsets, place.repeat(50, axis=0),
        tuple(numbers),
    )  # fmt: skip


def conditional(rng: np.random.Generator) -> Instance:
    numbers: dict[str, Any] = {"x": bi.Float(0.0, 1.0)}
    for kind in LETTERS[:3]:
        numbers |= {f"{name}_{kind}": one for name, one in _numbers(2, 1).items()}
    places = _places(rng, 1, numbers).repeat(3, axis=0)
    for row, kind in enumerate(LETTERS[:3]):
        inactive = [name != "x" and not name.endswith(f"_{kind}") for name in numbers]
        places[row, inactive] = np.nan
    return Instance(
        {**numbers, "kind": _values(3)}, ("kind",), GAP * rng.permutation(3), places,
        tuple(numbers),
    )  # fmt: skip


def choices_only(rng: np.random.Generator) -> Instance:
    counts = rng.integers(4, 7, size=6)
    best = rng.integers(0, counts)
    right = [np.arange(count) == b for count, b in zip(counts, best, strict=True)]
    hits = np.meshgrid(*right, indexing="ij")
    offsets = np.zeros(counts)
    for axis, (count, b) in enumerate(zip(counts, best, strict=True)):
        costs = rng.uniform(GAP, 1.0, count)
        costs[b] = 0.0
        offsets += costs.reshape([-1 if i == axis else 1 for i in range(6)])
    for one, other in rng.permutation(6).reshape(3, 2):
        offsets += 0.5 * (hits[one] != hits[other])
    names = tuple(f"c{i}" for i in range(6))
    parameters = {name: _values(int(count)) for name, count in zip(names, counts, strict=True)}
    return Instance(parameters, names, offsets, np.zeros((counts[0], 0)))


def interacting(rng: np.random.Generator) -> Instance:
    numbers = _numbers(2, 1)
    offsets = rng.uniform(GAP, 1.5, (6, 6))
    offsets[tuple(rng.integers(6, size=2))] = 0.0
    return Instance(
        {**numbers, "kind": _values(6), "material": _values(6)}, ("kind", "material"), offsets,
        _places(rng, 1, numbers).repeat(6, axis=0), tuple(numbers),
    )  # fmt: skip


TASKS: dict[str, Callable[[np.random.Generator], Instance]] = {
    "twelve": twelve,
    "two choices": two_choices,
    "fifty": fifty,
    "conditional": conditional,
    "choices only": choices_only,
    "interacting": interacting,
}


@dataclass(frozen=True)
class Source:
    """Picklable function of the seed of a run: an instance of one problem."""

    seed: int
    name: str

    def instance(self, run: int) -> Instance:
        key = (list(TASKS).index(self.name), run)
        return TASKS[self.name](
            np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
        )

    def __call__(self, run: int) -> bi.Problem:
        made = self.instance(run)
        return bi.Problem(
            bi.Box(made.parameters), bi.Function(made, outputs=["y"]), bi.Minimize(), name=self.name
        )

    def categories(self, run: int) -> dict[str, str]:
        """Return the categories of the optimum."""
        return self.instance(run).categories


def sources(seed: int) -> dict[str, Source]:
    """Return the problems of a seed by name."""
    return {name: Source(seed, name) for name in TASKS}
