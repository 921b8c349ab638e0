"""Golden proposals: record the queries of every strategy and compare two versions of the code.

Each strategy works on each contract problem that it accepts. The script records proposals at three
moments of a run: at the start, after the initial design, and late. It records a second proposal
while the first one is pending, and all trials of the run. Floats keep all digits. Prose in
``query.meta`` is left out. The comparison is exact.

::

    OMP_NUM_THREADS=1 PYTHONPATH=/path/to/old python experiments/golden.py record old.json --jobs 2
    OMP_NUM_THREADS=1 PYTHONPATH=$PWD python experiments/golden.py record new.json --jobs 2
    python experiments/golden.py compare old.json new.json

``record --suite`` records the methods with stored benchmark rows on the problems of the suite. It
justifies that rows of earlier code are carried over, see ``carry_over.py``.

Compare files of one machine only: floats differ between processors. The script uses public objects
alone, so that one copy of it runs with several versions of the package.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import multiprocessing
import os
import platform
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402  (after the number of threads)

PROSE = {"why"}
"""Keys of ``query.meta`` that hold text for people."""

SLOW = {"ax", "botorch"}
"""Strategies that ``--quick`` leaves out: one proposal takes seconds."""

PACKAGES = (
    "numpy",
    "scipy",
    "torch",
    "gpytorch",
    "botorch",
    "ax-platform",
    "cma",
    "optuna",
    "nevergrad",
)
"""Versions that a comparison depends on."""


@dataclass(frozen=True)
class Case:
    """A strategy with options, on a problem, with the calls after which it is asked."""

    label: str
    strategy: dict[str, Any]
    problem: str
    moments: tuple[int, ...] = (0, 8, 20)
    batch: int = 2

    @property
    def key(self) -> str:
        return f"{self.label}-{self.problem}"


# Problems.


def bowl() -> Any:
    """Build a smooth scalar problem on a box."""
    import bo_invert as bi

    return bi.Problem(
        bi.Box([0.0, 0.0], [1.0, 1.0]),
        lambda x: float(((x - 0.3) ** 2).sum()),
        bi.Minimize(),
        name="bowl",
    )


def circle() -> Any:
    """Build a target of two outputs on a box."""
    import bo_invert as bi

    def outputs(x: Any) -> list[float]:
        return [np.cos(x[0]) + x[1], np.sin(x[0]) * x[2]]

    space = bi.Box([-1.0, -1.0, -1.0], [1.0, 1.0, 1.0])
    return bi.Problem(space, outputs, bi.Target([0.8, 0.3]), name="circle")


def _decoder(dim: int, wide: int) -> Any:
    import torch

    generator = torch.Generator().manual_seed(0)
    decoder = torch.nn.Linear(dim, wide, dtype=torch.float64)
    with torch.no_grad():
        decoder.weight.copy_(torch.randn(wide, dim, generator=generator, dtype=torch.float64))
        decoder.bias.zero_()
    return decoder


def latent() -> Any:
    """Build a differentiable target on a latent space."""
    import torch

    import bo_invert as bi

    class Regressor(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x: Any) -> Any:
            return (torch.sin(2 * x[:, :1]) + x[:, 1:2] ** 2) * self.scale

    return bi.Problem(bi.Latent(_decoder(3, 4), dim=3), Regressor(), bi.Target(1.2), name="latent")


def mixed() -> Any:
    """Build a problem with an integer, a logarithmic float, a choice, and an outcome constraint."""
    import bo_invert as bi

    def outputs(d: Any) -> dict[str, float]:
        return {
            "cost": (d["n"] - 3) ** 2 + d["r"] + (d["kind"] == "b"),
            "purity": 1.0 - 0.1 * d["r"],
        }

    space = bi.Box(
        {"n": bi.Int(1, 9), "r": bi.Float(0.01, 10.0, log=True), "kind": bi.Choice("a", "b", "c")}
    )
    return bi.Problem(
        space, outputs, bi.Minimize("cost"), constraints=["purity >= 0.5"], name="mixed"
    )


def troubled() -> Any:
    """Build the bowl with an oracle that fails, or is infeasible, at one point in five."""
    import bo_invert as bi
    from bo_invert import errors

    # The end of the exception's name differs between versions.
    infeasible = next(value for name, value in vars(errors).items() if name.startswith("Infeas"))

    def value(x: Any) -> float:
        kind = zlib.crc32(np.asarray(x).tobytes()) % 20
        if kind == 0:
            raise RuntimeError("the simulator crashed")
        if kind == 1:
            raise infeasible("no mesh")
        return np.nan if kind in (2, 3) else float(((x - 0.3) ** 2).sum())

    return bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), value, bi.Minimize(), name="troubled")


def noisy() -> Any:
    """Build a bowl whose values carry noise that depends on the call."""
    import bo_invert as bi

    rng = np.random.default_rng(1)

    def value(x: Any) -> float:
        return float(((x - 0.3) ** 2).sum() + 0.1 * rng.standard_normal())

    return bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), value, bi.Minimize(), name="noisy")


def steep() -> Any:
    """Build a problem whose values span many decades, in eight coordinates."""
    import bo_invert as bi

    def value(x: Any) -> float:
        return float((100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum())

    return bi.Problem(bi.Box([-2.0] * 8, [2.0] * 8), value, bi.Minimize(), name="steep")


def wide() -> Any:
    """Build a latent space of 48 coordinates, without gradients."""
    import bo_invert as bi

    weight = np.random.default_rng(2).standard_normal(48) / 7.0

    def value(x: Any) -> float:
        return float(np.tanh(np.asarray(x) @ weight) - 0.1 * np.mean(np.square(x)))

    return bi.Problem(bi.Latent(lambda z: z, dim=48), value, bi.Maximize(), name="wide")


def manufactured() -> Any:
    """Build the target of ``circle`` with manufacturing errors of the inputs."""
    import bo_invert as bi

    plain = circle()
    goal = bi.Target([0.8, 0.3], tolerance=0.1)
    return bi.Problem(plain.space, plain.oracle, goal, name="manufactured", input_noise=0.05)


def changed() -> Any:
    """Build the least change of a design of ``mixed`` that reaches a range of the cost."""
    import bo_invert as bi

    plain = mixed()
    goal = bi.Nearest({"n": 8, "r": 5.0, "kind": "b"}, bi.Target({"cost": (None, 4.0)}))
    return bi.Problem(plain.space, plain.oracle, goal, name="changed")


CONTRACT: dict[str, Callable[[], Any]] = {
    "bowl": bowl,
    "circle": circle,
    "latent": latent,
    "mixed": mixed,
}
FURTHER: dict[str, Callable[[], Any]] = {
    "troubled": troubled,
    "noisy": noisy,
    "steep": steep,
    "wide": wide,
}
OWN: dict[str, dict[str, Callable[[], Any]]] = {
    "robust": {"manufactured": manufactured},
    "nearest": {"changed": changed},
}
"""Problems of strategies that need a property of the problem, by strategy."""
PROBLEMS = CONTRACT | FURTHER | {name: make for own in OWN.values() for name, make in own.items()}
SUITE_PROBLEMS = ("hartmann6", "ackley10", "levy16", "rosenbrock8", "branin25", "mixed_ackley")
SUITE_PROBLEMS += ("arm", "sine", "shell", "digits")

ON_FURTHER = (
    "auto",
    "gp",
    "turbo",
    "spherical",
    "pcn",
    "cmaes",
    "least_squares",
    "polish",
    "gradient",
)
"""Strategies that are also recorded on the further problems."""

MOMENTS = {"steep": (0, 20, 36), "wide": (0, 24, 44)}
"""Calls at the three moments, where the initial design is longer."""

VARIANTS: tuple[Case, ...] = (
    Case("auto(noisy)", {"name": "auto", "options": {"noisy": True}}, "noisy"),
    Case("gp(noisy)", {"name": "gp", "options": {"noisy": True}}, "noisy"),
    Case("turbo(noisy)", {"name": "turbo", "options": {"noisy": True}}, "noisy"),
)


SUITE_METHODS: tuple[dict[str, Any], ...] = (
    *({"name": name} for name in ("auto", "least_squares", "cmaes", "prior", "random", "ax")),
    *({"name": name} for name in ("botorch", "nevergrad", "dual_annealing", "scipy_least_squares")),
    {"name": "differential_evolution"},
    {"name": "optuna", "options": {"sampler": "gp"}},
    {"name": "optuna", "options": {"sampler": "tpe"}},
)
"""Methods with rows in ``docs/benchmarks/results``."""

SUITE_MOMENTS = {"ax": (0, 8, 12), "botorch": (0, 8, 12), "optuna": (0, 20, 32)}
"""Calls at the three moments for the methods that take seconds for a proposal."""


def suite_problem(name: str) -> Any:
    """Build a problem of the benchmark suite for seed 1."""
    try:
        suite = import_module("bo_invert.benchmark.suite")
    except ModuleNotFoundError:  # the name in earlier versions
        suite = import_module("bo_invert.bench.suite")
    return suite.PROBLEMS[name](1)


def suite_key(spec: dict[str, Any], problem: str) -> str:
    """Return the key of a method, as stored with a row, on a problem of the suite."""
    options = spec.get("options")
    return f"suite:{spec['name']}{json.dumps(options, sort_keys=True) if options else ''}-{problem}"


def suite_cases(patterns: list[str]) -> Iterator[Case]:
    """List every method with stored rows on every problem of the suite."""
    for problem in SUITE_PROBLEMS:
        for spec in SUITE_METHODS:
            label = suite_key(spec, problem).removesuffix(f"-{problem}")
            moments = SUITE_MOMENTS.get(spec["name"], (0, 20, 60))
            case = Case(label, spec, problem, moments, batch=4)
            if _chosen(case, patterns):
                yield case


def suitable(spec: Any, problem: Any) -> bool:
    """Report that a strategy accepts a problem."""
    from bo_invert.strategies.base import from_spec

    try:
        from_spec(spec).check(problem.statement)
    except Exception as error:
        # The names of the exceptions differ between versions.
        if type(error).__name__.startswith(("Unsuitable", "MissingExtra")):
            return False
        raise
    return True


def cases(quick: bool, patterns: list[str]) -> Iterator[Case]:
    """List the cases to record."""
    from bo_invert import registry

    # Earlier versions lack properties of some problems, and the strategies that need them.
    made = cache(lambda name: PROBLEMS[name]())
    for name in registry.names("strategies"):
        if quick and name in SLOW:
            continue
        further = () if quick and name not in ("auto", "gp", "turbo") else FURTHER
        for problem in [*CONTRACT, *(further if name in ON_FURTHER else ()), *OWN.get(name, ())]:
            case = Case(
                name,
                {"name": name},
                problem,
                (0, 8, 12) if name in SLOW else MOMENTS.get(problem, (0, 8, 20)),
            )
            if _chosen(case, patterns) and suitable(case.strategy, made(problem)):
                yield case
    for case in VARIANTS:
        if not quick and _chosen(case, patterns) and suitable(case.strategy, made(case.problem)):
            yield case


def _chosen(case: Case, patterns: list[str]) -> bool:
    return not patterns or any(
        fnmatch.fnmatchcase(text, pattern)
        for text in (case.label, case.key)
        for pattern in patterns
    )


# Recording.


def record(case: Case) -> dict[str, Any]:
    """Run one case and return what it proposes.

    Returns:
        Proposals and memos of each moment, and all trials of the run.
    """
    import torch

    import bo_invert as bi
    from bo_invert import registry
    from bo_invert.strategies.base import Request
    from bo_invert.types import State, Trial

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    began = time.perf_counter()
    problem = PROBLEMS[case.problem]() if case.problem in PROBLEMS else suite_problem(case.problem)
    if not suitable(case.strategy, problem):
        return {"record": {"refused": True}, "seconds": 0.0}
    store = registry.resolve("stores", "memory")()
    study = bi.Study.create("golden", problem, strategy=case.strategy, seed=3, storage=store)
    budget = 2 * max(case.moments)
    moments = []
    for calls in case.moments:
        if calls:
            study.run(calls, batch=case.batch, stop_when_hit=False)
        asked = [event for event in store.events("golden") if event["kind"] == "asked"]
        number, memo = (asked[-1]["ask"] + 1, asked[-1]["memo"]) if asked else (0, None)
        trials = study.trials
        first = study.strategy.ask(
            problem.statement, trials, Request(number, 3, study.seed, budget, memo)
        )
        pending = tuple(
            Trial(len(trials) + i, query, State.RUNNING, ask=number)
            for i, query in enumerate(first.queries)
        )
        request = Request(number + 1, 2, study.seed, budget, first.memo)
        second = study.strategy.ask(problem.statement, (*trials, *pending), request)
        moments.append(
            {
                "calls": calls,
                "observed": len(trials),
                "proposed": [plain(query) for query in first.queries],
                "memo": first.memo,
                "proposed while pending": [plain(query) for query in second.queries],
                "memo while pending": second.memo,
            }
        )
    run = [
        {
            **plain(t.query),
            "state": str(t.state),
            "loss": t.loss,
            "end": t.point.tolist(),
            "ask": t.ask,
        }
        for t in study.trials
    ]
    seconds = time.perf_counter() - began
    return {
        "record": json.loads(json.dumps({"moments": moments, "run": run})),
        "seconds": round(seconds, 1),
    }


def plain(query: Any) -> dict[str, Any]:
    """Return a query as JSON without prose."""
    data = dict(query.to_json())
    data["meta"] = {key: value for key, value in data["meta"].items() if key not in PROSE}
    return data


def _record_all(arguments: argparse.Namespace) -> int:
    import bo_invert

    began = time.perf_counter()
    patterns = arguments.strategies or []
    listed = suite_cases(patterns) if arguments.suite else cases(arguments.quick, patterns)
    chosen = list(listed)
    records, seconds, errors = {}, {}, []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        # Slow cases first, so that no worker ends with one alone.
        order = sorted(chosen, key=lambda case: case.strategy["name"] not in SLOW)
        futures = {pool.submit(record, case): case for case in order}
        for future in as_completed(futures):
            case = futures[future]
            try:
                result = future.result()
            except Exception as error:
                errors.append(case.key)
                print(f"{case.key}: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            records[case.key], seconds[case.key] = result["record"], result["seconds"]
            print(f"{case.key}: {result['seconds']} s", flush=True)
    about = {
        "package": bo_invert.__file__,
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: _version(name) for name in PACKAGES},
        "seconds": dict(sorted(seconds.items())),
        "wall": round(time.perf_counter() - began, 1),
    }
    lines = [
        f"{json.dumps(key)}: {json.dumps(records[key], sort_keys=True)}" for key in sorted(records)
    ]
    Path(arguments.out).write_text(
        '{"about": ' + json.dumps(about) + ',\n"records": {\n' + ",\n".join(lines) + "\n}}\n",
        encoding="utf-8",
    )
    print(f"{len(records)} cases in {about['wall']} s -> {arguments.out}")
    return 1 if errors else 0


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# Comparing.


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """List the places where two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if key in one and key in other:
                yield from differences(one[key], other[key], f"{path}.{key}" if path else key)
            else:
                yield f"{path}.{key}: only in the {'first' if key in one else 'second'} file"
    elif isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            yield f"{path}: {len(one)} entries against {len(other)}"
        for i, (a, b) in enumerate(zip(one, other, strict=False)):
            yield from differences(a, b, f"{path}[{i}]")
    elif json.dumps(one) != json.dumps(other):
        yield f"{path}: {one!r} against {other!r}"


