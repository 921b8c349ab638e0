"""A GAN learns every mode, says when it does not, and its average moves as it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bo_invert.generators.base import train_generator
from bo_invert.generators.gan import GAN, GANConfig, _Game

MODES = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])


def clusters(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return MODES[rng.integers(len(MODES), size=n)] + 0.3 * rng.standard_normal((n, 2))


@pytest.fixture(scope="module")
def config() -> GANConfig:
    return GANConfig(
        (2,), 2, values="real", hidden=(48, 48), epochs=50, learning_rate=2e-3, penalty=0.2
    )


def test_a_gan_finds_every_mode(config: GANConfig) -> None:
    gan, report = train_generator(clusters(800, 0), config)
    assert isinstance(gan, GAN)
    assert report.figures["coverage"] > 0.8 * report.figures["coverage_of_real"]
    assert report.figures["precision"] > 0.6
    assert report.loss < 0.05
    assert report.remarks == ()


def test_a_gan_that_collapses_says_so(config: GANConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its forward is made to know one mode alone."""
    monkeypatch.setattr(
        GAN, "forward", lambda self, codes: self.units.back(0.1 * self.decoder(codes))
    )
    report = train_generator(
        clusters(200, 0), GANConfig((2,), 2, values="real", hidden=(8,), epochs=1)
    )[1]
    assert "mode collapse" in str(report)


def test_the_average_follows_slower_and_slower() -> None:
    game = _Game(
        GAN(GANConfig((2,), 2, values="real", hidden=(8,), average=0.5)),
        torch.Generator().manual_seed(0),
    )
    before = [value.clone() for value in game.average.parameters()]
    for step, survives in enumerate((2 / 11, 3 / 12, 4 / 13)):
        game.step(torch.randn(16, 2, generator=torch.Generator().manual_seed(step)))
        for old, kept, now in zip(
            before, game.average.parameters(), game.network.parameters(), strict=True
        ):
            torch.testing.assert_close(kept, survives * old + (1 - survives) * now)
        before = [value.clone() for value in game.average.parameters()]
    game.steps = 1000
    game.step(torch.zeros(16, 2))
    for old, kept, now in zip(
        before, game.average.parameters(), game.network.parameters(), strict=True
    ):
        torch.testing.assert_close(kept, 0.5 * old + 0.5 * now)


def test_a_penalty_keeps_the_discriminator_flat() -> None:
    """Zero-centred: where real and made designs are alike, its slope vanishes."""
    slopes = []
    for penalty in (0.0, 10.0):
        config = GANConfig((2,), 2, values="real", hidden=(16,), penalty=penalty)
        game = _Game(GAN(config), torch.Generator().manual_seed(0))
        real = torch.tensor(clusters(64, 0), dtype=torch.float32)
        for _ in range(60):
            game.step(real)
        real.requires_grad_()
        (slope,) = torch.autograd.grad(game.discriminator(real).sum(), real)
        slopes.append(float(slope.square().sum(1).mean()))
    assert slopes[1] < 0.2 * slopes[0]
