"""The command line: thin over ``Study`` and ``compare``. Nothing heavy is imported before a command runs."""

from __future__ import annotations

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
    Goal,
    Kept,
    Options,
    ProblemName,
    Quiet,
    Regressor,
    ReportFolder,
    Seed,
    Settings,
    Shape,
    Storage,
    StudyName,
    parse_settings,
    stored_problem,
)
from bo_invert.cli.output import (
    Format,
    best_record,
    emit,
    reasons,
    rendered,
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
    from bo_invert.storage.reader import JournalReader
    from bo_invert.study.study import Study
    from bo_invert.types import JSON


app = typer.Typer(
    name="bo-invert",
    help="Find the inputs of a function you cannot invert, with few calls.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # formatted help would import rich and take twice as long
    pretty_exceptions_enable=False,
)


@app.command()
def demo(
    target: Annotated[
        float | None, typer.Option(help="Invert to this slant; upright is 0.57.")
    ] = None,
    goal: Annotated[Goal | None, typer.Option(help="Without a target; default: maximize.")] = None,
    budget: Calls = 150,
    seed: Seed = 0,
    out: Annotated[
        Path, typer.Option(help="Folder for report.html, result.json and gallery.png.")
    ] = Path("demo"),
    oracle: Annotated[
        Regressor, typer.Option(help="What is inverted; a forest has no gradients.")
    ] = Regressor.forest,
    methods: Annotated[
        str | None, typer.Option(help="Some of the methods, separated by commas.")
    ] = None,
    short: Annotated[
        bool, typer.Option("--short", help="At most 24 calls each, to see that all works.")
    ] = False,
    how: Shape = Format.table,
    quiet: Quiet = False,
) -> None:
    """The main job: invert a regressor of real digits' slant through a VAE's latent, with every method."""
    if target is not None and goal is not None:
        raise typer.BadParameter("give either --target or --goal, not both")
    from bo_invert.cli.demo import print_demo, run_demo

    comparison = run_demo(
        target=target,
        goal="minimize" if goal is Goal.minimize else "maximize",
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
    _require_find(comparison)


@app.command()
def run(
    problem: ProblemName,
    strategy: Annotated[
        str | None, typer.Option(help="Its name; default: auto, or what the study was begun with.")
    ] = None,
    option: Options = None,
    budget: Calls = 100,
    batch: Batch = 1,
    executor: Annotated[
        str | None,
        typer.Option(
            help="auto, processes, threads, dask or slurm; default: one after another, here."
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Seconds for one attempt, then it is given up as failed; needs --executor.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Default: 0, or what the study was begun with.")
    ] = None,
    storage: Kept = None,
    name: Annotated[
        str | None, typer.Option(help="Of the study; default: from problem, strategy and seed.")
    ] = None,
    out: Folder = None,
    settings: Settings = None,
    how: Shape = Format.table,
    quiet: Quiet = False,
) -> None:
    """Search for the inputs of PROBLEM. With --storage, the same line resumes after an interruption."""
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
        str, typer.Option(help="Names, separated by commas.")
    ] = "auto,gp,cmaes,prior,random",
    seeds: Annotated[
        int, typer.Option(min=1, help="Runs of each method, with seeds 0, 1, ...")
    ] = 5,
    budget: Calls = 100,
    batch: Batch = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at once.")] = 1,
    vary: Annotated[
        str | None,
        typer.Option(help="An option of the problem that is set to the seed in each run."),
    ] = None,
    storage: Kept = None,
    out: Folder = None,
    settings: Settings = None,
    how: Shape = Format.table,
    quiet: Quiet = False,
) -> None:
    """Methods against each other on the same problems, seeds and budget."""
    from bo_invert.benchmark.compare import compare as compare_methods
    from bo_invert.problems.loading import VariedProblem, load_problem, problem_title

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
        kept = (
            "the same line resumes"
            if storage
            else "with --storage sqlite:///runs.db it could be resumed"
        )
        say(f"bo-invert: interrupted; {kept}")
        raise typer.Exit(130) from None
    if out is not None:
        say(f"written to {comparison.save(out)}")
    if how is Format.table:
        show(comparison.table())
    else:
        emit(comparison.records(), how)
    _require_find(comparison)


app.command()(doctor)
app.command()(bench)
app.command("show")(show_study)
app.command("problems")(list_problems)


@app.command()
def trials(name: StudyName, storage: Storage, how: Shape = Format.table) -> None:
    """All trials of a study."""
    journal = _journal(name, storage)
    records = trial_records(journal, journal.trials, how)
    coordinates = (
        {f"z{i}" for i in range(len(journal.trials[0].point))} if journal.trials else set()
    )
    emit(records, how, hidden=["why", *(coordinates if len(coordinates) > 8 else ())])


app.command()(best)


@app.command()
def report(
    name: StudyName,
    storage: Storage,
    out: ReportFolder = Path("report"),
    problem: Annotated[
        str | None,
        typer.Option(
            help="file.py:name; not needed for ready problems, which want the --set they were run with."
        ),
    ] = None,
    settings: Settings = None,
) -> None:
    """Write a study's report, which opens offline."""
    from bo_invert.storage.open import open_store
    from bo_invert.study.study import Study

    store = open_store(storage)
    made = stored_problem(store, name, problem, parse_settings(settings, "--set"))
    try:
        study = Study.open(name, store, problem=made)
    except ProblemChangedError as error:
        raise InvalidInputError(
            f"{error}\nIf the study was run with options of the problem, give the same here: --set key=value"
        ) from None
    _write(study, out, None)


@app.command("list")
def list_studies(storage: Storage, how: Shape = Format.table) -> None:
    """All studies in a storage."""
    from bo_invert.storage.open import open_store
    from bo_invert.storage.reader import JournalReader

    store = open_store(storage)
    journals = [JournalReader(store, name) for name in store.names()]
    records = [study_record(journal, journal.best, how) for journal in journals]
    if records or how is not Format.table:
        emit(records, how, hidden=("created", "asking"))
    else:
        say(f"no studies in {storage}")


app.command()(serve)
app.command()(watch)
app.command()(token)
app.command()(worker)
app.command("mlflow")(mirror)
app.command("export")(export)
app.command("import")(import_)


def main() -> None:
    """Entry point. Exit codes: 0 fine, 1 nothing found or an error, 2 wrong usage, 130 interrupted."""
    try:
        app()
    except BoInvertError as error:
        say("\n".join([f"bo-invert: {error}", *getattr(error, "__notes__", ())]))
        sys.exit(2 if isinstance(error, InvalidInputError) else 1)


def _journal(name: str, storage: str) -> JournalReader:
    """Read without strategy and problem, so that a study can be looked at where neither is installed."""
    from bo_invert.storage.open import open_store
    from bo_invert.storage.reader import JournalReader

    return JournalReader(open_store(storage), name)


def _require_find(comparison: Comparison) -> None:
    if all(run.best is None for run in comparison.runs):
        say("bo-invert: no run found anything")
        raise typer.Exit(1)


def _check_same(study: Study, spec: JSON, seed: int | None) -> None:
    """A study goes on with the strategy and the seed it was begun with."""
    begun = study.strategy.spec()
    if spec not in (None, begun):
        raise InvalidInputError(
            f"study {study.name!r} was begun with strategy {begun}, not {spec}; choose another --name"
        )
    if seed not in (None, study.seed):
        raise InvalidInputError(
            f"study {study.name!r} was begun with seed {study.seed}, not {seed}; choose another --name"
        )


def _write(study: Study, out: Path, budget: int | None) -> None:
    from bo_invert.benchmark.compare import Comparison, summarize
    from bo_invert.problems.provenance import told

    comparison = Comparison((summarize(study, budget=budget, keep=8),))
    made = "".join(
        f"\n  {what:<11}  {which}" for what, which in told(study.journal.header.get("provenance"))
    )
    folder = comparison.save(
        out, title=f"{study.problem_name} · {study.name}", lead=f"{study!r}{made}"
    )
    records = trial_records(study.journal, study.trials)
    (folder / "trials.csv").write_text(rendered(records, Format.csv) + "\n", encoding="utf-8")
    say(f"written to {folder}")


def _explain_interruption(study: Study, storage: str | None) -> None:
    say(
        f"\nbo-invert: interrupted; study {study.name!r} holds {len(study.trials)} trials ({study.spent})"
    )
    if storage is None:
        say(
            "It lived in memory and is gone. With --storage sqlite:///runs.db the same line resumes."
        )
    else:
        say(
            f"Nothing is lost: the same line resumes it (--storage {quote(storage)} --name {quote(study.name)})."
        )
