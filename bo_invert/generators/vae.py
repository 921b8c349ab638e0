"""Variational autoencoder (VAE) for vectors and images (Kingma and Welling 2014)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bo_invert.errors import InvalidInputError
from bo_invert.generators.base import Device, Generator, TrainingReport, Valid
from bo_invert.generators.layers import ArrayConfig, decoder, encoder, image_shape
from bo_invert.generators.scores import lost_modes
from bo_invert.generators.training import (
    ACTIVE_VARIANCE,
    as_device,
    best_epoch,
    checked_numbers,
    drawn_figures,
    finished,
    fresh,
    in_batches,
    split,
)
from bo_invert.types import Designs
from bo_invert.user_code import own_settings

# Engineering choice: held-out share of the designs.
_HELD_OUT = 0.1
# Engineering choice: ratio of the reconstruction error to the mean design's error above which a
# remark reports a poor reconstruction.
_POOR_RATIO = 0.95
# Engineering choice: lower bound on the log standard deviation of the Gaussian likelihood, in
# units of the designs' deviations; prevents overflow for noise-free designs.
_MIN_LOG_DEVIATION = -6.0


@dataclass(frozen=True)
class VAEConfig(ArrayConfig):
    """Architecture and training options of a VAE.

    Args:
        shape: shape of one design. Convolutions need ``(height, width)`` or
            ``(channels, height, width)`` with at least 4 x 4 pixels.
        dim: length of a code.
        network: ``"dense"``, or ``"conv"`` for images.
        values: ``"unit"`` for designs in [0, 1] with a Bernoulli likelihood. ``"real"`` for any
            numbers, standardised, with a Gaussian likelihood of fitted deviation (Rybkin et al.
            2021).
        hidden: layer widths of a dense encoder; the decoder mirrors them.
        channels: channels of a convolutional encoder after each halving of the image; the decoder
            mirrors them.
        beta: weight of the Kullback-Leibler divergence (Higgins et al. 2017).
        epochs: largest number of epochs.
        patience: number of epochs without a lower held-out loss after which training stops.
        batch_size: designs per step.
        learning_rate: initial step size of Adam, annealed to zero over the epochs.
        seed: seed of the initial weights, the shuffling and the noise.
    """

    kind: ClassVar[str] = "vae"

    hidden: tuple[int, ...] = (256, 128)
    channels: tuple[int, ...] = (32, 64)
    beta: float = 1.0
    epochs: int = 200
    patience: int = 30
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.learning_rate > 0 and self.beta >= 0):
            raise InvalidInputError(
                f"VAEConfig: learning_rate must be > 0 and beta >= 0, got {self}"
            )
        if self.network == "conv":
            image_shape(self.shape, self.channels, "VAEConfig")


class VAE(Generator[VAEConfig]):
    """Encoder and decoder of a VAE; ``encode`` returns the posterior mean of the codes.

    Args:
        config: architecture; the constructor ignores the training options.
    """

    Config = VAEConfig

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config)
        self.encoder = encoder(config, config.hidden, config.channels, 2 * config.dim)
        self.decoder = decoder(config, config.hidden, config.channels)
        if config.values == "real":
            self.units = config.units()
            self.log_deviation = nn.Parameter(torch.zeros(()))

    def posterior(self, designs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each ``(n, d)``, of q(z | x) for designs ``(n, *shape)``.

        The log variance is clamped to [-12, 8], which prevents overflow.
        """
        if self.config.values == "real":
            designs = self.units(designs)
        mean, log_variance = self.encoder(designs.flatten(1)).chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 8.0)

    def encode(self, designs: Tensor) -> Tensor:
        """Return the posterior mean codes ``(n, d)`` of designs ``(n, *shape)``."""
        return self.posterior(designs)[0]

    def raw(self, codes: Tensor) -> Tensor:
        """Return the likelihood's parameter ``(n, *shape)``: logits or standardised means."""
        return torch.reshape(self.decoder(codes), (len(codes), *self.config.shape))

    def forward(self, codes: Tensor) -> Tensor:
        """Decode codes ``(n, d)`` to designs ``(n, *shape)``."""
        raw = self.raw(codes)
        return raw.sigmoid() if self.config.values == "unit" else self.units.back(raw)

    def loss(self, designs: Tensor, noise: Tensor) -> Tensor:
        """Compute the negative evidence lower bound per design in nats, a scalar tensor.

            -E log p(x | z) + beta KL(q(z | x) || N(0, I)),  z = mean + sd * noise

        Args:
            designs: shape ``(n, *shape)``.
            noise: standard normal numbers, shape ``(n, d)``.
        """
        mean, log_variance = self.posterior(designs)
        # Reparametrisation: gradients pass through the sampled code.
        raw = self.raw(mean + (0.5 * log_variance).exp() * noise)
        if self.config.values == "unit":
            reconstruction = nn.functional.binary_cross_entropy_with_logits(
                raw, designs, reduction="sum"
            )
        else:
            # -log N(x; m, s^2) = (x - m)^2 / (2 s^2) + log s + log(2 pi) / 2, per number.
            log_deviation = self.log_deviation.clamp(min=_MIN_LOG_DEVIATION)
            off = (raw - self.units(designs)) * (-log_deviation).exp()
            reconstruction = (
                0.5 * off.square().sum()
                + (log_deviation + 0.5 * math.log(2.0 * math.pi)) * off.numel()
            )
        # KL(N(m, v) || N(0, 1)) = (m^2 + v - 1 - log v) / 2, per coordinate.
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum()
        return (reconstruction + self.config.beta * divergence) / len(designs)

    @classmethod
    def checked(cls, designs: Designs, config: VAEConfig) -> NDArray[Any]:
        return checked_numbers(designs, config.shape, config.values, "VAE")

    @classmethod
    @own_settings()
    def fit(
        cls,
        designs: Designs,
        config: VAEConfig,
        *,
        progress: bool = False,
        device: Device = None,
        valid: Valid | None = None,
    ) -> tuple[VAE, TrainingReport]:
        """Train a VAE on at least 20 designs ``(n, *config.shape)``.

        A tenth of the designs is held out. The network has the weights of the epoch with the
        lowest held-out loss. Reported figures:

        - ``reconstruction``: root mean squared error of held-out designs after encoding and
          decoding. For ``values="real"`` the unit is the designs' standard deviation;
        - ``spread``: the same error of the mean design, the best constant prediction;
        - ``active``: number of active code coordinates;
        - ``precision``, ``coverage``, ``coverage_of_real``: of draws of N(0, I), see
          ``scores.fidelity``;
        - ``validity``: share of these draws that ``valid`` accepts.
        """
        where = as_device(device)
        data = torch.from_numpy(cls.checked(designs, config))
        generator = torch.Generator().manual_seed(config.seed)
        network = fresh(lambda: cls(config), generator)
        rows, held = split(data, _HELD_OUT, generator)
        noise = torch.randn(len(held), config.dim, generator=generator, dtype=torch.float32)
        if config.values == "real":
            network.units.measure(rows)
        network.to(where)
        optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)

        def epoch() -> None:
            for chosen in torch.split(
                torch.randperm(len(rows), generator=generator), config.batch_size
            ):
                drawn = torch.randn(
                    len(chosen), config.dim, generator=generator, dtype=torch.float32
                ).to(where)
                optimizer.zero_grad()
                torch.autograd.backward(network.loss(rows[chosen].to(where), drawn))
                optimizer.step()
            schedule.step()

        def held_out() -> float:
            sums = in_batches(
                lambda x, e: network.loss(x, e)[None] * len(x), held, noise, device=where
            )
            return float(sums.sum()) / len(held)

        report = best_epoch(
            network,
            epoch,
            held_out,
            epochs=config.epochs,
            patience=config.patience,
            what="VAE",
            progress=progress,
        )
        figures = _figures(network.cpu().eval(), held, rows.mean(dim=0)) | drawn_figures(
            network, rows, held, config.seed, valid
        )
        return finished(network, report, figures, _remarks(figures))


def _figures(network: VAE, held: Tensor, mean: Tensor) -> dict[str, float]:
    cpu = torch.device("cpu")
    codes = in_batches(network.encode, held, device=cpu)
    off, spread = in_batches(network, codes, device=cpu) - held, mean - held
    if network.config.values == "real":
        off, spread = off / network.units.scale, spread / network.units.scale
    return {
        "reconstruction": float(off.square().mean().sqrt()),
        "spread": float(spread.square().mean().sqrt()),
        "active": float((codes.var(dim=0) > ACTIVE_VARIANCE).sum()),
    }


def _remarks(figures: Mapping[str, float]) -> tuple[str, ...]:
    found = lost_modes(figures)
    if figures["active"] == 0:
        found += ("posterior collapse: no code coordinate is active. Decrease beta.",)
    elif figures["reconstruction"] > _POOR_RATIO * figures["spread"]:
        found += (
            "poor reconstruction: error close to that of the mean design. Increase dim or epochs.",
        )
    return found
