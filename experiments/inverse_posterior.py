"""Quality of the posterior of designs: classifier two-sample tests and calibration.

    pip install --no-deps sbibm    # observations and reference samples of five tasks
    python experiments/inverse_posterior.py run --observations 2     # resumes
    python experiments/inverse_posterior.py calibrate --truths 400   # resumes
    python experiments/inverse_posterior.py table    # writes docs/inverse.md

Tasks: see ``posterior_tasks.py``. A method has 1,000 calls; samples are taken after 200 and 1,000.

- ``inverse``: the strategy, asked for 20 points at a time, and ``study.posterior``.
- ``prior``: ``study.posterior`` after calls at draws of the prior.
- ``abc``: rejection. The nearest 10 % of draws of the prior, in standard deviations of the outputs
  (all draws within the tolerance, if there are as many), smoothed by a kernel density estimate.

*C2ST*: accuracy of a classifier that tells samples from as many reference samples: a perceptron
with two hidden layers of 10 d units, 5-fold cross-validation, coordinates scaled by mean and
standard deviation of the reference (Lueckmann et al. 2021). 0.5 is perfect, 1 is worst. With 1,000
samples it does not see thin crescents. ``--classifier trees``, gradient boosting of scikit-learn,
takes a hundredth of the time and sees them.

*Calibration*, on the deterministic tasks: a design x* is drawn from the prior, and its observation
is f(x*) plus uniform noise within the tolerance. So x* is a draw of its posterior. The region of a
level contains the samples nearest to a random point (TARP; Lemos et al. 2023), and the ranks of the
parameters give central intervals (Talts et al. 2018). All observations share one log.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from marked_page import replace_marked
from posterior_tasks import TASKS, TOLERANCE, Task, observed, task
from scipy.stats import binom

import bo_invert as bi
from bo_invert.history import History
from bo_invert.models.inverse.fit import TargetOptions, fit_target_model
from bo_invert.models.inverse.solution_set import sample_solutions
from bo_invert.report.table import Table
from bo_invert.types import Array

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "docs" / "benchmarks" / "inverse_posterior.jsonl"
CHECKPOINTS = (200, 1000)
LOGS = (50, 200)
"""Calls of a Sobol sequence, on which all observations of the calibration are inverted."""
LEVELS = (0.5, 0.9)
BATCH = 20
GROUP = ("task", "method", "classifier", "samples")
KEYS = ("task", "method", "observation", "classifier", "samples", "calls")
SAMPLES = 10_000
"""Default number of samples and reference samples, as in the published comparison."""
RANKED = 1000
PUBLISHED = {
    "two_moons": (0.960, 0.643, 0.554),
    "gaussian_mixture": (0.883, 0.697, 0.583),
    "gaussian_linear_uniform": (0.977, 0.631, 0.527),
    "slcp": (0.982, 0.921, 0.713),
    "bernoulli_glm": (0.994, 0.634, 0.553),
}
"""Mean C2ST of ten observations: rejection after 1,000 simulations, and the best algorithm after
1,000 and 10,000 (Lueckmann et al. 2021)."""
ACCEPTED = 0.1
"""Share of the draws that rejection accepts; 100 of 1,000 draws in the published comparison."""


def c2st(samples: Array, reference: Array, classifier: str, seed: int = 1) -> float:
    """Return the accuracy of a classifier of samples ``(n, d)`` and a reference ``(r, d)``."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    count = min(len(samples), len(reference))
    reference, samples = reference[:count], samples[:count]
    both = (np.concatenate([reference, samples]) - reference.mean(0)) / reference.std(0)
    width = 10 * reference.shape[1]
    made = {
        "perceptron": MLPClassifier((width, width), max_iter=10_000, random_state=seed),
        "trees": HistGradientBoostingClassifier(random_state=seed),
    }[classifier]
    folds = KFold(5, shuffle=True, random_state=seed)
    return float(cross_val_score(made, both, np.repeat([0, 1], count), cv=folds).mean())


Samples = Iterator[tuple[int, Array, dict[str, Any]]]
"""Number of calls, samples ``(n, d)`` and further fields of the row."""