def _compare(arguments: argparse.Namespace) -> int:
    one, other = (
        json.loads(Path(path).read_text(encoding="utf-8"))
        for path in (arguments.one, arguments.other)
    )
    for name in ("machine", "python", "versions"):
        for line in differences(one["about"][name], other["about"][name], name):
            print(f"note: {line}")
    keys = sorted(one["records"].keys() & other["records"].keys())
    missing = sorted(one["records"].keys() ^ other["records"].keys())
    for key in missing:
        print(f"{'note: ' if arguments.common else ''}{key}: in one file only")
    differing = 0
    for key in keys:
        found = list(differences(one["records"][key], other["records"][key]))
        if found:
            differing += 1
            print(f"{key}: {len(found)} differences")
            for line in found[: arguments.lines]:
                print(f"    {line}")
    print(f"{len(keys)} cases compared, {differing} differ, {len(missing)} in one file only")
    return 1 if differing or not keys or (missing and not arguments.common) else 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    recording = commands.add_parser(
        "record", help="record proposals of the importable version of bo_invert"
    )
    recording.add_argument("out", help="JSON file to write")
    recording.add_argument(
        "--strategies", nargs="+", help="names or patterns, of strategies or cases (gp, 'gp-*')"
    )
    recording.add_argument("--jobs", type=int, default=1, help="worker processes")
    recording.add_argument(
        "--quick", action="store_true", help="shorter runs, without ax and botorch"
    )
    recording.add_argument(
        "--suite",
        action="store_true",
        help="methods with stored rows, on the benchmark suite instead",
    )
    recording.set_defaults(run=_record_all)
    comparing = commands.add_parser(
        "compare", help="compare two recordings; exit status 1 where they differ"
    )
    comparing.add_argument("one")
    comparing.add_argument("other")
    comparing.add_argument("--lines", type=int, default=6, help="differences shown per case")
    comparing.add_argument(
        "--common", action="store_true", help="accept cases that only one file has"
    )
    comparing.set_defaults(run=_compare)
    arguments = parser.parse_args()
    return int(arguments.run(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
