"""Training and evaluation of the VAE of molecules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bo_invert.errors import InvalidInputError
from bo_invert.generators.base import Device, TrainingReport, Valid, sampled
from bo_invert.generators.selfies.model import SelfiesConfig, SelfiesNetwork
from bo_invert.generators.selfies.vocabulary import Vocabulary, counts, similarities, to_selfies
from bo_invert.generators.training import (
    ACTIVE_VARIANCE,
    MIN_DESIGNS,
    as_device,
    best_epoch,
    finished,
    fresh,
    split,
)
from bo_invert.types import Designs
from bo_invert.user_code import call_user_code, own_settings

# Engineering choice: held-out share of the molecules.
_HELD_OUT = 0.05
# Engineering choice: number of held-out molecules to reconstruct, and of draws of the prior.
_EVALUATED = 1000
# Engineering choice: number of batches that are sorted by length together, which reduces padding.
_SORTED_BATCHES = 32
# Engineering choice: largest norm of a gradient, in nats per unit of the weights; longer gradients
# are scaled down to it (Pascanu et al. 2013).
_MAX_GRADIENT_NORM = 5.0
# Engineering choice: share of the training steps in which ``beta`` rises (Bowman et al. 2016).
_ANNEALED_SHARE = 0.3


def _initialise(network: SelfiesNetwork, generator: torch.Generator) -> None:
    """Initialise the layers that ``fresh`` skips, seeded by the same generator."""
    nn.init.normal_(network.embedding.weight, std=0.3, generator=generator)
    for layer in network.convolutions:
        if isinstance(layer, nn.Conv1d) and layer.bias is not None:
            nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
            nn.init.zeros_(layer.bias)
    bound = network.config.hidden**-0.5
    for weight in network.recurrent.parameters():
        nn.init.uniform_(weight, -bound, bound, generator=generator)


def _batches(
    rows: Tensor, lengths: Tensor, size: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield all row indices once, in shuffled batches of molecules of similar length."""
    order = rows[torch.randperm(len(rows), generator=generator)]
    for some in torch.split(order, size * _SORTED_BATCHES):
        batches = torch.split(some[lengths[some].argsort(stable=True)], size)
        for i in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[i]


