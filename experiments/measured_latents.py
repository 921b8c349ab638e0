"""Calibration of measured latents: repeated, few, nearly singular and many codes.

    python experiments/measured_latents.py --seeds 20

Prints a Markdown table. New codes come from the distribution of the data. Of these, 1 % should
have a plausibility of at most 0.01, and 1 % should lie outside the ball of ``level=0.99``. Seconds
are CPU seconds of ``fit_measure``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from bo_invert.generators.latent_plausibility import fit_measure
from bo_invert.types import Array

Draw = Callable[[int, np.random.Generator], Array]
_NEW = 4000


def normal(d: int) -> Draw:
    """Return draws of N(0, I)."""
    return lambda n, rng: rng.standard_normal((n, d))


def clusters(d: int) -> Draw:
    """Return draws of four clusters."""
    centres = 2.0 * np.random.default_rng(7).standard_normal((4, d))
    return lambda n, rng: centres[rng.integers(4, size=n)] + 0.6 * rng.standard_normal((n, d))


def singular(rank: int, d: int, noise: float) -> Draw:
    """Return draws of a low rank, with noise of this standard deviation."""
    basis = np.random.default_rng(8).standard_normal((rank, d))
    return lambda n, rng: (
        rng.standard_normal((n, rank)) @ basis + noise * rng.standard_normal((n, d))
    )


def curved(n: int, rng: np.random.Generator) -> Array:
    """Return draws of a curved manifold of three dimensions in 16."""
    basis = np.random.default_rng(9).standard_normal((9, 16))
    t = rng.uniform(-3.0, 3.0, size=(n, 3))
    shaped = np.concatenate([np.sin(t), np.cos(2.0 * t), t**2 / 3.0], axis=1)
    return np.asarray(shaped @ basis + 0.1 * rng.standard_normal((n, 16)))


def copied(draw: Draw, copies: int, noise: float) -> Draw:
    """Return draws with copies that differ by noise."""

    def make(n: int, rng: np.random.Generator) -> Array:
        rows = draw(n, rng)
        return np.concatenate(
            [rows] + [rows + noise * rng.standard_normal(rows.shape) for _ in range(copies - 1)]
        )

    return make


CASES: dict[str, tuple[Draw, Draw, int]] = {
    "300 of N(0, I) in 8-d": (normal(8), normal(8), 300),
    "the same, 3 equal copies": (copied(normal(8), 3, 0.0), normal(8), 300),
    "the same, 3 copies with noise 1e-6": (copied(normal(8), 3, 1e-6), normal(8), 300),
    "the same, 10 copies with noise 0.02": (copied(normal(8), 10, 0.02), normal(8), 300),
    "300 of four clusters, 3 copies with noise 1e-3": (
        copied(clusters(8), 3, 1e-3), clusters(8), 300,
    ),
    "20 of N(0, I) in 8-d": (normal(8), normal(8), 20),
    "60 of N(0, I) in 8-d": (normal(8), normal(8), 60),
    "500 of rank 3 in 32-d, noise 1e-6": (singular(3, 32, 1e-6),) * 2 + (500,),
    "100 of rank 3 in 32-d, noise 1e-6": (singular(3, 32, 1e-6),) * 2 + (100,),
    "10,000 of four clusters in 16-d": (clusters(16), clusters(16), 10_000),
    "10,000 of a curved manifold in 16-d": (curved, curved, 10_000),
}  # fmt: skip


def measured(data: Draw, draw: Draw, n: int, seed: int) -> tuple[float, float, float, float]:
    """Return the shares of implausible new codes, of new codes beyond, of own draws; seconds."""
    rng = np.random.default_rng(seed)
    codes = data(n, rng)
    began = time.process_time()
    measure = fit_measure(codes, seed)
    seconds = time.process_time() - began
    fresh = measure.whiten(draw(_NEW, rng))
    own = measure.reference.sample(rng, _NEW)
    return (
        float((measure.reference.plausibility(fresh) <= 0.01).mean()),
        float((np.linalg.norm(fresh, axis=1) > measure.radius(0.99)).mean()),
        float((measure.reference.plausibility(own) <= 0.01).mean()),
        seconds,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    print("| codes | new at most 0.01, % | new outside the ball, % | own at most 0.01, % | s |")
    print("|---|---:|---:|---:|---:|")
    for name, (data, draw, n) in CASES.items():
        count = seeds if n < 10_000 else min(seeds, 2)
        rows = np.array([measured(data, draw, n, seed) for seed in range(count)]).mean(axis=0)
        shares = " | ".join(f"{100.0 * share:.1f}" for share in rows[:3])
        print(f"| {name} | {shares} | {rows[3]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
