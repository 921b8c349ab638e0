"""Comparison of strategies on the same problems, seeds and budget, with one accounting."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from bo_invert.benchmark.hypervolumes import with_hypervolumes
from bo_invert.benchmark.process_pool import perform
from bo_invert.benchmark.single_run import ProblemSource, run_one, summarize
from bo_invert.errors import InvalidInputError, bar_options, printable, require
from bo_invert.problems.examples.base import ready_problem
from bo_invert.problems.problem import Problem
from bo_invert.report.benchmark_tables import BenchmarkRuns, calls_table
from bo_invert.report.comparison_tables import comparison_tables
from bo_invert.report.figures import curves_figure
from bo_invert.report.gallery import gallery_png
from bo_invert.report.html import comparison_html, write_report
from bo_invert.report.objective_view import Goal
from bo_invert.report.runs import Run, Status
from bo_invert.report.summary import summary_text
from bo_invert.storage.base import Store
from bo_invert.storage.open import open_store
from bo_invert.strategies.base import Strategy, from_spec
from bo_invert.types import JSON
from bo_invert.user_code import own_settings
from bo_invert.user_data import scalar, whole_number, whole_numbers

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

__all__ = ["Comparison", "compare", "run_one", "summarize"]

FORMAT = {"format": "bo_invert.comparison", "version": 2}


@own_settings()
def compare(
    problems: str | Problem | Sequence[str | Problem] | Mapping[str, ProblemSource],
    strategies: Sequence[str | JSON | Strategy] | Mapping[str, Any],
    budget: int = 100,
    seeds: Iterable[int] | int = range(5),
    *,
    batch: int = 1,
    jobs: int = 1,
    keep: int = 1,
    progress: bool = False,
    storage: str | Store | None = None,
    token: str | None = None,
    stop_when_hit: bool = False,
    raise_errors: bool = False,
) -> Comparison:
    """Run every strategy on every problem with every seed.

    Args:
        problems: one or several problems or names of ready problems; or a mapping from names to
            problems or to functions ``seed -> Problem``.
        strategies: names, specs or ``Strategy`` objects; or a mapping from labels to these. A pair
            ``(problem, strategy)`` gives a method its own version of the problem: another space,
            the same oracle. Its first part is a problem, a function ``seed -> Problem``, or a
            mapping from names of problems to these.
        budget: calls of each run, oracle values plus gradients.
        seeds: seeds; runs with equal problem and seed are paired. A number n stands for
            0, ..., n - 1.
        batch: concurrent trials within a run.
        jobs: concurrent runs: in processes if the storage has a URL, otherwise in threads.
        keep: number of best, distinct designs that each run reports. The judge evaluates them; its
            calls are not billed.
        progress: show a progress bar.
        storage: storage that records every run as a study. The same call resumes, and finished runs
            are not repeated.
        token: access token of a server.
        stop_when_hit: end a run when a target is met within its tolerance.
        raise_errors: raise the first error of a run. Otherwise record it and continue.

    Runs of a ``Pareto`` objective are compared by their hypervolume, with one reference point for
    all runs of a problem.

    Returns:
        All runs, including refused and failed ones with the reason.

    Raises:
        InvalidInputError: an argument is invalid; no run has started.
        StorageError: the storage cannot be opened.
        AccessDeniedError: the server rejects the token.
    """
    sources = _problem_sources(problems)
    methods = _methods(strategies, sources)
    numbers = _seeds(seeds)
    budget, batch = (
        whole_number("compare", "budget", budget),
        whole_number("compare", "batch", batch),
    )
    jobs, keep = whole_number("compare", "jobs", jobs), whole_number("compare", "keep", keep)
    if isinstance(storage, str):
        opened = open_store(storage, token)
        opened.names()  # an unusable storage fails here, before the first run
        storage = storage if token is None else opened
    common = {"batch": batch, "keep": keep, "storage": storage, "stop_when_hit": stop_when_hit,
              "raise_errors": raise_errors}  # fmt: skip
    tasks = [
        {"label": label, "problem": own.get(name, source), "strategy": strategy, "budget": budget,
         "seed": seed, "name": name, **common}
        for name, source in sources.items()
        for seed in numbers
        for label, (own, strategy) in methods.items()
    ]  # fmt: skip
    return Comparison(tuple(with_hypervolumes(_run_all(tasks, jobs, progress))))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs of several strategies, with tables, figures and files."""

    runs: tuple[Run, ...]

    def table(self, width: int | None = None) -> str:
        """Return medians, quartiles, ranks and paired tests as text.

        Args:
            width: number of characters of a line; None: no limit.
        """
        return "\n\n".join(table.text(width) for table in comparison_tables(self.runs))

    def markdown(self) -> str:
        """Return the tables as Markdown, with the calls that each method needed."""
        tables = comparison_tables(self.runs)
        if len({run.label for run in self.runs}) > 1:
            budget = max(run.budget for run in self.runs)
            tables.append(calls_table(BenchmarkRuns(self.runs, (budget,))))
        return "\n\n".join(table.markdown() for table in tables) + "\n"

    def summary(self) -> str:
        """State the best method, the judge's verdict and the cost in a few sentences."""
        return printable(summary_text(self.runs))

    def records(self) -> list[dict[str, Any]]:
        """Return one flat dict per run."""
        return [run.record() for run in self.runs]

    def to_dataframe(self) -> pd.DataFrame:
        """Return a data frame with one row per run."""
        import pandas as pd

        return pd.DataFrame(self.records())

    def plot(self) -> Figure:
        """Plot the best loss over calls: median and quartiles over seeds, one panel per problem."""
        return curves_figure(self.runs)

    def save(self, directory: str | Path, title: str = "Comparison", lead: str = "") -> Path:
        """Write ``comparison.json``, ``table.md`` and ``report.html`` (opens offline).

        Args:
            directory: target directory, created if missing.
            title: title of the report.
            lead: introduction of the report, one paragraph per line.

        Returns:
            The directory.
        """
        folder = self.save_data(directory)
        (folder / "table.md").write_text(self.markdown(), encoding="utf-8")
        write_report(
            folder / "report.html",
            self.runs,
            title=title,
            paragraphs=[*lead.splitlines(), self.summary()],
            gallery_png=gallery_png(self.runs),
        )
        return folder

    def save_data(self, directory: str | Path) -> Path:
        """Write ``comparison.json`` only, for ``load``; return the directory."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**FORMAT, "runs": [run.to_json() for run in self.runs]}, allow_nan=False)
        (folder / "comparison.json").write_text(text, encoding="utf-8")
        return folder

    @staticmethod
    def load(directory: str | Path) -> Comparison:
        """Load a comparison that ``save`` wrote.

        Raises:
            InvalidInputError: the file is missing, invalid, or written by a newer version.
        """
        path = Path(directory) / "comparison.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != FORMAT["format"]:
                raise KeyError("format")
            if data["version"] > FORMAT["version"]:
                raise InvalidInputError(
                    f"{path}: a newer version of bo_invert wrote this file. Update bo_invert."
                )
            return Comparison(tuple(Run.from_json(run) for run in data["runs"]))
        except InvalidInputError:
            raise
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise InvalidInputError(
                f"{path}: not a comparison: {type(error).__name__}: {error}"
            ) from None

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return comparison_html(self.runs)


# ---------------------------------------------------------------------- arguments


def _seeds(seeds: Iterable[int] | int) -> list[int]:
    """Return different seeds; a number n stands for 0, ..., n - 1."""
    one = scalar(seeds) if not isinstance(seeds, Sequence) else None
    given = range(one) if isinstance(one, int) else seeds
    found = list(dict.fromkeys(whole_numbers("compare", "seeds", given, least=0)))
    require(found, f"compare: seeds must be whole numbers >= 0, at least one, got {seeds!r}")
    return found


def _problem_sources(
    problems: str | Problem | Iterable[object] | Mapping[str, object],
) -> dict[str, ProblemSource]:
    if isinstance(problems, Mapping):
        sources = {
            str(name): _source(value, f"problem {name!r}") for name, value in problems.items()
        }
    else:
        several = [problems] if isinstance(problems, (str, Problem)) else list(problems)
        made = [_source(value, "a problem") for value in several]
        if not all(isinstance(problem, Problem) for problem in made):
            raise InvalidInputError(
                "compare: a function of seeds must have a name. Write {'name': function}."
            )
        sources = {problem.name: problem for problem in made if isinstance(problem, Problem)}
        if len(sources) < len(made):
            raise InvalidInputError(
                "compare: names of problems must differ, got "
                f"{[p.name for p in made if isinstance(p, Problem)]}. "
                "Write {'name': problem, ...}."
            )
    if not sources:
        raise InvalidInputError("compare: at least one problem is required")
    return sources


def _source(value: object, who: str) -> ProblemSource:
    if isinstance(value, str):
        return ready_problem(value)
    if isinstance(value, Problem) or callable(value):
        return value
    raise InvalidInputError(
        f"compare: {who} must be a Problem, a name, or a function seed -> Problem, "
        f"got {type(value).__name__}"
    )


def _methods(
    strategies: Any, sources: Mapping[str, ProblemSource]
) -> dict[str, tuple[dict[str, ProblemSource], Strategy]]:
    """Return a mapping from labels to (own problems by name, strategy)."""
    if isinstance(strategies, (str, Strategy)):
        strategies = [strategies]
    if not isinstance(strategies, Mapping):
        made = [from_spec(strategy) for strategy in strategies]
        if len({strategy.name for strategy in made}) < len(made):
            raise InvalidInputError(
                f"compare: strategies must differ, got {[s.name for s in made]}. "
                "Use labels: {'label': strategy, ...}."
            )
        strategies = {strategy.name: strategy for strategy in made}
    if not strategies:
        raise InvalidInputError("compare: at least one strategy is required")
    methods = {}
    for label, value in strategies.items():
        pair = value if isinstance(value, (tuple, list)) else ({}, value)
        if len(pair) != 2:
            raise InvalidInputError(
                f"compare: method {label!r} must be a strategy or (problem, strategy)"
            )
        posed, strategy = pair
        own = posed if isinstance(posed, Mapping) else dict.fromkeys(sources, posed)
        if not set(own) <= set(sources):
            raise InvalidInputError(
                f"compare: the problems of method {label!r} must be among {list(sources)}, "
                f"got {sorted(set(own) - set(sources))}"
            )
        who = f"the problem of method {label!r}"
        checked = {name: _source(source, who) for name, source in own.items()}
        methods[str(label)] = (checked, from_spec(strategy))
    return methods


# ---------------------------------------------------------------------- running


def _job(task: dict[str, Any]) -> Run:
    return run_one(**task)


def _run_all(tasks: list[dict[str, Any]], jobs: int, progress: bool) -> list[Run]:
    storage, raise_errors = tasks[0]["storage"], tasks[0]["raise_errors"]
    # An open storage cannot be sent to another process.
    several = "processes" if storage is None or isinstance(storage, str) else "threads"
    pending = perform(_job, tasks, jobs, executor="serial" if jobs == 1 else several)
    runs: dict[int, Run] = {}
    with (
        closing(pending) as results,
        tqdm(
            total=len(tasks), desc="comparing", unit="run",
            dynamic_ncols=True, **bar_options(progress),
        ) as bar,
    ):  # fmt: skip
        for index, result in results:
            if isinstance(result, Exception):
                if raise_errors:
                    raise result
                result = _crashed_run(tasks[index], result)
            runs[index] = result
            bar.set_postfix_str(printable(_progress_text(result)))
            bar.update()
    return [runs[index] for index in range(len(tasks))]


def _crashed_run(task: dict[str, Any], error: Exception) -> Run:
    return Run(
        task["label"], task["name"], task["seed"], task["strategy"].spec(), task["budget"],
        status=Status.ERROR, ended=f"the worker process crashed: {type(error).__name__}: {error}",
    )  # fmt: skip


def _progress_text(run: Run) -> str:
    found = str(run.status)
    if run.status is Status.FINISHED:
        found = "no feasible trial" if run.best is None else Goal(run.goal).text(run.loss)
    return f"{run.problem} · {run.label} · seed {run.seed}: {found}"
