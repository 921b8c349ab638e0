"""Training a VAE: seeded, stopped early, with an account of how well it reconstructs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bo_invert.errors import InvalidInput
from bo_invert.generators.vae import VAE, VAEConfig

_HELD_OUT = 0.1


@dataclass(frozen=True)
class TrainingReport:
    """How a training went.

    Args:
        epochs: that were run.
        seconds: wall clock.
        loss: best held-out loss per design (reconstruction in nats plus ``beta`` times Kullback-Leibler).
        reconstruction: root mean squared error per number of a design, over the held-out tenth.
        spread: root mean squared error per number of the mean design there: what knowing nothing would give.
    """

    epochs: int
    seconds: float
    loss: float
    reconstruction: float
    spread: float

    def __str__(self) -> str:
        return (
            f"{self.epochs} epochs in {self.seconds:.1f} s; held-out loss {self.loss:.3f}, reconstruction error "
            f"{self.reconstruction:.4f} (mean design {self.spread:.4f})"
        )


def train_vae(designs: Any, config: VAEConfig, progress: bool = False) -> tuple[VAE, TrainingReport]:
    """A VAE trained on designs; the same designs and config give the same network on the same machine.

    A tenth of the designs is held out; the weights with the lowest loss there are kept.

    Args:
        designs: shape ``(n, *config.shape)``, values in [0, 1], at least 20.
        config: of the network and of its training.
        progress: show a bar on stderr.

    Raises:
        InvalidInput: shape or values do not fit, or the loss left the finite numbers.
    """
    data = checked_designs(designs, config)
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(config.seed)
    vae = _fresh(config, generator)
    order = torch.randperm(len(data), generator=generator)
    held = data[order[: max(2, round(_HELD_OUT * len(data)))]]
    fit = data[order[len(held) :]]
    noise = torch.randn(len(held), config.dim, generator=generator)
    optimizer = torch.optim.Adam(vae.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    best, best_epoch, epoch, kept = math.inf, 0, 0, vae.state_dict()
    with _bar(config.epochs, progress) as bar:
        for epoch in range(1, config.epochs + 1):
            _epoch(vae, fit, optimizer, config, generator)
            schedule.step()
            with torch.no_grad():
                loss = float(_loss(vae, held, noise, config.beta))
            if not math.isfinite(loss):
                raise InvalidInput(f"the VAE's loss is {loss} after {epoch} epochs; lower learning_rate")
            if loss < best:
                best, best_epoch = loss, epoch
                kept = {name: value.clone() for name, value in vae.state_dict().items()}
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", best=f"{best:.3f}")
            if epoch - best_epoch >= config.patience:
                break
    vae.load_state_dict(kept)
    vae.eval()
    with torch.no_grad():
        error = float((vae(vae.encode(held)) - held).square().mean().sqrt())
    spread = float((fit.mean(dim=0) - held).square().mean().sqrt())
    return vae, TrainingReport(epoch, time.perf_counter() - started, best, error, spread)


def checked_designs(designs: Any, config: VAEConfig) -> torch.Tensor:
    """Designs as a float32 tensor.

    Raises:
        InvalidInput: shape or values do not fit ``config``.
    """
    array = np.asarray(designs, dtype=np.float32)
    if array.shape[1:] != config.shape or len(array) < 20:
        raise InvalidInput(f"a VAE for {config.shape} wants 20 or more designs of that shape, got {array.shape}")
    if not ((array >= 0) & (array <= 1)).all():
        raise InvalidInput("a VAE wants designs with values in [0, 1]; rescale them")
    return torch.from_numpy(array.copy())


def _fresh(config: VAEConfig, generator: torch.Generator) -> VAE:
    with torch.random.fork_rng(devices=[]):  # layers draw from the global generator when they are made
        vae = VAE(config)
    for layer in vae.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
            nn.init.zeros_(layer.bias)
    return vae


def _epoch(
    vae: VAE, data: torch.Tensor, optimizer: torch.optim.Optimizer, config: VAEConfig, generator: torch.Generator
) -> None:
    for rows in torch.split(torch.randperm(len(data), generator=generator), config.batch_size):
        noise = torch.randn(len(rows), config.dim, generator=generator)
        optimizer.zero_grad()
        torch.autograd.backward(_loss(vae, data[rows], noise, config.beta))
        optimizer.step()


def _loss(vae: VAE, designs: torch.Tensor, noise: torch.Tensor, beta: float) -> torch.Tensor:
    """Negative evidence lower bound per design, with a Bernoulli likelihood; a number."""
    mean, log_variance = vae.posterior(designs)
    logits = vae.logits(mean + (0.5 * log_variance).exp() * noise)
    reconstruction = F.binary_cross_entropy_with_logits(logits, designs, reduction="sum")
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum()
    return (reconstruction + beta * divergence) / len(designs)


def _bar(total: int, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc="training the VAE", unit="epoch", disable=not progress, leave=False)
