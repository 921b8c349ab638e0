"""Options of CSV files that a command writes: separator of cells and decimal sign."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Annotated, Any

import typer

from bo_invert.report.csv_export import PLAIN, CsvStyle

_decimal: ContextVar[str | None] = ContextVar("decimal sign of the user", default=None)
_style: ContextVar[CsvStyle] = ContextVar("style of CSV output", default=PLAIN)


def csv_style() -> CsvStyle:
    """Return the style of CSV files of the command that runs."""
    return _style.get()


def given_decimal() -> str | None:
    """Return the decimal sign that the command that runs was given."""
    return _decimal.get()


def add_csv_options(parameters: list[Any]) -> None:
    """Add ``--separator`` and ``--decimal`` to the parameters of a command that prints records."""
    if not any(one.name == "how" for one in parameters):
        return
    options = typer.Typer(add_completion=False)
    options.command()(_options)
    for option in typer.main.get_command(options).params:
        if option.name in ("separator", "decimal"):
            option.expose_value = False  # see ``csv_style``
            parameters.append(option)


def _store(context: typer.Context, option: typer.CallbackParam, value: str | None) -> None:
    """Store an option; the separator follows the decimal sign unless it is given."""
    given = context.meta.setdefault("bo_invert.csv", {})
    given[option.name] = "\t" if value in ("tab", "\\t") else value
    _decimal.set(given.get("decimal"))
    decimal = given.get("decimal") or "."
    _style.set(CsvStyle(given.get("separator") or (";" if decimal == "," else ","), decimal))


def _options(
    separator: Annotated[
        str | None,
        typer.Option(
            callback=_store,
            help="Separator of CSV output: , ; | or tab; default: a comma, or ; with --decimal ,",
        ),
    ] = None,
    decimal: Annotated[
        str | None, typer.Option(callback=_store, help="Decimal sign of CSV output: . or ,")
    ] = None,
) -> None:
    """Declare the options; see ``add_csv_options``."""