def studied(made: Task, value: Array, seed: int, count: int, asks: bool) -> Samples:
    """Yield samples of a study at each checkpoint, after calls at asked points or prior draws."""
    rng = np.random.default_rng([seed, 2])
    options = {"noisy": made.stochastic, "undiscovered": 0.0}
    spec = {"name": "inverse", "options": options}
    study = bi.Study.create("posterior", made.problem(value), spec, seed)
    for calls in CHECKPOINTS:
        while len(study.trials) < calls:
            if asks:
                left = min(BATCH, calls - len(study.trials))
                asked = study.ask(left, budget=CHECKPOINTS[-1])
                outputs = made.simulate(np.array([trial.design for trial in asked]), rng)
                for trial, y in zip(asked, outputs, strict=True):
                    study.tell(trial, y)
            else:
                drawn = made.prior(rng, calls - len(study.trials))
                study.add(drawn, made.simulate(drawn, rng))
        began = time.process_time()
        found = study.posterior(count)
        more = {"posterior_seconds": round(time.process_time() - began, 2)}
        if asks:
            more["ask_seconds"] = round(float(np.median(study.journal.ask_seconds[-5:])), 2)
        yield calls, np.asarray(found.designs), more


def inverse(made: Task, value: Array, seed: int, count: int) -> Samples:
    """Yield samples after calls that ``inverse`` proposes."""
    return studied(made, value, seed, count, asks=True)


def prior(made: Task, value: Array, seed: int, count: int) -> Samples:
    """Yield samples after calls at draws of the prior."""
    return studied(made, value, seed, count, asks=False)


def abc(made: Task, value: Array, seed: int, count: int) -> Samples:
    """Yield samples of rejection."""
    rng = np.random.default_rng([seed, 3])
    drawn = made.prior(rng, CHECKPOINTS[-1])
    outputs = made.simulate(drawn, rng)
    for calls in CHECKPOINTS:
        own = outputs[:calls]
        distance = np.linalg.norm((own - value) / own.std(0), axis=1)
        accepted = distance <= np.quantile(distance, ACCEPTED)
        within = (np.abs(own - value) <= TOLERANCE).all(1)
        if not made.stochastic and within.sum() >= accepted.sum():
            accepted = within
        yield calls, _smoothed(drawn[:calls][accepted], made, count, rng), {}


def _smoothed(accepted: Array, made: Task, count: int, rng: np.random.Generator) -> Array:
    """Return draws of a kernel density estimate with Scott's bandwidth, inside of the prior."""
    n, d = accepted.shape
    width = accepted.std(0) * n ** (-1.0 / (d + 4))
    found = np.empty((0, d))
    while len(found) < count:
        drawn = accepted[rng.integers(n, size=count)] + width * rng.standard_normal((count, d))
        if made.upper is not None:
            drawn = drawn[(np.abs(drawn) <= made.upper).all(1)]
        found = np.concatenate([found, drawn])
    return found[:count]


METHODS: dict[str, Callable[[Task, Array, int, int], Samples]] = {
    "inverse": inverse, "prior": prior, "abc": abc,
}  # fmt: skip


def run(tasks: list[str], methods: list[str], observations: list[int], given: Any) -> None:
    """Run what is missing up to ``given.calls`` and append a row for each checkpoint."""
    done = {tuple(row[key] for key in KEYS) for row in rows() if "c2st" in row}
    for number in observations:
        for name, method in product(tasks, methods):
            how = name, method, number, given.classifier, given.samples
            wanted = [n for n in CHECKPOINTS if n <= given.calls and (*how, n) not in done]
            if not wanted:
                continue
            value, reference = observed(name, number)
            began = time.process_time()
            for calls, samples, more in METHODS[method](task(name), value, number, given.samples):
                spent = round(time.process_time() - began, 1)
                if calls in wanted:
                    score = round(c2st(samples, reference, given.classifier), 4)
                    own = dict(zip(KEYS, (*how, calls), strict=True))
                    append([{**own, "c2st": score, "cpu_seconds": spent, **more}])
                    print(*how, calls, score, spent, flush=True)
                if calls == max(wanted):
                    break


def calibrate(tasks: list[str], truths: int) -> None:
    """Append ranks of true designs among posterior samples, one row for each truth."""
    known = {(row["task"], row["calls"], row["truth"]) for row in rows() if "truth" in row}
    for name in tasks:
        made = task(name)
        for calls in LOGS:
            study = bi.Study.create("log", made.problem(np.zeros(len(made.outputs))), "sobol", 0)
            asked = study.ask(calls)
            rng = np.random.default_rng(0)
            outputs = made.simulate(np.array([trial.design for trial in asked]), rng)
            for trial, y in zip(asked, outputs, strict=True):
                study.tell(trial, y)
            memo = None
            for truth in range(truths):
                if (name, calls, truth) not in known:
                    row, memo = _ranks(made, study, truth, memo)
                    append([{"task": name, "calls": calls, "truth": truth, **row}])


