"""Layers that generators share: dense stacks, convolutions for images of any size, units of measurement."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bo_invert.errors import InvalidInputError


def dense(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers of these widths with SiLU between them."""
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(itertools.pairwise(widths)):
        layers += [nn.SiLU()] * (i > 0) + [nn.Linear(before, after)]
    return nn.Sequential(*layers)


def image_shape(
    shape: tuple[int, ...], channels: tuple[int, ...], who: str
) -> tuple[int, int, int]:
    """Channels, height and width of an image ``(height, width)`` or ``(channels, height, width)``.

    Raises:
        InvalidInputError: it is no image of 4 x 4 or more, or it cannot be halved once for each of ``channels``.
    """
    if len(shape) not in (2, 3) or min(shape[-2:]) < 4:
        raise InvalidInputError(
            f"{who}: convolutions want (height, width) or (channels, height, width) from 4 x 4, got {shape}"
        )
    if min(shape[-2:]) < 2 ** len(channels):
        raise InvalidInputError(
            f"{who}: {shape[-2]} x {shape[-1]} pixels cannot be halved {len(channels)} times; give fewer channels than "
            f"{channels}"
        )
    return (*((1,) if len(shape) == 2 else shape[:1]), *shape[-2:])  # type: ignore[return-value]


class Downward(nn.Module):
    """Images to vectors ``(n, out)``: each convolution halves the image, rounding up.

    Args:
        shape: channels, height, width.
        channels: after each halving.
        out: length of the vectors.
    """

    def __init__(self, shape: tuple[int, int, int], channels: tuple[int, ...], out: int) -> None:
        super().__init__()
        self.shape = shape
        pairs = itertools.pairwise((shape[0], *channels))
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs]
        )
        height, width = sizes(shape, len(channels))[-1]
        self.last = nn.Linear(channels[-1] * height * width, out)

    def forward(self, images: Tensor) -> Tensor:
        """Vectors of images ``(n, ...)``."""
        x = images.reshape(len(images), *self.shape)
        for convolution in self.convolutions:
            x = F.silu(convolution(x))
        made: Tensor = self.last(x.flatten(1))
        return made


class Upward(nn.Module):
    """Vectors ``(n, dim)`` to images: enlarged by repeating pixels, then convolved, which leaves no checkerboard.

    (Odena, Dumoulin and Olah, "Deconvolution and checkerboard artifacts", 2016.)

    Args:
        dim: length of the vectors.
        channels: as of ``Downward``, which this mirrors.
        shape: channels, height, width.
    """

    def __init__(self, dim: int, channels: tuple[int, ...], shape: tuple[int, int, int]) -> None:
        super().__init__()
        *self.sizes, (height, width) = sizes(shape, len(channels))
        self.start = (channels[-1], height, width)
        self.first = nn.Linear(dim, math.prod(self.start))
        pairs = itertools.pairwise((*reversed(channels), channels[0]))
        self.convolutions = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1) for a, b in pairs])
        self.last = nn.Conv2d(channels[0], shape[0], 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """Images ``(n, channels, height, width)`` of codes."""
        x = F.silu(self.first(codes).reshape(len(codes), *self.start))
        for size, convolution in zip(reversed(self.sizes), self.convolutions, strict=True):
            x = F.silu(convolution(F.interpolate(x, size=size, mode="nearest")))
        made: Tensor = self.last(x)
        return made


def sizes(shape: tuple[int, int, int], halvings: int) -> list[tuple[int, int]]:
    """Heights and widths from the full image down, each half the last, rounded up."""
    found = [shape[1:]]
    for _ in range(halvings):
        found.append(((found[-1][0] + 1) // 2, (found[-1][1] + 1) // 2))
    return found


class Units(nn.Module):
    """Designs in units of their standard deviation about their mean, as measured on designs; 0 and 1 before.

    Args:
        shape: of one design.
        alike: axes, counted from the last, along which numbers share one mean and deviation (the pixels of an image).
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, ...], alike: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.alike = alike
        self.register_buffer("shift", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    def measure(self, designs: Tensor) -> None:
        """Take mean and deviation from designs ``(n, *shape)``; a number that never changes keeps the scale 1."""
        over = (0, *self.alike)
        mean = designs.double().mean(dim=over, keepdim=True)
        deviation = (designs.double() - mean).square().mean(dim=over, keepdim=True).sqrt()
        deviation = torch.where(
            deviation > 1e-6 * mean.abs(), deviation, torch.ones_like(deviation)
        )
        self.shift.copy_(mean[0].expand_as(self.shift))
        self.scale.copy_(deviation[0].expand_as(self.scale))

    def forward(self, designs: Tensor) -> Tensor:
        """In these units."""
        return (designs - self.shift) / self.scale

    def back(self, numbers: Tensor) -> Tensor:
        """Designs of what ``forward`` gave."""
        return self.shift + self.scale * numbers
