"""A nanosphere of eight alternating silica and titania shells in water: find thicknesses with a given spectrum.

8 inputs, 201 outputs. Peurifoy et al. 2018, "Nanophotonic particle simulation and inverse design using artificial
neural networks"; with published numbers as an inverse problem: Ren et al. 2020, "Benchmarking deep inverse models over
time".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import spherical_jn, spherical_yn

from bo_invert.objectives import Target
from bo_invert.oracles.function import Function
from bo_invert.problems.examples.shifted import generator
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box
from bo_invert.types import Array

SHELLS = 8
#: Least and greatest thickness of a shell, nm.
THICKNESS = (30.0, 70.0)
#: Of the light, nm.
WAVELENGTHS = np.arange(400.0, 801.0, 2.0)
OUTPUTS = [f"s{wavelength:.0f}" for wavelength in WAVELENGTHS]
_ORDERS = np.arange(17)
"""Orders 1 to 15 count; their derivatives need a neighbour on either side."""
_WATER = np.full(len(WAVELENGTHS), 1.77)
_SILICA = np.full(len(WAVELENGTHS), 2.04)
_TITANIA = 5.913 + 0.2441 / ((WAVELENGTHS / 1000.0) ** 2 - 0.0803)
#: Permittivities by medium, from the core to the water, and wavelength.
_PERMITTIVITY = np.stack([*([_SILICA, _TITANIA] * (SHELLS // 2)), _WATER])


def spectrum(thickness: ArrayLike) -> Array:
    """Scattering cross section over geometric cross section at ``WAVELENGTHS``, shape ``(n, 201)``.

    Args:
        thickness: of the shells from the core outwards, nm, shape ``(n, 8)``.
    """
    return np.array([_spectrum(widths) for widths in np.asarray(thickness, dtype=float)]).reshape(
        -1, len(WAVELENGTHS)
    )


def _spectrum(widths: Array) -> Array:
    """Of one design: the transfer of the regular and the outgoing wave through the interfaces, shape ``(201,)``.

    Only the ratio of the two amplitudes counts, so the chain of matrices acts on one vector for each polarisation,
    and the factors that both amplitudes share are left out.
    """
    omega = 2.0 * np.pi / WAVELENGTHS
    radii = np.cumsum(widths)
    inner, outer = _PERMITTIVITY[:-1, None], _PERMITTIVITY[1:, None]  # (8, 1, 201)
    reach = omega * radii[:, None, None]
    inside, outside = _waves(reach * np.sqrt(inner)), _waves(reach * np.sqrt(outer))
    total = np.zeros(len(WAVELENGTHS))
    orders = _ORDERS[1:-1, None]
    for magnetic in (False, True):
        regular, outgoing = np.ones((1, 1)), np.zeros((1, 1))
        for j1, y1, dj1, dy1, j2, y2, dj2, dy2, e1, e2 in zip(
            *inside, *outside, inner, outer, strict=True
        ):
            field = j1 * regular + y1 * outgoing
            slope = dj1 * regular + dy1 * outgoing
            if magnetic:
                field, slope = e1 * field, e2 * slope
            regular, outgoing = dy2 * field - y2 * slope, j2 * slope - dj2 * field
        scattered = 4.0 * outgoing**2 / (regular**2 + outgoing**2)
        total += ((2 * orders + 1) * scattered).sum(axis=0)
    section = total * np.pi / (2.0 * omega**2 * _WATER)
    relative: Array = section / (np.pi * radii[-1] ** 2)
    return relative


def _waves(x: Array) -> tuple[Array, Array, Array, Array]:
    """Spherical Bessel functions j, y of orders 1 to 15 and ``(x j)'``, ``(x y)'``; each ``(8, 15, 201)``."""
    orders = _ORDERS[:, None]
    middle = orders[1:-1]
    j, y = spherical_jn(orders, x), spherical_yn(orders, x)
    slopes = ((middle * f[:, :-2] - (middle + 1) * f[:, 2:]) / (2 * middle + 1) for f in (j, y))
    dj, dy = (x * slope + f[:, 1:-1] for slope, f in zip(slopes, (j, y), strict=True))
    return j[:, 1:-1], y[:, 1:-1], dj, dy


def designs(n: int, seed: int = 0) -> Array:
    """``n`` designs drawn evenly from the box, nm, shape ``(n, 8)``."""
    return generator("shell", seed).uniform(*THICKNESS, (n, SHELLS))


def targets(n: int, seed: int = 0) -> Array:
    """``n`` reachable targets, shape ``(n, 201)``: a perfect method reaches a loss of 0 on each."""
    return spectrum(designs(n, seed))


def problem(target: ArrayLike | None = None, tolerance: float = 0.0, seed: int = 0) -> Problem:
    """The nanosphere as a ready problem; the best possible loss is 0. Values only, no gradients.

    Args:
        target: the wanted spectrum, shape ``(201,)``; default: a reachable one drawn with ``seed``.
        tolerance: how near is near enough to stop, at each wavelength.
        seed: of the drawn target.
    """
    goal = Target(targets(1, seed)[0] if target is None else target, tolerance=tolerance)
    names = [f"shell{number}" for number in range(1, SHELLS + 1)]
    space = Box([THICKNESS[0]] * SHELLS, [THICKNESS[1]] * SHELLS, names=names)
    return Problem(
        space,
        Function(spectrum, outputs=OUTPUTS, batched=True),
        goal,
        outputs=OUTPUTS,
        name="shell",
    )
