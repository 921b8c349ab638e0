"""Probability that normal outputs meet a target."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

import bo_invert as bi
from bo_invert.models.inverse.target_region import TargetRegion, log_probability
from bo_invert.models.output_transforms import ModelledOutputs


def region_of(objective: bi.Target, constraints: list[str], **options: object) -> TargetRegion:
    box = bi.Box([0.0], [1.0])
    problem = bi.Problem(
        box, lambda x: np.zeros(3), objective, outputs=["a", "b", "c"], constraints=constraints
    )
    y = np.random.default_rng(0).normal(size=(8, 3))
    outputs = ModelledOutputs(problem.statement, y, np.asarray(problem.objective.loss(y)))
    return TargetRegion.of(outputs, **options)  # type: ignore[arg-type]


MEAN = torch.tensor([[0.2, -0.4, 0.9], [2.0, 1.0, -1.0]], dtype=torch.float64)
STD = torch.tensor([[0.5, 0.8, 0.3], [0.1, 0.7, 2.0]], dtype=torch.float64)
EVERY = bi.Target(
    {"a": 0.3, "b": (-1.0, None)},
    tolerance={"a": 0.2, "b": 0.25, "c": 0.25},
    avoid={"c": (0.8, 1.4)},
)


def test_acceptance_is_the_probability_of_all_entries() -> None:
    region = region_of(EVERY, ["a <= 0.5"])
    drawn = (
        MEAN + STD * torch.randn(400_000, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    )
    # Entries count as independent, also two of the same output.
    picked = [
        (drawn[..., 0] - 0.3).abs() <= 0.2, drawn[..., 1] >= -1.25,
        (drawn[..., 2] <= 1.05) | (drawn[..., 2] >= 1.15), drawn[..., 0] <= 0.5,
    ]  # fmt: skip
    expected = np.prod([one.double().mean(0).numpy() for one in picked], axis=0)
    found = region.log_acceptance(MEAN, STD).exp().numpy()
    assert found == pytest.approx(expected, abs=3e-3)
    assert region.acceptance(MEAN, STD).numpy() == pytest.approx(found, rel=1e-9)


def test_contains_agrees_with_the_target() -> None:
    region, target = region_of(EVERY, []), EVERY.bind(["a", "b", "c"])
    values = torch.tensor(np.random.default_rng(1).normal(size=(500, 3)))
    expected = [target.satisfied(row) for row in values.numpy()]
    assert region.contains(values).tolist() == expected
    assert 0 < sum(expected) < 500


def test_tolerance_is_used_for_a_target_without_one() -> None:
    region = region_of(bi.Target({"a": 0.3}), [], tolerance=0.5)
    assert (float(region.lower[0]), float(region.upper[0])) == (-0.2, 0.8)
    own = region_of(bi.Target({"a": 0.3}, tolerance=0.1), [], tolerance=0.5)
    assert float(own.upper[0]) == 0.4
    mixed = region_of(bi.Target({"a": 0.3, "b": (0.0, 1.0)}), [], tolerance=0.5)
    assert mixed.upper.tolist() == [0.8, 1.0]  # a range has a width of its own


def test_measurement_noise_gives_the_expected_likelihood() -> None:
    region = region_of(bi.Target({"a": 0.3, "b": 1.0}), [], noise=(0.2, 0.4))
    mean, std = MEAN.numpy(), STD.numpy()
    expected = sum(
        norm.logpdf(y, mean[:, j], np.hypot(std[:, j], r)) - norm.logpdf(0.0, 0.0, r)
        for j, (y, r) in enumerate([(0.3, 0.2), (1.0, 0.4)])
    )
    assert region.log_acceptance(MEAN, STD).numpy() == pytest.approx(np.asarray(expected))


@pytest.mark.parametrize(("low", "high"), [(8.0, 9.0), (-9.0, -8.0), (30.0, math.inf), (1.0, 1.1)])
def test_log_probability_is_exact_in_the_tails(low: float, high: float) -> None:
    ends = torch.tensor([low], dtype=torch.float64), torch.tensor([high], dtype=torch.float64)
    symmetric = sorted([-low, -high]) if low > 0 else [low, high]
    expected = norm.logcdf(symmetric[1]) + np.log1p(
        -np.exp(norm.logcdf(symmetric[0]) - norm.logcdf(symmetric[1]))
    )
    assert float(log_probability(*ends)) == pytest.approx(float(expected), rel=1e-9)
