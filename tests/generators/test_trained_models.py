"""Contract: trained models as users have them become a latent space, or an error says what to do.

Each model decodes codes of length 4 to images 6 x 6 by the same weights, so that all spaces agree.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal
from torch.utils.data import DataLoader, TensorDataset

import bo_invert as bi

DIM, SIDE = 4, 6
WEIGHT = torch.tensor(np.random.default_rng(0).standard_normal((SIDE**2, DIM)), dtype=torch.float32)
INVERSE = torch.linalg.pinv(WEIGHT)


def logits(z: torch.Tensor) -> torch.Tensor:
    return (z.to(WEIGHT.dtype) @ WEIGHT.T).reshape(-1, SIDE, SIDE)


def images(z: Any) -> np.ndarray:
    return torch.sigmoid(logits(torch.as_tensor(np.asarray(z), dtype=torch.float32))).numpy()


def mean(x: torch.Tensor) -> torch.Tensor:
    return torch.logit(x.to(WEIGHT.dtype).flatten(1).clamp(1e-6, 1 - 1e-6)) @ INVERSE.T


def sampled(x: torch.Tensor) -> torch.Tensor:
    return mean(x) + 0.3 * torch.randn(len(x), DIM)


def log_variance(x: torch.Tensor) -> torch.Tensor:
    return 0.0 * mean(x) - 2.4


class Base(nn.Module):
    """Whole model: its forward pass reconstructs images, dropout and batch norm are in training."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.dropout = nn.Dropout(0.9)
        self.norm = nn.BatchNorm2d(1, eps=0.0, affine=False)

    def steady(self, x: torch.Tensor) -> torch.Tensor:
        """Change designs in training mode only."""
        x = self.dropout(x.to(self.scale.dtype))
        return self.norm(x[:, None])[:, 0] * self.scale

    def forward(self, x: torch.Tensor) -> Any:
        if x[0].numel() != SIDE**2:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        z = sampled(x)
        return self.steady(torch.sigmoid(logits(z))), mean(x), log_variance(x)


class Plain(Base):
    def encode(self, x: torch.Tensor) -> Any:
        return mean(x)

    def decode(self, z: torch.Tensor) -> Any:
        return self.steady(torch.sigmoid(logits(z)))


class MeanAndVariance(Plain):
    def encode(self, x: torch.Tensor) -> Any:
        return mean(x), log_variance(x)


class SampleFirst(Plain):
    def encode(self, x: torch.Tensor) -> Any:
        return sampled(x), mean(x), log_variance(x)


class SampleLast(Plain):
    def encode(self, x: torch.Tensor) -> Any:
        return [mean(x), log_variance(x), sampled(x)]


class Joined(Plain):
    """Mean and log variance in one tensor."""

    def encode(self, x: torch.Tensor) -> Any:
        return torch.cat([mean(x), log_variance(x)], dim=1)


class Distributions(Plain):
    def encode(self, x: torch.Tensor) -> Any:
        return Independent(Normal(mean(x), 0.3), 1)

    def decode(self, z: torch.Tensor) -> Any:
        return Independent(Bernoulli(logits=logits(z)), 2)


class Dicts(Plain):
    def encode(self, x: torch.Tensor) -> Any:
        return {"z": sampled(x), "logvar": log_variance(x), "mu": mean(x)}

    def decode(self, z: torch.Tensor) -> Any:
        return {"logits": logits(z), "reconstruction": super().decode(z)}


class Output(OrderedDict):  # like the outputs of transformers and pythae
    """Dict with attributes."""


class Records(Plain):
    def encode(self, x: torch.Tensor) -> Any:
        return Output(embedding=mean(x), log_covariance=log_variance(x))

    def decode(self, z: torch.Tensor) -> Any:
        return namedtuple("Decoded", "sample kl")(super().decode(z), torch.zeros(1))


@dataclass
class Posterior:  # like that of diffusers
    """Distribution with a mode."""

    parameters: torch.Tensor

    @property
    def mean(self) -> torch.Tensor:
        return self.parameters[:, :DIM]

    def mode(self) -> torch.Tensor:
        return self.mean

    def sample(self) -> torch.Tensor:
        return self.mean + torch.randn_like(self.mean)


class Diffusers(Plain):
    def encode(self, x: torch.Tensor) -> Any:
        return SimpleNamespace(latent_dist=Posterior(torch.cat([mean(x), log_variance(x)], dim=1)))

    def decode(self, z: torch.Tensor) -> Any:
        return SimpleNamespace(sample=super().decode(z))


class Tuples(Plain):
    def decode(self, z: torch.Tensor) -> Any:
        return super().decode(z), torch.zeros(len(z), SIDE, SIDE)


