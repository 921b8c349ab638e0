"""Tests of the local search over choices and integers."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

import bo_invert as bi
from bo_invert.domains.box_domain import box_domain
from bo_invert.models.base import to_unit
from bo_invert.models.optim.discrete_search import climb, discrete_configurations, neighbours
from bo_invert.models.optim.optimize_acquisition import optimize_acquisition
from bo_invert.types import Array

MIXED = box_domain(
    {
        "kind": bi.Choice("a", "b", "c", "d"),
        "x": bi.Float(0.0, 1.0),
        "flag": bi.Choice(True, False),
        "n": bi.Int(1, 5, log=True),
        "size": bi.Choice("s", "m", "l", ordered=True),
    }
)
WIDE = box_domain({"n": bi.Int(-500, 500), "kind": bi.Choice(*(f"v{i}" for i in range(200)))})


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_neighbours_hold_every_change_of_one_parameter() -> None:
    point = MIXED.encode([{"kind": "b", "x": 0.3, "flag": True, "n": 2, "size": "m"}])[0]
    moved = neighbours(MIXED, point, rng())
    assert np.allclose(MIXED.project(moved), moved)
    here = MIXED.values(point[None])[0]
    changes = [
        {name: value for name, value in row.items() if value != here[name]}
        for row in MIXED.values(moved)
    ]
    single = [c for c in changes if len(c) == 1]
    expected = [{"kind": v} for v in "acd"] + [{"flag": False}]
    expected += [{"n": v} for v in (1, 3, 4, 5)] + [{"size": v} for v in "sl"]
    assert len(single) == len(expected)
    assert all(change in single for change in expected)
    pairs = [c for c in changes if len(c) != 1]
    assert pairs
    assert all(len(c) == 2 for c in pairs)
    assert all("x" not in c for c in changes)


def test_parameters_with_many_values_have_near_and_random_moves() -> None:
    point = WIDE.encode([{"n": -500, "kind": "v3"}])[0]
    rows = WIDE.values(neighbours(WIDE, point, rng()))
    single = [row["n"] for row in rows if row["kind"] == "v3"]
    assert {-499, -498} <= set(single)
    assert len(set(single)) <= 6
    assert len(rows) <= 200


def test_climb_reaches_the_best_design_of_interacting_choices() -> None:
    names = [f"c{i}" for i in range(5)]
    domain = box_domain({name: bi.Choice("a", "b", "c") for name in names})
    tables = rng(1).random((4, 3, 3))

    def values(points: Array) -> Array:
        codes = np.array([["abc".index(row[n]) for n in names] for row in domain.values(points)])
        return sum(tables[i, codes[:, i], codes[:, i + 1]] for i in range(4))

    every = [dict(zip(names, v, strict=True)) for v in itertools.product("abc", repeat=5)]
    found = climb(values, domain, domain.uniform(rng(), 8), rng(), rounds=20)
    assert values(found).max() == values(domain.encode(every)).max()


def test_climb_never_descends() -> None:
    def values(points: Array) -> Array:
        return np.sin(37.0 * points @ np.arange(1, points.shape[1] + 1))

    starts = MIXED.uniform(rng(), 6)
    assert (values(climb(values, MIXED, starts, rng(), rounds=2)) >= values(starts)).all()


def test_configurations_ignore_real_coordinates() -> None:
    values = {"kind": "b", "x": 0.3, "flag": True, "n": 2, "size": "m"}
    rows = [values, {**values, "x": 0.9}, {**values, "n": 3}]
    first, second, third = discrete_configurations(MIXED, MIXED.encode(rows))
    assert first == second != third


def test_acquisition_optimum_in_a_rare_configuration() -> None:
    """The best value needs one of 300 configurations and a real coordinate that fits it."""
    best = MIXED.encode([{"kind": "d", "x": 0.777, "flag": False, "n": 4, "size": "l"}])[0]
    unit = torch.tensor(to_unit(MIXED, best[None])[0])

    def score(inputs: Tensor) -> Tensor:
        gap = (inputs - unit).abs()
        real = 50.0 * gap[:, 4] ** 2
        return -real - gap.sum(-1) + gap[:, 4]

    found, _ = optimize_acquisition(score, MIXED, np.empty((0, MIXED.dim)), [], rng(3))
    assert np.allclose(found, best, atol=1e-3)
