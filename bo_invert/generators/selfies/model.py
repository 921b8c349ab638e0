"""Variational autoencoder of molecules from SMILES to SMILES (Gómez-Bombarelli et al. 2018).

The network generates SELFIES (Krenn et al. 2020), in which every string is a valid molecule. Needs
the extra ``molecules``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

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
from bo_invert.generators.training import MIN_DESIGNS, in_batches
from bo_invert.types import Array, Designs


@dataclass(frozen=True)
class SelfiesConfig(GeneratorConfig):
    """Architecture and training options of a VAE of molecules.

    Args:
        dim: length of a code.
        stereo: encode stereochemistry. Otherwise designs have none.
        merges: number of frequent pairs of SELFIES tokens merged into new tokens.
        hidden: width of the decoder's recurrent layer.
        channels: channels of the encoder's convolutions.
        beta: weight of the Kullback-Leibler divergence, which rises linearly over the first 30 %
            of the training. Lower values reconstruct more molecules exactly. Higher values give a
            smoother latent space with more realistic draws.
        free_nats: divergence per code coordinate without penalty, which prevents unused
            coordinates (free bits, Kingma et al. 2016).
        dropout: share of previous tokens hidden from the decoder in training, so that it uses the
            code (Bowman et al. 2016).
        epochs: largest number of epochs.
        patience: number of epochs without a lower held-out loss after which training stops.
        batch_size: molecules per step.
        learning_rate: peak step size of AdamW. It rises for a tenth of the training, then falls to
            zero.
        seed: seed of the initial weights, the shuffling and the noise.
        tokens: vocabulary; fitted in training if empty.
        length: largest number of tokens of a molecule; fitted with the vocabulary.
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
        self.check_sizes("dim", "hidden", "channels", "epochs", "patience", "batch_size")
        if self.merges < 0 or not (
            self.learning_rate > 0 and min(self.beta, self.free_nats) >= 0 and 0 <= self.dropout < 1
        ):
            raise InvalidInputError(
                "SelfiesConfig: merges, beta and free_nats must be >= 0, learning_rate > 0 and "
                f"dropout in [0, 1), got {self}"
            )
        if self.tokens:
            Vocabulary(self.tokens, self.length)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Vocabulary of tokens.

        Raises:
            InvalidInputError: the vocabulary is not fitted yet.
        """
        if not self.tokens:
            raise InvalidInputError(
                "SelfiesConfig: tokens must not be empty, got (). Train with train_generator, "
                "which fits the vocabulary."
            )
        return Vocabulary(self.tokens, self.length)


class SelfiesNetwork(Generator[SelfiesConfig]):
    """Encoder and decoder of a VAE of molecules: SMILES to mean codes, codes to canonical SMILES.

    The encoder combines convolutions over tokens with counts of substructures, which give similar
    molecules similar codes from the first epoch. The decoder is a recurrent network (GRU) with the
    code as an input of each step. It selects the most probable token, so that each code has one
    molecule. The first token has an atom: no molecule is empty. If RDKit rejects a decoded
    SELFIES, the design is the empty string.

    Args:
        config: architecture with tokens; the constructor ignores the training options.

    Raises:
        InvalidInputError: the config has no tokens.
    """

    Config = SelfiesConfig
    differentiable: ClassVar[bool] = False

    def __init__(self, config: SelfiesConfig) -> None:
        super().__init__(config)
        tokens, length = len(config.vocabulary.tokens), config.length
        # Encoder: two strides of 2 reduce the length to a quarter, rounded up.
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
        # Decoder: initial state of the GRU, code input of each step, GRU, logits of the tokens.
        self.first = nn.Linear(config.dim, config.hidden)
        self.remind = nn.Linear(config.dim, width)
        self.recurrent = nn.GRU(2 * width, config.hidden, batch_first=True)
        self.last = nn.Linear(config.hidden, tokens)

    def posterior(self, rows: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each ``(n, d)``, of the codes of molecules.

        The log variance is clamped to [-12, 4], which prevents overflow.

        Args:
            rows: indices of tokens, shape ``(n, length)``.
            present: counts of substructures, shape ``(n, 1024)``; see ``vocabulary.counts``.
        """
        convolved = self.convolutions(self.embedding(rows).transpose(1, 2)).flatten(1)
        # Token order and substructure counts describe a molecule independently; both are summed.
        # log(1 + count) limits the weight of substructures that occur many times.
        both = self.order(convolved) + self.presence(present.log1p())
        # The encoder has two heads in one layer: mean and log variance of each coordinate.
        mean, log_variance = self.head(F.silu(both)).chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 4.0)

    def logits(self, codes: Tensor, before: Tensor) -> Tensor:
        """Return logits ``(n, l, tokens)`` of the next token.

        Args:
            codes: shape ``(n, d)``.
            before: indices of the previous tokens, shape ``(n, l)``.
        """
        # The code sets the initial state and is an input of each step, which keeps it in use.
        reminder = self.remind(codes)[:, None].expand(-1, before.shape[1], -1)
        inputs = torch.cat([self.embedding(before), reminder], dim=2)
        states, _ = self.recurrent(inputs, self.first(codes).tanh()[None])
        return self.last(states)  # type: ignore[no-any-return]

    def greedy(self, codes: Tensor) -> Tensor:
        """Decode codes ``(n, d)`` greedily to indices of tokens ``(n, length)``.

        Float64 makes the result independent of batch size and machine.
        """
        # The same operations as in ``logits``, one step at a time.
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
            inputs = torch.cat([F.embedding(token, w["embedding.weight"]), reminder], dim=1)
            state = torch.gru_cell(inputs, state, *cell)
            scores = F.linear(state, w["last.weight"], w["last.bias"])
            if i == 0:  # the first token needs an atom, else the molecule may be empty
                scores[:, torch.from_numpy(self.config.vocabulary.silent)] = -torch.inf
            token = scores.argmax(dim=1) * going  # finished rows stay at END, index 0
            rows[:, i], going = token, going & (token > 0)
            if not going.any():
                break
        return rows

    def forward(self, codes: Array) -> list[str]:
        """Decode codes ``(n, dim)`` to n canonical SMILES."""
        batch = torch.as_tensor(np.asarray(codes))
        rows = in_batches(self.greedy, batch, device=self.last.weight.device).numpy()
        return [
            from_selfies(text, self.config.stereo) for text in self.config.vocabulary.decode(rows)
        ]

    def encode(self, designs: Sequence[str]) -> Array:
        """Encode n SMILES as mean codes ``(n, dim)``.

        Raises:
            InvalidInputError: a SMILES is invalid, has no SELFIES, or needs tokens outside the
                vocabulary.
        """
        stereo = self.config.stereo
        plain = [canonical(one, stereo) if isinstance(one, str) else "" for one in designs]
        texts = [to_selfies(one) if one else "" for one in plain]
        if "" in texts:
            raise InvalidInputError(
                "VAE of molecules: designs must be molecules with a SELFIES, "
                f"got {designs[texts.index('')]!r:.80}"
            )
        rows = torch.from_numpy(self.config.vocabulary.encode(texts))
        present, device = torch.from_numpy(counts(plain)), self.last.weight.device
        codes = in_batches(lambda x, c: self.posterior(x, c)[0], rows, present, device=device)
        return codes.double().numpy()

    @classmethod
    def checked(cls, designs: Designs, config: SelfiesConfig) -> list[str]:
        """Return the distinct canonical SMILES.

        Raises:
            InvalidInputError: a SMILES is invalid, or there are fewer than 20 distinct molecules.
        """
        if isinstance(designs, str) or not all(isinstance(one, str) for one in designs):
            raise InvalidInputError(
                f"VAE of molecules: designs must be a list of SMILES, got {designs!r:.80}"
            )
        # Different SMILES of one molecule have one canonical SMILES.
        made = {text: canonical(text, config.stereo) for text in designs}
        if lost := [text for text, found in made.items() if not found]:
            raise InvalidInputError(
                f"VAE of molecules: designs must be valid SMILES, got {len(lost)} invalid ones of "
                f"{len(designs)}, the first {lost[0]!r:.80}"
            )
        distinct = list(dict.fromkeys(made.values()))
        if len(distinct) < MIN_DESIGNS:
            raise InvalidInputError(
                f"VAE of molecules: designs must hold at least {MIN_DESIGNS} distinct molecules, "
                f"got {len(distinct)}"
            )
        return distinct
