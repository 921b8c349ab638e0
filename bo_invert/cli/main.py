"""Commands of ``bo-invert``, thin layers over ``Study`` and ``compare``.

Heavy packages are imported when a command runs, so ``--help`` stays fast.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bo_invert.cli.bench import bench
from bo_invert.cli.best import best, decoded, luck, second_opinion
from bo_invert.cli.doctor import doctor
from bo_invert.cli.export_import import export, import_, mirror
from bo_invert.cli.options import (
    Batch,
    Calls,
    Folder,
    GoalOption,
    Jobs,
    OptionalStorage,
    Options,
    ProblemName,
    ProblemOption,
    Quiet,
    Regressor,
    ReportFolder,
    Seed,
    Seeds,
    Settings,
    Shape,
    Storage,
    StudyName,
    parse_settings,
    stored_problem,
)
from bo_invert.cli.output import (
    OPTIONAL_STUDY_KEYS,
    OPTIONAL_TRIAL_KEYS,
    Format,
    best_record,
    emit,
    reasons,
    say,
    show,
    split,
    study_record,
    trial_records,
    why_nothing,
)
from bo_invert.cli.problems import list_problems
from bo_invert.cli.serve import serve, token, watch
from bo_invert.cli.show import show_study
from bo_invert.cli.worker import worker
from bo_invert.errors import BoInvertError, InvalidInputError, ProblemChangedError

if TYPE_CHECKING:
    from bo_invert.benchmark.compare import Comparison
    from bo_invert.study.study import Study
    from bo_invert.types import JSON


app = typer.Typer(
    name="bo-invert",
    help="Find inputs of a black-box function that reach a target, with few calls.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # formatted help would import rich and take twice as long
    pretty_exceptions_enable=False,
)


@app.callback()
def log_to_stderr(
    verbose: Annotated[
        int,
        typer.Option(
            "-v", "--verbose", count=True, help="Log progress to stderr; -vv: details.",
            show_default=False,
        ),
    ] = 0,
) -> None:  # fmt: skip
    """Find inputs of a black-box function that reach a target, with few calls."""
    if not verbose:
        return
    logger = logging.getLogger("bo_invert")
    logger.setLevel(logging.DEBUG if verbose > 1 else logging.INFO)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.handlers = [handler]


@app.command()
def demo(
    target: Annotated[
        float | None, typer.Option(help="Target slant; 0.57 is an upright digit.")
    ] = None,
    goal: Annotated[
        GoalOption | None, typer.Option(help="Direction without --target; default: maximize.")
    ] = None,
    budget: Calls = 150,
    seed: Seed = 0,
    out: Annotated[
        Path, typer.Option(help="Folder for report.html, result.json and gallery.png.")
    ] = Path("demo"),
    oracle: Annotated[
        Regressor, typer.Option(help="Regressor to invert; a forest has no gradients.")
    ] = Regressor.forest,
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated methods; default: all.")
    ] = None,
    short: Annotated[
        bool, typer.Option("--short", help="Use at most 24 calls per method, as a quick test.")
    ] = False,
    how: Shape = Format.table,
    quiet: Quiet = False,
) -> None:
    """Invert a regressor of handwritten digits.

    Every method searches for the image of the largest slant, in the latent space of a VAE or in
    pixels, with the same number of calls.
    """
    if target is not None and goal is not None:
        raise typer.BadParameter("--target and --goal must not both be given")
    from bo_invert.cli.demo import print_demo, run_demo

    comparison = run_demo(
        target=target,
        goal="minimize" if goal is GoalOption.minimize else "maximize",
        budget=min(budget, 24) if short else budget,
        seed=seed,
        out=out,
        oracle="network" if oracle is Regressor.network else "forest",
        methods=None if methods is None else split(methods),
        progress=not quiet,
    )
    if how is Format.table:
        print_demo(comparison, out)
    else:
        emit(comparison.records(), how)
    _require_result(comparison)


@app.command()
def run(
    problem: ProblemName,
    strategy: Annotated[
        str | None, typer.Option(help="Strategy name; default: auto, or that of the study.")
    ] = None,
    option: Options = None,
    budget: Calls = 100,
    batch: Batch = 1,
    executor: Annotated[
        str | None,
        typer.Option(
            help="auto, processes, threads, dask or slurm; default: sequential in this process."
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.001, help="Time limit of one attempt in seconds; requires --executor."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Random seed; default: 0, or that of the study.")
    ] = None,
    storage: OptionalStorage = None,
    name: Annotated[
        str | None, typer.Option(help="Study name; default: from problem, strategy and seed.")
    ] = None,
    out: Folder = None,
    settings: Settings = None,
    how: Shape = Format.table,
    quiet: Quiet = False,
) -> None:
    """Search for inputs of PROBLEM. With --storage, rerun the same command to resume."""
    from bo_invert.problems.loading import load_problem, problem_title
    from bo_invert.storage.open import open_store
    from bo_invert.strategies.base import from_spec
    from bo_invert.study.study import Study

    chosen = None
    if strategy is not None or option:
        chosen = from_spec(strategy or "auto", **parse_settings(option, "--option"))
    made = load_problem(problem, parse_settings(settings, "--set"))
    store = open_store(storage)
    name = name or f"{problem_title(problem)}-{strategy or 'auto'}-{seed or 0}"
    if name in store.names():
        study = Study.open(name, store, problem=made)
        _check_same(study, None if chosen is None else chosen.spec(), seed)
        say(f"resuming study {name!r}: {study.spent}")
    else:
        study = Study.create(name, made, chosen or "auto", seed or 0, store)
    try:
        study.run(budget, batch=batch, executor=executor, progress=not quiet, timeout=timeout)
    except KeyboardInterrupt:
        _explain_interruption(study, storage)
        raise typer.Exit(130) from None
    found = study.best
    for line in [*reasons(study.journal), *luck(study)]:
        say(line)
    if out is not None:
        _write(study, out, budget)
    record = study_record(study.journal, found, how) | best_record(study.journal, found)
    emit(record | decoded(study, how) | second_opinion(study, how), how)
    if found is None:
        say(why_nothing(study.journal))
        raise typer.Exit(1)


@app.command()
def compare(
    problems: Annotated[
        list[str], typer.Argument(help="Ready problems or file.py:name.", metavar="PROBLEM...")
    ],
    strategies: Annotated[
        str, typer.Option(help="Comma-separated strategy names.")
    ] = "auto,gp,cmaes,prior,random",
    seeds: Seeds = 5,
    budget: Calls = 100,
    batch: Batch = 1,
    jobs: Jobs = 1,
    vary: Annotated[
        str | None, typer.Option(help="Option of the problem that takes the value of the seed.")
    ] = None,
    storage: OptionalStorage = None,
    out: Folder = None,
    settings: Settings = None,
    how: Shape = Format.table,
    quiet: Quiet = False,
) -> None:
    """Compare strategies on the same problems, seeds and budget."""
    from bo_invert.benchmark.compare import compare as compare_methods
    from bo_invert.problems.loading import VariedProblem, load_problem, problem_title
    from bo_invert.report.table import terminal_width

    given = parse_settings(settings, "--set")
    sources: dict[str, Any] = {}
    for source in problems:
        title = problem_title(source)
        if title in sources:
            raise InvalidInputError(f"problem {title!r} is given twice")
        sources[title] = load_problem(source, given if vary is None else {**given, vary: 0})
        if vary is not None:
            sources[title] = VariedProblem(source, given, vary)
    try:
        comparison = compare_methods(
            sources,
            split(strategies),
            budget,
            range(seeds),
            batch=batch,
            jobs=jobs,
            progress=not quiet,
            storage=storage,
        )
    except KeyboardInterrupt:
        hint = "rerun the same command to resume"
        if storage is None:
            hint = "with --storage sqlite:///runs.db the same command would resume"
        say(f"bo-invert: interrupted; {hint}")
        raise typer.Exit(130) from None
    if out is not None:
        say(f"written to {comparison.save(out)}")
    if how is Format.table:
        show(comparison.table(terminal_width()))
    else:
        emit(comparison.records(), how)
    _require_result(comparison)


app.command()(doctor)
app.command()(bench)
app.command("show")(show_study)
app.command("problems")(list_problems)


@app.command()
def trials(name: StudyName, storage: Storage, how: Shape = Format.table) -> None:
    """List the trials of a study."""
    from bo_invert.storage.open import open_store
    from bo_invert.storage.reader import JournalReader

    journal = JournalReader(open_store(storage), name)
    records = trial_records(journal, journal.trials, how)
    hidden = ["why"]
    if journal.trials and len(journal.trials[0].point) > 8:  # a table cannot show long points
        hidden += [f"z{i}" for i in range(len(journal.trials[0].point))]
    emit(records, how, hidden, OPTIONAL_TRIAL_KEYS)


app.command()(best)


@app.command()
def report(
    name: StudyName,
    storage: Storage,
    out: ReportFolder = Path("report"),
    problem: ProblemOption = None,
    settings: Settings = None,
) -> None:
    """Write an offline HTML report of a study."""
    from bo_invert.storage.open import open_store
    from bo_invert.study.study import Study

    store = open_store(storage)
    made = stored_problem(store, name, problem, parse_settings(settings, "--set"))
    try:
        study = Study.open(name, store, problem=made)
    except ProblemChangedError as error:
        raise InvalidInputError(
            f"{error}\nGive the options of the problem with which the study ran: --set key=value"
        ) from None
    _write(study, out, None)


@app.command("list")
def list_studies(storage: Storage, how: Shape = Format.table) -> None:
    """List the studies of a storage."""
    from bo_invert.storage.open import open_store
    from bo_invert.storage.reader import JournalReader

    store = open_store(storage)
    journals = [JournalReader(store, name) for name in store.names()]
    records = [study_record(journal, journal.best, how) for journal in journals]
    if records or how is not Format.table:
        emit(records, how, ("created", "asking"), OPTIONAL_STUDY_KEYS)
    else:
        say(f"{storage} has no studies")


app.command()(serve)
app.command()(watch)
app.command()(token)
app.command()(worker)
app.command("mlflow")(mirror)
app.command("export")(export)
app.command("import")(import_)


def main() -> None:
    """Run the command line.

    Exit codes: 0 success, 1 error or no result, 2 wrong usage, 130 interrupted.
    """
    try:
        app()
    except BoInvertError as error:
        say("\n".join([f"bo-invert: {error}", *getattr(error, "__notes__", ())]))
        sys.exit(2 if isinstance(error, InvalidInputError) else 1)


def _require_result(comparison: Comparison) -> None:
    if all(run.best is None for run in comparison.runs):
        say("bo-invert: no run found a feasible design")
        raise typer.Exit(1)


def _check_same(study: Study, spec: JSON, seed: int | None) -> None:
    """Check that the given strategy and seed are those of the study."""
    recorded = study.strategy.spec()
    for what, given, known in (("strategy", spec, recorded), ("seed", seed, study.seed)):
        if given not in (None, known):
            raise InvalidInputError(
                f"study {study.name!r} was created with {what} {known}, got {given}. "
                "Choose another --name."
            )


def _write(study: Study, out: Path, budget: int | None) -> None:
    from bo_invert.benchmark.compare import Comparison, summarize
    from bo_invert.problems.provenance import provenance_rows
    from bo_invert.report.csv_export import records_csv

    comparison = Comparison((summarize(study, budget=budget, keep=8),))
    provenance = provenance_rows(study.journal.header.get("provenance"))
    made = "".join(f"\n  {name:<11}  {value}" for name, value in provenance)
    folder = comparison.save(
        out, title=f"{study.problem_name} · {study.name}", lead=f"{study!r}{made}"
    )
    records = trial_records(study.journal, study.trials)
    (folder / "trials.csv").write_text(records_csv(records), encoding="utf-8")
    say(f"written to {folder}")


def _explain_interruption(study: Study, storage: str | None) -> None:
    number = len(study.trials)
    say(f"\nbo-invert: interrupted; study {study.name!r} has {number} trials ({study.spent})")
    if storage is None:
        say("It was in memory only. With --storage sqlite:///runs.db the same command resumes.")
    else:
        options = f"--storage {quote(storage)} --name {quote(study.name)}"
        say(f"All results are saved. Rerun the same command to resume ({options}).")
