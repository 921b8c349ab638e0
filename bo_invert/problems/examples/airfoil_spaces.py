"""Search spaces of airfoils: principal components, Kulfan parameters and real airfoils."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from bo_invert.domains.box_domain import box_domain
from bo_invert.domains.parameters import Int
from bo_invert.generators.design_plausibility import DesignRealism
from bo_invert.generators.latent_plausibility import Measure
from bo_invert.problems.examples.airfoil_shapes import (
    CROSSING,
    KULFAN,
    STATIONS,
    basis,
    crossing,
    database,
    surfaces,
    thickness,
)
from bo_invert.spaces.base import Space
from bo_invert.spaces.box import Box
from bo_invert.spaces.latent import Latent
from bo_invert.types import JSON, Array, Design
from bo_invert.user_data import whole_number

# Maximum thickness of training airfoils, in chords. Excludes 31 of 2,174, mostly struts.
THICKEST = 0.25
# Share of these airfoils for training; the others calibrate the plausibility.
TAUGHT = 0.8
# Number of components that explain 99.9 % of the variance.
PUBLISHED_DIM = 9
_QUANTILES = (0.01, 0.99)
"""Quantiles of real Kulfan parameters that bound the box. Engineering choice: excludes outliers."""


class Modes(nn.Module):
    """Principal components of surface heights as a linear decoder.

    Heights are linear in the Kulfan parameters, so codes ``(n, dim)`` decode to exact Kulfan
    parameters ``(n, 18)``. Negative trailing-edge thicknesses become 0. Codes are in standard
    deviations of the training airfoils.

    Args:
        designs: training airfoils, shape ``(k, 18)``.
        dim: number of components, 1 to 18.
        baseline: Kulfan parameters ``(18,)`` of the code 0. Default: the mean airfoil.

    Raises:
        InvalidInputError: ``dim`` is not in 1 to 18.
    """

    def __init__(self, designs: Array, dim: int, baseline: Array | None = None) -> None:
        super().__init__()
        dim = whole_number("airfoil", "dim", dim, most=len(KULFAN))
        heights, centre = basis(), designs.mean(axis=0)
        _, sizes, ways = np.linalg.svd((designs - centre) @ heights.T, full_matrices=False)
        largest = np.abs(ways).argmax(axis=1)
        # The sign of a singular vector is arbitrary; its largest entry becomes positive.
        ways = ways * np.sign(ways[np.arange(len(ways)), largest])[:, None]
        spread = sizes[:dim] / np.sqrt(len(designs) - 1)
        self.explained = float((sizes[:dim] ** 2).sum() / (sizes**2).sum())
        parameters = {
            "centre": centre if baseline is None else baseline,
            "steps": np.linalg.lstsq(heights, ways[:dim].T * spread, rcond=None)[0].T,
            "heights": heights,
            "reader": ways[:dim].T / spread,
        }
        for name, values in parameters.items():
            tensor = torch.as_tensor(np.array(values))
            self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Decode codes ``(n, dim)`` to Kulfan parameters ``(n, 18)``."""
        free = self.get_parameter("centre") + codes @ self.get_parameter("steps")
        return torch.cat([free[:, :-1], free[:, -1:].clamp(min=0.0)], dim=1)

    def encode(self, designs: torch.Tensor) -> torch.Tensor:
        """Encode Kulfan parameters ``(n, 18)`` to codes ``(n, dim)`` with the nearest surfaces."""
        off = (designs - self.get_parameter("centre")) @ self.get_parameter("heights").T
        return off @ self.get_parameter("reader")

    def trace(self, codes: torch.Tensor) -> torch.Tensor:
        """Decode codes ``(n, dim)`` to surface heights ``(n, 2, 201)``."""
        heights = self(codes) @ self.get_parameter("heights").T
        return torch.reshape(heights, (len(codes), 2, len(STATIONS)))

    def read(self, heights: torch.Tensor) -> torch.Tensor:
        """Encode surface heights ``(n, 2, 201)`` to codes ``(n, dim)``."""
        off = heights.flatten(1) - self.get_parameter("centre") @ self.get_parameter("heights").T
        return off @ self.get_parameter("reader")


