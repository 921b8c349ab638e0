"""Losses of Adam descents by learning rate, against L-BFGS with equally many steps.

    OMP_NUM_THREADS=1 python experiments/descent_rates.py

The problems are maxima of random networks with 8 and 32 inputs, smooth (initial weights times 2)
and rugged (times 6), in the unit box and in a latent (decoder and regressor; with an odd seed, the
prior is a mixture of four normals). All descents start from the same draws of the domain.

The figure is the mean loss minus that of L-BFGS, divided by the mean gain of L-BFGS over the
starts: 0 is level, 0.1 is 10 % of the gain behind. The table shows its mean and its largest value
over the networks. "default" is ``Domain.descent_rate``.
"""

from __future__ import annotations

import argparse
from itertools import pairwise, product

import numpy as np
import torch
from torch import nn

import bo_invert as bi
from bo_invert.types import Query

RATES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


def network(sizes: list[int], gain: float) -> nn.Module:
    """Return a tanh network with enlarged random weights."""
    layers: list[nn.Module] = []
    for size, following in pairwise(sizes):
        linear = nn.Linear(size, following).requires_grad_(False)
        linear.weight.mul_(gain)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def problem(kind: str, seed: int, dim: int, gain: float) -> bi.Problem:
    """Return the maximum of a random network."""
    torch.manual_seed(seed)
    if kind == "box":
        return bi.Problem(
            bi.Box([0.0] * dim, [1.0] * dim), network([dim, 64, 64, 1], gain), bi.Maximize()
        )
    codes = None
    if seed % 2:
        rng = np.random.default_rng(seed)
        means = 2.0 * rng.standard_normal((4, dim))
        codes = means[rng.integers(4, size=2000)] + rng.standard_normal((2000, dim))
    decoder = nn.Sequential(network([dim, 128, 200], gain), nn.Sigmoid())
    return bi.Problem(
        bi.Latent(decoder, dim, codes=codes), network([200, 64, 1], gain), bi.Maximize()
    )


def behind(one: bi.Problem, steps: int, starts: int) -> dict[str, float]:
    """Return the figure of each learning rate for one problem."""
    points = one.domain.sample(np.random.default_rng(1), starts)

    def mean_loss(descent: bi.Descent | None) -> float:
        queries = [Query(point, descent=descent) for point in points]
        return float(np.mean([outcome.loss for outcome in one.evaluate(queries)]))

    best = mean_loss(bi.Descent(steps, "lbfgs"))
    gain = mean_loss(None) - best
    rates = {str(rate): rate for rate in RATES} | {"default": one.domain.descent_rate(steps)}
    return {
        name: (mean_loss(bi.Descent(steps, "adam", rate)) - best) / gain
        for name, rate in rates.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[8, 9, 10, 11])
    parser.add_argument("--steps", type=int, nargs="+", default=[25, 100])
    parser.add_argument("--starts", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| domain | steps | " + " | ".join([*map(str, RATES), "default"]) + " |")
    print("|---" * (len(RATES) + 3) + "|")
    for kind, steps in product(("box", "latent"), options.steps):
        found = [
            behind(problem(kind, seed, dim, gain), steps, options.starts)
            for seed, dim, gain in product(options.seeds, (8, 32), (2.0, 6.0))
        ]
        cells = []
        for name in found[0]:
            figures = [one[name] for one in found]
            cells.append(f"{np.mean(figures):.3f} ({max(figures):.2f})")
        print(f"| {kind} | {steps} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
