"""The nanosphere: its spectra are those of an independent program."""

from __future__ import annotations

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.problems.examples import nanosphere_shell as shell
from bo_invert.types import Query

#: Thicknesses (nm), and the spectrum at 400, 500, 600, 700 and 800 nm.
REFERENCE = [
    ([50.0] * 8, [2.51315753283, 2.94966389628, 2.58684063688, 3.54830796939, 3.99548302128]),
    (
        [30.2, 54.6, 69.4, 51.5, 33.7, 54.1, 59.5, 51.4],
        [2.66779475264, 2.79421941949, 2.26872026826, 3.27379474117, 3.80570860167],
    ),
    (
        [39.1, 64.3, 39.2, 58.2, 67.5, 37.4, 31.4, 33.8],
        [2.64745631924, 2.75039702878, 3.31598178889, 3.61185545498, 3.8656945163],
    ),
    (
        [60.7, 67.9, 42.7, 31.7, 47.6, 31.7, 56.3, 55.0],
        [2.21446552693, 2.95083984049, 2.97786619243, 4.04607584608, 4.15461100205],
    ),
]


def test_spectra_are_those_of_the_reference() -> None:
    found = shell.spectrum([thickness for thickness, _ in REFERENCE])
    assert found.shape == (4, 201)
    assert found[:, ::50] == pytest.approx(np.array([values for _, values in REFERENCE]), rel=1e-11)


def test_one_material_throughout_is_one_sphere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interfaces between equal media must change nothing, however the sphere is cut."""
    monkeypatch.setattr(shell, "_PERMITTIVITY", np.stack([*[shell._TITANIA] * 8, shell._WATER]))
    cut = shell.spectrum([[30.0, 70.0, 40.0, 60.0, 35.0, 65.0, 45.0, 55.0], [50.0] * 8])
    assert cut[0] == pytest.approx(cut[1], rel=1e-9)


def test_targets_are_reached_by_their_designs() -> None:
    designs, reached = shell.designs(2, seed=5), shell.targets(2, seed=5)
    assert designs.min() >= 30.0
    assert designs.max() <= 70.0
    problem = bi.ready_problem("shell", target=reached[0])
    losses = [
        o.loss for o in problem.evaluate([Query(point) for point in problem.space.encode(designs)])
    ]
    assert losses[0] == pytest.approx(0.0, abs=1e-18)
    assert losses[1] == pytest.approx(((reached[1] - reached[0]) ** 2).mean())


def test_the_seed_draws_the_target() -> None:
    assert bi.ready_problem("shell", seed=3).objective.value == tuple(shell.targets(1, seed=3)[0])
    assert (
        bi.ready_problem("shell", seed=3).objective.value
        != bi.ready_problem("shell", seed=4).objective.value
    )
