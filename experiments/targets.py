"""Target search without a training set: residual r_T on arm, sine and shell.

The table shows mean, median and share below 1e-6 over many targets.

python experiments/targets.py --strategy least_squares --targets 100 --seed 77
"""

from __future__ import annotations

import argparse

import numpy as np

import bo_invert as bi
from bo_invert.problems.examples import arm, nanosphere_shell as shell, sine

#: Of each problem, the calls of the published r_T.
PROBLEMS = {"arm": (arm, 50), "sine": (sine, 50), "shell": (shell, 200)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--strategy", default="least_squares")
    parser.add_argument("--targets", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first target")
    parser.add_argument("--seed", type=int, default=77, help="of the draw of targets")
    parser.add_argument(
        "--budget", type=int, help="calls for each target; default: those of the published r_T"
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument(
        "--each", action="store_true", help="print the loss of each target as it is found"
    )
    options = parser.parse_args()
    for name in options.problems:
        module, budget = PROBLEMS[name]
        budget = options.budget or budget
        losses, calls = [], []
        drawn = module.targets(options.first + options.targets, seed=options.seed)
        for number, target in list(enumerate(drawn))[options.first :]:
            plain = {} if name == "shell" else {"differentiable": False}
            problem = bi.ready_problem(name, target=target, **plain)
            study = bi.Study.create("s", problem, strategy=options.strategy, seed=number)
            study.run(budget, batch=options.batch)
            losses.append(np.inf if study.best is None else study.best.loss)
            calls.append(study.spent.calls)
            if options.each:
                print(f"{name} target {number}: {losses[-1]:.3e} in {calls[-1]} calls", flush=True)
        found = np.array(losses)
        print(
            f"{name}: r_{budget} mean {found.mean():.1e}, median {np.median(found):.1e}, "
            f"below 1e-6: {(found < 1e-6).mean():.0%}, worst {found.max():.1e}, "
            f"{np.mean(calls):.1f} calls, {len(found)} targets",
            flush=True,
        )


if __name__ == "__main__":
    main()
