"""Image space without a generator: Deep Dream parametrisations for search in data space."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.nn.functional import affine_grid, grid_sample

from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.errors import InvalidInputError, one_of
from bo_invert.spaces.base import Space
from bo_invert.types import JSON, Array, Design
from bo_invert.user_code import DeviceConstants, own_settings
from bo_invert.user_data import real, real_array, whole_number, whole_numbers

Parametrization = Literal["fourier", "pixel", "laplacian"]
# Distance of encoded intensities from a bound, as a share of the range. Engineering choice: the
# logit of the sigmoid stays below 7.
_MARGIN = 1e-3
# Side length in pixels of the coarsest octave. Engineering choice.
_SMALLEST_OCTAVE = 2
# Standard deviation of the logit, dimensionless. Engineering choice: the sigmoid of N(0, 1.5^2) is
# nearly uniform on [0, 1].
_LOGIT_SPREAD = 1.5


class Pixels(Space):
    """Image space: a fixed linear map of a standard normal point, then a sigmoid between bounds.

    The image is ``low + (high - low) * sigmoid(mean + spread * A z)`` with z ~ N(0, I).
    ``"fourier"``: A holds an orthonormal Hartley basis, scaled by 1 / max(frequency, 1 / size) like
    the spectrum of natural images (Olah et al. 2017). ``"laplacian"``: A adds one enlarged image
    per octave, all of equal variance (Mordvintsev et al. 2015). ``"pixel"``: A is the identity. All
    three have draws of equal variance and differ in the conditioning of a descent.

    Args:
        shape: ``(height, width)`` or ``(channels, height, width)``; or images ``(n, *shape)``
            instead of ``data``. Default: the shape of an image of ``data``.
        parametrization: ``"fourier"``, ``"pixel"`` or ``"laplacian"``.
        bounds: lowest and highest pixel value.
        data: images ``(n, *shape)``; draws then match their mean image and total variance.
        cutoff: highest frequency of ``"fourier"`` in cycles per pixel (0.5 is the finest stripe
            along an axis). It reduces the dimension. None keeps one coordinate per pixel.
        jitter: largest random shift in pixels at each descent step.
        rotation: largest random rotation in degrees at each descent step.
        tv: weight of the mean total variation in the loss of a descent.
        l2: weight of the mean squared coordinate in the loss of a descent; it is 1 for a typical
            draw.

    Raises:
        InvalidInputError: an argument is out of range, or data have another shape or range.
    """

    differentiable = True

    @own_settings()
    def __init__(
        self,
        shape: Sequence[int] | ArrayLike | None = None,
        parametrization: Parametrization = "fourier",
        bounds: tuple[float, float] = (0.0, 1.0),
        data: ArrayLike | None = None,
        *,
        cutoff: float | None = None,
        jitter: int = 0,
        rotation: float = 0.0,
        tv: float = 0.0,
        l2: float = 0.0,
    ) -> None:
        self.shape, data = _shape_and_images(shape, data)
        bounds = (real("Pixels", "bounds", bounds[0]), real("Pixels", "bounds", bounds[1]))
        cutoff = None if cutoff is None else real("Pixels", "cutoff", cutoff)
        jitter = whole_number("Pixels", "jitter", jitter, least=-(2**31))
        rotation = real("Pixels", "rotation", rotation)
        tv, l2 = real("Pixels", "tv", tv), real("Pixels", "l2", l2)
        maps: dict[str, Callable[[Sequence[int]], _Map]] = {
            "fourier": partial(_Spectrum, cutoff=cutoff),
            "pixel": _Map,
            "laplacian": _Octaves,
        }
        one_of("Pixels", "parametrization", parametrization, maps)
        if not bounds[0] < bounds[1]:
            raise InvalidInputError(
                f"Pixels: bounds must be two finite increasing numbers, got {bounds}"
            )
        if cutoff is not None and (parametrization != "fourier" or cutoff < 0):
            raise InvalidInputError(
                "Pixels: cutoff must be >= 0 and requires parametrization='fourier'"
            )
        if min(jitter, rotation, tv, l2) < 0:
            raise InvalidInputError("Pixels: jitter, rotation, tv and l2 must not be negative")
        self.parametrization = parametrization
        self.bounds, self.cutoff = bounds, cutoff
        self.jitter, self.rotation, self.tv, self.l2 = jitter, rotation, tv, l2
        self._map = maps[parametrization](self.shape)
        self._mean, self._spread = np.zeros(self.shape), _LOGIT_SPREAD
        radius = 2.0 * math.sqrt(self._map.dim)
        if data is not None:
            images = real_array("Pixels: data", data)
            self._mean, self._spread = _match(self._unit(images))
            radius = max(radius, float(np.linalg.norm(self.encode(list(images)), axis=1).max()))
        self._centre = DeviceConstants(self._mean)
        self.domain = gaussian_domain(self._map.dim, radius)

    @own_settings()
    def decode(self, points: Array) -> Sequence[Design]:
        tensor = torch.from_numpy(np.array(np.atleast_2d(points), dtype=float))
        return cast("Sequence[Design]", self.decode_tensor(tensor).numpy())

    def decode_tensor(self, points: torch.Tensor) -> torch.Tensor:
        low, high = self.bounds
        contrast = self._map.forward(points).reshape(-1, *self.shape)
        return (
            low + (high - low) * (self._centre.like(points)[0] + self._spread * contrast).sigmoid()
        )

    @own_settings()
    def encode(self, designs: Sequence[Design]) -> Array:
        unit = self._unit(real_array("Pixels: designs", designs)).clip(_MARGIN, 1.0 - _MARGIN)
        contrast = (np.log(unit / (1.0 - unit)) - self._mean) / self._spread
        return self._map.inverse(torch.from_numpy(contrast).reshape(-1, *self._map.shape)).numpy()

    def augment_tensor(self, designs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Apply one random shift and rotation to all designs.

        A shared augmentation makes each descent independent of the others in its batch.
        """
        if self.jitter:
            shift = torch.randint(-self.jitter, self.jitter + 1, (2,), generator=generator).tolist()
            designs = designs.roll(shift, dims=(-2, -1))
        if self.rotation:
            angle = math.radians(self.rotation) * (
                2.0 * torch.rand((), generator=generator, dtype=torch.float32).item() - 1.0
            )
            designs = _turned(designs.reshape(-1, *self._map.shape), angle).reshape(designs.shape)
        return designs

    def penalty_tensor(self, points: torch.Tensor, designs: torch.Tensor) -> torch.Tensor:
        penalty = self.l2 * (points**2).mean(-1)
        if self.tv:
            down, right = designs.diff(dim=-2)[..., :, :-1], designs.diff(dim=-1)[..., :-1, :]
            edges = (down**2 + right**2 + 1e-8).sqrt()  # sqrt has no finite slope at 0
            penalty = penalty + self.tv * edges.flatten(1).mean(-1)
        return penalty

    def to_json(self) -> JSON:
        measured = np.append(np.round(self._mean.ravel(), 6), round(self._spread, 6))
        return {
            **super().to_json(),
            "shape": list(self.shape),
            "parametrization": self.parametrization,
            "bounds": list(self.bounds),
            "cutoff": self.cutoff,
            "augment": {"jitter": self.jitter, "rotation": self.rotation},
            "penalty": {"tv": self.tv, "l2": self.l2},
            "measured": hashlib.sha256(measured.tobytes()).hexdigest()[:16],
        }

    def _unit(self, images: Array) -> Array:
        """Scale images from the bounds to [0, 1].

        Raises:
            InvalidInputError: images have another shape or exceed the bounds.
        """
        low, high = self.bounds
        if images.ndim != 1 + len(self.shape) or images.shape[1:] != self.shape or not len(images):
            raise InvalidInputError(
                f"Pixels: images must have shape (n, {', '.join(map(str, self.shape))}), "
                f"got {images.shape}"
            )
        unit = (images - low) / (high - low)
        if not ((unit > -1e-6) & (unit < 1.0 + 1e-6)).all():
            raise InvalidInputError(
                f"Pixels: values must be in {self.bounds}, got [{images.min():g}, "
                f"{images.max():g}]. Scale the images, or pass bounds=(low, high)."
            )
        return unit


