"""Generative adversarial network (GAN) for vectors and images: a decoder with a known prior.

The loss is that of R3GAN (Huang et al. 2024). It adds zero-centred gradient penalties on real and
generated designs (Roth et al. 2017) to the relativistic loss of Jolicoeur-Martineau 2018. It
converges locally and drops fewer modes than the classical loss. The result is an exponential
moving average of the generator's weights.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bo_invert.errors import InvalidInputError
from bo_invert.generators.base import Device, Generator, TrainingReport, Valid
from bo_invert.generators.layers import ArrayConfig, decoder, encoder, image_shape
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
from bo_invert.types import Designs
from bo_invert.user_code import own_settings

# Engineering choice: held-out share of the designs. The energy distance needs more held-out
# designs than a likelihood does.
_HELD_OUT = 0.2
# Engineering choice: smallest number of designs, of which 10 are then held out.
_MIN_DESIGNS = 50
# Engineering choice: number of draws, and largest number of held-out designs, compared after each
# epoch; the cost of the energy distance is quadratic in it.
_COMPARED = 500


@dataclass(frozen=True)
class GANConfig(ArrayConfig):
    """Architecture and training options of a GAN.

    Args:
        shape: shape of one design. Convolutions need ``(height, width)`` or
            ``(channels, height, width)`` with at least 4 x 4 pixels.
        dim: length of a code.
        network: ``"dense"``, or ``"conv"`` for images.
        values: ``"unit"`` for designs in [0, 1], ``"real"`` for any numbers.
        prior: distribution of the codes: ``"normal"``, ``"uniform"`` in [-1, 1], ``"truncated"``
            normal in [-2, 2], or uniform on the ``"sphere"`` of radius sqrt(d).
        hidden: layer widths of the dense discriminator; the generator mirrors them.
        channels: channels of the convolutional discriminator after each halving of the image; the
            generator mirrors them.
        penalty: weight gamma of the gradient penalties. Higher values stabilise and slow down
            training.
        average: decay of the moving average of the weights per step, in [0, 1).
        epochs: largest number of epochs.
        patience: number of epochs without a lower held-out loss after which training stops.
        batch_size: designs per step.
        learning_rate: step size of Adam for both networks.
        seed: seed of the initial weights, the shuffling and the codes.
    """

    kind: ClassVar[str] = "gan"

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
        super().__post_init__()
        if not (self.learning_rate > 0 and self.penalty >= 0 and 0 <= self.average < 1):
            raise InvalidInputError(
                "GANConfig: learning_rate must be > 0, penalty >= 0 and average in [0, 1), "
                f"got {self}"
            )
        named_prior(self.prior)
        if self.network == "conv":
            image_shape(self.shape, self.channels, "GANConfig")


class GAN(Generator[GANConfig]):
    """Generator of a GAN, which has no encoder; ``Latent.encode`` inverts it by search.

    Args:
        config: architecture and prior; the constructor ignores the training options.
    """

    Config = GANConfig

    def __init__(self, config: GANConfig) -> None:
        super().__init__(config)
        self.decoder = decoder(config, config.hidden, config.channels)
        if config.values == "real":
            self.units = config.units()

    @property
    def prior(self) -> Prior:
        """Distribution of the codes."""
        return named_prior(self.config.prior)

    def forward(self, codes: Tensor) -> Tensor:
        """Decode codes ``(n, d)`` to designs ``(n, *shape)``."""
        raw: Tensor = self.decoder(codes).reshape(len(codes), *self.config.shape)
        return raw.sigmoid() if self.config.values == "unit" else self.units.back(raw)

    def centred(self, designs: Tensor) -> Tensor:
        """Scale designs to numbers around 0, the discriminator's input."""
        return 2.0 * designs - 1.0 if self.config.values == "unit" else self.units(designs)

    @classmethod
    def checked(cls, designs: Designs, config: GANConfig) -> NDArray[Any]:
        return checked_numbers(designs, config.shape, config.values, "GAN", _MIN_DESIGNS)

    @classmethod
    @own_settings()
    def fit(
        cls,
        designs: Designs,
        config: GANConfig,
        *,
        progress: bool = False,
        device: Device = None,
        valid: Valid | None = None,
    ) -> tuple[GAN, TrainingReport]:
        """Train a GAN on at least 50 designs ``(n, *config.shape)``.

        A fifth of the designs is held out. The loss is the energy distance between draws and
        held-out designs, divided by the mean distance between held-out designs. The network has
        the averaged weights of the epoch with the lowest loss.

        Reported figures: ``precision``, ``coverage`` and ``coverage_of_real`` of draws
        (``scores.fidelity``), and ``validity`` if ``valid`` is given. A remark reports lost modes.
        """
        where = as_device(device)
        data = torch.from_numpy(cls.checked(designs, config))
        generator = torch.Generator().manual_seed(config.seed)
        network = fresh(lambda: cls(config), generator)
        rows, held = split(data, _HELD_OUT, generator)
        if config.values == "real":
            network.units.measure(rows)
        trainer = _Trainer(network.to(where), generator)
        known = held[:_COMPARED]
        compared = trainer.codes(_COMPARED)
        # Mean distance over the n (n - 1) ordered pairs of different held-out designs.
        total = float(torch.cdist(known.flatten(1), known.flatten(1)).sum())
        distance = total / (len(known) * (len(known) - 1))

        def epoch() -> None:
            for chosen in torch.split(
                torch.randperm(len(rows), generator=generator), config.batch_size
            ):
                trainer.step(rows[chosen].to(where))

        def held_out() -> float:
            drawn = in_batches(trainer.average, compared, device=where)
            finite = bool(drawn.isfinite().all())
            return energy_distance(known, drawn) / max(distance, 1e-12) if finite else math.nan

        report = best_epoch(
            trainer.average,
            epoch,
            held_out,
            epochs=config.epochs,
            patience=config.patience,
            what="GAN",
            progress=progress,
        )
        average = trainer.average.cpu().eval()
        figures = drawn_figures(average, rows, held, config.seed, valid)
        return finished(average, report, figures, lost_modes(figures))