def _ranks(made: Task, study: bi.Study, truth: int, memo: Any) -> tuple[dict[str, Any], Any]:
    """Return ranks of a design x*, whose observation is f(x*) plus noise within the tolerance.

    All observations share one log, and its hyperparameters.
    """
    rng = np.random.default_rng([truth, 9])
    design = made.prior(rng, 1)
    value = made.simulate(design, rng)[0]
    value = value + rng.uniform(-TOLERANCE, TOLERANCE, len(value))
    other = study.retarget(value, f"log {truth}")
    history = History(other.journal.trials)
    fit = fit_target_model(other.statement, history, TargetOptions(), memo)
    found, _ = sample_solutions(fit.model, history.points[:0], RANKED, truth)
    centre, own = rng.random(made.dim), (design / made.upper + 1.0) / 2.0
    gaps = np.linalg.norm(found.points - centre, axis=1)
    return {
        "region": round(float((gaps < np.linalg.norm(own - centre)).mean()), 3),
        "ranks": np.round((found.points < own).mean(0), 3).tolist(),
    }, fit.memo  # fmt: skip


def rows() -> list[dict[str, Any]]:
    """Return the recorded rows."""
    lines = ROWS.read_text(encoding="utf-8").splitlines() if ROWS.exists() else []
    return [json.loads(line) for line in lines]


def append(made: list[dict[str, Any]]) -> None:
    """Append rows to the record."""
    ROWS.parent.mkdir(exist_ok=True)
    with ROWS.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in made)


def tables() -> tuple[Table, Table]:
    """Return the accuracies of the classifier, and the coverage of regions."""
    every, first, second = rows(), [], []
    scored = [row for row in every if "c2st" in row]
    for name in TASKS:
        kinds = {tuple(row[key] for key in GROUP) for row in scored if row["task"] == name}
        for kind in sorted(kinds):
            own = [row for row in scored if tuple(row[key] for key in GROUP) == kind]
            cells = [
                _cell([row["c2st"] for row in own if row["calls"] == calls])
                for calls in CHECKPOINTS
            ]
            rejection, *best = PUBLISHED.get(name, (None,) * 3)
            known = (rejection, None) if kind[1] == "abc" else best
            first.append((*kind, *cells, *known))
        for calls in LOGS:
            found = [row for row in every if "truth" in row and row["task"] == name]
            found = [row for row in found if row["calls"] == calls]
            if found:
                regions = np.array([row["region"] for row in found])
                ranks = np.array([row["ranks"] for row in found])
                second.append((
                    name, calls, len(found),
                    *(_covered(regions < level, level) for level in LEVELS),
                    *(_central(ranks, level) for level in LEVELS),
                ))  # fmt: skip
    note = (
        "Mean (largest) C2ST, number of observations. Published, with a perceptron and 10,000 "
        "samples: mean of ten observations, best algorithm after that many simulations (Lueckmann "
        "et al. 2021); for abc, rejection."
    )
    header = (*GROUP, *(f"{calls} calls" for calls in CHECKPOINTS))
    head = ("task", "calls", "truths", "50 % region", "90 % region", "50 % interval")
    legend = (
        "Share of true designs in the region, and in central intervals of the parameters. In "
        "brackets: the 99 % interval of the share of as many independent truths, if calibrated."
    )
    return (
        Table((*header, "published, 1,000", "published, 10,000"), tuple(first), notes=(note,)),
        Table((*head, "90 % interval"), tuple(second), notes=(legend,)),
    )


def _cell(scores: list[float]) -> str | None:
    return f"{np.mean(scores):.3f} ({max(scores):.3f}), {len(scores)}" if scores else None


def _covered(inside: Array, level: float) -> str:
    low, high = binom.interval(0.99, len(inside), level)
    return f"{inside.mean():.2f} ({low / len(inside):.2f} to {high / len(inside):.2f})"


def _central(ranks: Array, level: float) -> str:
    """Return the share of ranks ``(n, d)`` within a central interval, over all parameters."""
    return f"{(np.abs(ranks - 0.5) <= level / 2).mean():.2f}"


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=("run", "calibrate", "table"))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--observations", type=int, default=10)
    parser.add_argument("--classifier", default="perceptron", choices=("perceptron", "trees"))
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--calls", type=int, default=CHECKPOINTS[-1])
    parser.add_argument("--truths", type=int, default=400)
    given = parser.parse_args()
    tasks = given.tasks.split(",")
    if given.command == "run":
        numbers = list(range(given.first, given.first + given.observations))
        run(tasks, given.methods.split(","), numbers, given)
        return
    if given.command == "calibrate":
        calibrate([name for name in tasks if not task(name).stochastic], given.truths)
        return
    found = "\n\n".join(one.markdown().strip() for one in tables())
    replace_marked(ROOT / "docs" / "inverse.md", "quality of the posterior", found)
    print(found)


if __name__ == "__main__":
    main()
