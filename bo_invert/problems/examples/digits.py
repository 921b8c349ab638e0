"""Inversion of a slant regressor for digits, in a latent space or in pixels; extra ``demo``.

The seed splits scikit-learn's 1,797 digits into four disjoint parts:

- ``generator``: 600 images that train the VAE and the GAN;
- ``regressors``: 450 images that train forest and network;
- ``judge``: 450 images that train the judge;
- ``held_out``: 297 images that calibrate the plausibility and test the regressors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn
from tqdm import tqdm

from bo_invert.errors import bar_options, one_of
from bo_invert.generators.base import TrainingReport
from bo_invert.generators.design_plausibility import DesignRealism
from bo_invert.generators.gan import GAN, GANConfig
from bo_invert.generators.layers import dense
from bo_invert.generators.storage import cached_generator
from bo_invert.generators.training import fresh, in_batches
from bo_invert.generators.vae import VAE, VAEConfig
from bo_invert.objectives.base import Objective
from bo_invert.objectives.single_output import Maximize, Minimize
from bo_invert.objectives.target import Target
from bo_invert.oracles.estimator import Estimator
from bo_invert.oracles.gradient_proxy import GradientProxy
from bo_invert.oracles.torch import TorchModule
from bo_invert.problems.examples.base import OncePerKey
from bo_invert.problems.problem import Problem
from bo_invert.spaces.base import Space
from bo_invert.spaces.latent import Latent
from bo_invert.spaces.pixels import Pixels
from bo_invert.types import Array

OUTPUT = "slant"
SHAPE = (8, 8)
PARTS = {"generator": 600, "regressors": 450, "judge": 450, "held_out": 297}
# 1 % and 99 % quantiles of the tangent of the slant over all 1,797 images; scaled to 0 and 1.
LEAN_RANGE = (-0.30814498, 0.2325384)


def problem(
    target: float | tuple[float | None, float | None] | None = None,
    goal: Literal["maximize", "minimize"] = "maximize",
    oracle: Literal["forest", "network"] = "forest",
    space: Literal["latent", "pixels"] = "latent",
    latent_dim: int = 8,
    seed: int = 0,
    tolerance: float = 0.0,
    progress: bool = False,
    generator: Literal["vae", "gan"] = "vae",
) -> Problem:
    """Find an 8 x 8 digit with a target slant, as a regressor predicts it.

    The function ``slant`` defines the slant. Its 1 % and 99 % quantiles over real digits are 0
    and 1. The regressors are trained on 450 images, and a search can exploit their errors. The
    judge is trained on other images; the formula gives the true slant.

    Args:
        target: target slant, or a range (low, high); None to maximise or minimise it.
        goal: ``"maximize"`` or ``"minimize"``; ignored with a target.
        oracle: ``"forest"``, a random forest with a network as its gradient proxy, or
            ``"network"``, that network alone.
        space: ``"latent"`` for the generator's latent space, ``"pixels"`` for images (Deep Dream).
        latent_dim: dimension of the latent space.
        seed: seed of the data split and of all training.
        tolerance: accepted deviation from the target; 0 to use the whole budget.
        progress: show training progress on stderr.
        generator: ``"vae"``, or ``"gan"``, a decoder without an encoder and with its prior as the
            reference measure. The VAE determines the plausibility in both cases.

    Raises:
        InvalidInputError: unknown option.
        MissingExtraError: safetensors is not installed.
    """
    one_of("digits", "goal", goal, ("maximize", "minimize"))
    one_of("digits", "oracle", oracle, ("forest", "network"))
    one_of("digits", "space", space, ("latent", "pixels"))
    one_of("digits", "generator", generator, ("vae", "gan"))
    objective: Objective = Maximize() if goal == "maximize" else Minimize()
    if target is not None:
        ranged = isinstance(target, (tuple, list))
        objective = Target([target] if ranged else target, tolerance=tolerance)
    made = materials(seed, latent_dim, progress)
    if space == "pixels":
        taught = np.concatenate([made.part("generator"), made.part("regressors")])
        searched: Space = Pixels(SHAPE, data=taught, jitter=1, tv=0.05, l2=0.01)
    elif generator == "gan":
        searched = decoder_only(made, seed, latent_dim, progress).latent
    else:
        searched = made.latent
    network = TorchModule(made.network, outputs=[OUTPUT])
    forest = Estimator(made.forest, outputs=[OUTPUT])
    return Problem(
        searched,
        network if oracle == "network" else GradientProxy(forest, network),
        objective,
        name="digits",
        judge=Estimator(made.judge, outputs=[OUTPUT]),
        draw=draw,
        plausibility=made.realism,
    )


def draw(design: ArrayLike) -> Array:
    """Convert a digit to a picture ``(8, 8)`` in [0, 1] with bright ink."""
    return np.clip(np.asarray(design, dtype=np.float64).reshape(SHAPE), 0.0, 1.0)


def slant(images: ArrayLike) -> Array:
    """Compute the slant of digits to the right, shape ``(n,)``.

    The tangent of the angle between axis and vertical is ``-cov(row, column) / var(row)``, with
    pixel values as weights. ``LEAN_RANGE`` scales it: the 1 % and 99 % quantiles of real digits
    become 0 and 1. Real digits span -0.08 to 1.15; an upright digit has 0.57. Images with ink in
    fewer than two rows give NaN.

    Args:
        images: images ``(n, 8, 8)`` in [0, 1].
    """
    weights = np.asarray(images, dtype=np.float64).reshape(-1, *SHAPE)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = weights / weights.sum(axis=(1, 2), keepdims=True)
        down = rows - (share * rows).sum(axis=(1, 2))[:, None, None]
        across = columns - (share * columns).sum(axis=(1, 2))[:, None, None]
        lean = -(share * down * across).sum(axis=(1, 2)) / (share * down**2).sum(axis=(1, 2))
    low, high = LEAN_RANGE
    return np.asarray((lean - low) / (high - low))


@dataclass(frozen=True, eq=False)
class Materials:
    """Data and trained models of the digits problem.

    Args:
        images: all real digits, shape ``(1797, 8, 8)``, in [0, 1].
        labels: digit of each image, shape ``(1797,)``; unused in training.
        parts: row indices of each part.
        vae: VAE trained on the part ``generator``.
        training: training report of the VAE.
        latent: latent space of the VAE; its reference measure is fitted to the parts ``generator``
            and ``regressors``.
        forest: random forest of the slant, trained on the part ``regressors``; no gradients.
        network: neural network of the slant, trained on the same part; the forest's gradient proxy.
        judge: regressor of the slant, trained on the part ``judge``.
        realism: plausibility of designs, calibrated on the part ``held_out``.
    """

    images: Array
    labels: Array
    parts: Mapping[str, NDArray[np.intp]]
    vae: VAE
    training: TrainingReport
    latent: Latent
    forest: Any
    network: nn.Module
    judge: Any
    realism: DesignRealism

    def part(self, name: str) -> Array:
        """Return the images of a part."""
        return self.images[self.parts[name]]

    def scores(self) -> dict[str, float]:
        """Compute R squared of ``forest``, ``network`` and ``judge`` on the part ``held_out``."""
        images = self.part("held_out")
        truth, rows = slant(images), images.reshape(len(images), -1)
        batch = torch.as_tensor(images, dtype=torch.float32)
        predictions = {
            "forest": self.forest.predict(rows),
            "network": in_batches(self.network, batch, device=batch.device)[:, 0].double().numpy(),
            "judge": self.judge.predict(rows),
        }
        return {
            name: float(1 - ((y - truth) ** 2).mean() / truth.var())
            for name, y in predictions.items()
        }


@dataclass(frozen=True, eq=False)
class DecoderOnly:
    """Trained GAN, a decoder without an encoder, and its latent space.

    Args:
        gan: GAN trained on the part ``generator`` of the digits.
        training: training report of the GAN.
        latent: latent space of the GAN, with its prior as the reference measure.
    """

    gan: GAN
    training: TrainingReport
    latent: Latent


_materials: OncePerKey[Materials] = OncePerKey()
_decoders: OncePerKey[DecoderOnly] = OncePerKey()


def materials(seed: int = 0, latent_dim: int = 8, progress: bool = False) -> Materials:
    """Train all models once per process, and the VAE once per cache directory.

    Args:
        seed: seed of the data split and of all training.
        latent_dim: dimension of the latent space.
        progress: show training progress on stderr.

    Raises:
        MissingExtraError: safetensors is not installed.
    """
    return _materials.get((seed, latent_dim), lambda: _make(seed, latent_dim, progress))


def decoder_only(
    made: Materials, seed: int = 0, latent_dim: int = 8, progress: bool = False
) -> DecoderOnly:
    """Train the GAN once per process and cache directory.

    Args:
        made: images and their split.
        seed: seed of the split and of the training.
        latent_dim: dimension of the latent space.
        progress: show training progress on stderr.

    Raises:
        MissingExtraError: safetensors is not installed.
    """

    def train() -> DecoderOnly:
        config = GANConfig(
            SHAPE, latent_dim, hidden=(128, 128), learning_rate=2e-3, patience=60, seed=seed
        )
        gan, training = cached_generator(
            made.part("generator"), config, "digits-gan", progress=progress
        )
        return DecoderOnly(gan, training, Latent(gan, latent_dim, seed=seed))

    return _decoders.get((seed, latent_dim), train)


def _make(seed: int, latent_dim: int, progress: bool) -> Materials:
    images, labels = load()
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(len(images))
    cuts = np.cumsum(list(PARTS.values()))[:-1]
    parts: dict[str, NDArray[np.intp]] = dict(
        zip(PARTS, np.split(order.astype(np.intp), cuts), strict=True)
    )
    config = VAEConfig(SHAPE, latent_dim, hidden=(256,), beta=0.3, seed=seed)
    vae, training = cached_generator(
        images[parts["generator"]], config, "digits", progress=progress
    )
    taught = images[np.concatenate([parts["generator"], parts["regressors"]])]
    latent = Latent(vae, latent_dim, data=taught, seed=seed)
    assert latent.measure is not None
    examples = images[parts["regressors"]]
    forest, judge = _regressors(seed)
    forest.fit(examples.reshape(len(examples), -1), slant(examples))
    judge.fit(images[parts["judge"]].reshape(PARTS["judge"], -1), slant(images[parts["judge"]]))
    return Materials(
        images=images,
        labels=labels,
        parts=parts,
        vae=vae,
        training=training,
        latent=latent,
        forest=forest,
        network=_network(examples, slant(examples), seed, progress),
        judge=judge,
        realism=DesignRealism(vae.encode, vae, latent.measure, images[parts["held_out"]]),
    )


def load() -> tuple[Array, Array]:
    """Load the real digits ``(1797, 8, 8)`` in [0, 1] and their labels ``(1797,)``."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return loaded.images / 16.0, loaded.target.astype(np.float64)


