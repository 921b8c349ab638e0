"""A small variational autoencoder for vectors and images, dense or convolutional (Kingma and Welling, 2014)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from bo_invert.errors import InvalidInputError
from bo_invert.generators.base import Generator, GeneratorConfig, TrainingReport, Valid
from bo_invert.generators.layers import Downward, Units, Upward, dense, image_shape
from bo_invert.generators.scores import lost_modes
from bo_invert.generators.training import (
    as_device,
    best_epoch,
    checked_numbers,
    drawn_figures,
    finished,
    fresh,
    in_batches,
    split,
)

_HELD_OUT = 0.1
_ACTIVE = 0.01
"""A coordinate is in use where its mean varies more than this over designs (Burda, Grosse and Salakhutdinov, 2016)."""
_POOR = 0.95
"""Of the mean design's error; beyond, a reconstruction shows next to nothing of the design."""
_SHARPEST = -6.0
"""Least logarithm of the Gaussian likelihood's deviation, in units of the designs' own."""


@dataclass(frozen=True)
class VAEConfig(GeneratorConfig):
    """What a VAE is and how it is trained.

    Args:
        shape: of one design; for convolutions ``(height, width)`` or ``(channels, height, width)``, from 4 x 4.
        dim: length of a code.
        network: ``"dense"``, or ``"conv"`` for images.
        values: ``"unit"`` for designs in [0, 1] (Bernoulli likelihood), ``"real"`` for any numbers (Gaussian likelihood
            in units that are measured on the designs, its deviation learnt: Rybkin, Daniilidis and Levine, 2021).
        hidden: widths of a dense encoder's layers; the decoder mirrors them.
        channels: of a convolutional encoder after each halving of the image; the decoder mirrors them.
        beta: weight of the Kullback-Leibler term.
        epochs: at most this many.
        patience: stop after so many epochs without a better held-out loss.
        batch_size: designs per step.
        learning_rate: of Adam; annealed to zero over the epochs.
        seed: of the initial weights, the shuffling and the noise.
    """

    kind: ClassVar[str] = "vae"

    shape: tuple[int, ...]
    dim: int
    network: Literal["dense", "conv"] = "dense"
    values: Literal["unit", "real"] = "unit"
    hidden: tuple[int, ...] = (256, 128)
    channels: tuple[int, ...] = (32, 64)
    beta: float = 1.0
    epochs: int = 200
    patience: int = 30
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        self.refuse(
            shape=self.shape, dim=self.dim, hidden=self.hidden, channels=self.channels, epochs=self.epochs,
            patience=self.patience, batch_size=self.batch_size,
        )  # fmt: skip
        if not self.shape or not (self.learning_rate > 0 and self.beta >= 0):
            raise InvalidInputError(
                f"VAEConfig: shape must not be empty, learning_rate > 0, beta >= 0, got {self}"
            )
        if self.network not in ("dense", "conv") or self.values not in ("unit", "real"):
            raise InvalidInputError(
                f"VAEConfig: network is 'dense' or 'conv', values are 'unit' or 'real', got {self}"
            )
        if self.network == "conv":
            image_shape(self.shape, self.channels, "VAEConfig")