class _Trainer:
    """Alternating Adam steps of discriminator and generator.

    Args:
        network: generator to train.
        generator: random generator of initial weights and codes. It lives on the CPU, so that
            each device gets the same numbers.
    """

    def __init__(self, network: GAN, generator: torch.Generator) -> None:
        config = network.config
        self.network, self.generator, self.steps = network, generator, 0
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.where = next(network.parameters()).device
        self.discriminator = fresh(
            lambda: encoder(config, config.hidden, config.channels, 1), generator
        ).to(self.where)
        # No momentum (beta1 = 0), as in Huang et al. 2024: the loss changes with the opponent.
        options: dict[str, Any] = {"lr": config.learning_rate, "betas": (0.0, 0.99)}
        self.discriminator_step = torch.optim.Adam(self.discriminator.parameters(), **options)
        self.generator_step = torch.optim.Adam(network.parameters(), **options)

    def codes(self, n: int) -> Tensor:
        """Draw n codes ``(n, d)`` from the prior, on the CPU."""
        return self.network.prior.tensor(
            torch.randn(n, self.network.config.dim, generator=self.generator, dtype=torch.float32)
        )

    def step(self, designs: Tensor) -> None:
        """Update discriminator D and generator G with one batch of real designs x.

        With f = softplus, generated designs y = G(z) and penalty weight gamma, D minimises

            E f(D(y) - D(x)) + gamma / 2 E (|grad D(x)|^2 + |grad D(y)|^2)

        and G minimises ``E f(D(x) - D(y))`` (Huang et al. 2024).
        """
        network, discriminator = self.network, self.discriminator
        real = network.centred(designs).requires_grad_()
        with torch.no_grad():
            fake = network.centred(network(self.codes(len(designs)).to(self.where)))
        fake.requires_grad_()
        on_real, on_fake = discriminator(real.flatten(1)), discriminator(fake.flatten(1))
        # Outputs depend on their own row only, so the gradient of the sum holds all row gradients.
        slopes = torch.autograd.grad(on_real.sum() + on_fake.sum(), (real, fake), create_graph=True)
        squares = sum(
            (slope.flatten(1).square().sum(1) for slope in slopes),
            torch.zeros((), device=self.where),
        )
        self.discriminator_step.zero_grad()
        penalty = 0.5 * network.config.penalty * squares[:, None]
        torch.autograd.backward((nn.functional.softplus(on_fake - on_real) + penalty).mean())
        self.discriminator_step.step()

        with torch.no_grad():
            on_real = discriminator(network.centred(designs).flatten(1))
        self.generator_step.zero_grad()
        made = network.centred(network(self.codes(len(designs)).to(self.where)))
        on_fake = discriminator(made.flatten(1))
        torch.autograd.backward(nn.functional.softplus(on_real - on_fake).mean())
        self.generator_step.step()

        self.steps += 1
        # The decay (1 + t) / (10 + t) is lower in early steps t and forgets the initial weights.
        decay = min(self.network.config.average, (1.0 + self.steps) / (10.0 + self.steps))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(now, 1.0 - decay)
