"""Images without a generator."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import bo_invert as bi
from bo_invert.types import Query

KINDS: list[Any] = ["fourier", "pixel", "laplacian"]
RNG = np.random.default_rng


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return load_digits().images / 16.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(8, 8), (3, 9, 6), (1, 5)])
def test_decodes_alike_in_numpy_and_torch(kind: Any, shape: tuple[int, ...]) -> None:
    space = bi.Pixels(shape, kind, bounds=(-1.0, 2.0))
    points = space.sample(RNG(0), 4)
    images = space.decode(points)
    assert images.shape == (4, *shape)
    assert images.min() >= -1.0
    assert images.max() <= 2.0
    single = space.decode_tensor(torch.tensor(points, dtype=torch.float32))
    np.testing.assert_allclose(single.numpy(), images, atol=1e-5)
    np.testing.assert_array_equal(space.decode_tensor(torch.tensor(points)).numpy(), images)


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind: Any) -> None:
    space = bi.Pixels((2, 7, 8), kind)
    images = 0.01 + 0.98 * RNG(1).random((5, 2, 7, 8))
    np.testing.assert_allclose(space.decode(space.encode(images)), images, atol=1e-9)


def test_fourier_is_one_to_one_and_its_basis_orthonormal() -> None:
    space = bi.Pixels((6, 5), "fourier")
    assert space.domain.dim == 30
    points = space.sample(RNG(2), 3)
    np.testing.assert_allclose(space.encode(space.decode(points)), points, atol=1e-6)
    columns = space._map.forward(torch.eye(30, dtype=torch.float64)).flatten(1).numpy()
    gram = columns @ columns.T
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-9)
    flat = np.diag(gram)[0]  # the constant image, the strongest
    assert (np.diag(gram)[1:] <= flat + 1e-9).all()


def test_cutoff_keeps_low_frequencies_only() -> None:
    space = bi.Pixels((16, 16), "fourier", cutoff=0.2)
    assert 0 < space.domain.dim < 64
    image = space.decode(space.sample(RNG(3), 1))[0]
    rough = bi.Pixels((16, 16), "pixel").decode(RNG(3).normal(size=(1, 256)))[0]
    assert np.abs(np.diff(image, axis=0)).mean() < 0.5 * np.abs(np.diff(rough, axis=0)).mean()
    again = space.decode(space.encode(np.array([image])))[0]
    np.testing.assert_allclose(again, image, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_look_like_the_data_in_mean_and_spread(kind: Any, digits: np.ndarray) -> None:
    space = bi.Pixels((8, 8), kind, data=digits)
    drawn = space.decode(space.sample(RNG(4), 3000))
    np.testing.assert_allclose(drawn.mean(0), digits.mean(0), atol=0.04)
    np.testing.assert_allclose(drawn.std(), digits.std(), rtol=0.03)
    codes = space.encode(digits)
    assert np.linalg.norm(codes, axis=1).max() <= space.domain.radius * (1 + 1e-9)
    np.testing.assert_allclose(space.decode(codes), digits, atol=2e-3)


def test_augmentation_is_seeded_and_the_same_for_all() -> None:
    space = bi.Pixels((8, 8), jitter=2, rotation=10.0)
    image = space.decode_tensor(torch.tensor(space.sample(RNG(5), 1)))
    images = image.expand(3, 8, 8)

    def augmented(seed: int) -> torch.Tensor:
        return space.augment_tensor(images, torch.Generator().manual_seed(seed))

    assert augmented(1).shape == (3, 8, 8)
    assert torch.equal(augmented(1), augmented(1))
    assert torch.equal(augmented(1)[0], augmented(1)[2])
    assert not torch.equal(augmented(1), augmented(2))
    assert bi.Pixels((8, 8)).augment_tensor(images, torch.Generator()) is images
    shifted = bi.Pixels((8, 8), jitter=3).augment_tensor(images, torch.Generator().manual_seed(0))
    assert not torch.equal(shifted, images)
    assert torch.equal(shifted.flatten().sort().values, images.flatten().sort().values)


def test_turning_by_a_right_angle_turns() -> None:
    from bo_invert.spaces.pixels import _turned

    image = torch.arange(12.0, dtype=torch.float64).reshape(1, 1, 3, 4)
    np.testing.assert_allclose(_turned(image, np.pi), image.flip(-1).flip(-2), atol=1e-9)
    square = torch.arange(9.0, dtype=torch.float64).reshape(1, 1, 3, 3)
    assert any(
        torch.allclose(_turned(square, np.pi / 2), square.rot90(k, (-2, -1))) for k in (1, 3)
    )


def test_penalties_prefer_smooth_and_typical() -> None:
    space = bi.Pixels((8, 8), "pixel", tv=1.0)
    smooth, rough = torch.zeros(1, 64).double(), torch.tensor(RNG(6).normal(size=(1, 64)))
    low, high = (space.penalty_tensor(p, space.decode_tensor(p)) for p in (smooth, rough))
    assert low.shape == (1,)
    assert low < 1e-3 < 0.1 < high
    shrunk = bi.Pixels((8, 8), "pixel", l2=1.0)
    np.testing.assert_allclose(shrunk.penalty_tensor(2 * torch.ones(1, 64), smooth), [4.0])
    points = smooth.clone().requires_grad_()  # a flat image is where a careless root has no slope
    penalty = space.penalty_tensor(points, space.decode_tensor(points)).sum()
    assert torch.isfinite(torch.autograd.grad(penalty, points)[0]).all()


def test_dreams_of_a_bright_centre() -> None:
    class Contrast(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 3:5, 3:5].mean((1, 2)) - x.mean((1, 2))

    space = bi.Pixels((8, 8), jitter=1, tv=0.01)
    problem = bi.Problem(space, Contrast(), bi.Maximize())
    start = space.sample(RNG(7), 1)[0]
    before, after = problem.evaluate(
        [Query(start), Query(start, descent=bi.Descent(80, learning_rate=0.1))]
    )
    assert before.loss is not None
    assert after.loss is not None
    assert after.loss < before.loss - 0.3


def test_json_tells_spaces_apart(digits: np.ndarray) -> None:
    spaces = [
        bi.Pixels((8, 8)),
        bi.Pixels((8, 8), "pixel"),
        bi.Pixels((8, 8), data=digits),
        bi.Pixels((8, 8), tv=0.1),
    ]
    described = [json.dumps(space.to_json()) for space in spaces]
    assert len(set(described)) == 4
    assert json.dumps(bi.Pixels((8, 8), data=digits).to_json()) == described[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (8,)}, "shape"),
        ({"shape": (8, 8), "parametrization": "wavelet"}, "wavelet"),
        ({"shape": (8, 8), "bounds": (1.0, 0.0)}, "bounds"),
        ({"shape": (8, 8), "parametrization": "pixel", "cutoff": 0.1}, "cutoff"),
        ({"shape": (8, 8), "jitter": -1}, "negative"),
        ({"shape": (8, 8), "data": np.zeros((3, 4, 4))}, "shape"),
        ({"shape": (8, 8), "data": np.full((3, 8, 8), 255.0)}, "255"),
    ],
)
def test_refuses_what_is_no_image_space(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        bi.Pixels(**arguments)


def test_images_may_come_in_place_of_the_shape() -> None:
    images = np.random.default_rng(0).random((20, 5, 4))
    spaces = [bi.Pixels(images), bi.Pixels(data=images), bi.Pixels((5, 4), data=images)]
    assert len({str(space.to_json()) for space in spaces}) == 1
    assert np.shape(bi.Pixels(torch.tensor(images)).decode(np.zeros((1, 20)))) == (1, 5, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bi.Pixels(np.zeros((20, 16))), r"reshape\(-1, height, width\)"),
        (lambda: bi.Pixels(), "got \\(\\)"),
        (lambda: bi.Pixels(np.zeros((9, 4, 4)), data=np.zeros((9, 4, 4))), "once"),
        (lambda: bi.Pixels(255 * np.ones((9, 4, 4))), r"bounds=\(low, high\)"),
    ],
)
def test_images_that_cannot_be_meant(make, message) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        make()
