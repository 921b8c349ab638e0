"""Network layers of generators: dense stacks, convolutions for images, standardisation."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bo_invert.errors import InvalidInputError, one_of
from bo_invert.generators.base import GeneratorConfig


@dataclass(frozen=True)
class ArrayConfig(GeneratorConfig):
    """Config of generators of arrays; subclasses add the layer sizes and the training options.

    Args:
        shape: shape of one design. Convolutions need ``(height, width)`` or
            ``(channels, height, width)`` with at least 4 x 4 pixels.
        dim: length of a code.
        network: ``"dense"``, or ``"conv"`` for images.
        values: ``"unit"`` for designs in [0, 1], ``"real"`` for any numbers, which are then
            standardised.
    """

    shape: tuple[int, ...]
    dim: int
    network: Literal["dense", "conv"] = "dense"
    values: Literal["unit", "real"] = "unit"

    def __post_init__(self) -> None:
        self.check_sizes("shape", "dim", "hidden", "channels", "epochs", "patience", "batch_size")
        where = type(self).__name__
        if not self.shape:
            raise InvalidInputError(f"{where}: shape must not be empty, got ()")
        one_of(where, "network", self.network, ("dense", "conv"))
        one_of(where, "values", self.values, ("unit", "real"))

    def units(self) -> Units:
        """Create the standardisation of designs; all pixels of a channel share one scale."""
        return Units(self.shape, (-2, -1) if self.network == "conv" else ())


def dense(widths: tuple[int, ...]) -> nn.Sequential:
    """Create linear layers of the given widths with SiLU activations between them."""
    layers = [
        layer for pair in itertools.pairwise(widths) for layer in (nn.SiLU(), nn.Linear(*pair))
    ]
    return nn.Sequential(*layers[1:])


def encoder(
    config: ArrayConfig, hidden: tuple[int, ...], channels: tuple[int, ...], out: int
) -> nn.Module:
    """Create a network from flattened designs to vectors ``(n, out)``."""
    if config.network == "dense":
        return dense((math.prod(config.shape), *hidden, out))
    return Downward(image_shape(config.shape, channels, type(config).__name__), channels, out)


def decoder(config: ArrayConfig, hidden: tuple[int, ...], channels: tuple[int, ...]) -> nn.Module:
    """Create a network from codes to flattened designs or images, the mirror of ``encoder``."""
    if config.network == "dense":
        return dense((config.dim, *reversed(hidden), math.prod(config.shape)))
    image = image_shape(config.shape, channels, type(config).__name__)
    return Upward(config.dim, channels, image)


def image_shape(
    shape: tuple[int, ...], channels: tuple[int, ...], who: str
) -> tuple[int, int, int]:
    """Return channels, height and width of ``(height, width)`` or ``(channels, height, width)``.

    Raises:
        InvalidInputError: the image is smaller than 4 x 4, or too small for one halving per entry
            of ``channels``.
    """
    if len(shape) not in (2, 3) or min(shape[-2:]) < 4:
        raise InvalidInputError(
            f"{who}: shape must be (height, width) or (channels, height, width) with at least "
            f"4 x 4 pixels for convolutions, got {shape}"
        )
    if min(shape[-2:]) < 2 ** len(channels):
        raise InvalidInputError(
            f"{who}: channels must have at most {int(math.log2(min(shape[-2:])))} entries, since "
            f"each halves the image of {shape[-2]} x {shape[-1]} pixels, got {channels}"
        )
    return (*((1,) if len(shape) == 2 else shape[:1]), *shape[-2:])  # type: ignore[return-value]


class Downward(nn.Module):
    """Convolutional encoder from images to vectors ``(n, out)``.

    Each 3 x 3 convolution of stride 2 halves height and width, rounded up.

    Args:
        shape: channels, height and width of an image.
        channels: channels after each halving.
        out: length of the vectors.
    """

    def __init__(self, shape: tuple[int, int, int], channels: tuple[int, ...], out: int) -> None:
        super().__init__()
        self.shape = shape
        self.convolutions = nn.ModuleList(
            nn.Conv2d(*pair, 3, stride=2, padding=1)
            for pair in itertools.pairwise((shape[0], *channels))
        )
        self.last = nn.Linear(channels[-1] * math.prod(sizes(shape, len(channels))[-1]), out)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(n, ...)`` to vectors ``(n, out)``."""
        x = images.reshape(len(images), *self.shape)
        for convolution in self.convolutions:
            x = F.silu(convolution(x))
        return self.last(x.flatten(1))  # type: ignore[no-any-return]


class Upward(nn.Module):
    """Convolutional decoder from vectors ``(n, dim)`` to images, the mirror image of ``Downward``.

    Nearest-neighbour upsampling followed by a convolution avoids the checkerboard artifacts of
    transposed convolutions (Odena, Dumoulin and Olah 2016).

    Args:
        dim: length of the vectors.
        channels: channels of the mirrored ``Downward``.
        shape: channels, height and width of an image.
    """

    def __init__(self, dim: int, channels: tuple[int, ...], shape: tuple[int, int, int]) -> None:
        super().__init__()
        *self.sizes, (height, width) = sizes(shape, len(channels))
        self.start = (channels[-1], height, width)
        self.first = nn.Linear(dim, math.prod(self.start))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(*pair, 3, padding=1)
            for pair in itertools.pairwise((*reversed(channels), channels[0]))
        )
        self.last = nn.Conv2d(channels[0], shape[0], 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes ``(n, dim)`` to images ``(n, channels, height, width)``."""
        # The sizes of Downward in reverse order also restore odd heights and widths.
        x = F.silu(self.first(codes).reshape(len(codes), *self.start))
        for size, convolution in zip(reversed(self.sizes), self.convolutions, strict=True):
            x = F.silu(convolution(F.interpolate(x, size=size, mode="nearest")))
        return self.last(x)  # type: ignore[no-any-return]


def sizes(shape: tuple[int, int, int], halvings: int) -> list[tuple[int, int]]:
    """List height and width of the full image and after each halving, rounded up."""
    # A stride-2 convolution with padding 1 gives (size + 1) // 2 rows.
    # k halvings, each rounded up, are one division by 2^k rounded up.
    return [(-(-shape[1] // 2**k), -(-shape[2] // 2**k)) for k in range(halvings + 1)]


class Units(nn.Module):
    """Standardisation ``(x - shift) / scale`` with the mean and standard deviation of designs.

    Args:
        shape: shape of one design.
        alike: axes, counted from the last, that share one mean and deviation, such as the pixels
            of an image.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, ...], alike: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.alike = alike
        self.register_buffer("shift", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    def measure(self, designs: Tensor) -> None:
        """Set mean and deviation from designs ``(n, *shape)``; constant entries have scale 1."""
        over = (0, *self.alike)
        # Float64 sums avoid cancellation for designs far from 0.
        mean = designs.double().mean(dim=over, keepdim=True)
        deviation = (designs.double() - mean).square().mean(dim=over, keepdim=True).sqrt()
        # Relative to the mean, 1e-6 is above the rounding error of float32 data.
        deviation = torch.where(
            deviation > 1e-6 * mean.abs(), deviation, torch.ones_like(deviation)
        )
        # copy_ keeps the buffers, which state_dict holds.
        self.shift.copy_(mean[0].expand_as(self.shift))
        self.scale.copy_(deviation[0].expand_as(self.scale))

    def forward(self, designs: Tensor) -> Tensor:
        """Standardise designs ``(n, *shape)``."""
        return (designs - self.shift) / self.scale

    def back(self, numbers: Tensor) -> Tensor:
        """Invert ``forward``."""
        return self.shift + self.scale * numbers
