"""Calibration of measured latents: repeated rows, few rows, nearly singular and many codes."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.generators import latent_plausibility
from bo_invert.generators.data_plausibility import fit_data_prior
from bo_invert.generators.latent_plausibility import Measure, fit_measure
from bo_invert.generators.mixture_em import fit_mixture
from bo_invert.generators.repeated_rows import grouped_folds, row_groups
from bo_invert.types import Array

Draw = Callable[[int, np.random.Generator], Array]


def normal(d: int) -> Draw:
    return lambda n, rng: rng.standard_normal((n, d))


def clusters(d: int) -> Draw:
    centres = 2.0 * np.random.default_rng(7).standard_normal((4, d))
    return lambda n, rng: centres[rng.integers(4, size=n)] + 0.6 * rng.standard_normal((n, d))


def singular(rank: int, d: int, noise: float) -> Draw:
    basis = np.random.default_rng(8).standard_normal((rank, d))
    return lambda n, rng: (
        rng.standard_normal((n, rank)) @ basis + noise * rng.standard_normal((n, d))
    )


def video(n: int, rng: np.random.Generator) -> Array:
    """Return n frames of clips of 20: each moves slowly."""
    starts = np.repeat(rng.standard_normal((n // 20, 8)), 20, axis=0)
    steps = 0.02 * rng.standard_normal((n // 20, 20, 8)).cumsum(axis=1)
    return starts + steps.reshape(-1, 8)


def outside(measure: Measure, draw: Draw, level: float = 0.01) -> float:
    """Return the share of new codes of a plausibility of at most ``level``."""
    fresh = measure.whiten(draw(4000, np.random.default_rng(99)))
    return float((measure.reference.plausibility(fresh) <= level).mean())


def own(measure: Measure) -> float:
    """Return the share of draws of the measure itself of a plausibility of at most 1 %."""
    drawn = measure.reference.sample(np.random.default_rng(98), 4000)
    return float((measure.reference.plausibility(drawn) <= 0.01).mean())


def beyond(measure: Measure, draw: Draw) -> float:
    """Return the share of new codes outside the ball of 99 %."""
    fresh = measure.whiten(draw(4000, np.random.default_rng(99)))
    return float((np.linalg.norm(fresh, axis=1) > measure.radius(0.99)).mean())


@pytest.mark.parametrize("draw", [normal(8), clusters(8)], ids=["normal", "clusters"])
@pytest.mark.parametrize(
    ("copies", "noise"), [(1, 0.0), (3, 0.0), (3, 1e-6), (3, 1e-2), (10, 2e-2)]
)
def test_copies_change_no_calibration(draw: Draw, copies: int, noise: float) -> None:
    rng = np.random.default_rng(0)
    codes = draw(300, rng)
    changed = [codes + noise * rng.standard_normal(codes.shape) for _ in range(copies - 1)]
    measure = fit_measure(np.concatenate([codes, *changed]))
    assert outside(measure, draw) < 0.05  # 0.1 to 0.3 if copies are held out
    assert outside(measure, draw, 0.1) == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize(("d", "noise"), [(8, 0.15), (16, 0.3), (32, 0.5)])
def test_noise_of_copies_up_to_the_distance_of_codes(d: int, noise: float) -> None:
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((200, d))
    copies = [codes + noise * rng.standard_normal(codes.shape) for _ in range(4)]
    measure = fit_measure(np.concatenate([codes, *copies]))
    assert outside(measure, normal(d)) < 0.05  # 0.3 to 0.5 if copies are held out


def test_frames_of_a_video_are_in_one_fold() -> None:
    codes = video(1200, np.random.default_rng(0))
    groups = row_groups(codes)
    assert all(len(set(clip)) == 1 for clip in groups.reshape(60, 20))
    folds = grouped_folds(groups, 5, np.random.default_rng(0))
    assert all(len(set(clip)) == 1 for clip in folds.reshape(60, 20))
    assert sorted(set(folds)) == [0, 1, 2, 3, 4]
    assert outside(fit_measure(codes), video) < 0.03


@pytest.mark.parametrize("d", [1, 2, 8, 32])
@pytest.mark.parametrize("kind", ["normal", "uniform", "heavy", "grid"])
def test_different_rows_have_different_groups(kind: str, d: int) -> None:
    rng = np.random.default_rng(d)
    rows = {
        "normal": rng.standard_normal((300, d)),
        "uniform": rng.random((300, d)),
        "heavy": rng.standard_t(2.5, size=(300, d)),
        "grid": rng.integers(0, 9, size=(300, d)).astype(float),
    }[kind]
    assert len(np.unique(row_groups(rows))) == len(np.unique(rows, axis=0))


def test_clusters_are_no_copies() -> None:
    rng = np.random.default_rng(0)
    tight = 0.01 * rng.standard_normal((100, 8))
    rows = np.concatenate([rng.standard_normal((200, 8)), 5.0 + tight])
    assert len(np.unique(row_groups(rows))) == 300
    copied = np.concatenate([rows, rows + 1e-6 * rng.standard_normal(rows.shape)])
    assert len(np.unique(row_groups(copied))) == 300


def test_boxes_with_copies_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    rows = 0.5 + 0.1 * rng.standard_normal((30, 8))
    fresh = 0.5 + 0.1 * rng.standard_normal((4000, 8))
    prior = fit_data_prior(np.concatenate([rows, rows + 1e-6 * rng.standard_normal((30, 8))]))
    once = fit_data_prior(rows)
    assert (prior.plausibility(fresh) <= 0.1).mean() < (
        once.plausibility(fresh) <= 0.1
    ).mean() + 0.1


@pytest.mark.parametrize("n", [20, 30, 60])
def test_few_codes_are_calibrated_on_average(n: int) -> None:
    found = [fit_measure(normal(8)(n, np.random.default_rng(s)), s) for s in range(20)]
    assert np.mean([outside(one, normal(8)) for one in found]) < 0.03
    assert np.mean([outside(one, normal(8), 0.1) for one in found]) == pytest.approx(0.1, abs=0.05)
    assert np.mean([beyond(one, normal(8)) for one in found]) < 0.03
    assert np.mean([own(one) for one in found]) < 0.02


@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-6, 1e-3, 1e-2])
@pytest.mark.parametrize("n", [100, 500])
def test_nearly_singular_codes_are_calibrated(noise: float, n: int) -> None:
    draw = singular(3, 32, noise)
    measure = fit_measure(draw(n, np.random.default_rng(0)))
    assert outside(measure, draw) < 0.03
    assert own(measure) < 0.03
    codes = measure.color(measure.reference.sample(np.random.default_rng(1), 200))
    spread = draw(2000, np.random.default_rng(2)).std(axis=0)
    assert np.allclose(codes.std(axis=0) / spread, 1.0, atol=0.35)


def test_constant_coordinates_stay_constant() -> None:
    codes = np.concatenate([normal(3)(400, np.random.default_rng(0)), np.ones((400, 2))], axis=1)
    measure = fit_measure(codes)
    drawn = measure.color(measure.reference.sample(np.random.default_rng(1), 100))
    assert np.abs(drawn[:, 3:] - 1.0).max() < 1e-4
    assert own(measure) < 0.03


def test_many_codes_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A curved manifold is the slowest of the examined data: it needs 16 components."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((9, 16))

    def curved(n: int, rng: np.random.Generator) -> Array:
        t = rng.uniform(-3.0, 3.0, size=(n, 3))
        shaped = np.concatenate([np.sin(t), np.cos(2.0 * t), t**2 / 3.0], axis=1)
        return np.asarray(shaped @ basis + 0.1 * rng.standard_normal((n, 16)))

    sizes = []

    def noting(points: Array, *arguments: Any, **options: Any) -> Any:
        sizes.append(len(points))
        return fit_mixture(points, *arguments, **options)

    monkeypatch.setattr(latent_plausibility, "fit_mixture", noting)
    codes = curved(10_000, rng)
    space = bi.Latent(lambda z: z, 16, codes=codes)
    assert max(sizes) == 2000
    assert len(sizes) == 7  # one fit of each candidate, without folds
    assert space.measure is not None
    assert outside(space.measure, curved) < 0.02
    assert outside(space.measure, curved, 0.1) == pytest.approx(0.1, abs=0.03)
    copies = np.concatenate([codes[:3000]] * 3)
    assert outside(fit_measure(copies), curved) < 0.03


def test_inversion_and_fit_show_their_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    designs = np.random.default_rng(0).standard_normal((12, 3))
    bi.Latent(torch.nn.Linear(2, 3), 2, data=designs)
    assert shown.getvalue() == ""
    bi.Latent(torch.nn.Linear(2, 3), 2, data=designs, progress=True)
    assert "inverting designs" in shown.getvalue()
    assert "fitting the latent prior" in shown.getvalue()
