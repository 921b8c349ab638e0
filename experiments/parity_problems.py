"""Networks and their forest twins of gradient_parity.py, with and without gradients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from frozen_models import Network, fit_forest
from frozen_regressors import ACCEPTANCE_SEED, DEVELOPMENT_SEED, FrozenRegressor, Reader, problem
from frozen_spaces import Components, plain

import bo_invert as bi
from bo_invert.types import Array

#: Seeds of sets, and numbers of their networks with the goals maximum and minimum.
SETS, NUMBERS = 5, (8, 9)
ROLES = ("network", "network, gradients", "forest", "forest, proxy")


class TorchNetwork(torch.nn.Module):
    """A ``Network`` as a torch module in double precision."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        for name in ("mean", "scale", "centre", "spread"):
            self.register_buffer(name, torch.tensor(getattr(network, name)))
        self.layers = torch.nn.ModuleList()
        for weight, bias in zip(network.weights, network.biases, strict=True):
            layer = torch.nn.Linear(*weight.shape, dtype=torch.float64)
            layer.weight.data, layer.bias.data = torch.tensor(weight.T), torch.tensor(bias)
            self.layers.append(layer)
        self.activation = {
            "relu": torch.relu,
            "tanh": torch.tanh,
            "logistic": torch.sigmoid,
        }[network.activation]

    def forward(self, designs: torch.Tensor) -> torch.Tensor:
        h = (designs - self.mean) / self.scale
        for layer in self.layers[:-1]:
            h = self.activation(layer(h))
        found: torch.Tensor = self.centre + self.spread * self.layers[-1](h)
        return found


class TorchComponents(torch.nn.Module):
    """A decoder of principal components as a torch module in double precision."""

    def __init__(self, components: Components) -> None:
        super().__init__()
        for name in ("mean", "scale", "axes", "low", "high"):
            # A latent takes the precision of the decoder's parameters.
            self.register_parameter(name, _parameter(getattr(components, name)))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        designs = self.mean + self.scale * (codes @ self.axes)
        return torch.minimum(torch.maximum(designs, self.low), self.high)


def _parameter(values: Array) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(values), requires_grad=False)


@cache
def made(seed: int, number: int, role: str) -> bi.Problem:
    """Build one role of a network of ``frozen_regressors.py``."""
    source = problem(seed, number)
    reader = _reader(source)
    space: Any = source.space
    if isinstance(space, bi.Latent):
        components = Components.of(source.data, source.data.std(axis=0))
        space = bi.Latent(
            TorchComponents(components), len(components.axes),
            codes=components.encode(source.data),
        )  # fmt: skip
    network = bi.TorchModule(TorchNetwork(reader.model), outputs=source.outputs)  # type: ignore[arg-type]
    oracle: Any = network
    if role == "network":
        oracle = bi.Function(reader, outputs=source.outputs, batched=True)
    elif role != "network, gradients":
        forest = Reader(plain, fit_forest(source.data, reader(source.data), seed, extra=False))
        oracle = bi.Function(forest, outputs=source.outputs, batched=True)
        oracle = oracle if role == "forest" else bi.GradientProxy(oracle, network)
    return bi.Problem(
        space, oracle, source.objective, outputs=source.outputs, name=name_of(seed, number, role)
    )


def _reader(source: FrozenRegressor) -> Reader:
    found = source.oracle.implementation  # type: ignore[union-attr]
    assert isinstance(found, Reader)
    return found


def name_of(seed: int, number: int, role: str) -> str:
    return f"{seed}-{number:02d} {role}"


@dataclass(frozen=True)
class Source:
    """Picklable function of the seed of a run: one role of a network."""

    seed: int
    number: int
    role: str

    def __call__(self, run: int) -> bi.Problem:
        return made(self.seed, self.number, self.role)


def sources(draw: str) -> dict[str, Source]:
    """Return the roles of the ten networks by name."""
    first = ACCEPTANCE_SEED if draw == "acceptance" else DEVELOPMENT_SEED
    return {
        name_of(seed, number, role): Source(seed, number, role)
        for seed in range(first, first + SETS)
        for number in NUMBERS
        for role in ROLES
    }
