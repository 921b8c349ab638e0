"""Inverse design of a nanosphere with eight alternating silica and titania shells in water.

The 8 inputs are thicknesses; the 201 outputs are a scattering spectrum. Peurifoy et al. 2018,
"Nanophotonic particle simulation and inverse design using artificial neural networks". Published
results: Ren et al. 2020, "Benchmarking deep inverse models over time".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import spherical_jn, spherical_yn

from bo_invert.objectives.target import Target
from bo_invert.oracles.function import Function
from bo_invert.problems.examples.synthetic_functions import generator
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box
from bo_invert.types import Array

SHELLS = 8
# Bounds of a shell's thickness, nm; Peurifoy et al. 2018.
THICKNESS = (30.0, 70.0)
# Wavelengths of light, nm; Peurifoy et al. 2018.
WAVELENGTHS = np.arange(400.0, 801.0, 2.0)
OUTPUTS = [f"s{wavelength:.0f}" for wavelength in WAVELENGTHS]
_ORDERS = np.arange(17)
"""Bessel orders; orders 1 to 15 are summed, and their derivatives need both neighbours. Engineering
choice: a fixed truncation of the Mie series.
"""
# Permittivities by wavelength, dimensionless; Peurifoy et al. 2018.
_WATER = np.full(len(WAVELENGTHS), 1.77)
_SILICA = np.full(len(WAVELENGTHS), 2.04)
# Titania by the dispersion equation, wavelengths in um; coefficients of Peurifoy et al. 2018.
_TITANIA = 5.913 + 0.2441 / ((WAVELENGTHS / 1000.0) ** 2 - 0.0803)
# Permittivities by medium, from the core to the water, and by wavelength, shape (9, 201).
_PERMITTIVITY = np.stack([*([_SILICA, _TITANIA] * (SHELLS // 2)), _WATER])


def spectrum(thickness: ArrayLike) -> Array:
    """Compute scattering efficiencies ``(n, 201)`` at ``WAVELENGTHS``.

    The efficiency is the scattering cross section divided by the geometric cross section.

    Args:
        thickness: thicknesses from the core outwards, nm, shape ``(n, 8)``.
    """
    return np.array([_spectrum(widths) for widths in np.asarray(thickness, dtype=float)]).reshape(
        -1, len(WAVELENGTHS)
    )


def _spectrum(widths: Array) -> Array:
    """Compute the spectrum ``(201,)`` of one design by transfer matrices.

    The matrices propagate the amplitudes of the regular and the outgoing wave through the
    interfaces. Only their ratio affects the result, so common factors are omitted.
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
    return np.asarray(section / (np.pi * radii[-1] ** 2))


def _waves(x: Array) -> tuple[Array, Array, Array, Array]:
    """Compute spherical Bessel j, y and ``(x j)'``, ``(x y)'`` of orders 1 to 15.

    Each array has shape ``(8, 15, 201)``.
    """
    orders = _ORDERS[:, None]
    middle = orders[1:-1]
    j, y = spherical_jn(orders, x), spherical_yn(orders, x)
    slopes = ((middle * f[:, :-2] - (middle + 1) * f[:, 2:]) / (2 * middle + 1) for f in (j, y))
    dj, dy = (x * slope + f[:, 1:-1] for slope, f in zip(slopes, (j, y), strict=True))
    return j[:, 1:-1], y[:, 1:-1], dj, dy


def designs(n: int, seed: int = 0) -> Array:
    """Sample ``n`` designs ``(n, 8)``, nm, uniformly from the box."""
    return generator("shell", seed).uniform(*THICKNESS, (n, SHELLS))


def targets(n: int, seed: int = 0) -> Array:
    """Compute ``n`` reachable targets ``(n, 201)``; the minimum loss of each is 0."""
    return spectrum(designs(n, seed))


def problem(target: ArrayLike | None = None, tolerance: float = 0.0, seed: int = 0) -> Problem:
    """Find shell thicknesses for a target spectrum; the minimum loss is 0.

    The oracle has no gradients.

    Args:
        target: target spectrum ``(201,)``. Default: a reachable one, sampled with ``seed``.
        tolerance: accepted deviation from the target at each wavelength.
        seed: seed of the sampled target.
    """
    names = [f"shell{number}" for number in range(1, SHELLS + 1)]
    return Problem(
        Box([THICKNESS[0]] * SHELLS, [THICKNESS[1]] * SHELLS, names=names),
        Function(spectrum, outputs=OUTPUTS, batched=True),
        Target(targets(1, seed)[0] if target is None else target, tolerance=tolerance),
        outputs=OUTPUTS,
        name="shell",
    )