class Channels(Plain):
    """Images with an axis of channels on both sides."""

    def encode(self, x: torch.Tensor) -> Any:
        if x.ndim != 4:
            raise RuntimeError("expected 4D input")
        return mean(x)

    def decode(self, z: torch.Tensor) -> Any:
        return super().decode(z)[:, None]


class Flat(Plain):
    """Flat images on both sides."""

    def encode(self, x: torch.Tensor) -> Any:
        if x.ndim != 2:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied (30x6 and 36x4)")
        return mean(x)

    def decode(self, z: torch.Tensor) -> Any:
        return super().decode(z).flatten(1)


class Numpy(Plain):
    """Methods that return arrays."""

    def encode(self, x: torch.Tensor) -> Any:
        return mean(x).numpy()

    def decode(self, z: torch.Tensor) -> Any:
        return super().decode(z).detach().numpy()


class Decoder(Base):
    def forward(self, z: torch.Tensor) -> Any:
        assert z.shape[1] == DIM
        return self.steady(torch.sigmoid(logits(z)))


class Encoder(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return mean(x), log_variance(x)


class Sigmoid(nn.Module):
    def forward(self, z: torch.Tensor) -> Any:
        return torch.sigmoid(logits(z))


def traced(module: nn.Module, example: torch.Tensor) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module, example)


class Labelled(Plain):
    """Decoder of codes and labels."""

    def decode(self, z: torch.Tensor, label: torch.Tensor) -> Any:  # type: ignore[override]
        return super().decode(z + label)


class Convolutional(Base):
    """Generator of images from codes ``(n, dim, 1, 1)``."""

    def forward(self, z: torch.Tensor) -> Any:
        if z.ndim != 4:
            raise RuntimeError("expected 3D (unbatched) or 4D (batched) input to conv_transpose2d")
        return self.steady(torch.sigmoid(logits(z[:, :, 0, 0])))


class Parts(Base):
    """Parts instead of methods."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, Decoder()


class Features(nn.Module):
    """First layers of an encoder, which end before the code."""

    def forward(self, x: torch.Tensor) -> Any:
        return torch.cat([mean(x)] * 3, dim=1)


class Tensorflow:
    """Array of another library."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self.shape = array, array.shape

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self._array, dtype=dtype)

    def __len__(self) -> int:
        return len(self._array)


class KerasModel:
    """Callable with ``predict``; outputs are tensors of another library."""

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self.fn = fn

    def __call__(self, batch: Any, training: bool = False) -> Any:
        return self.fn(np.asarray(batch))

    def predict(self, batch: Any, verbose: str = "auto") -> Any:
        print("1/1 [======] - 0s 20ms/step")
        return self.fn(batch)


def keras_encoder(x: np.ndarray) -> list[Tensorflow]:
    rows = torch.as_tensor(x, dtype=torch.float32)
    made = mean(rows), log_variance(rows), sampled(rows)
    return [Tensorflow(part.numpy()) for part in made]


def keras() -> SimpleNamespace:
    return SimpleNamespace(
        encoder=KerasModel(keras_encoder), decoder=KerasModel(lambda z: Tensorflow(images(z)))
    )


def data(n: int = 60, seed: int = 1) -> np.ndarray:
    return images(np.random.default_rng(seed).standard_normal((n, DIM)))


VAE = Plain()  # left in training mode

