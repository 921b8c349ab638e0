"""Tests of the GAN: modes, mode collapse, moving average and gradient penalty."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bo_invert.generators.base import train_generator
from bo_invert.generators.gan import GAN, GANConfig, _Trainer

MODES = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])


def clusters(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return MODES[rng.integers(len(MODES), size=n)] + 0.3 * rng.standard_normal((n, 2))


@pytest.fixture(scope="module")
def config() -> GANConfig:
    return GANConfig(
        (2,), 2, values="real", hidden=(48, 48), epochs=50, learning_rate=2e-3, penalty=0.2
    )


def test_a_gan_covers_all_modes(config: GANConfig) -> None:
    gan, report = train_generator(clusters(800, 0), config)
    assert isinstance(gan, GAN)
    assert report.figures["coverage"] > 0.8 * report.figures["coverage_of_real"]
    assert report.figures["precision"] > 0.6
    assert report.loss < 0.05
    assert report.remarks == ()


def test_mode_collapse_is_reported(config: GANConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A patched ``forward`` generates one mode only."""
    monkeypatch.setattr(
        GAN, "forward", lambda self, codes: self.units.back(0.1 * self.decoder(codes))
    )
    report = train_generator(
        clusters(200, 0), GANConfig((2,), 2, values="real", hidden=(8,), epochs=1)
    )[1]
    assert "mode collapse" in str(report)


def test_the_decay_of_the_average_rises_to_its_limit() -> None:
    trainer = _Trainer(
        GAN(GANConfig((2,), 2, values="real", hidden=(8,), average=0.5)),
        torch.Generator().manual_seed(0),
    )
    before = [value.clone() for value in trainer.average.parameters()]
    for step, decay in enumerate((2 / 11, 3 / 12, 4 / 13)):
        trainer.step(torch.randn(16, 2, generator=torch.Generator().manual_seed(step)))
        for old, mean, now in zip(
            before, trainer.average.parameters(), trainer.network.parameters(), strict=True
        ):
            torch.testing.assert_close(mean, decay * old + (1 - decay) * now)
        before = [value.clone() for value in trainer.average.parameters()]
    trainer.steps = 1000
    trainer.step(torch.zeros(16, 2))
    for old, mean, now in zip(
        before, trainer.average.parameters(), trainer.network.parameters(), strict=True
    ):
        torch.testing.assert_close(mean, 0.5 * old + 0.5 * now)


def test_the_penalty_flattens_the_discriminator() -> None:
    """Gradients at real designs shrink with the zero-centred penalty."""
    slopes = []
    for penalty in (0.0, 10.0):
        config = GANConfig((2,), 2, values="real", hidden=(16,), penalty=penalty)
        trainer = _Trainer(GAN(config), torch.Generator().manual_seed(0))
        real = torch.tensor(clusters(64, 0), dtype=torch.float32)
        for _ in range(60):
            trainer.step(real)
        real.requires_grad_()
        (slope,) = torch.autograd.grad(trainer.discriminator(real).sum(), real)
        slopes.append(float(slope.square().sum(1).mean()))
    assert slopes[1] < 0.2 * slopes[0]