def _shape_and_images(
    shape: Sequence[int] | ArrayLike | None, data: ArrayLike | None
) -> tuple[tuple[int, ...], ArrayLike | None]:
    """Return the shape of an image, and images; these may come in place of the shape.

    Raises:
        InvalidInputError: there is no shape of an image.
    """
    images: Any = data if shape is None else shape
    # Sizes may be arrays of length one.
    sizes = isinstance(shape, (list, tuple)) and all(np.size(one) == 1 for one in shape)
    if shape is None or (np.ndim(images) > 1 and not sizes):
        if shape is not None and data is not None:
            raise InvalidInputError("Pixels: images must be given once, as shape or as data")
        found = np.shape(images)[1:]
        if len(found) not in (2, 3):
            raise InvalidInputError(
                f"Pixels: images must have shape (n, height, width), got {np.shape(images)}. Write "
                "Pixels(images.reshape(-1, height, width)) for flat images, Pixels(image[None]) "
                "for a single one, or Pixels((height, width)) without images."
            )
        return found, images
    listed = whole_numbers("Pixels", "shape", shape, least=1)
    if len(listed) not in (2, 3):
        raise InvalidInputError(
            f"Pixels: shape must be (height, width) or (channels, height, width), got {listed}"
        )
    return listed, data


def _match(unit: Array) -> tuple[Array, float]:
    """Match the logit's mean and spread to the mean image and the variance of ``unit``.

    E[sigmoid(N(m, s^2))] ~ sigmoid(m / sqrt(1 + pi s^2 / 8)) (MacKay 1992) gives the mean. A
    bisection of a Gauss-Hermite variance gives the spread.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(32)
    weights = weights / weights.sum()
    mean = unit.mean(axis=0).clip(_MARGIN, 1.0 - _MARGIN)
    logit, wanted = np.log(mean / (1.0 - mean)), unit.var(axis=0).mean()
    low, high = 0.1, 8.0
    for _ in range(40):
        spread = 0.5 * (low + high)
        centre = logit * math.sqrt(1.0 + math.pi * spread**2 / 8.0)
        drawn = 1.0 / (1.0 + np.exp(-(centre[..., None] + spread * nodes)))
        variance = ((drawn**2) @ weights - (drawn @ weights) ** 2).mean()
        low, high = (spread, high) if variance < wanted else (low, spread)
    return centre, spread


def _turned(images: torch.Tensor, angle: float) -> torch.Tensor:
    """Rotate images ``(n, c, h, w)`` by ``angle`` radians with repeated borders."""
    height, width = images.shape[-2:]
    cos, sin = math.cos(angle), math.sin(angle)
    entries = (cos, -sin * height / width, 0.0, sin * width / height, cos, 0.0)
    # Filled on the device: a tensor of a list would be copied from the host at each step.
    turn = torch.stack([images.new_full((), entry) for entry in entries]).reshape(2, 3)
    grid = affine_grid(turn.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


class _Map:
    """Linear map from points ``(n, dim)`` to images ``(n, c, h, w)`` of unit variance.

    This class is the identity; subclasses are other maps.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = (1, *shape) if len(shape) == 2 else tuple(shape)
        self.dim = math.prod(self.shape)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Return the images ``(n, c, h, w)`` of points ``(n, dim)``."""
        return points.reshape(-1, *self.shape)

    def inverse(self, images: torch.Tensor) -> torch.Tensor:
        """Return points ``(n, dim)`` by a right inverse of ``forward``."""
        return images.flatten(1)


class _Spectrum(_Map):
    """Scaled coefficients of the discrete Hartley transform, an orthonormal involution."""

    def __init__(self, shape: Sequence[int], cutoff: float | None) -> None:
        super().__init__(shape)
        height, width = self.shape[1:]
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]).ravel()
        self.retained = np.flatnonzero(frequency <= (math.inf if cutoff is None else cutoff))
        scale = 1.0 / np.maximum(frequency[self.retained], 1.0 / max(height, width))
        self.scale = scale / math.sqrt((scale**2).sum() / (height * width))
        self.dim = self.shape[0] * len(self.retained)
        self._constants = DeviceConstants(self.scale, self.retained)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        channels, height, width = self.shape
        scale, retained = self._constants.like(points)
        scaled = points.reshape(-1, channels, len(self.retained)) * scale
        spectrum = points.new_zeros(len(points), channels, height * width)
        return self._hartley(spectrum.index_copy(-1, retained, scaled).reshape(-1, *self.shape))

    def inverse(self, images: torch.Tensor) -> torch.Tensor:
        spectrum = self._hartley(images).flatten(2)[..., self.retained]
        return (spectrum / images.new_tensor(self.scale)).flatten(1)

    @staticmethod
    def _hartley(images: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.fft2(images, norm="ortho")
        return torch.sub(spectrum.real, spectrum.imag)


class _Octaves(_Map):
    """Sum of one enlarged image per octave; each octave halves the size."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        height, width = self.shape[1:]
        sizes = [(height, width)]
        while min(sizes[-1]) > _SMALLEST_OCTAVE:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        self.levels = [
            (_interpolation(h, height), _interpolation(w, width)) for h, w in reversed(sizes)
        ]
        variance = [
            (rows**2).sum(1).mean() * (columns**2).sum(1).mean() for rows, columns in self.levels
        ]
        self.scale = [1.0 / math.sqrt(v * len(self.levels)) for v in variance]
        self.sizes = [self.shape[0] * h * w for h, w in reversed(sizes)]
        self.dim = sum(self.sizes)
        self._constants = DeviceConstants(*(matrix for level in self.levels for matrix in level))

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        images = points.new_zeros(len(points), *self.shape)
        octaves = torch.split(points, self.sizes, dim=1)
        matrices = iter(self._constants.like(points))
        for octave, scale in zip(octaves, self.scale, strict=True):
            up, across = next(matrices), next(matrices)
            small = octave.reshape(-1, self.shape[0], up.shape[1], across.shape[1])
            images = images + scale * (up @ small @ across.T)
        return images

    def inverse(self, images: torch.Tensor) -> torch.Tensor:
        octaves = []
        for (rows, columns), scale in zip(self.levels, self.scale, strict=True):
            up, across = images.new_tensor(rows), images.new_tensor(columns)
            octave = torch.linalg.pinv(up) @ images @ torch.linalg.pinv(across).T
            images = images - up @ octave @ across.T
            octaves.append(octave.flatten(1) / scale)
        return torch.cat(octaves, dim=1)


def _interpolation(small: int, large: int) -> Array:
    """Return the linear interpolation matrix, shape ``(large, small)``."""
    place = ((np.arange(large) + 0.5) * small / large - 0.5).clip(0, small - 1)
    return (1.0 - np.abs(place[:, None] - np.arange(small))).clip(min=0.0)
