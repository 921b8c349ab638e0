"""A small dense variational autoencoder for vectors and small images in [0, 1] (Kingma and Welling, 2014)."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from bo_invert.errors import InvalidInput
from bo_invert.types import JSON


@dataclass(frozen=True)
class VAEConfig:
    """What a VAE is and how it is trained.

    Args:
        shape: of one design.
        dim: length of a code.
        hidden: widths of the encoder's layers; the decoder mirrors them.
        beta: weight of the Kullback-Leibler term.
        epochs: at most this many.
        patience: stop after so many epochs without a better held-out loss.
        batch_size: designs per step.
        learning_rate: of Adam; annealed to zero over the epochs.
        seed: of the initial weights, the shuffling and the noise.
    """

    shape: tuple[int, ...]
    dim: int
    hidden: tuple[int, ...] = (256, 128)
    beta: float = 1.0
    epochs: int = 200
    patience: int = 30
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = {"dim": self.dim, "epochs": self.epochs, "patience": self.patience, "batch_size": self.batch_size}
        sizes |= {f"shape[{i}]": n for i, n in enumerate(self.shape)} | {
            f"hidden[{i}]": n for i, n in enumerate(self.hidden)
        }
        for name, size in sizes.items():
            if size < 1:
                raise InvalidInput(f"VAEConfig: {name} must be at least 1, got {size}")
        if not self.shape or not (self.learning_rate > 0 and self.beta >= 0):
            raise InvalidInput(f"VAEConfig: shape must not be empty, learning_rate > 0, beta >= 0, got {self}")

    def to_json(self) -> JSON:
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @staticmethod
    def from_json(data: JSON) -> VAEConfig:
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
        return VAEConfig(**values)


class VAE(nn.Module):
    """``encode`` takes designs to the means of their codes, ``forward`` codes to designs in [0, 1].

    Args:
        config: shapes; training options are not used here.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        size = math.prod(config.shape)
        self.encoder = _dense((size, *config.hidden, 2 * config.dim))
        self.decoder = _dense((config.dim, *reversed(config.hidden), size))

    def posterior(self, designs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance, each ``(n, d)``, of the codes of designs ``(n, *shape)``."""
        mean, log_variance = self.encoder(designs.flatten(1)).chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 8.0)

    def encode(self, designs: torch.Tensor) -> torch.Tensor:
        """Mean codes ``(n, d)`` of designs ``(n, *shape)``."""
        return self.posterior(designs)[0]

    def logits(self, codes: torch.Tensor) -> torch.Tensor:
        """Designs before the sigmoid, ``(n, *shape)``, of codes ``(n, d)``."""
        made: torch.Tensor = self.decoder(codes)
        return made.reshape(len(codes), *self.config.shape)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Designs ``(n, *shape)`` of codes ``(n, d)``."""
        return self.logits(codes).sigmoid()


def _dense(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(itertools.pairwise(widths)):
        layers += [nn.SiLU()] * (i > 0) + [nn.Linear(before, after)]
    return nn.Sequential(*layers)
