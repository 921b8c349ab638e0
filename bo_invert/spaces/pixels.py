"""Images without a generator: the parametrisations of Deep Dream, for descents and searches in data space."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.errors import InvalidInputError
from bo_invert.search_domain import gaussian_domain
from bo_invert.spaces.base import Space
from bo_invert.types import JSON, Array

if TYPE_CHECKING:
    import torch

Parametrization = Literal["fourier", "pixel", "laplacian"]
#: Intensities nearer than this to a bound (as a share of the range) are encoded as if they were this near.
_MARGIN = 1e-3
_SMALLEST_OCTAVE = 2


class Pixels(Space):
    """Images ``shape`` as a fixed linear map of a standard normal point, squashed between bounds by a sigmoid.

    With ``"fourier"`` a point holds the coefficients of an orthonormal real Fourier (Hartley) basis, scaled by
    1 / max(frequency, 1 / size) as natural images are (Olah et al. 2017); with ``"laplacian"`` one image per octave,
    each as strong as the next (Mordvintsev et al. 2015); with ``"pixel"`` the pixels themselves. All three make draws
    of equal variance, so they differ only in how easily a descent moves what.

    Args:
        shape: ``(height, width)`` or ``(channels, height, width)``.
        parametrization: ``"fourier"``, ``"pixel"`` or ``"laplacian"``.
        bounds: darkest and brightest value of a pixel.
        data: images ``(n, *shape)``; draws then match their mean image and their spread about it.
        cutoff: with ``"fourier"``, the highest frequency kept, in cycles per pixel (0.5 is the finest stripe along an
            axis); makes the space smaller. None keeps all, and then there are as many coordinates as pixels.
        jitter: a descent shifts images by up to this many pixels, anew at each step.
        rotation: a descent turns images by up to this many degrees, anew at each step.
        tv: weight of the mean total variation a descent adds to the loss.
        l2: weight of the mean squared coordinate a descent adds to the loss; 1 for a typical draw.

    Raises:
        InvalidInputError: an argument that no image space can have, or data of another shape or range.
    """

    differentiable = True

    def __init__(
        self,
        shape: Sequence[int],
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
        self.shape = tuple(int(size) for size in shape)
        if len(self.shape) not in (2, 3) or min(self.shape) < 1:
            raise InvalidInputError(
                f"Pixels: shape is (height, width) or (channels, height, width), got {tuple(shape)}"
            )
        if parametrization not in ("fourier", "pixel", "laplacian"):
            raise InvalidInputError(
                f"Pixels: parametrization is 'fourier', 'pixel' or 'laplacian', got {parametrization!r}"
            )
        if not -math.inf < bounds[0] < bounds[1] < math.inf:
            raise InvalidInputError(
                f"Pixels: bounds must be two finite numbers, the lower first, got {bounds}"
            )
        if cutoff is not None and (parametrization != "fourier" or cutoff < 0):
            raise InvalidInputError(
                "Pixels: cutoff is a frequency >= 0 and needs parametrization='fourier'"
            )
        if min(jitter, rotation, tv, l2) < 0:
            raise InvalidInputError("Pixels: jitter, rotation, tv and l2 must not be negative")
        self.parametrization = parametrization
        self.bounds = (float(bounds[0]), float(bounds[1]))
        self.cutoff, self.jitter, self.rotation, self.tv, self.l2 = (
            cutoff,
            int(jitter),
            float(rotation),
            tv,
            l2,
        )
        if parametrization == "pixel":
            self._map: _Map = _Identity(self.shape)
        elif parametrization == "laplacian":
            self._map = _Octaves(self.shape)
        else:
            self._map = _Spectrum(self.shape, cutoff)
        self._mean, self._spread = (
            np.zeros(self.shape),
            1.5,
        )  # 1.5 spreads a sigmoid almost evenly over its range
        radius = 2.0 * math.sqrt(self._map.dim)
        if data is not None:
            images = np.asarray(data, dtype=float)
            self._mean, self._spread = _match(self._unit(images))
            radius = max(radius, float(np.linalg.norm(self.encode(list(images)), axis=1).max()))
        self.domain = gaussian_domain(self._map.dim, radius)

    def decode(self, points: Array) -> Sequence[Any]:
        import torch

        with torch.no_grad():
            tensor = torch.from_numpy(np.array(np.atleast_2d(points), dtype=float))
            return cast(Sequence[Any], self.decode_tensor(tensor).numpy())

    def decode_tensor(self, points: torch.Tensor) -> torch.Tensor:
        low, high = self.bounds
        contrast = self._map.forward(points).reshape(-1, *self.shape)
        return (
            low + (high - low) * (points.new_tensor(self._mean) + self._spread * contrast).sigmoid()
        )

    def encode(self, designs: Sequence[Any]) -> Array:
        import torch

        unit = self._unit(np.asarray(designs, dtype=float)).clip(_MARGIN, 1.0 - _MARGIN)
        contrast = (np.log(unit / (1.0 - unit)) - self._mean) / self._spread
        points: Array = self._map.inverse(
            torch.from_numpy(contrast).reshape(-1, *self._map.shape)
        ).numpy()
        return points

    def augment_tensor(self, designs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """One random shift and turn for all designs, so that what a descent sees does not depend on its neighbours."""
        import torch

        if self.jitter:
            shift = torch.randint(-self.jitter, self.jitter + 1, (2,), generator=generator).tolist()
            designs = designs.roll(shift, dims=(-2, -1))
        if self.rotation:
            angle = math.radians(self.rotation) * (
                2.0 * torch.rand((), generator=generator).item() - 1.0
            )
            designs = _turned(designs.reshape(-1, *self._map.shape), angle).reshape(designs.shape)
        return designs

    def penalty_tensor(self, points: torch.Tensor, designs: torch.Tensor) -> torch.Tensor:
        penalty = self.l2 * (points**2).mean(-1)
        if self.tv:
            down, right = designs.diff(dim=-2)[..., :, :-1], designs.diff(dim=-1)[..., :-1, :]
            edges = (down**2 + right**2 + 1e-8).sqrt()  # the root of zero has no slope
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
        """Images with the bounds moved to 0 and 1.

        Raises:
            InvalidInputError: they have another shape, or leave the bounds.
        """
        low, high = self.bounds
        if images.ndim != 1 + len(self.shape) or images.shape[1:] != self.shape or not len(images):
            raise InvalidInputError(f"Pixels: images of shape (n, {', '.join(map(str, self.shape))}) expected, "
                               f"got {images.shape}")  # fmt: skip
        unit = (images - low) / (high - low)
        if not ((unit > -1e-6) & (unit < 1.0 + 1e-6)).all():
            raise InvalidInputError(
                f"Pixels: values must lie in {self.bounds}, got [{images.min():g}, {images.max():g}]"
            )
        return unit


def _match(unit: Array) -> tuple[Array, float]:
    """Mean and spread in front of the sigmoid, so that draws have the mean image and the variance of ``unit``.

    The mean of a squashed normal is MacKay's (1992) approximation; the variance is a Gauss-Hermite sum, bisected.
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
    """Images ``(n, c, h, w)`` turned by ``angle`` radians, the border repeated."""
    from torch.nn.functional import affine_grid, grid_sample

    height, width = images.shape[-2:]
    cos, sin = math.cos(angle), math.sin(angle)
    turn = images.new_tensor([[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]])
    grid = affine_grid(turn.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    turned: torch.Tensor = grid_sample(images, grid, padding_mode="border", align_corners=False)
    return turned


class _Map(ABC):
    """A linear map from points ``(n, dim)`` to images ``(n, c, h, w)`` of unit variance, and a right inverse of it."""

    dim: int

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = (1, *shape) if len(shape) == 2 else tuple(shape)

    @abstractmethod
    def forward(self, points: torch.Tensor) -> torch.Tensor: ...

    @abstractmethod
    def inverse(self, images: torch.Tensor) -> torch.Tensor: ...


class _Identity(_Map):
    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        self.dim = math.prod(self.shape)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return points.reshape(-1, *self.shape)

    def inverse(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


class _Spectrum(_Map):
    """The discrete Hartley transform, real, orthonormal and its own inverse, of scaled coefficients."""

    def __init__(self, shape: Sequence[int], cutoff: float | None) -> None:
        super().__init__(shape)
        height, width = self.shape[1:]
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]).ravel()
        self.kept = np.flatnonzero(frequency <= (math.inf if cutoff is None else cutoff))
        scale = 1.0 / np.maximum(frequency[self.kept], 1.0 / max(height, width))
        self.scale = scale / math.sqrt((scale**2).sum() / (height * width))
        self.dim = self.shape[0] * len(self.kept)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        channels, height, width = self.shape
        scaled = points.reshape(-1, channels, len(self.kept)) * points.new_tensor(self.scale)
        spectrum = points.new_zeros(len(points), channels, height * width)
        spectrum[..., self.kept] = scaled
        return self._hartley(spectrum.reshape(-1, *self.shape))

    def inverse(self, images: torch.Tensor) -> torch.Tensor:
        spectrum = self._hartley(images).flatten(2)[..., self.kept]
        return (spectrum / images.new_tensor(self.scale)).flatten(1)

    @staticmethod
    def _hartley(images: torch.Tensor) -> torch.Tensor:
        import torch

        spectrum = torch.fft.fft2(images, norm="ortho")
        folded: torch.Tensor = spectrum.real - spectrum.imag
        return folded


