"""Tests of energy distance, precision, coverage and the remark on lost modes."""

from __future__ import annotations

import numpy as np
import pytest

from bo_invert.generators.scores import energy_distance, fidelity, lost_modes

MODES = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])


def clusters(n: int, seed: int, modes: np.ndarray = MODES) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return modes[rng.integers(len(modes), size=n)] + 0.3 * rng.standard_normal((n, 2))


def test_energy_distance_agrees_with_its_definition() -> None:
    one, other = np.array([[0.0], [2.0]]), np.array([[1.0], [4.0]])
    assert energy_distance(one, other) == pytest.approx(2 * (1 + 4 + 1 + 2) / 4 - 2 - 3)


def test_energy_distance_is_zero_for_one_distribution_and_grows_with_a_shift() -> None:
    real = clusters(800, 0)
    assert abs(energy_distance(real, clusters(800, 1))) < 0.02
    shifts = [energy_distance(real, clusters(800, 1) + shift) for shift in (0.2, 0.5, 1.0)]
    assert shifts == sorted(shifts)
    assert shifts[0] > 0.02


def test_fidelity_of_one_distribution() -> None:
    figures = fidelity(clusters(400, 0), clusters(1600, 1))
    assert figures["precision"] > 0.95
    assert figures["coverage"] == pytest.approx(1 - 0.5**5, abs=0.02)


def test_a_lost_mode_lowers_coverage_and_noise_lowers_precision() -> None:
    real = clusters(400, 0)
    lost = fidelity(real, clusters(1600, 1, MODES[:1]))
    assert lost["precision"] > 0.95
    assert lost["coverage"] < 0.3
    noise = fidelity(real, np.random.default_rng(0).uniform(-6, 6, (1600, 2)))
    assert noise["precision"] < 0.3


def test_lost_modes_give_a_remark() -> None:
    assert lost_modes({"coverage": 0.9, "coverage_of_real": 0.97}) == ()
    (remark,) = lost_modes({"coverage": 0.2, "coverage_of_real": 0.97})
    assert remark.startswith("mode collapse: draws cover 20% of the held-out designs")


def test_fidelity_accepts_few_designs() -> None:
    assert set(fidelity(clusters(3, 0), clusters(2, 1))) == {"precision", "coverage"}
