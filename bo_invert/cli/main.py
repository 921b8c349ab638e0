"""Program ``bo-invert``: a table of commands, thin layers over ``Study`` and ``compare``.

The module of a command is imported when the command runs, so ``bo-invert --help`` is fast.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bo_invert import __version__
from bo_invert.cli.csv_options import add_csv_options
from bo_invert.cli.messages import command_text
from bo_invert.cli.terminal import EscapingFormatter, escape_messages, print_error, run
from bo_invert.errors import BoInvertError, InvalidInputError

COMMANDS = {
    "demo": ("demo:demo", "Invert a regressor of handwritten digits."),
    "run": ("run:run", "Search for inputs of PROBLEM."),
    "create": ("tables:create", "Create a study without a call, for work by hand."),
    "ask": ("tables:ask", "Start trials, and write them as a CSV file to complete."),
    "tell": ("tables:tell", "Record results of trials, one by one or from a CSV file."),
    "add": ("tables:add", "Add observations from a CSV file."),
    "pending": ("tables:pending", "List the open trials of a study."),
    "amend": ("tables:amend", "Correct the result of a trial."),
    "compare": ("compare:compare", "Compare strategies on the same problems, seeds and budget."),
    "doctor": ("doctor:doctor", "Check a problem before a study."),
    "bench": ("bench:bench", "Run the benchmark suite."),
    "show": ("show:show_study", "Show a study: problem, best trial, cost and versions."),
    "problems": ("show:list_problems", "List the ready problems and their options for --set."),
    "trials": ("show:trials", "List the trials of a study."),
    "best": ("best:best", "Show the best trial of a study."),
    "front": ("front:front", "Show the Pareto front of a study with several criteria."),
    "solutions": ("inverse:solutions", "List different solutions, one of each branch first."),
    "posterior": ("inverse:posterior", "Sample the designs that meet the target, without a call."),
    "verdict": ("inverse:verdict", "Judge whether the target can be reached, without a call."),
    "reachable": (
        "inverse:reachable",
        "Estimate for many targets whether they can be reached, without a call.",
    ),
    "retarget": (
        "retarget:retarget",
        "Create a study for another target, with all observations of a study and without a call.",
    ),
    "predicted": (
        "retarget:predicted",
        "Show the design that most probably meets the target, without a call.",
    ),
    "tolerances": (
        "retarget:tolerances",
        "Show by how much each parameter may move while the outputs stay within the target.",
    ),
    "plot": ("plot:plot", "Draw a plot of a study to an HTML, PNG or SVG file."),
    "predict": ("predict:predict", "Predict outputs at the designs of a CSV file, without a call."),
    "outlook": (
        "predict:outlook",
        "Estimate the gain that further calls can bring, with a 95 % bound.",
    ),
    "polish": ("predict:polish", "Refine the best point of a study by further calls."),
    "report": ("run:report", "Write an offline HTML report of a study."),
    "list": ("show:list_studies", "List the studies of a storage."),
    "serve": ("serve:serve", "Serve the studies of a storage over HTTP, with a dashboard."),
    "watch": ("serve:watch", "Show a read-only dashboard of the studies in a storage."),
    "token": ("serve:token", "List, create or revoke access tokens of a server."),
    "worker": ("worker:worker", "Evaluate trials of a shared study."),
    "mlflow": ("export_import:mirror", "Copy a study to MLflow."),
    "export": ("export_import:export", "Write a study to a JSON-lines file."),
    "backup": ("export_import:backup", "Copy an SQLite database while programs use it."),
    "import": ("export_import:import_", "Import a study from a file into a storage."),
}
"""Function of each command in this package, and the first sentence of its help."""

STYLE: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": None,  # formatted help would import rich and take twice as long
    "pretty_exceptions_enable": False,
}
"""Options of the program and of each command."""


class LazyGroup(TyperGroup):
    """Group of commands that imports the module of a command when the command is invoked."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the name, the imported command and its arguments."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load_command(name), rest


def load_command(name: str) -> Any:
    """Import the module of a command and return the command with its options."""
    module, function = COMMANDS[name][0].split(":")
    single = typer.Typer(**STYLE)
    single.command(name)(getattr(import_module(f"bo_invert.cli.{module}"), function))
    command = typer.main.get_command(single)
    add_csv_options(command.params)
    return command


app = typer.Typer(
    name="bo-invert",
    cls=LazyGroup,
    help="Find inputs of a black-box function that reach a target, with few calls.",
    no_args_is_help=True,
    **STYLE,
)
for _name, (_, _help) in COMMANDS.items():
    app.command(_name, help=_help)(lambda: None)  # an entry of the help; see LazyGroup


def _version(asked: bool) -> None:
    if asked:
        print(f"bo-invert {__version__}")
        raise typer.Exit


@app.callback()
def log_to_stderr(
    verbose: Annotated[
        int,
        typer.Option(
            "-v", "--verbose", count=True, help="Log progress to stderr; -vv: details.",
            show_default=False,
        ),
    ] = 0,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version.",
            show_default=False,
        ),
    ] = False,
) -> None:  # fmt: skip
    """Find inputs of a black-box function that reach a target, with few calls."""
    if not verbose:
        return
    logger = logging.getLogger("bo_invert")
    logger.setLevel(logging.DEBUG if verbose > 1 else logging.INFO)
    handler = logging.StreamHandler()
    handler.setFormatter(EscapingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.handlers = [handler]


def main() -> None:
    """Run the command line.

    Exit codes: 0 success, 1 error or no result, 2 wrong usage, 130 interrupted.
    """
    escape_messages()
    try:
        sys.exit(run(app))
    except BoInvertError as error:
        text = "\n".join([f"bo-invert: {error}", *getattr(error, "__notes__", ())])
        print_error(command_text(text))
        sys.exit(2 if isinstance(error, InvalidInputError) else 1)
