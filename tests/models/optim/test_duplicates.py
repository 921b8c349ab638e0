"""Tests of the filter of duplicates: designs that a decoder returns for many points."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.domains.box_domain import BoxDomain
from bo_invert.models.optim.duplicates import DuplicateFilter
from bo_invert.types import JSON, Array

_MIXING = np.random.default_rng(7).standard_normal((4, 4))
_WANTED = np.array([3, 0, 2, 4])


def _levels(codes: Array) -> Array:
    return np.clip(np.round(codes @ _MIXING) + 2.0, 0.0, 4.0)


def _text(codes: Array) -> list[str]:
    return ["".join("abcde"[int(i)] for i in row) for row in _levels(codes)]


class Counted:
    """Loss of designs that counts the evaluations of each."""

    def __init__(self) -> None:
        self.designs: Counter[Any] = Counter()

    def __call__(self, design: Any) -> float:
        levels = (
            ["abcde".index(letter) for letter in design]
            if isinstance(design, str)
            else np.ravel(design)
        )
        self.designs[tuple(levels)] += 1
        return float(((np.asarray(levels) - _WANTED) ** 2).sum())


_PLAIN: JSON = {"kernel": "matern", "warp": False}


@pytest.mark.parametrize(
    ("strategy", "options", "decoder"),
    [
        ("auto", {}, _text),
        ("gp", _PLAIN, _levels),
        ("turbo", _PLAIN, _text),
        ("pcn", {"steps": 30}, _levels),
    ],
    ids=["auto", "gp", "turbo", "pcn"],
)
@pytest.mark.slow
def test_equal_designs_are_rarely_evaluated_twice(
    strategy: str, options: Any, decoder: Any
) -> None:
    oracle = Counted()
    problem = bi.Problem(bi.Latent(decoder, 4), oracle, bi.Minimize())
    study = bi.Study.create("designs", problem, strategy, seed=1, **options)
    study.run(budget=16)
    assert oracle.designs.total() == 16
    # Repetitions show only after the first ones. Without the filter, half of all calls repeat.
    assert len(oracle.designs) >= 14
    assert study.best is not None
    assert study.best.loss is not None
    assert study.best.loss <= 1.0


def test_names_identify_designs() -> None:
    points = np.array([[0.1, 0.0, 0.0, 0.0], [0.1001, 0.0, 0.0, 0.0], [2.0, -1.0, 0.5, 1.0]])
    for decoder in (
        _levels,
        _text,
        lambda codes: [{"levels": row.tolist()} for row in _levels(codes)],
    ):
        identify = bi.Latent(decoder, 4).identify
        assert identify is not None
        names = identify(points)
        assert names[0] == names[1] != names[2]
    assert bi.Latent(lambda codes: [object() for _ in codes], 4).identify is None
    signed = bi.Latent(lambda codes: np.where(codes > 0.05, 0.0, -0.0), 4).identify
    assert signed is not None
    assert len(set(signed(points))) == 1


def test_designs_are_decoded_on_demand() -> None:
    decoded: list[int] = []

    def identify(points: Array) -> list[str]:
        decoded.append(len(points))
        return [str(round(point[0])) for point in points]

    points = np.linspace(0.0, 9.0, 2000)[:, None]
    spacing = DuplicateFilter(BoxDomain("box", 1, {}), identify=identify)
    found = spacing.select_new(points, points[:1], 1)
    assert round(float(found[0, 0])) == 1
    assert sum(decoded) < 200
