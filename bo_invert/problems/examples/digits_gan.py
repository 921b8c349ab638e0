"""GAN of the digits problem: a decoder without an encoder, trained on the VAE's images."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from bo_invert.generators.gan import GANConfig
from bo_invert.generators.storage import cached_generator
from bo_invert.problems.examples.digits_assets import SHAPE, Materials
from bo_invert.spaces.latent import Latent

if TYPE_CHECKING:
    from bo_invert.generators.base import TrainingReport
    from bo_invert.generators.gan import GAN
    from bo_invert.spaces.latent import Latent


@dataclass(frozen=True, eq=False)
class DecoderOnly:
    """Trained GAN and its latent space.

    Args:
        gan: GAN trained on the part ``generator`` of the digits.
        training: training report of the GAN.
        latent: latent space of the GAN, with its prior as the reference measure.
    """

    gan: GAN
    training: TrainingReport
    latent: Latent


_made: dict[tuple[int, int], DecoderOnly] = {}
_making = Lock()


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
    with _making:
        key = (seed, latent_dim)
        if key not in _made:
            config = GANConfig(
                SHAPE, latent_dim, hidden=(128, 128), learning_rate=2e-3, patience=60, seed=seed
            )
            gan, training = cached_generator(
                made.part("generator"), config, "digits-gan", progress=progress
            )
            _made[key] = DecoderOnly(gan, training, Latent(gan, latent_dim, seed=seed))
        return _made[key]
