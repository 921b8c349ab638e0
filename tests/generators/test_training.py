"""Tests of the training loop, the layers and the standardisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bo_invert.errors import InvalidInputError
from bo_invert.generators.layers import Downward, Units, Upward
from bo_invert.generators.training import best_epoch, in_batches, split


class Counter(nn.Module):
    """Network that counts its training epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("epochs", torch.zeros(()))
        self.epochs: torch.Tensor


def run(losses: list[float], patience: int = 10) -> tuple[float, Any]:
    network = Counter()
    ending = best_epoch(
        network, lambda: network.epochs.add_(1), lambda: losses[int(network.epochs) - 1],
        epochs=len(losses), patience=patience, what="counter", progress=False,
    )  # fmt: skip
    return float(network.epochs), ending


def test_the_network_has_the_weights_of_the_best_epoch() -> None:
    best, ending = run([3.0, 1.0, 2.0, 1.5])
    assert best == 2
    assert (ending.epochs, ending.ended, ending.loss) == (4, "epochs", 1.0)


def test_patience_stops_training() -> None:
    best, ending = run([3.0, 1.0, 2.0, 1.5, 0.5], patience=2)
    assert best == 2
    assert (ending.epochs, ending.ended) == (4, "patience")


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_an_error(loss: float) -> None:
    with pytest.raises(
        InvalidInputError,
        match=r"counter: loss must be finite, got -?(nan|inf) after 2 epochs. Decrease",
    ):
        run([1.0, loss])


def test_training_rows_and_held_out_rows_are_disjoint() -> None:
    rows, held = split(torch.arange(50.0), 0.2, torch.Generator().manual_seed(0))
    assert len(held) == 10
    assert sorted([*rows.tolist(), *held.tolist()]) == list(range(50))


def test_batches_are_concatenated() -> None:
    x = torch.arange(3000.0)
    seen = []
    out = in_batches(lambda a, b: seen.append(len(a)) or a + b, x, x, device=torch.device("cpu"))
    assert torch.equal(out, 2 * x)
    assert max(seen) <= 1024


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (8, 8), (9, 4), (28, 28), (31, 32)])
@pytest.mark.parametrize("channels", [(3,), (3, 5)])
def test_images_of_any_size_are_encoded_and_decoded(
    size: tuple[int, int], channels: tuple[int, ...]
) -> None:
    shape = (2, *size)
    codes = Downward(shape, channels, 6)(torch.zeros(3, *shape))
    assert codes.shape == (3, 6)
    assert Upward(6, channels, shape)(codes).shape == (3, *shape)


def test_units_standardise_designs() -> None:
    rng = np.random.default_rng(0)
    vectors = torch.tensor(
        rng.standard_normal((500, 3)) * [1e-3, 1e4, 0.0] + [5.0, 0.0, 7.0], dtype=torch.float32
    )
    units = Units((3,))
    units.measure(vectors)
    inside = units(vectors)
    np.testing.assert_allclose(inside.std(dim=0)[:2], 1.0, rtol=0.01)
    np.testing.assert_allclose(inside[:, 2], 0.0)
    np.testing.assert_allclose(units.back(inside), vectors, rtol=1e-5, atol=1e-2)
    images = torch.tensor(
        rng.standard_normal((50, 2, 4, 4)) * np.array([1.0, 9.0])[:, None, None],
        dtype=torch.float32,
    )
    units = Units((2, 4, 4), alike=(-2, -1))
    units.measure(images)
    np.testing.assert_allclose(units.scale[:, 0, 0], [1.0, 9.0], rtol=0.1)
    assert torch.equal(units.scale, units.scale[:, :1, :1].expand(2, 4, 4))
