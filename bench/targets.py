"""Targets without a training set: r_T on arm and sine, the mean, median and share below 1e-6 over many targets.

python bench/targets.py --strategy least_squares --targets 100 --seed 77 --budget 50
"""

from __future__ import annotations

import argparse

import numpy as np

import bo_invert as bi
from bo_invert.examples import arm, sine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategy", default="least_squares")
    parser.add_argument("--targets", type=int, default=100)
    parser.add_argument("--seed", type=int, default=77, help="of the draw of targets")
    parser.add_argument("--budget", type=int, default=50)
    options = parser.parse_args()
    for name, module in (("arm", arm), ("sine", sine)):
        losses, calls = [], []
        for number, target in enumerate(module.targets(options.targets, seed=options.seed)):
            problem = bi.ready_problem(name, target=target, differentiable=False)
            study = bi.Study.create("s", problem, strategy=options.strategy, seed=number).run(options.budget)
            losses.append(np.inf if study.best is None else study.best.loss)
            calls.append(study.spent.calls)
        found = np.array(losses)
        print(
            f"{name}: mean {found.mean():.1e}, median {np.median(found):.1e}, below 1e-6: {(found < 1e-6).mean():.0%}, "
            f"worst {found.max():.1e}, {np.mean(calls):.1f} calls"
        )


if __name__ == "__main__":
    main()