def _bound(
    network: SelfiesNetwork,
    rows: Tensor,
    present: Tensor,
    noise: Tensor,
    hidden: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the terms of the negative evidence lower bound in nats.

    These are the surprise ``-sum_t log p(x_t | x_<t, z)``, shape ``(n,)``, and the divergence
    ``KL(N(m, v) || N(0, 1)) = (m^2 + v - 1 - log v) / 2`` per coordinate, shape ``(n, d)``.

    Args:
        network: network to evaluate.
        rows: indices of tokens x, shape ``(n, length)``.
        present: counts of substructures, shape ``(n, 1024)``.
        noise: standard normal numbers, shape ``(n, d)``.
        hidden: mask of previous tokens to replace by ``END``, shape ``(n, length)``.
    """
    mean, log_variance = network.posterior(rows, present)
    # Columns beyond the longest molecule hold only END and do not count.
    longest = min(int((rows > 0).sum(dim=1).max()) + 1, rows.shape[1])
    wanted, before = rows[:, :longest], F.pad(rows, (1, 0))[:, :longest]
    if hidden is not None:
        before = before.masked_fill(hidden[:, :longest], 0)
    logits = network.logits(mean + (0.5 * log_variance).exp() * noise, before)
    surprise = F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
    return (surprise * _counted(wanted)).sum(dim=1), divergence


def _counted(rows: Tensor) -> Tensor:
    """Return a mask ``(n, l)`` of the tokens of each molecule and its first ``END``."""
    return F.pad(rows, (1, 0), value=1)[:, :-1] > 0


def _figures(
    network: SelfiesNetwork, held: Tensor, present: Tensor, cycled: Sequence[str]
) -> dict[str, float]:
    with torch.no_grad():
        mean, log_variance = network.posterior(held, present)
        right = network.logits(mean, F.pad(held, (1, 0))[:, :-1]).argmax(dim=2) == held
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=1)
    back = network(network.encode(cycled))
    return {
        "reconstruction": float(
            np.mean([one == other for one, other in zip(cycled, back, strict=True)])
        ),
        "tokens": float(right[_counted(held)].float().mean()),
        "similarity": float(similarities(cycled, back).mean()),
        "active": float((mean.var(dim=0) > ACTIVE_VARIANCE).sum()),
        "nats": float(divergence.mean()),
    }


def _drawn(
    network: SelfiesNetwork, known: set[str], seed: int, valid: Valid | None
) -> dict[str, float]:
    made: list[str] = sampled(network, np.random.default_rng(seed), _EVALUATED)
    return {
        "validity": float(
            np.mean([bool(one) for one in (call_user_code(valid, made) if valid else made)])
        ),
        "uniqueness": len(set(made)) / len(made),
        "novelty": float(np.mean([one not in known for one in made])),
    }


def _remarks(figures: Mapping[str, float], lost: int) -> tuple[str, ...]:
    share = figures["uniqueness"]
    remarks = {
        f"{lost} molecules without a SELFIES were left out.": lost > 0,
        "posterior collapse: no code coordinate is active. Decrease beta.": figures["active"] == 0,
        f"only {share:.0%} of {_EVALUATED} draws of the prior are distinct.": share < 0.5,
    }
    return tuple(remark for remark, applies in remarks.items() if applies)


class SelfiesVAE(SelfiesNetwork):
    """Variational autoencoder of molecules with its training.

    Args:
        config: architecture with tokens; ``fit`` adds these.

    Raises:
        InvalidInputError: the config has no tokens.
    """

    @classmethod
    @own_settings()
    def fit(
        cls,
        designs: Designs,
        config: SelfiesConfig,
        *,
        progress: bool = False,
        device: Device = None,
        valid: Valid | None = None,
    ) -> tuple[Self, TrainingReport]:
        """Train a VAE on the SMILES of at least 20 different molecules.

        5 % of the molecules are held out; the network has the weights of the epoch with the lowest
        held-out loss. Reported figures:

        - ``reconstruction``: share of held-out molecules that decode to themselves;
        - ``tokens``: share of their tokens that have the highest probability, given the code and
          the true previous tokens;
        - ``similarity``: mean Tanimoto similarity of held-out molecules and their reconstructions;
        - ``active``: number of code coordinates with a mean that varies;
        - ``nats``: Kullback-Leibler divergence of the codes from N(0, I);
        - ``validity``: share of valid designs among 1,000 samples of N(0, I);
        - ``uniqueness``, ``novelty``: shares of these that are distinct, and that are not among
          the training molecules.

        Raises:
            InvalidInputError: fewer than 20 molecules have a SELFIES, or the config's tokens
                cannot represent one of them.
            TrainingInterrupted: Ctrl-C; the exception holds the best network so far.
        """
        where = as_device(device)
        selfies = {one: to_selfies(one) for one in cls.checked(designs, config)}
        smiles = [one for one in selfies if selfies[one]]
        if len(smiles) < MIN_DESIGNS:
            raise InvalidInputError(
                f"VAE of molecules: designs must hold at least {MIN_DESIGNS} molecules with a "
                f"SELFIES, got {len(smiles)} of {len(selfies)}"
            )
        texts = [selfies[one] for one in smiles]
        if not config.tokens:
            vocabulary = Vocabulary.learn(texts, config.merges)
            config = replace(config, tokens=vocabulary.tokens, length=vocabulary.length)
        tokens = torch.from_numpy(config.vocabulary.encode(texts))
        present = torch.from_numpy(counts(smiles))
        generator = torch.Generator().manual_seed(config.seed)
        network = fresh(lambda: cls(config), generator)
        _initialise(network, generator)
        network.to(where)
        rows, held = split(torch.arange(len(tokens)), _HELD_OUT, generator)
        noise = torch.randn(len(held), config.dim, generator=generator, dtype=torch.float32)
        steps = config.epochs * -(-len(rows) // config.batch_size)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=1e-4
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, steps + 1, pct_start=0.1
        )

        def epoch() -> None:
            network.train()
            for some in _batches(rows, (tokens > 0).sum(dim=1), config.batch_size, generator):
                batch = tokens[some]
                drawn = torch.randn(
                    len(batch), config.dim, generator=generator, dtype=torch.float32
                ).to(where)
                hidden = torch.rand(batch.shape, generator=generator, dtype=torch.float32)
                hidden = hidden.to(where) < config.dropout
                beta = config.beta * min(1.0, schedule.last_epoch / (_ANNEALED_SHARE * steps))
                optimizer.zero_grad()
                surprise, divergence = _bound(
                    network, batch.to(where), present[some].to(where), drawn, hidden
                )
                # Free bits: sum_j max(free_nats, E KL_j) has no gradient below free_nats.
                penalty = divergence.mean(dim=0).clamp(min=config.free_nats).sum()
                torch.autograd.backward(surprise.mean() + beta * penalty)
                nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT_NORM)
                optimizer.step()
                schedule.step()
            network.eval()

        def held_out() -> float:
            with torch.no_grad():
                columns = (tokens[held], present[held], noise)
                parts = zip(*(torch.split(one, _EVALUATED) for one in columns), strict=True)
                bounds = [_bound(network, *(one.to(where) for one in part)) for part in parts]
            return sum(float(s.sum() + config.beta * kl.sum()) for s, kl in bounds) / len(held)

        report = best_epoch(
            network,
            epoch,
            held_out,
            epochs=config.epochs,
            patience=config.patience,
            what="VAE of molecules",
            progress=progress,
        )
        network.cpu().eval()
        cycled = [smiles[i] for i in held[:_EVALUATED].tolist()]
        figures = _figures(network, tokens[held], present[held], cycled) | _drawn(
            network, set(smiles), config.seed, valid
        )
        return finished(network, report, figures, _remarks(figures, len(selfies) - len(smiles)))
