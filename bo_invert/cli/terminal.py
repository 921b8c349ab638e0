"""Terminal output that other code writes: logs, warnings, tracebacks and errors of usage.

Their texts may hold names and messages of other people's studies; control characters are escaped.
"""

from __future__ import annotations

import io
import logging
import sys
import traceback
import warnings
from types import TracebackType
from typing import Any

import typer

from bo_invert.cli.messages import command_text
from bo_invert.errors import ErrorStream, printable

# Recent versions of typer contain their own copy of click.
_UsageError: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


class EscapingFormatter(logging.Formatter):
    """Formatter of log records that escapes control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def escape_messages() -> None:
    """Escape control characters in warnings and in the tracebacks of uncaught exceptions."""
    sys.excepthook = _print_exception
    vars(warnings)["showwarning"] = _print_warning  # file and line are optional


def run(app: typer.Typer) -> int:
    """Run a program and print errors of usage; return its exit code."""
    try:
        code: Any = app(standalone_mode=False)
    except _UsageError as error:
        text = io.StringIO()
        error.show(text)
        print_error(text.getvalue().rstrip("\n"))
        return int(error.exit_code)
    except OSError as error:  # a full disk, also behind the standard output
        print_error(f"Error: {error}")
        return 1
    except typer.Abort:
        print_error("Aborted!")
        return 1
    except SystemExit as end:
        if isinstance(end.code, str):
            print_error(end.code)
            return 1
        raise
    finally:
        escape_messages()  # typer sets a hook of its own
    return code if isinstance(code, int) else 0


def print_error(text: str) -> None:
    """Print a text to standard error, if there is one."""
    print(printable(text), file=ErrorStream())


def _print_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    print_error("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"))


def _print_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object
) -> None:
    text = command_text(str(message))
    if category is UserWarning:  # its line is one of the program
        print_error(f"bo-invert: {text}")
        return
    print_error(warnings.formatwarning(text, category, filename, lineno).rstrip("\n"))