class Realism:
    """Plausibility of airfoils in [0, 1], as in ``DesignRealism``; 0 for crossing surfaces.

    Args:
        modes: principal components, fitted without ``real``.
        measure: reference measure of the training codes.
        real: held-out real airfoils, shape ``(k, 18)``.
    """

    def __init__(self, modes: Modes, measure: Measure, real: Array) -> None:
        self._ranked = DesignRealism(modes.read, modes.trace, measure, surfaces(real))

    def __call__(self, designs: ArrayLike) -> Array:
        rows = np.asarray(designs, dtype=float)
        plausible = self._ranked(surfaces(rows))
        plausible[crossing(rows) > CROSSING] = 0.0
        return plausible


@lru_cache(maxsize=4)
def latent(dim: int) -> Latent:
    """Fit the latent space of the leading ``dim`` components to 80 % of the real airfoils.

    Raises:
        InvalidInputError: ``dim`` is not in 1 to 18.
        MissingExtraError: aerosandbox is not installed.
    """
    taught = _parts()[0]
    return Latent(Modes(taught, dim), dim, data=taught)


@cache
def real_looking() -> Realism:
    """Create the plausibility of designs of all spaces, calibrated on held-out airfoils."""
    taught, held_out = _parts()
    measure = latent(PUBLISHED_DIM).measure
    assert measure is not None
    return Realism(Modes(taught, PUBLISHED_DIM), measure, held_out)


def _parts() -> tuple[Array, Array]:
    """Split the airfoils into training and held-out ones with a fixed seed."""
    designs = wings()
    order = np.random.default_rng(0).permutation(len(designs))
    taught, held_out = np.split(order, [round(TAUGHT * len(designs))])
    return designs[taught], designs[held_out]


def wings() -> Array:
    """Return the real airfoils up to the thickness ``THICKEST``, shape ``(2143, 18)``."""
    designs = database().designs
    return designs[thickness(designs) <= THICKEST]


def kulfan_box() -> Box:
    """Create the box between the 1 % and 99 % quantiles of real Kulfan parameters."""
    lower, upper = np.quantile(database().designs, _QUANTILES, axis=0).round(3)
    return Box(lower, upper, names=KULFAN)


class ModeBox(Box):
    """Box of principal-component codes.

    Args:
        dim: number of components, fitted to all airfoils up to ``THICKEST``.
        sigma: half width of the box in standard deviations of the airfoils.
        baseline: name of the real airfoil at the centre. Default: the mean airfoil.

    Raises:
        InvalidInputError: ``dim`` is not in 1 to 18, or the airfoil is unknown.
    """

    def __init__(self, dim: int, sigma: float, baseline: str | None = None) -> None:
        self.modes = Modes(wings(), dim, None if baseline is None else database()[baseline])
        self._baseline = baseline
        super().__init__(
            [-sigma] * dim, [sigma] * dim, names=[f"mode{i}" for i in range(1, dim + 1)]
        )

    def decode(self, points: Array) -> Sequence[Design]:
        codes = torch.as_tensor(np.asarray(super().decode(points)))
        return cast("Sequence[Design]", self.modes(codes).numpy())

    def encode(self, designs: Sequence[Design]) -> Array:
        codes = self.modes.encode(torch.as_tensor(np.asarray(designs, dtype=float)))
        return super().encode(cast("Sequence[Design]", codes.numpy()))

    def decode_tensor(self, points: torch.Tensor) -> torch.Tensor:
        return self.modes(super().decode_tensor(points))  # type: ignore[no-any-return]

    def to_json(self) -> JSON:
        return {
            **super().to_json(),
            **({} if self._baseline is None else {"baseline": self._baseline}),
        }


class Catalogue(Space):
    """Discrete space of real airfoils, indexed by integers; its screening is a baseline.

    Args:
        designs: Kulfan parameters, shape ``(k, 18)``.
    """

    discrete = True

    def __init__(self, designs: Array) -> None:
        self.domain = box_domain({"airfoil": Int(0, len(designs) - 1)})
        self._designs = designs

    def decode(self, points: Array) -> Sequence[Design]:
        return cast("Sequence[Design]", self._designs[self._numbers(points)])

    @property
    def identify(self) -> Callable[[Array], list[str]] | None:
        """Map from points to airfoil indices as texts."""
        return lambda points: [str(number) for number in self._numbers(points)]

    def _numbers(self, points: Array) -> list[int]:
        return [row["airfoil"] for row in self.domain.values(np.atleast_2d(points))]

    def to_json(self) -> JSON:
        return {"type": "catalogue", "domain": self.domain.to_json()}
