"""Tests of inversion: pre-images of designs found by search in the latent space."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from torch import nn

import bo_invert as bi
from bo_invert.errors import InvalidInputError

DIM = 3


class Decoder(nn.Module):
    """Smooth, nonlinear and injective decoder."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.weight = nn.Parameter(
            torch.tensor(rng.standard_normal((12, DIM)), dtype=torch.float32)
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return (z + 0.3 * z.sin()).matmul(self.weight.T).tanh().reshape(-1, 3, 4)


def plain(codes: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return Decoder()(torch.tensor(codes, dtype=torch.float32)).numpy().astype(float)


CODES = np.random.default_rng(1).normal([1.0, 0.0, -1.0], [0.3, 0.5, 0.4], (300, DIM))
MAKERS: dict[str, Any] = {
    "gradient": lambda: bi.Latent(Decoder(), DIM, codes=CODES),
    "gradient, prior": lambda: bi.Latent(Decoder(), DIM),
    "gradient, bounded prior": lambda: bi.Latent(Decoder(), DIM, prior="uniform"),
    "differences": lambda: bi.Latent(plain, DIM, codes=CODES),
    "differences, bounded prior": lambda: bi.Latent(plain, DIM, prior="uniform"),
}


@pytest.fixture(scope="module", params=MAKERS)
def space(request: pytest.FixtureRequest) -> bi.Latent:
    return MAKERS[request.param]()


def test_decoded_points_are_recovered(space: bi.Latent) -> None:
    points = 0.9 * space.sample(np.random.default_rng(0), 6)
    designs = space.decode(points)
    found = space.invert(designs)
    assert found.left.max() < 1e-3
    assert_allclose(found.points, points, atol=0.1)
    assert_allclose(found.errors, ((space.decode(found.points) - designs) ** 2).mean(axis=(1, 2)))
    assert_array_equal(space.encode(designs), found.points)  # deterministic


def test_points_stay_in_the_domain(space: bi.Latent) -> None:
    designs = space.decode(10.0 * space.sample(np.random.default_rng(0), 3))
    points = space.invert(designs).points
    assert np.linalg.norm(points, axis=1).max() <= space.domain.radius * (1 + 1e-9)


def test_a_study_takes_designs_without_an_encoder(space: bi.Latent) -> None:
    problem = bi.Problem(space, lambda x: float(x.sum()), bi.Minimize())
    designs = space.decode(0.5 * space.sample(np.random.default_rng(3), 4))
    study = bi.Study.create("s", problem, strategy="prior", seed=0)
    study.add(X=designs[:3], Y=[float(x.sum()) for x in designs[:3]])
    study.enqueue(designs[3])
    study.run(1)
    for trial, design in zip(study.trials, designs, strict=True):
        assert_allclose(problem.decode(trial.point), design, atol=0.01)
        assert trial.y is not None
        assert trial.y[0] == pytest.approx(design.sum(), abs=0.1)


def test_designs_that_cannot_be_reproduced_are_errors(space: bi.Latent) -> None:
    strange = 5.0 * np.random.default_rng(0).standard_normal((2, 3, 4))
    assert space.invert(strange).left.min() > 1.0
    with pytest.raises(InvalidInputError, match="cannot reproduce 2 of 2 designs"):
        space.encode(strange)


def test_a_large_reconstruction_error_is_a_warning(space: bi.Latent) -> None:
    near = space.decode(0.5 * space.sample(np.random.default_rng(0), 2))
    spread = space.invert(near).spread
    noise = np.random.default_rng(0).standard_normal(near.shape) * (0.6 * spread) ** 0.5
    study = bi.Study.create("s", bi.Problem(space, lambda x: float(np.sum(x)), bi.Minimize()))
    with pytest.warns(
        UserWarning, match=r"1 of 2 designs are not reproduced well: .* up to \d\d% of"
    ):
        study.add(np.stack([near[0], (near + noise)[1]]), [0.0, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study.add(near, [0.0, 0.0])


@pytest.mark.parametrize(
    ("designs", "message"),
    [
        (np.zeros((2, 4, 3)), r"shape \(3, 4\), got \(4, 3\)"),
        (np.full((1, 3, 4), np.nan), "must be finite"),
        (["CCO"], "arrays of numbers"),
    ],
)
def test_invalid_designs_are_errors(space: bi.Latent, designs: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        space.encode(designs)


def test_inverted_designs_have_calibrated_plausibility() -> None:
    """Designs with many codes: the search finds the codes to which the measure was fitted."""
    wide = nn.Sequential(nn.Linear(16, 8), nn.Tanh())
    generator = torch.Generator().manual_seed(0)
    for parameter in wide.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    rng = np.random.default_rng(0)
    designs = np.tanh(np.array([0.5, 0.1] * 4) + 0.4 * rng.standard_normal((700, 8)))
    space = bi.Latent(wide, 16, data=designs[:400])
    plausible = space.plausibility(space.invert(designs[400:]).points)
    for level in (0.1, 0.25, 0.5):
        assert abs((plausible <= level).mean() - level) < 0.08


def test_encoding_no_designs_returns_no_points(space: bi.Latent) -> None:
    assert space.encode(np.zeros((0, 3, 4))).shape == (0, DIM)


def test_a_piecewise_constant_decoder_gives_the_nearest_draw() -> None:
    space = bi.Latent(lambda z: np.round(z), 2)
    found = space.invert(np.array([[1.0, -1.0]]))
    assert found.left[0] == 0.0
    assert_array_equal(space.decode(found.points), [[1.0, -1.0]])


def test_inversion_of_texts_is_an_error() -> None:
    with pytest.raises(InvalidInputError, match=r"encoder=.*points=") as refused:
        bi.Latent(lambda z: [f"{row[0]:.3f}" for row in z], 2).encode(["0.1"])
    assert "arrays of real numbers" in str(refused.value)


def test_a_lossy_encoder_gives_a_warning() -> None:
    """The outputs of the designs differ from those of their reconstructions."""
    data = np.random.default_rng(0).normal(size=(60, 6))
    model = PCA(2).fit(data)
    space = bi.Latent(model.inverse_transform, 2, encoder=model.transform, data=data)
    study = bi.Study.create("s", bi.Problem(space, lambda x: float(x[0]), bi.Minimize()))
    with pytest.warns(
        UserWarning, match=r"of 5 designs are not reproduced well.*enqueue\(\)"
    ) as caught:
        study.add(data[:5], [0.0] * 5)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study.add(space.decode(np.zeros((1, 2))), [0.0])


def test_a_lossy_encoder_of_texts_gives_a_warning() -> None:
    words = ["aa", "ab", "ba", "bb"]

    def decode(codes: np.ndarray) -> list[str]:
        return ["".join("ab"[int(z > 0)] for z in row) for row in codes]

    def encode(texts: Sequence[str]) -> np.ndarray:
        return np.array([[1.0 if letter == "b" else -1.0 for letter in text] for text in texts])

    faithful = bi.Latent(decode, 2, encoder=encode)
    blind = bi.Latent(decode, 2, encoder=lambda texts: np.abs(encode(texts)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert faithful.decode(faithful.encode(words)) == words
    with pytest.warns(UserWarning, match="3 of 4 designs are not reproduced well"):
        bi.Study.create("s", bi.Problem(blind, len, bi.Minimize())).add(words, [2.0] * 4)
