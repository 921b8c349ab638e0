"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bo_invert import registry
from bo_invert.cli.output import Format, say
from bo_invert.errors import InvalidInputError, ProblemChangedError
from bo_invert.problems.json_declaration import problem_from_declaration, stored_declaration
from bo_invert.problems.loading import load_problem
from bo_invert.problems.problem import Problem
from bo_invert.storage.base import Store
from bo_invert.storage.open import open_existing
from bo_invert.study.retargeting import logged_problem
from bo_invert.study.study import Study

ProblemName = Annotated[
    str,
    typer.Argument(
        metavar="PROBLEM", help="Ready problem (see `bo-invert problems`) or file.py:name."
    ),
]
ProblemOption = Annotated[
    str | None,
    typer.Option("--problem", help="Problem as file.py:name; default: the ready problem."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Option of the problem; repeatable."),
]
Options = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the strategy; repeatable.")
]
StudyName = Annotated[str, typer.Argument(metavar="NAME", help="Study name.")]
Storage = Annotated[
    str,
    typer.Option(help="Database URL, file ending in .db, or server URL (token: $BO_INVERT_TOKEN)."),
]
OptionalStorage = Annotated[
    str | None,
    typer.Option("--storage", help="Database URL; rerun the same command to resume."),
]
Token = Annotated[
    str | None, typer.Option(envvar="BO_INVERT_TOKEN", help="Access token of the server.")
]
Shape = Annotated[Format, typer.Option("--format", help="Output format: table, json or csv.")]
Folder = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for report.html and data, or file ending in .html."),
]
ReportPath = Annotated[
    Path,
    typer.Option("--out", help="File ending in .html, or folder for report.html and data."),
]
Calls = Annotated[
    int,
    typer.Option(min=1, help="Budget: oracle values plus gradients, failed calls included."),
]
Decimal = Annotated[
    str | None,
    typer.Option(
        "--decimal", help="Decimal sign of numbers in FILE: . or , (default: recognised)."
    ),
]
Thousands = Annotated[
    str | None,
    typer.Option(
        "--thousands",
        help="Separator of groups in FILE: , or . or ' or a blank; '' for none (default: "
        "recognised).",
    ),
]
Fix = Annotated[
    list[str] | None,
    typer.Option(
        "--fix",
        metavar="PARAMETER=VALUE",
        help="Value of a parameter that does not vary now; repeatable.",
    ),
]
Noisy = Annotated[
    bool | None,
    typer.Option(
        "--noisy/--exact",
        help="Repeated calls may differ, or not; default: the strategy decides.",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Do not show progress.")]
Batch = Annotated[int, typer.Option(min=1, help="Number of concurrent trials.")]
Jobs = Annotated[int, typer.Option(min=1, help="Number of concurrent runs.")]
Stop = Annotated[
    str | None,
    typer.Option(
        metavar="RULE",
        help="End earlier: gain:1%, regret:1%, patience:30, seconds:3600, cost:100 or verdict "
        "(the target is unreachable), joined by | or &.",
    ),
]
Find = Annotated[
    Literal["best", "all"] | None,
    typer.Option(
        help="best: one solution. all: all solutions of a target. Default: all for the strategy "
        "inverse, otherwise best."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Random seed.")]
Seeds = Annotated[int, typer.Option(min=1, help="Runs per method, with seeds 0, 1, ...")]


def parse_settings(pairs: Iterable[str] | None, flag: str) -> dict[str, Any]:
    """Parse ``key=value`` pairs; values are JSON (``3``, ``[0.1, 0.2]``, ``true``) or else text.

    Raises:
        InvalidInputError: a pair has no key or no equals sign; the message names ``flag``.
    """
    settings = {}
    for pair in pairs or ():
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise InvalidInputError(f"{flag} must be key=value, got {pair!r}")
        try:
            settings[key] = json.loads(text)
        except ValueError:
            settings[key] = text
    return settings


def strategy_options(pairs: Iterable[str] | None, noisy: bool | None) -> dict[str, Any]:
    """Return the options of a strategy from ``--option`` and ``--noisy``.

    Raises:
        InvalidInputError: both say whether the oracle is noisy, and differ.
    """
    options = parse_settings(pairs, "--option")
    if noisy is None:
        return options
    if options.get("noisy", noisy) != noisy:
        raise InvalidInputError(
            f"--option noisy={json.dumps(options['noisy'])} contradicts "
            f"{'--noisy' if noisy else '--exact'}. Give one of them"
        )
    return {**options, "noisy": noisy}


def stored_problem(
    store: Store,
    name: str,
    source: str | None,
    settings: Mapping[str, Any],
    *,
    to_read: bool = False,
) -> Problem:
    """Load the problem of a stored study from ``source``, by its name, or from the log.

    The name is that of a ready problem. A log holds the problem if its space is a box without data
    and its objective is no ``Composite``. To read results, it also suffices for a box with data,
    without the plausibility of designs.

    Raises:
        InvalidInputError: ``source`` is None and none of these has it, or loading fails.
        StudyNotFoundError: the study does not exist.
    """
    header = store.header(name)
    known = header["problem_name"]
    if source is not None or known in registry.names("problems"):
        return logged_problem(header, load_problem(source or known, settings))
    declared = stored_declaration(header)
    if declared is None or (header["problem"]["space"].get("data") and not to_read):
        raise InvalidInputError(
            f"the problem {known!r} of study {name!r} is not a ready problem, and the log does not "
            "hold it. Add --problem file.py:name."
        )
    return problem_from_declaration(declared, known)


def readable_study(
    name: str, storage: str, source: str | None, settings: list[str] | None
) -> Study:
    """Open a study to read it, with its problem if ``source`` or the log has it.

    A study without its problem shows what the log holds: no decoded designs, judge and models.

    Raises:
        InvalidInputError: ``source`` cannot be loaded, or the problem is another one.
        StudyNotFoundError: the study does not exist.
    """
    store = open_existing(storage)
    store.header(name)
    options = parse_settings(settings, "--set")
    try:
        made = stored_problem(store, name, source, options, to_read=True)
        return Study.open(name, store, problem=made)
    except ProblemChangedError as error:
        raise InvalidInputError(
            f"{error}\nGive the options of the problem with which the study ran: --set key=value"
        ) from None
    except InvalidInputError as error:
        if source is not None or settings:
            raise
        say(f"without decoded designs, judge and models, because {error}")
    return Study.open(name, store)