class _Octaves(_Map):
    """One image per octave, each half the size of the one before, enlarged and added."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        height, width = self.shape[1:]
        sizes = [(height, width)]
        while min(sizes[-1]) > _SMALLEST_OCTAVE:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        self.levels = [(_enlarging(h, height), _enlarging(w, width)) for h, w in reversed(sizes)]
        variance = [
            (rows**2).sum(1).mean() * (columns**2).sum(1).mean() for rows, columns in self.levels
        ]
        self.scale = [1.0 / math.sqrt(v * len(self.levels)) for v in variance]
        self.dim = self.shape[0] * sum(h * w for h, w in sizes)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        images, start = points.new_zeros(len(points), *self.shape), 0
        for (rows, columns), scale in zip(self.levels, self.scale, strict=True):
            size = (self.shape[0], rows.shape[1], columns.shape[1])
            octave = points[:, start : start + math.prod(size)].reshape(-1, *size)
            images = images + scale * (
                points.new_tensor(rows) @ octave @ points.new_tensor(columns).T
            )
            start += math.prod(size)
        return images

    def inverse(self, images: torch.Tensor) -> torch.Tensor:
        import torch

        octaves = []
        for (rows, columns), scale in zip(self.levels, self.scale, strict=True):
            up, across = images.new_tensor(rows), images.new_tensor(columns)
            octave = torch.linalg.pinv(up) @ images @ torch.linalg.pinv(across).T
            images = images - up @ octave @ across.T
            octaves.append(octave.flatten(1) / scale)
        return torch.cat(octaves, dim=1)


def _enlarging(small: int, large: int) -> Array:
    """Linear interpolation from ``small`` samples to ``large``, shape ``(large, small)``."""
    place = ((np.arange(large) + 0.5) * small / large - 0.5).clip(0, small - 1)
    weight = 1.0 - np.abs(place[:, None] - np.arange(small)[None])
    return weight.clip(min=0.0)