#: Models, further arguments of the space, and whether gradients pass.
MODELS: dict[str, tuple[Callable[[], Any], dict[str, Any], bool]] = {
    "methods": (Plain, {}, True),
    "mean and log variance": (MeanAndVariance, {}, True),
    "sample, mean, log variance": (SampleFirst, {}, True),
    "mean, log variance, sample": (SampleLast, {}, True),
    "mean and log variance in one tensor": (Joined, {}, True),
    "distributions": (Distributions, {}, True),
    "dicts": (Dicts, {}, True),
    "records": (Records, {}, True),
    "diffusers": (Diffusers, {}, True),
    "decoder returns a tuple": (Tuples, {}, True),
    "axis of channels": (Channels, {}, True),
    "flat images": (Flat, {}, True),
    "numpy": (Numpy, {}, False),
    "parts": (lambda: Parts(Encoder()), {}, True),
    "encoder by the forward pass": (lambda: Parts(Features()), {}, True),
    "double precision": (lambda: Plain().double(), {}, True),
    "data parallel": (lambda: nn.DataParallel(MeanAndVariance()), {}, True),
    "frozen": (lambda: Plain().requires_grad_(False).eval(), {}, True),
    "module and module": (Decoder, {"encoder": Encoder()}, True),
    "whole model twice": (Plain, {"encoder": MeanAndVariance()}, True),
    "codes as images": (Convolutional, {"encoder": Encoder()}, True),
    "lambda with tensors": (
        lambda: lambda z: VAE.decode(z),
        {"encoder": lambda x: VAE.encode(x)},
        True,
    ),
    "lambda with a sigmoid": (
        lambda: lambda z: torch.sigmoid(logits(z)) * VAE.scale,
        {"encoder": lambda x: MeanAndVariance().encode(x)[0]},
        True,
    ),
    "lambda that converts": (
        lambda: lambda z: VAE.decode(torch.as_tensor(z).float()).detach().numpy(),
        {"encoder": lambda x: VAE.encode(torch.as_tensor(x).float())},
        False,
    ),
    "keras": (keras, {}, False),
    "keras parts": (lambda: keras().decoder, {"encoder": KerasModel(keras_encoder)}, False),
    "keras that only predicts": (
        lambda: SimpleNamespace(predict=lambda z: images(z)),
        {"encoder": SimpleNamespace(predict=keras_encoder)},
        False,
    ),
    "torch script": (
        lambda: traced(Sigmoid(), torch.zeros(1, DIM)),
        {"encoder": traced(Encoder(), torch.ones(1, SIDE, SIDE) / 2)},
        True,
    ),
    "partial": (
        lambda: partial(Labelled().decode, label=torch.zeros(1, DIM)),
        {"encoder": Encoder()},
        True,
    ),
    "plain object": (
        lambda: SimpleNamespace(decode=images, encode=lambda x: mean(torch.as_tensor(x)).numpy()),
        {},
        False,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_trained_model_becomes_a_space(name: str) -> None:
    make, options, differentiable = MODELS[name]
    model, rows = make(), data()
    space = bi.Latent(model, DIM, data=rows, **options)
    points = space.sample(np.random.default_rng(0), 5)
    expected = images(space.codes(points)).reshape(5, -1)
    designs = np.asarray(space.decode(points))
    np.testing.assert_allclose(designs.reshape(5, -1), expected, atol=1e-5)
    back = np.asarray(space.decode(space.encode(designs))).reshape(5, -1)
    np.testing.assert_allclose(back, expected, atol=1e-3)
    assert space.differentiable is differentiable
    again = bi.Latent(model, DIM, data=rows, **options)
    assert again.to_json() == space.to_json()  # a new process continues the same study
    if differentiable:
        tensor = torch.tensor(points, requires_grad=True)
        space.decode_tensor(tensor).sum().backward()
        assert tensor.grad is not None
        assert VAE.scale.grad is None
    assert VAE.training
    assert VAE.norm.num_batches_tracked == 0


def test_shapes_of_data_may_differ_from_those_of_the_model() -> None:
    flat, square = data().reshape(60, -1), data()
    spaces = [
        bi.Latent(model, DIM, data=rows)
        for model in (Flat(), Channels())
        for rows in (flat, square, square[:, None])
    ]
    assert len({str(space.to_json()) for space in spaces}) == 1
    for space in spaces:
        for rows in (flat, square, square[:, None]):
            np.testing.assert_allclose(space.encode(rows), spaces[0].encode(flat), atol=1e-5)
            lost = space.lost(rows, space.encode(rows))
            assert lost is not None
            assert lost.max() < 1e-3


def test_estimators_of_scikit_learn() -> None:
    rows = data(200).reshape(200, -1)
    pca = PCA(DIM).fit(rows)
    chain = make_pipeline(StandardScaler(), PCA(DIM)).fit(rows)
    for model in pca, chain:
        space = bi.Latent(model, DIM, data=rows)
        points = space.sample(np.random.default_rng(0), 3)
        np.testing.assert_allclose(space.encode(space.decode(points)), points, atol=1e-6)
    learned = LinearRegression().fit(pca.transform(rows), rows)
    assert np.shape(bi.Latent(learned, DIM, encoder=pca, data=rows).decode(np.zeros((2, DIM)))) == (
        2, SIDE**2,
    )  # fmt: skip


def test_inversion_without_an_encoder_accepts_flat_images() -> None:
    rows = data(40)
    space = bi.Latent(Decoder(), DIM, data=rows.reshape(40, -1))
    lost = space.lost(rows[:3], space.encode(rows[:3].reshape(3, -1)))
    assert lost is not None
    assert lost.max() < 0.01


class Conditional(Base):
    def decode(self, z: torch.Tensor, label: torch.Tensor) -> Any:
        return torch.sigmoid(logits(z))


class Logits(Plain):
    def decode(self, z: torch.Tensor) -> Any:
        return logits(z)


class Random(Plain):
    forward = None

    def encode(self, x: torch.Tensor) -> Any:
        return sampled(x)


class Sized(nn.Module):
    latent_dim = 7

    def decode(self, z: torch.Tensor) -> Any:
        return z @ torch.zeros(7, 3)


class Spatial(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 1)

    def decode(self, z: torch.Tensor) -> Any:
        return self.conv(z)


class Whole(Base):
    """Forward pass only."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(DIM, 36)

    def forward(self, x: torch.Tensor) -> Any:
        return self.up(nn.functional.linear(x, torch.zeros(DIM, 36)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bi.Latent("vae.pt", DIM), r"callable .*'vae\.pt'.* Load the model first"),
        (lambda: bi.Latent(Plain, DIM), r"class Plain\. Pass an instance"),
        (lambda: bi.Latent(Plain().state_dict(), DIM), "load_state_dict"),
        (lambda: bi.Latent((Encoder(), Decoder()), DIM), r"Write bi\.Latent\(decoder, dim, enc"),
        (lambda: bi.Latent(Plain(), DIM, device="cuda:7"), r"available .*'cuda:7'.*device='cpu'"),
        (lambda: bi.Latent(Plain(), DIM, device="gpu"), r"available .*'gpu'"),
        (lambda: bi.Latent(Conditional(), DIM), "more inputs .* with fixed values"),
        (lambda: bi.Latent(Logits(), DIM, data=data()), r"logits, from .* torch\.sigmoid"),
        (lambda: bi.Latent(Plain(), DIM, data=255 * data()), r"data / 255"),
        (lambda: bi.Latent(Random(), DIM, data=data()), r"other codes .*vae\.encode\(x\)\[0\]"),
        (lambda: bi.Latent(Sized(), DIM), "write dim=7"),
        (lambda: bi.Latent(nn.Linear(9, 3), DIM), "write dim=9"),
        (lambda: bi.Latent(Spatial(), DIM), r"z\.reshape\(-1, c, h, w\)"),
        (lambda: bi.Latent(Whole(), DIM), r"part that decodes.*\['dropout', 'norm', 'up'\]"),
        (lambda: bi.Latent(Parts(Features()).decoder, DIM, encoder=Features(), data=data()),
         r"shape \(2, 4\), got \(2, 12\)\. Pass encoder="),
        (lambda: bi.Latent(Plain(), DIM, data=DataLoader(TensorDataset(torch.ones(9, 6, 6)))),
         r"got DataLoader\. Write data=torch\.cat\(\[batch"),
        (lambda: bi.Latent(Plain(), DIM, data=TensorDataset(torch.ones(9, 6, 6))),
         r"got TensorDataset\. Write data=torch\.cat\(\[item"),
        (lambda: bi.Latent(Plain(), DIM, data=(data(), np.zeros(60))), "without the labels"),
        (lambda: bi.Latent(Plain(), DIM, data=np.full((60, 6, 6), np.nan)), "must be finite"),
        (lambda: bi.Latent(object(), DIM), "callable .* got object"),
        (lambda: bi.Latent(Plain(), DIM, data=np.moveaxis(np.stack([data()] * 3, 1), 1, -1)),
         "codes from the encoder|moveaxis"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_an_error_with_advice(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        make()


class TwoParts(nn.Module):
    """Autoencoder of 64 pixels with codes of length 5, without a method ``decode``."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names
        setattr(self, names[0], nn.Linear(64, 5))
        setattr(self, names[1], nn.Linear(5, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = (getattr(self, name) for name in self.names)
        return second(first(x))


class Reshaping(TwoParts):
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return self.decoder(z.view(-1, 5))


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        (TwoParts("encoder", "decoder"), "It takes codes of length 5: write dim=5"),
        (Reshaping("encoder", "decoder"), "write dim=5"),
        (
            TwoParts("enc", "dec"),
            r"rows of length 64, like a whole autoencoder: .*\['enc', 'dec'\]",
        ),
        (nn.Sequential(nn.Linear(5, 9), nn.Linear(9, 64)), "write dim=5"),
        (nn.Sequential(nn.Unflatten(1, (5, 1, 1)), nn.ConvTranspose2d(5, 1, 8)), "write dim=5"),
        (PCA(5).fit(np.random.default_rng(0).random((9, 6))), "write dim=5"),
    ],
)
def test_the_advised_length_of_a_code_is_one_that_the_decoder_accepts(
    model: Any, advice: str
) -> None:
    with pytest.raises(bi.InvalidInputError, match=advice) as refused:
        bi.Latent(model, dim=7)
    assert "write dim=64" not in str(refused.value)
    if "dim=5" in advice:
        assert bi.Latent(model, dim=5).domain.dim == 5
