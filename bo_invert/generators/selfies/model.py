"""A variational autoencoder of molecules: SMILES in, SMILES out, SELFIES in between, so that every code is a molecule.

Gómez-Bombarelli et al., "Automatic chemical design using a data-driven continuous representation of molecules", 2018;
with SELFIES: Krenn et al. 2020. Needs the extra ``molecules``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bo_invert.errors import InvalidInputError
from bo_invert.generators.base import Generator, GeneratorConfig
from bo_invert.generators.selfies.vocabulary import (
    COUNTS,
    Vocabulary,
    canonical,
    counts,
    from_selfies,
    to_selfies,
)
from bo_invert.generators.training import FEWEST
from bo_invert.types import Array

_ROWS = 1024


@dataclass(frozen=True)
class SelfiesConfig(GeneratorConfig):
    """What a VAE of molecules is and how it is trained.

    Args:
        dim: length of a code.
        stereo: tell stereoisomers apart. Otherwise designs have no stereochemistry.
        merges: how many frequent runs of SELFIES symbols become tokens of their own.
        hidden: width of the decoder's recurrent layer.
        channels: of the encoder's convolutions.
        beta: weight of the Kullback-Leibler term, reached by and by over the first third of the training. The lower
            it is the more molecules come back from a cycle as they were, but the rougher is the latent: of 0.1, 0.2 and
            0.4 draws look more real each time, and their neighbours more alike.
        free_nats: how much each coordinate may tell of a molecule at no cost, so that none is left unused (free bits,
            Kingma et al. 2016).
        dropout: share of the decoder's previous tokens that are hidden from it in training, so that it reads the code.
        epochs: at most this many.
        patience: stop after so many epochs without a better held-out loss.
        batch_size: molecules per step.
        learning_rate: the highest; it rises for a tenth of the training and falls to zero.
        seed: of the initial weights, the shuffling and the noise.
        tokens: the vocabulary; learnt in training where it is empty.
        length: most tokens that a molecule may have; learnt with them.
    """

    kind: ClassVar[str] = "selfies"

    dim: int = 32
    stereo: bool = False
    merges: int = 256
    hidden: int = 256
    channels: int = 64
    beta: float = 0.2
    free_nats: float = 0.25
    dropout: float = 0.1
    epochs: int = 24
    patience: int = 10
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 0
    tokens: tuple[str, ...] = ()
    length: int = 0

    def __post_init__(self) -> None:
        self.refuse(
            dim=self.dim, hidden=self.hidden, channels=self.channels, epochs=self.epochs, patience=self.patience,
            batch_size=self.batch_size,
        )  # fmt: skip
        if self.merges < 0 or not (
            self.learning_rate > 0 and min(self.beta, self.free_nats) >= 0 and 0 <= self.dropout < 1
        ):
            raise InvalidInputError(
                "SelfiesConfig: merges, beta and free_nats are at least 0, learning_rate above 0, dropout in [0, 1), "
                f"got {self}"
            )
        if self.tokens:
            Vocabulary(self.tokens, self.length)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokens.

        Raises:
            InvalidInputError: they are not known before a training.
        """
        if not self.tokens:
            raise InvalidInputError(
                "SelfiesConfig: the tokens are learnt in training; train it with train_generator"
            )
        return Vocabulary(self.tokens, self.length)


