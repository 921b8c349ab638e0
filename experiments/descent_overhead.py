"""Time of descents against a plain torch loop with the same network, measured in turns.

    OMP_NUM_THREADS=1 python experiments/descent_overhead.py
    OMP_NUM_THREADS=1 python experiments/descent_overhead.py --optimizers lbfgs --batches 1 64

Each cell is a network, an optimiser and a number n of descents. Ours evaluates n descent queries by
``Problem.evaluate``, results and ledger included. The plain loop has the same network in the same
dtype with frozen parameters, the same starts, and a clip to the box or to the ball; it records
nothing. Its optimisers are ``torch.optim.Adam`` and ``torch.optim.LBFGS`` (strong Wolfe line
search, eight pairs). The latter treats all descents as one problem with one line search: it is a
reference of time, and finds worse points.

The unit is CPU time of this process per step; a step is one value and one gradient of all n points.
Descents of Adam take 100 steps. Those of L-BFGS take 40, so that few end early; ours drops these.
Both programs run in turns, ``--rounds`` times after one warm-up. The table shows the medians, and
the median and the range of the ratios of one turn. Raw figures go to OUT.json, the table to OUT.md.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import bo_invert as bi
from bo_invert.types import Query

DIM = 16
STEPS = {"adam": 100, "lbfgs": 40}
RATE = 0.02
GAIN = 8.0
"""Factor of the initial weights: the loss is so rugged that few descents end early."""
Record = dict[str, Any]


class Case(NamedTuple):
    """Problem, and the network and projection of the plain loop."""

    problem: bi.Problem
    network: nn.Module
    inside: Callable[[Tensor], Tensor]


def mlp() -> Case:
    """Return a small network of a box: 16 -> 64 -> 64 -> 1."""
    network = nn.Sequential(
        nn.Linear(DIM, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
    )
    problem = bi.Problem(bi.Box([0.0] * DIM, [1.0] * DIM), frozen(network), bi.Minimize())
    return Case(problem, network, lambda z: z.clamp(0.0, 1.0))


def latent(codes: np.ndarray[Any, Any] | None = None) -> Case:
    """Return a decoder and a regressor: 16 -> 784 -> 128 -> 1."""
    decoder = frozen(nn.Sequential(nn.Linear(DIM, 784), nn.Sigmoid()))
    regressor = frozen(nn.Sequential(nn.Linear(784, 128), nn.Tanh(), nn.Linear(128, 1)))
    problem = bi.Problem(bi.Latent(decoder, DIM, codes=codes), regressor, bi.Minimize())
    radius = problem.domain.reach
    return Case(
        problem,
        nn.Sequential(decoder, regressor),
        lambda z: z * (radius / z.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1.0),
    )


def mixture() -> Case:
    """Return the decoder with a plausibility bound: a fitted mixture of normals as its prior."""
    rng = np.random.default_rng(0)
    means = 3.0 * rng.standard_normal((4, DIM))
    return latent(means[rng.integers(4, size=4000)] + rng.standard_normal((4000, DIM)))


NETWORKS: dict[str, Callable[[], Case]] = {"mlp": mlp, "decoder": latent, "mixture": mixture}


def frozen(network: nn.Module) -> nn.Module:
    """Freeze the parameters, so that no program computes their gradients; enlarge the weights."""
    for layer in network.requires_grad_(False).modules():
        if isinstance(layer, nn.Linear):
            layer.weight.mul_(GAIN)
    return network


def ours(case: Case, queries: Sequence[Query]) -> tuple[float, float]:
    """Return the largest number of values of a descent, and the mean loss at the end."""
    outcomes = case.problem.evaluate(queries)
    values = max(outcome.cost.values for outcome in outcomes)
    return float(values), float(np.mean([outcome.loss for outcome in outcomes]))


def plain(case: Case, starts: Tensor, optimizer: str, steps: int) -> tuple[float, float]:
    """Run the plain loop; return the number of values and the mean loss at the end."""
    z = starts.clone().requires_grad_()
    network, values, loss = case.network, 0, torch.zeros(())
    if optimizer == "adam":
        adam = torch.optim.Adam([z], lr=RATE)
        for _ in range(steps):
            adam.zero_grad()
            loss = network(z).sum()
            loss.backward()
            adam.step()
            with torch.no_grad():
                z.copy_(case.inside(z))
        return steps, float(loss.detach()) / len(z)
    lbfgs = torch.optim.LBFGS(
        [z], max_iter=steps, max_eval=steps, history_size=8, line_search_fn="strong_wolfe",
        tolerance_grad=0.0, tolerance_change=0.0,
    )  # fmt: skip

    def closure() -> Tensor:
        nonlocal values
        values += 1
        lbfgs.zero_grad()
        loss = network(case.inside(z)).sum()
        loss.backward()
        return loss

    loss = lbfgs.step(closure)
    return values, float(network(case.inside(z)).detach().sum()) / len(z)


def timed(run: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """Return microseconds of CPU time per step and the mean loss at the end."""
    started = time.process_time()
    steps, loss = run()
    return 1e6 * (time.process_time() - started) / steps, loss


def measured(name: str, optimizer: str, n: int, options: argparse.Namespace) -> Record:
    """Measure one cell."""
    torch.manual_seed(options.seed)
    case = NETWORKS[name]()
    points = case.problem.space.sample(np.random.default_rng(options.seed), n)
    starts = torch.from_numpy(points).float()
    steps = STEPS[optimizer]
    descent = bi.Descent(steps, optimizer, RATE)
    queries = [Query(point, descent=descent) for point in points]
    programs = {
        "ours": lambda: ours(case, queries),
        "plain": lambda: plain(case, starts, optimizer, steps),
    }
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    losses: dict[str, float] = {}
    for turn in range(-1, options.rounds):
        for key in list(programs)[:: 1 if turn % 2 else -1]:
            microseconds, losses[key] = timed(programs[key])
            if turn >= 0:
                times[key].append(microseconds)
    return {"network": name, "optimizer": optimizer, "batch": n, "losses": losses, "times": times}


def table(records: Sequence[Record]) -> str:
    """Format the records as a Markdown table."""
    lines = [
        "| network | optimiser | batch | ours, µs per step | plain, µs per step | ratio | range |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in records:
        pairs = list(zip(record["times"]["ours"], record["times"]["plain"], strict=True))
        ratios = [a / b for a, b in pairs]
        lines.append(
            f"| {record['network']} | {record['optimizer']} | {record['batch']:,} "
            f"| {median(a for a, _ in pairs):,.0f} | {median(b for _, b in pairs):,.0f} "
            f"| {median(ratios):.2f} | {min(ratios):.2f}-{max(ratios):.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--optimizers", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64, 1024, 4096])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("descent_overhead"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    records: list[Record] = []
    for name in options.networks:
        for optimizer in options.optimizers:
            for n in options.batches:
                records.append(measured(name, optimizer, n, options))
                print(table(records[-1:]).splitlines()[-1], flush=True)
                options.out.with_suffix(".md").write_text(table(records), encoding="utf-8")
                settings = {
                    "seed": options.seed,
                    "torch": torch.__version__,
                }
                text = json.dumps({"settings": settings, "records": records}, indent=1)
                options.out.with_suffix(".json").write_text(text, encoding="utf-8")
    assert all(math.isfinite(loss) for record in records for loss in record["losses"].values())


if __name__ == "__main__":
    main()
