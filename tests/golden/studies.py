"""The problems of the golden ledgers, their replayed state, and how they continue.

Do not edit the problems: the studies hold digests of their oracles. The module uses public objects
and log attributes alone, so that old and new versions of the package can run it.

``python tests/golden/studies.py`` continues every study and compares the proposals bit for bit with
the stored ones. Run it on the machine that wrote them: floats differ between processors.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import bo_invert as bi
from bo_invert.strategies.base import Request

HERE = Path(__file__).parent
FURTHER_CALLS = 6
"""Calls that a continuation adds to a study."""


def process_outputs(d):
    return {"cost": (d["n"] - 3) ** 2 + d["r"] + (d["kind"] == "b"), "purity": 1.0 - 0.1 * d["r"]}


def process() -> bi.Problem:
    """Whole numbers, a logarithmic float, a choice, and an outcome constraint."""
    space = bi.Box(
        {"n": bi.Int(1, 9), "r": bi.Float(0.01, 10.0, log=True), "kind": bi.Choice("a", "b", "c")}
    )
    return bi.Problem(
        space, process_outputs, bi.Minimize("cost"), constraints=["purity >= 0.5"], name="process"
    )


def bowl_value(x):
    return float(((x - 0.3) ** 2).sum())


def bowl() -> bi.Problem:
    return bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), bowl_value, bi.Minimize(), name="bowl")


def circle_outputs(x):
    return [np.cos(x[0]) + x[1], np.sin(x[0]) * x[2]]


def circle() -> bi.Problem:
    space = bi.Box([-1.0, -1.0, -1.0], [1.0, 1.0, 1.0])
    return bi.Problem(space, circle_outputs, bi.Target([0.8, 0.3], 1e-9, [1.0, 2.0]), name="circle")


def latent() -> bi.Problem:
    """A differentiable regressor behind a linear decoder."""
    import torch

    decoder = torch.nn.Linear(3, 4, dtype=torch.float64)
    regressor = torch.nn.Sequential(torch.nn.Linear(4, 2, dtype=torch.float64), torch.nn.Tanh())
    with torch.no_grad():
        for layer in (decoder, regressor[0]):
            rows = np.arange(1.0, layer.weight.numel() + 1.0).reshape(layer.weight.shape)
            layer.weight.copy_(torch.as_tensor(np.sin(rows)))
            layer.bias.copy_(torch.as_tensor(np.cos(rows[:, 0])) / 4.0)
    return bi.Problem(bi.Latent(decoder, dim=3), regressor, bi.Target([0.2, -0.1]), name="latent")


STUDIES: dict[str, dict[str, Callable[[], bi.Problem]]] = {
    "studies.db": {
        "every event": process,
        "sobol": bowl,
        "auto": bowl,
        "gp": process,
        "turbo": bowl,
        "least squares": circle,
        "descents": latent,
        "polish": latent,
        "gradients": latent,
    },
    "served.db": {"served": process, "served auto": bowl},
    "export.jsonl": {"every event": process},
}
"""Studies by file, with the problems they are about."""

PORTABLE = {"every event", "sobol", "served"}
"""Studies whose proposals are the same on every processor: their strategies have no model."""


def open_copy(file: str, folder: Path) -> str:
    """Copy a golden file into a folder, and return the storage that its studies are in."""
    if not file.endswith(".jsonl"):
        shutil.copy(HERE / file, folder / file)
        return str(folder / file)
    storage = folder / f"{file}.db"
    command = [
        sys.executable,
        "-m",
        "bo_invert.cli",
        "import",
        str(HERE / file),
        "--storage",
        str(storage),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return str(storage)


def state(study: bi.Study) -> Any:
    """Return all that a log amounts to, as JSON."""
    log = study.journal.read()
    best = study.best
    return plain(
        {
            "seed": study.seed,
            "problem": study.problem_name,
            "outputs": list(study.outputs),
            "strategy": study.strategy.spec(),
            "asks": log.asks,
            "memo": log.memo,
            "budget": log.budget,
            "committed": log.committed,
            "calls": log.calls,
            "keys": {key: list(numbers) for key, numbers in log.keys.items()},
            "events": log.seq,
            "ledger": study.spent.to_json(),
            "best": None if best is None else best.number,
            "trials": [trial_state(trial) for trial in study.trials],
        }
    )


def trial_state(trial: bi.Trial) -> Any:
    return {
        "number": trial.number,
        "state": str(trial.state),
        "ask": trial.ask,
        "query": trial.query.to_json(),
        "outcome": None if trial.outcome is None else trial.outcome.to_json(),
        "point": trial.point.tolist(),
        "loss": trial.loss,
        "feasible": trial.feasible,
        "reason": trial.reason,
        "calls": trial.cost.calls,
        "attempts": [
            {
                "worker": attempt.worker,
                "started": attempt.started,
                "ended": attempt.ended,
                "cost": attempt.cost.to_json(),
                "fate": str(attempt.fate),
                "lease": attempt.lease,
                "outcome": None if attempt.outcome is None else attempt.outcome.to_json(),
            }
            for attempt in trial.attempts
        ],
    }


def continuation(study: bi.Study) -> Any:
    """Continue a study; return its next proposal and the trials of some further calls."""
    log = study.journal.read()
    request = Request(log.asks, 3, study.seed, log.budget, log.memo)
    proposal = study.strategy.ask(study.statement, study.trials, request)
    known, calls = len(study.trials), log.calls
    study.run(calls + FURTHER_CALLS, batch=2, stop_when_hit=False)
    return plain(
        {
            "proposed": [described(query) for query in proposal.queries],
            "trials": [
                {
                    **described(trial.query),
                    "state": str(trial.state),
                    "loss": trial.loss,
                    "end": trial.point.tolist(),
                }
                for trial in study.trials[known:]
            ],
            "calls": study.journal.read().calls,
            "best": None if study.best is None else study.best.number,
        }
    )


def described(query: bi.Query) -> Any:
    """Return a query as JSON, without prose."""
    data = query.to_json()
    return {**data, "meta": {key: value for key, value in data["meta"].items() if key != "why"}}


def plain(value: Any) -> Any:
    """Return what a file of JSON gives back."""
    return json.loads(json.dumps(value))


def replayed(file: str, name: str, folder: Path) -> tuple[Any, Any]:
    """Return state and continuation of a golden study, computed in a copy."""
    storage = open_copy(file, folder)
    study = bi.Study.open(name, storage, problem=STUDIES[file][name]())
    return state(study), continuation(study)


def everything() -> dict[str, Any]:
    """Return state and continuation of every golden study."""
    found: dict[str, Any] = {}
    for file, studies in STUDIES.items():
        for name in studies:
            with tempfile.TemporaryDirectory() as folder:
                now, later = replayed(file, name, Path(folder))
            found.setdefault(file, {})[name] = {"state": now, "continuation": later}
    return found


def main() -> int:
    """Compare every study with the stored state and continuation, bit for bit."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    expected = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
    bad = 0
    for file, studies in everything().items():
        for name, now in studies.items():
            same = [now[part] == expected[file][name][part] for part in ("state", "continuation")]
            bad += not all(same)
            print(f"{file}, {name}: state {'same' if same[0] else 'DIFFERENT'}, "
                  f"continuation {'same' if same[1] else 'DIFFERENT'}")  # fmt: skip
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
