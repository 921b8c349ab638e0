"""A small generative adversarial network for vectors and images, dense or convolutional: a decoder with a known prior.

The game is the relativistic one with zero-centred gradient penalties on real and on made designs, which converges
locally and keeps modes that the classical game drops (Huang et al., "The GAN is dead; long live the GAN!", 2024, after
Jolicoeur-Martineau, 2018, and Roth et al., 2017). What is kept is a moving average of the generator's weights.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from bo_invert.errors import InvalidInputError
from bo_invert.generators.base import Generator, GeneratorConfig, TrainingReport, Valid
from bo_invert.generators.layers import Downward, Units, Upward, dense, image_shape
from bo_invert.generators.priors import Prior, named_prior
from bo_invert.generators.scores import energy_distance, lost_modes
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

_HELD_OUT = 0.2
_FEWEST = 50
_JUDGED = 500
"""Draws, and held-out designs at most, that are compared after every epoch."""


@dataclass(frozen=True)
class GANConfig(GeneratorConfig):
    """What a GAN is and how it is trained.

    Args:
        shape: of one design; for convolutions ``(height, width)`` or ``(channels, height, width)``, from 4 x 4.
        dim: length of a code.
        network: ``"dense"``, or ``"conv"`` for images.
        values: ``"unit"`` for designs in [0, 1], ``"real"`` for any numbers, in units measured on the designs.
        prior: of the codes: ``"normal"``, ``"uniform"`` in [-1, 1], ``"truncated"`` normal within 2 of 0, or on the
            ``"sphere"`` of radius sqrt(d).
        hidden: widths of the dense discriminator's layers; the generator mirrors them.
        channels: of the convolutional discriminator after each halving of the image; the generator mirrors them.
        penalty: weight of the squared gradients; more is steadier and slower.
        average: share of the moving average that survives a step; early in the training less does.
        epochs: at most this many.
        patience: stop after so many epochs without a better held-out score.
        batch_size: designs per step.
        learning_rate: of Adam for both networks.
        seed: of the initial weights, the shuffling and the codes.
    """

    kind: ClassVar[str] = "gan"

    shape: tuple[int, ...]
    dim: int
    network: Literal["dense", "conv"] = "dense"
    values: Literal["unit", "real"] = "unit"
    prior: Literal["normal", "uniform", "truncated", "sphere"] = "normal"
    hidden: tuple[int, ...] = (256, 256)
    channels: tuple[int, ...] = (32, 64)
    penalty: float = 1.0
    average: float = 0.999
    epochs: int = 600
    patience: int = 100
    batch_size: int = 64
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        self.refuse(
            shape=self.shape, dim=self.dim, hidden=self.hidden, channels=self.channels, epochs=self.epochs,
            patience=self.patience, batch_size=self.batch_size,
        )  # fmt: skip
        if not self.shape or not (
            self.learning_rate > 0 and self.penalty >= 0 and 0 <= self.average < 1
        ):
            raise InvalidInputError(
                f"GANConfig: shape must not be empty, learning_rate > 0, penalty >= 0, 0 <= average < 1, got {self}"
            )
        if self.network not in ("dense", "conv") or self.values not in ("unit", "real"):
            raise InvalidInputError(
                f"GANConfig: network is 'dense' or 'conv', values are 'unit' or 'real', got {self}"
            )
        named_prior(self.prior)
        if self.network == "conv":
            image_shape(self.shape, self.channels, "GANConfig")


class GAN(Generator[GANConfig]):
    """``forward`` takes codes to designs; there is no way back but ``Latent.encode``, which searches.

    Args:
        config: shapes and prior; training options are not used here.
    """

    Config = GANConfig

    def __init__(self, config: GANConfig) -> None:
        super().__init__(config)
        if config.network == "conv":
            image = image_shape(config.shape, config.channels, "GAN")
            self.decoder: nn.Module = Upward(config.dim, config.channels, image)
        else:
            self.decoder = dense((config.dim, *reversed(config.hidden), math.prod(config.shape)))
        if config.values == "real":
            self.units = Units(config.shape, (-2, -1) if config.network == "conv" else ())

    @property
    def prior(self) -> Prior:
        """What codes are drawn from."""
        return named_prior(self.config.prior)

    def forward(self, codes: Tensor) -> Tensor:
        """Designs ``(n, *shape)`` of codes ``(n, d)``."""
        made: Tensor = self.decoder(codes).reshape(len(codes), *self.config.shape)
        return made.sigmoid() if self.config.values == "unit" else self.units.back(made)

    def seen(self, designs: Tensor) -> Tensor:
        """Designs as a discriminator sees them: numbers about 0."""
        return 2.0 * designs - 1.0 if self.config.values == "unit" else self.units(designs)

    @classmethod
    def checked(cls, designs: Any, config: GANConfig) -> NDArray[Any]:
        return checked_numbers(designs, config.shape, config.values, "a GAN", _FEWEST)

    @classmethod
    def fit(
        cls,
        designs: Any,
        config: GANConfig,
        *,
        progress: bool = False,
        device: Any = None,
        valid: Valid | None = None,
    ) -> tuple[GAN, TrainingReport]:
        """A GAN trained on designs ``(n, *config.shape)``, at least 50.

        A fifth of them is held out. The loss is the energy distance between draws and these, as a share of the mean
        distance among these; the averaged weights of its best epoch are kept. Figures reported: ``precision``,
        ``coverage`` and ``coverage_of_real`` of draws (``scores.fidelity``), and ``validity`` with ``valid``. A
        remark says so where modes were lost.
        """
        where = as_device(device)
        data = torch.from_numpy(cls.checked(designs, config))
        generator = torch.Generator().manual_seed(config.seed)
        network = fresh(lambda: cls(config), generator)
        rows, held = split(data, _HELD_OUT, generator)
        if config.values == "real":
            network.units.measure(rows)
        game = _Game(network.to(where), generator)
        known = held[:_JUDGED]
        judged = game.codes(_JUDGED)
        apart = float(torch.cdist(known.flatten(1), known.flatten(1)).sum()) / (
            len(known) * (len(known) - 1)
        )

        def epoch() -> None:
            for chosen in torch.split(
                torch.randperm(len(rows), generator=generator), config.batch_size
            ):
                game.step(rows[chosen].to(where))

        def held_out() -> float:
            drawn = in_batches(game.average, judged, device=where)
            return (
                energy_distance(known, drawn) / max(apart, 1e-12)
                if bool(drawn.isfinite().all())
                else math.nan
            )

        ending = best_epoch(
            game.average,
            epoch,
            held_out,
            epochs=config.epochs,
            patience=config.patience,
            what="GAN",
            progress=progress,
        )
        kept = game.average.cpu().eval()
        figures = drawn_figures(kept, rows, held, config.seed, valid)
        return finished(kept, ending.report(figures, lost_modes(figures)))


class _Game:
    """Generator against discriminator, step by step.

    Args:
        network: that learns to make designs.
        generator: of initial weights and codes, on the CPU, so that every device sees the same ones.
    """

    def __init__(self, network: GAN, generator: torch.Generator) -> None:
        config = network.config
        self.network, self.generator, self.steps = network, generator, 0
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.where = next(network.parameters()).device
        self.discriminator = fresh(lambda: _discriminator(config), generator).to(self.where)
        options: dict[str, Any] = {"lr": config.learning_rate, "betas": (0.0, 0.99)}
        self.teach = torch.optim.Adam(self.discriminator.parameters(), **options)
        self.learn = torch.optim.Adam(network.parameters(), **options)

    def codes(self, n: int) -> Tensor:
        """Codes drawn from the prior, on the CPU."""
        return self.network.prior.tensor(
            torch.randn(n, self.network.config.dim, generator=self.generator)
        )

    def step(self, designs: Tensor) -> None:
        """Both networks learn from one batch of real designs."""
        network, judge = self.network, self.discriminator
        real = network.seen(designs).requires_grad_()
        with torch.no_grad():
            made = network.seen(network(self.codes(len(designs)).to(self.where)))
        made.requires_grad_()
        on_real, on_made = judge(real), judge(made)
        slopes = torch.autograd.grad(on_real.sum() + on_made.sum(), (real, made), create_graph=True)
        steep = sum(
            (slope.flatten(1).square().sum(1) for slope in slopes),
            torch.zeros((), device=self.where),
        )
        self.teach.zero_grad()
        torch.autograd.backward(
            (F.softplus(on_made - on_real) + 0.5 * network.config.penalty * steep[:, None]).mean()
        )
        self.teach.step()

        with torch.no_grad():
            on_real = judge(network.seen(designs))
        self.learn.zero_grad()
        on_made = judge(network.seen(network(self.codes(len(designs)).to(self.where))))
        torch.autograd.backward(F.softplus(on_real - on_made).mean())
        self.learn.step()
        self._keep()

    def _keep(self) -> None:
        self.steps += 1
        survives = min(self.network.config.average, (1.0 + self.steps) / (10.0 + self.steps))
        with torch.no_grad():
            for kept, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(now, 1.0 - survives)


def _discriminator(config: GANConfig) -> nn.Module:
    if config.network == "conv":
        return Downward(image_shape(config.shape, config.channels, "GAN"), config.channels, 1)
    return nn.Sequential(nn.Flatten(), dense((math.prod(config.shape), *config.hidden, 1)))