class SelfiesNetwork(Generator[SelfiesConfig]):
    """``encode`` takes SMILES to the means of their codes, ``forward`` codes to canonical SMILES.

    The encoder sees the tokens, through convolutions, and how often which substructure occurs, so that like molecules
    have like codes from the start. A recurrent layer that sees the code at every step writes tokens, always the
    likeliest next one: one code is one molecule. The first token has an atom, so there is always something. Were RDKit
    ever to refuse what SELFIES says, the design would be the empty text.

    Args:
        config: with its tokens; training options are not used here.

    Raises:
        InvalidInputError: the config has no tokens.
    """

    Config = SelfiesConfig
    differentiable: ClassVar[bool] = False

    def __init__(self, config: SelfiesConfig) -> None:
        super().__init__(config)
        tokens, length = len(config.vocabulary.tokens), config.length
        width, channels = config.hidden // 4, config.channels
        self.embedding = nn.Embedding(tokens, width)
        self.convolutions = nn.Sequential(
            nn.Conv1d(width, channels, 5, padding=2),
            nn.SiLU(),
            nn.Conv1d(channels, channels, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv1d(channels, channels, 5, stride=2, padding=2),
            nn.SiLU(),
        )
        self.order = nn.Linear(channels * ((length + 3) // 4), config.hidden)
        self.presence = nn.Linear(COUNTS, config.hidden)
        self.head = nn.Linear(config.hidden, 2 * config.dim)
        self.first = nn.Linear(config.dim, config.hidden)
        self.remind = nn.Linear(config.dim, width)
        self.recurrent = nn.GRU(2 * width, config.hidden, batch_first=True)
        self.last = nn.Linear(config.hidden, tokens)

    def posterior(self, rows: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each ``(n, d)``, of the codes of molecules.

        Args:
            rows: tokens, shape ``(n, length)``.
            present: counts of substructures, shape ``(n, 1024)``; see ``selfies_tokens.counts``.
        """
        seen = self.convolutions(self.embedding(rows).transpose(1, 2)).flatten(1)
        both = self.order(seen) + self.presence(present.log1p())
        mean, log_variance = self.head(F.silu(both)).chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 4.0)

    def logits(self, codes: Tensor, before: Tensor) -> Tensor:
        """Of the next token, ``(n, l, tokens)``, given codes ``(n, d)`` and the tokens before it, ``(n, l)``."""
        reminder = self.remind(codes)[:, None].expand(-1, before.shape[1], -1)
        seen = torch.cat([self.embedding(before), reminder], dim=2)
        states, _ = self.recurrent(seen, self.first(codes).tanh()[None])
        return self.last(states)  # type: ignore[no-any-return]

    def greedy(self, codes: Tensor) -> Tensor:
        """The likeliest tokens ``(n, length)`` of codes ``(n, d)``, one after another.

        In double precision: how many codes are decoded at once, and on which machine, must not make other molecules.
        """
        w = {name: value.detach().double() for name, value in self.named_parameters()}
        codes = codes.double()
        state = F.linear(codes, w["first.weight"], w["first.bias"]).tanh()
        reminder = F.linear(codes, w["remind.weight"], w["remind.bias"])
        cell = [
            w[f"recurrent.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        rows = torch.zeros(len(codes), self.config.length, dtype=torch.long, device=codes.device)
        token, going = rows[:, 0], torch.ones(len(codes), dtype=torch.bool, device=codes.device)
        for i in range(self.config.length):
            seen = torch.cat([F.embedding(token, w["embedding.weight"]), reminder], dim=1)
            state = torch.gru_cell(seen, state, *cell)
            scores = F.linear(state, w["last.weight"], w["last.bias"])
            if i == 0:
                scores[
                    :, torch.from_numpy(self.config.vocabulary.silent).to(codes.device)
                ] = -torch.inf
            token = scores.argmax(dim=1) * going
            rows[:, i], going = token, going & (token > 0)
            if not going.any():
                break
        return rows

    def forward(self, codes: Array) -> list[str]:
        """Canonical SMILES of codes ``(n, dim)``."""
        device = self.last.weight.device
        made: list[str] = []
        with torch.no_grad():
            for part in torch.split(torch.as_tensor(np.asarray(codes)), _ROWS):
                made += self.config.vocabulary.decode(self.greedy(part.to(device)).cpu().numpy())
        return [from_selfies(text, self.config.stereo) for text in made]

    def encode(self, designs: Sequence[str]) -> Array:
        """Mean codes ``(n, dim)`` of n SMILES.

        Raises:
            InvalidInputError: one is no molecule, or one that the vocabulary cannot say.
        """
        plain, texts = _said(designs, self.config.stereo)
        rows, seen = (
            torch.from_numpy(self.config.vocabulary.encode(texts)),
            torch.from_numpy(counts(plain)),
        )
        device = self.last.weight.device
        with torch.no_grad():
            both = zip(torch.split(rows, _ROWS), torch.split(seen, _ROWS), strict=True)
            parts = [self.posterior(x.to(device), c.to(device))[0].cpu() for x, c in both]
        return torch.cat(parts).double().numpy() if parts else np.zeros((0, self.config.dim))

    @classmethod
    def checked(cls, designs: Any, config: SelfiesConfig) -> list[str]:
        """Canonical SMILES, each once.

        Raises:
            InvalidInputError: one is no molecule, or there are fewer than 20 different ones.
        """
        if isinstance(designs, str) or not all(isinstance(one, str) for one in designs):
            raise InvalidInputError("a VAE of molecules wants a list of SMILES")
        made = {text: canonical(text, config.stereo) for text in designs}
        lost = [text for text, found in made.items() if not found]
        if lost:
            raise InvalidInputError(
                f"{len(lost)} of {len(designs)} designs are no molecules, the first is {lost[0]!r:.80}"
            )
        different = list(dict.fromkeys(made.values()))
        if len(different) < FEWEST:
            raise InvalidInputError(
                f"a VAE of molecules wants {FEWEST} or more different ones, got {len(different)}"
            )
        return different


def _said(designs: Sequence[str], stereo: bool) -> tuple[list[str], list[str]]:
    """Canonical SMILES and SELFIES of SMILES.

    Raises:
        InvalidInputError: there is none of one.
    """
    plain = [canonical(design, stereo) if isinstance(design, str) else "" for design in designs]
    texts = [to_selfies(one) if one else "" for one in plain]
    if "" in texts:
        raise InvalidInputError(
            f"{designs[texts.index('')]!r:.80} is no molecule that SELFIES can say"
        )
    return plain, texts
