"""Data and models of the digits problem: images, slant, VAE, regressors and judge.

The seed splits scikit-learn's 1,797 digits into four disjoint parts:

- ``generator``: 600 images that train the VAE;
- ``regressors``: 450 images that train forest and network;
- ``judge``: 450 images that train the judge;
- ``held_out``: 297 images that calibrate the plausibility and test the regressors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from bo_invert.errors import MissingExtraError
from bo_invert.generators.design_plausibility import DesignRealism
from bo_invert.generators.storage import cached_generator
from bo_invert.generators.vae import VAEConfig
from bo_invert.spaces.latent import Latent
from bo_invert.types import Array

if TYPE_CHECKING:
    import torch

    from bo_invert.generators.base import TrainingReport
    from bo_invert.generators.design_plausibility import DesignRealism
    from bo_invert.generators.vae import VAE
    from bo_invert.spaces.latent import Latent

SHAPE = (8, 8)
PARTS = {"generator": 600, "regressors": 450, "judge": 450, "held_out": 297}
# 1 % and 99 % quantiles of the tangent of the slant over all 1,797 images; scaled to 0 and 1.
LEAN_RANGE = (-0.30814498, 0.2325384)


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
    scaled: Array = (lean - low) / (high - low)
    return scaled


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
    network: torch.nn.Module
    judge: Any
    realism: DesignRealism

    def part(self, name: str) -> Array:
        """Return the images of a part."""
        images: Array = self.images[self.parts[name]]
        return images

    def nearest_real(self, designs: ArrayLike) -> Array:
        """Return the nearest real digit of each design, Euclidean distance, ``(n, 8, 8)``."""
        rows = np.asarray(designs, dtype=np.float64).reshape(-1, SHAPE[0] * SHAPE[1])
        real = self.images.reshape(len(self.images), -1)
        distance = (real**2).sum(axis=1) - 2 * rows @ real.T
        nearest: Array = self.images[distance.argmin(axis=1)]
        return nearest

    def scores(self) -> dict[str, float]:
        """Compute R squared of ``forest``, ``network`` and ``judge`` on the part ``held_out``."""
        images = self.part("held_out")
        truth = slant(images)
        predictions = {
            "forest": self.forest.predict(images.reshape(len(images), -1)),
            "network": _asked(self.network, images),
            "judge": self.judge.predict(images.reshape(len(images), -1)),
        }
        return {
            name: float(1 - ((y - truth) ** 2).mean() / truth.var())
            for name, y in predictions.items()
        }


_made: dict[tuple[int, int], Materials] = {}
_making = Lock()


def materials(seed: int = 0, latent_dim: int = 8, progress: bool = False) -> Materials:
    """Train all models once per process, and the VAE once per cache directory.

    Args:
        seed: seed of the data split and of all training.
        latent_dim: dimension of the latent space.
        progress: show training progress on stderr.

    Raises:
        MissingExtraError: scikit-learn or safetensors is not installed.
    """
    with _making:  # a second thread waits instead of repeating the training
        key = (seed, latent_dim)
        if key not in _made:
            _made[key] = _make(seed, latent_dim, progress)
        return _made[key]


def _make(seed: int, latent_dim: int, progress: bool) -> Materials:
    images, labels = load()
    # The module imports scikit-learn, which load() requires.
    from bo_invert.problems.examples.digits_regressors import untrained_forest, untrained_judge

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
    forest, judge = untrained_forest(seed), untrained_judge(seed + 1)
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
    """Load the real digits ``(1797, 8, 8)`` in [0, 1] and their labels ``(1797,)``.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtraError(
            "digits: scikit-learn is not installed. Run: pip install 'bo-invert[demo]'."
        ) from None
    loaded = load_digits()
    return loaded.images / 16.0, loaded.target.astype(np.float64)


def _network(images: Array, y: Array, seed: int, progress: bool) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    # Layers draw from the global generator on creation; fork_rng restores its state.
    with torch.random.fork_rng(devices=[]):
        net = torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(SHAPE[0] * SHAPE[1], 128),
            torch.nn.SiLU(),
            torch.nn.Linear(128, 64),
            torch.nn.SiLU(),
            torch.nn.Linear(64, 1),
        )
    for layer in net:
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
            torch.nn.init.zeros_(layer.bias)
    x, target = (
        torch.as_tensor(images, dtype=torch.float32),
        torch.as_tensor(y, dtype=torch.float32)[:, None],
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
    epochs = 150
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in tqdm(
        range(epochs), desc="training the network", unit="epoch", disable=not progress, leave=False
    ):
        for rows in torch.split(torch.randperm(len(x), generator=generator), 32):
            optimizer.zero_grad()
            loss = (net(x[rows]) - target[rows]).square().mean()
            torch.autograd.backward(loss)
            optimizer.step()
        schedule.step()
    return net.eval().requires_grad_(False)


def _asked(network: torch.nn.Module, images: Array) -> Array:
    with torch.no_grad():
        answers: Array = (
            network(torch.as_tensor(images, dtype=torch.float32))[:, 0].double().numpy()
        )
    return answers