def _regressors(seed: int) -> tuple[Any, Any]:
    """Create the forest and the judge, untrained.

    The judge is an ensemble of three model families, which reduces the errors that it shares with
    the forest and the network.
    """
    from sklearn import ensemble
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    boosting = {"n_estimators": 300, "max_depth": 4, "subsample": 0.5, "random_state": seed + 1}
    judge = ensemble.VotingRegressor(
        [
            ("trees", ensemble.ExtraTreesRegressor(100, random_state=seed + 1)),
            ("boosting", ensemble.GradientBoostingRegressor(**boosting)),
            (
                "gp",
                GaussianProcessRegressor(
                    RBF(3.0) + WhiteKernel(1e-2), optimizer=None, normalize_y=True
                ),
            ),
        ]
    )
    return ensemble.RandomForestRegressor(100, min_samples_leaf=2, random_state=seed), judge


def _network(images: Array, y: Array, seed: int, progress: bool) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    net = fresh(lambda: nn.Sequential(nn.Flatten(), *dense((64, 128, 64, 1))), generator)
    x = torch.as_tensor(images, dtype=torch.float32)
    target = torch.as_tensor(y, dtype=torch.float32)[:, None]
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
    epochs = 150
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in tqdm(
        range(epochs),
        desc="training the network",
        unit="epoch",
        leave=False,
        **bar_options(progress),
    ):
        for rows in torch.split(torch.randperm(len(x), generator=generator), 32):
            optimizer.zero_grad()
            torch.autograd.backward((net(x[rows]) - target[rows]).square().mean())
            optimizer.step()
        schedule.step()
    return net.eval().requires_grad_(False)