class VAE(Generator[VAEConfig]):
    """``encode`` takes designs to the means of their codes, ``forward`` codes to designs.

    Args:
        config: shapes; training options are not used here.
    """

    Config = VAEConfig

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config)
        size = math.prod(config.shape)
        if config.network == "conv":
            image = image_shape(config.shape, config.channels, "VAE")
            self.encoder: nn.Module = Downward(image, config.channels, 2 * config.dim)
            self.decoder: nn.Module = Upward(config.dim, config.channels, image)
        else:
            self.encoder = dense((size, *config.hidden, 2 * config.dim))
            self.decoder = dense((config.dim, *reversed(config.hidden), size))
        if config.values == "real":
            self.units = Units(config.shape, (-2, -1) if config.network == "conv" else ())
            self.log_deviation = nn.Parameter(torch.zeros(()))

    def posterior(self, designs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each ``(n, d)``, of the codes of designs ``(n, *shape)``."""
        if self.config.values == "real":
            designs = self.units(designs)
        mean, log_variance = self.encoder(designs.flatten(1)).chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 8.0)

    def encode(self, designs: Tensor) -> Tensor:
        """Mean codes ``(n, d)`` of designs ``(n, *shape)``."""
        return self.posterior(designs)[0]

    def raw(self, codes: Tensor) -> Tensor:
        """What the likelihood takes, ``(n, *shape)``: designs before the sigmoid, or in units of their deviation."""
        made: Tensor = self.decoder(codes)
        return made.reshape(len(codes), *self.config.shape)

    def forward(self, codes: Tensor) -> Tensor:
        """Designs ``(n, *shape)`` of codes ``(n, d)``."""
        if self.config.values == "unit":
            return self.raw(codes).sigmoid()
        return self.units.back(self.raw(codes))

    def loss(self, designs: Tensor, noise: Tensor) -> Tensor:
        """Negative evidence lower bound per design in nats, with ``beta`` on the divergence; a number.

        Args:
            designs: shape ``(n, *shape)``.
            noise: standard normal, shape ``(n, d)``.
        """
        mean, log_variance = self.posterior(designs)
        raw = self.raw(mean + (0.5 * log_variance).exp() * noise)
        if self.config.values == "unit":
            reconstruction = F.binary_cross_entropy_with_logits(raw, designs, reduction="sum")
        else:
            log_deviation = self.log_deviation.clamp(min=_SHARPEST)
            off = (raw - self.units(designs)) * (-log_deviation).exp()
            reconstruction = (
                0.5 * off.square().sum()
                + (log_deviation + 0.5 * math.log(2.0 * math.pi)) * off.numel()
            )
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum()
        return (reconstruction + self.config.beta * divergence) / len(designs)

    @classmethod
    def checked(cls, designs: Any, config: VAEConfig) -> NDArray[Any]:
        return checked_numbers(designs, config.shape, config.values, "a VAE")

    @classmethod
    def fit(
        cls,
        designs: Any,
        config: VAEConfig,
        *,
        progress: bool = False,
        device: Any = None,
        valid: Valid | None = None,
    ) -> tuple[VAE, TrainingReport]:
        """A VAE trained on designs ``(n, *config.shape)``, at least 20.

        A tenth of them is held out; the weights of the epoch with the lowest loss there are kept. Figures reported:

        - ``reconstruction``, ``spread``: root mean squared error per number of the held-out designs after a cycle,
          and of the mean design, which is what knowing nothing would give (with ``values="real"`` both in units of
          the designs' standard deviation);
        - ``active``: coordinates of the code that are in use;
        - ``precision``, ``coverage``, ``coverage_of_real``: of draws of N(0, I), see ``scores.fidelity``;
        - ``validity``: share of these draws that ``valid`` says yes to.
        """
        where = as_device(device)
        data = torch.from_numpy(cls.checked(designs, config))
        generator = torch.Generator().manual_seed(config.seed)
        network = fresh(lambda: cls(config), generator)
        rows, held = split(data, _HELD_OUT, generator)
        noise = torch.randn(len(held), config.dim, generator=generator)
        if config.values == "real":
            network.units.measure(rows)
        network.to(where)
        optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)

        def epoch() -> None:
            for chosen in torch.split(
                torch.randperm(len(rows), generator=generator), config.batch_size
            ):
                drawn = torch.randn(len(chosen), config.dim, generator=generator).to(where)
                optimizer.zero_grad()
                torch.autograd.backward(network.loss(rows[chosen].to(where), drawn))
                optimizer.step()
            schedule.step()

        def held_out() -> float:
            sums = in_batches(
                lambda x, e: network.loss(x, e)[None] * len(x), held, noise, device=where
            )
            return float(sums.sum()) / len(held)

        ending = best_epoch(
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
        return finished(network, ending.report(figures, _remarks(figures)))


def _figures(network: VAE, held: Tensor, mean: Tensor) -> dict[str, float]:
    cpu = torch.device("cpu")
    codes = in_batches(network.encode, held, device=cpu)
    off, spread = in_batches(network, codes, device=cpu) - held, mean - held
    if network.config.values == "real":
        off, spread = off / network.units.scale, spread / network.units.scale
    return {
        "reconstruction": float(off.square().mean().sqrt()),
        "spread": float(spread.square().mean().sqrt()),
        "active": float((codes.var(dim=0) > _ACTIVE).sum()),
    }


def _remarks(figures: Mapping[str, float]) -> tuple[str, ...]:
    found = lost_modes(figures)
    if figures["active"] == 0:
        found += ("posterior collapse: no coordinate of the code is in use; lower beta",)
    elif figures["reconstruction"] > _POOR * figures["spread"]:
        found += (
            "it reconstructs hardly better than the mean design; give it a longer code, more designs or epochs",
        )
    return found
