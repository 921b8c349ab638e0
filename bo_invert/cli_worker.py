"""``bo-invert worker``: evaluates trials of a study that lives elsewhere."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from bo_invert.cli_options import Settings
from bo_invert.cli_output import say


def worker(
    storage: Annotated[str, typer.Argument(metavar="URL", help="Of a server (https://host:8765) or a storage.")],
    name: Annotated[str, typer.Argument(metavar="STUDY", help="Its name; see --create.")],
    problem: Annotated[str, typer.Argument(metavar="PROBLEM", help="file.py:name, or a ready problem's name.")],
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Trials under way at once.")] = 1,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Calls of the whole study; default: until SIGTERM or Ctrl-C.")
    ] = None,
    executor: Annotated[str, typer.Option(help="processes, threads, serial, auto, dask or slurm.")] = "processes",
    create: Annotated[bool, typer.Option("--create", help="Begin the study if it is not there.")] = False,
    strategy: Annotated[str, typer.Option(help="With --create.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="With --create.")] = 0,
    retries: Annotated[int, typer.Option(min=0, help="How often a failed trial is tried again.")] = 0,
    grace: Annotated[float, typer.Option(min=0, help="Seconds to finish what is under way when told to stop.")] = 10.0,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds for one attempt, then it is given up as failed.")
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to go on trying when the storage or the server does not answer.")
    ] = 600.0,
    token: Annotated[str | None, typer.Option(envvar="BO_INVERT_TOKEN", help="Of the server.")] = None,
    settings: Settings = None,
) -> None:
    """Work on a study: take trials, evaluate them here, tell what came of them. Any number of workers may."""
    from bo_invert.cli_problem import parse_settings
    from bo_invert.sources import load_problem
    from bo_invert.stores.open import open_store
    from bo_invert.study import Study
    from bo_invert.working import Ending, work

    made = load_problem(problem, parse_settings(settings, "--set"))
    store = open_store(storage, token, patience)
    if create:
        study = Study.create(name, made, strategy, seed, store, exist_ok=True)
    else:
        study = Study.open(name, store, made)
    say(f"bo-invert: working on {name!r} at {storage}")
    chosen = None if executor == "serial" else executor
    ending = work(study, budget, jobs, chosen, retries, grace, lambda text: say(f"bo-invert: {text}"), timeout)
    if ending is not Ending.FINISHED:
        sys.stderr.flush()
        # Threads that are still inside the oracle would keep the process until they return.
        os._exit(1 if ending is Ending.HOPELESS else 0)
