"""Training the VAE of molecules, and what is measured of it afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bo_invert.errors import InvalidInputError
from bo_invert.generators.base import TrainingReport, Valid, sampled
from bo_invert.generators.selfies.model import SelfiesConfig, SelfiesNetwork
from bo_invert.generators.selfies.vocabulary import Vocabulary, counts, similarities, to_selfies
from bo_invert.generators.training import FEWEST, as_device, best_epoch, finished, fresh, split

_HELD_OUT = 0.05
_CYCLED = 1000
"""Held-out molecules that are taken through a cycle, and draws of the prior."""
_SORTED = 32
"""Batches that are drawn together and sorted by length, so that little is padded."""
_STEEPEST = 5.0
"""Norm that gradients are cut to."""
_ANNEALED = 0.3
"""Share of the training in which ``beta`` rises."""
_ACTIVE = 0.01
"""A coordinate is in use where its mean varies more than this over designs (Burda, Grosse and Salakhutdinov, 2016)."""

V = TypeVar("V", bound=SelfiesNetwork)


def train(
    kind: type[V],
    smiles: Sequence[str],
    config: SelfiesConfig,
    *,
    progress: bool,
    device: Any,
    valid: Valid | None,
) -> tuple[V, TrainingReport]:
    """Train a network; see ``SelfiesVAE.fit``.

    Args:
        kind: of network.
        smiles: canonical, different.
        config: with or without tokens.
        progress: show a bar on stderr.
        device: where to train.
        valid: what counts as a molecule; default: whatever is not empty.

    Raises:
        InvalidInputError: SELFIES can say fewer than 20 of them, or the config's tokens cannot say one.
    """
    where = as_device(device)
    said = {one: to_selfies(one) for one in smiles}
    smiles = [one for one in smiles if said[one]]
    if len(smiles) < FEWEST:
        raise InvalidInputError(
            f"SELFIES can say only {len(smiles)} of {len(said)} molecules; {FEWEST} are needed"
        )
    texts = [said[one] for one in smiles]
    if not config.tokens:
        vocabulary = Vocabulary.learn(texts, config.merges)
        config = replace(config, tokens=vocabulary.tokens, length=vocabulary.length)
    tokens, seen = (
        torch.from_numpy(config.vocabulary.encode(texts)),
        torch.from_numpy(counts(smiles)),
    )
    generator = torch.Generator().manual_seed(config.seed)
    network = fresh(lambda: kind(config), generator)
    _begin(network, generator)
    network.to(where)
    rows, held = split(torch.arange(len(tokens)), _HELD_OUT, generator)
    noise = torch.randn(len(held), config.dim, generator=generator)
    steps = config.epochs * -(-len(rows) // config.batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, steps + 1, pct_start=0.1
    )

    def epoch() -> None:
        network.train()
        for some in _batches(rows, (tokens > 0).sum(dim=1), config.batch_size, generator):
            batch = tokens[some]
            drawn = torch.randn(len(batch), config.dim, generator=generator).to(where)
            hidden = torch.rand(batch.shape, generator=generator).to(where) < config.dropout
            beta = config.beta * min(1.0, schedule.last_epoch / (_ANNEALED * steps))
            optimizer.zero_grad()
            surprise, divergence = _bound(
                network, batch.to(where), seen[some].to(where), drawn, hidden
            )
            told = divergence.mean(dim=0).clamp(min=config.free_nats).sum()
            torch.autograd.backward(surprise.mean() + beta * told)
            nn.utils.clip_grad_norm_(network.parameters(), _STEEPEST)
            optimizer.step()
            schedule.step()
        network.eval()

    def held_out() -> float:
        with torch.no_grad():
            parts = zip(
                *(torch.split(one, _CYCLED) for one in (tokens[held], seen[held], noise)),
                strict=True,
            )
            bounds = [_bound(network, *(one.to(where) for one in part)) for part in parts]
        return sum(
            float(surprise.sum() + config.beta * told.sum()) for surprise, told in bounds
        ) / len(held)

    ending = best_epoch(
        network, epoch, held_out, epochs=config.epochs, patience=config.patience, what="VAE of molecules",
        progress=progress,
    )  # fmt: skip
    network.cpu().eval()
    cycled = [smiles[i] for i in held[:_CYCLED].tolist()]
    figures = _figures(network, tokens[held], seen[held], cycled) | _drawn(
        network, set(smiles), config.seed, valid
    )
    return finished(network, ending.report(figures, _remarks(figures, len(said) - len(smiles))))


def _begin(network: SelfiesNetwork, generator: torch.Generator) -> None:
    """Initial weights of what ``fresh`` does not know, from the same generator."""
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
    """All row numbers once, in batches of molecules of about one length, in an order that is not."""
    for some in torch.split(rows[torch.randperm(len(rows), generator=generator)], size * _SORTED):
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
    """The parts of the negative evidence lower bound in nats: surprise ``(n,)`` and divergence ``(n, d)``.

    Args:
        network: of tokens.
        rows: tokens, shape ``(n, length)``.
        present: counts of substructures, shape ``(n, 1024)``.
        noise: standard normal, shape ``(n, d)``.
        hidden: which previous tokens the decoder is not shown, shape ``(n, length)``.
    """
    mean, log_variance = network.posterior(rows, present)
    longest = min(int((rows > 0).sum(dim=1).max()) + 1, rows.shape[1])
    wanted, before = rows[:, :longest], F.pad(rows, (1, 0))[:, :longest]
    if hidden is not None:
        before = before.masked_fill(hidden[:, :longest], 0)
    logits = network.logits(mean + (0.5 * log_variance).exp() * noise, before)
    surprise = F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
    return (surprise * _counted(wanted)).sum(dim=1), divergence


def _counted(rows: Tensor) -> Tensor:
    """Which tokens ``(n, l)`` count: those of the molecule, and the first ``END``."""
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
        "active": float((mean.var(dim=0) > _ACTIVE).sum()),
        "nats": float(divergence.mean()),
    }


def _drawn(
    network: SelfiesNetwork, known: set[str], seed: int, valid: Valid | None
) -> dict[str, float]:
    made: list[str] = sampled(network, np.random.default_rng(np.random.SeedSequence(seed)), _CYCLED)
    sound = [bool(one) for one in (made if valid is None else valid(made))]
    return {
        "validity": float(np.mean(sound)),
        "uniqueness": len(set(made)) / len(made),
        "novelty": float(np.mean([one not in known for one in made])),
    }


def _remarks(figures: Mapping[str, float], lost: int) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    if lost:
        found += (f"{lost} molecules that SELFIES cannot say were left out",)
    if figures["active"] == 0:
        found += ("posterior collapse: no coordinate of the code is in use; lower beta",)
    if figures["uniqueness"] < 0.5:
        found += (
            f"of {_CYCLED} draws of the prior only {figures['uniqueness']:.0%} differ from each other",
        )
    return found


class SelfiesVAE(SelfiesNetwork):
    """Variational autoencoder of molecules with its training.

    Args:
        config: with its tokens; ``fit`` adds them.

    Raises:
        InvalidInputError: the config has no tokens.
    """

    @classmethod
    def fit(
        cls,
        designs: Any,
        config: SelfiesConfig,
        *,
        progress: bool = False,
        device: Any = None,
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
        """
        return train(
            cls, cls.checked(designs, config), config, progress=progress, device=device, valid=valid
        )
