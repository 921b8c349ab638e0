"""Decoders of logits together with real designs in [0, 1]."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.generators.design_ranges import warn_of_logits

SIZE, DIM = 24, 2


def network(shift: float, gain: float) -> torch.nn.Module:
    layer = torch.nn.Linear(DIM, SIZE)
    with torch.no_grad():
        layer.weight.copy_(gain * torch.linspace(-1.0, 1.0, DIM * SIZE).reshape(SIZE, DIM))
        layer.bias.fill_(shift)
    return layer


@pytest.mark.parametrize(("shift", "gain"), [(-3.0, 1.0), (0.0, 1.0), (2.0, 0.5)])
def test_logits_of_designs_in_the_unit_interval_warn(shift: float, gain: float) -> None:
    layer = network(shift, gain)
    z = torch.randn(60, DIM, generator=torch.Generator().manual_seed(1))
    data = torch.sigmoid(layer(z)).detach().numpy()
    with pytest.warns(UserWarning, match=r"seem to be logits. Apply a sigmoid: bi\.Latent"):
        bi.Latent(layer, DIM, data=data, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bi.Latent(torch.nn.Sequential(layer, torch.nn.Sigmoid()), DIM, data=data, progress=False)


def test_linear_decoders_of_designs_in_the_unit_interval_do_not_warn() -> None:
    rng = np.random.default_rng(0)
    data = np.round(rng.random((200, SIZE)) ** 2)  # two values only: the widest linear decoder
    mean, axes = data.mean(axis=0), np.linalg.svd(data - data.mean(axis=0), full_matrices=False)
    scale = axes[1][:8] / np.sqrt(len(data))
    decoded = mean + (rng.standard_normal((64, 8)) * scale) @ axes[2][:8]
    assert (decoded < 0.0).mean() > 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_logits(data, decoded)


@pytest.mark.parametrize("designs", [["CCO", "CC"], [{"a": 1.0}], np.zeros((0, 2)), [0.5]])
def test_other_designs_are_not_compared(designs: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_logits(designs, designs)
