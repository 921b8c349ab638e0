"""Exceptions of the library, and text for terminals.

::

    BoInvertError
    ├── InvalidInputError (ValueError)   invalid argument
    ├── UnsuitableStrategyError          a strategy does not support the problem
    ├── MissingExtraError (ImportError)  an optional dependency is not installed
    ├── StudyNotFoundError (KeyError)    no study of this name in the storage
    ├── StudyExistsError                 a study of this name exists
    ├── ProblemChangedError              the stored study has another problem
    ├── TellConflictError                a trial already has another outcome
    ├── StudyPausedError                 a trial ended several processes
    ├── AccessDeniedError                the server rejects the token
    ├── TrackingError                    MLflow is unreachable or refuses a request
    └── StorageError
        ├── StorageConflictError         another writer appended to the log first
        ├── StorageBusyError             the database stayed locked until the timeout
        ├── ServerUnreachableError       a server did not answer until the timeout
        ├── StorageReplacedError         the file was moved, deleted or replaced while in use
        ├── StudyDamagedError            stored data of one study are damaged
        └── SchemaTooNewError            a newer version of bo_invert wrote the storage

    EvaluationError                      outcome of an oracle call without outputs; not a defect
    ├── FailedError                      the call failed; a retry may succeed
    └── InfeasibleError                  the design cannot be evaluated; never retried
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from html import escape
from typing import Any
from warnings import warn

RENAMED = {
    "AccessDenied": "AccessDeniedError",
    "Failed": "FailedError",
    "Infeasible": "InfeasibleError",
    "InvalidInput": "InvalidInputError",
    "MissingExtra": "MissingExtraError",
    "ProblemChanged": "ProblemChangedError",
    "SchemaTooNew": "SchemaTooNewError",
    "ServerUnreachable": "ServerUnreachableError",
    "StorageBusy": "StorageBusyError",
    "StorageConflict": "StorageConflictError",
    "StudyExists": "StudyExistsError",
    "StudyNotFound": "StudyNotFoundError",
    "TellConflict": "TellConflictError",
    "Unsuitable": "UnsuitableStrategyError",
    "Verdict": "EvaluationError",
}
"""Former names of exceptions, deprecated aliases of the present ones."""


class BoInvertError(Exception):
    """Base class of the library's errors."""

    def __str__(self) -> str:  # messages hold names of the user
        return printable(super().__str__())


class InvalidInputError(BoInvertError, ValueError):
    """Invalid argument. The message names the argument, its value and a valid alternative."""


class UnsuitableStrategyError(BoInvertError):
    """Strategy that does not support the problem. The message names both and the remedy."""


class MissingExtraError(BoInvertError, ImportError):
    """Missing optional dependency. The message holds the command that installs it."""


class StudyNotFoundError(BoInvertError, KeyError):
    """Missing study: the storage has none of this name."""

    def __str__(self) -> str:  # KeyError would return the repr of the message
        return printable(str(self.args[0])) if self.args else ""


class StudyExistsError(BoInvertError):
    """Duplicate study name."""


class ProblemChangedError(BoInvertError):
    """Stored study with another problem. The message lists the differences."""


class TellConflictError(BoInvertError):
    """Second, different outcome for a completed trial."""


class StudyPausedError(BoInvertError):
    """Trial during which several processes died. The message names it and the ways to continue."""


class AccessDeniedError(BoInvertError):
    """Missing, wrong or read-only token."""


class TrackingError(BoInvertError):
    """MLflow failure. The study is unchanged; a later call sends the missing runs."""


class StorageError(BoInvertError):
    """Storage failure."""


class StorageConflictError(StorageError):
    """Concurrent append: the log grew after it was read. Read, decide and append again."""


class StorageBusyError(StorageError):
    """Database locked by another process until the timeout."""


class ServerUnreachableError(StorageError):
    """Server timeout. The message holds the URL and the request."""


class StorageReplacedError(StorageError):
    """Database that was moved, deleted, restored or replaced while this process used it."""


class StudyDamagedError(StorageError):
    """Damaged data of one study: changed, missing or invalid. Other studies are not affected.

    Args:
        message: names the storage, the study, the event and the remedy.
        event: position of the first damaged event; None if the header is damaged.
    """

    def __init__(self, message: str, event: int | None = None) -> None:
        super().__init__(message)
        self.event = event


class SchemaTooNewError(StorageError):
    """Storage schema of a newer version of bo_invert."""


class EvaluationError(Exception):
    """Outcome of an oracle call without outputs, raised by the oracle or passed to ``study.tell``.

    Args:
        reason: cause, recorded in the log.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class FailedError(EvaluationError):
    """Failed call: a crash, a timeout or an invalid output. Billed; may be retried."""


class InfeasibleError(EvaluationError):
    """Infeasible design, such as a mesh that does not exist. Billed; never retried."""


def require(
    holds: object, message: str, error: Callable[[str], Exception] = InvalidInputError
) -> None:
    """Raise an error with a message unless a condition holds."""
    if not holds:
        raise error(message)


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the user that called the package, however deep the cause lies."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _OWN_MODULE.match(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warn(printable(message), category, stacklevel=level)


_OWN_MODULE = re.compile(r"(bo_invert|contextlib|functools)(\.|$)")
"""Names of modules whose frames lie between the user and the cause of a warning."""


def one_of(where: str, name: str, value: object, options: Iterable[object]) -> None:
    """Check that an argument is one of the options.

    Args:
        where: class or function that received the argument.
        name: name of the argument.
        value: the argument.
        options: valid values.

    Raises:
        InvalidInputError: the argument is none of the options.
    """
    valid = list(options)
    listed = ", ".join(map(repr, valid))
    require(value in valid, f"{where}: {name} must be one of {listed}, got {value!r}")


@contextmanager
def require_package(user: str, package: str, extra: str) -> Iterator[None]:
    """Raise ``MissingExtraError`` if the import of an optional package fails in the context.

    Args:
        user: part of the library that needs the package.
        package: name of the package.
        extra: extra of this library that installs it.
    """
    try:
        yield
    except ImportError:
        raise MissingExtraError(
            f"{user} needs {package}. Install it with: pip install 'bo-invert[{extra}]'"
        ) from None


def deprecated_names(
    module: Mapping[str, object], renamed: Mapping[str, str]
) -> Callable[[str], object]:
    """Return the ``__getattr__`` of a module that finds its objects under former names.

    Args:
        module: ``globals()`` of the module.
        renamed: present names by former names.
    """

    def find(name: str) -> object:
        if name not in renamed:
            raise AttributeError(f"module {module['__name__']!r} has no attribute {name!r}")
        warn(f"{name} is deprecated, use {renamed[name]}", DeprecationWarning, stacklevel=2)
        return module[renamed[name]]

    return find


_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, changes of the writing direction, line separators and surrogates."""
_INVISIBLE = "\u115f\u1160\u2800\u3164\uffa0"
"""Characters without a mark that Unicode counts as letters and symbols."""
_PLAIN = str.maketrans(
    {"─": "-", "–": "-", "…": "...", "“": '"', "”": '"', "·": "|", "²": "^2", "µ": "u"}
)
"""Substitutes for characters of tables that an encoding may lack."""


def printable(text: str) -> str:
    """Escape what a terminal cannot show, as JSON does: ``\\u001b`` for ESC; line breaks remain.

    These are control characters, and characters outside the encoding of the standard output.
    """
    text = _CONTROLS.sub(lambda found: _escaped(found[0]), text)
    encoding = getattr(sys.stdout, "encoding", None)
    if text.isascii() or not encoding or _encodable(text, encoding):
        return text
    plain = text.translate(_PLAIN)
    return "".join(one if _encodable(one, encoding) else _escaped(one) for one in plain)


class PrintedFacts:
    """Representation as text and as HTML of an object with the method ``_facts``."""

    def _facts(self) -> Mapping[str, str]:
        """Return values as text by name."""
        raise NotImplementedError

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={value}" for name, value in self._facts().items())
        return printable(f"{type(self).__name__}({facts})")

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in self._facts().items()
        )
        return f"<table>{rows}</table>"


def blank(text: str) -> bool:
    """Return True for text without a visible character, also of spaces without width."""
    return not any(
        char.isprintable() and not char.isspace() and char not in _INVISIBLE for char in text
    )


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def _encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True


class ErrorStream:
    """Standard error that ignores errors of writing: a lost terminal does not end a run."""

    def __init__(self) -> None:
        self._stream: Any = sys.stderr

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError, AttributeError):  # closed, lost or absent
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def isatty(self) -> bool:
        with suppress(OSError, ValueError, AttributeError):
            return bool(self._stream.isatty())
        return False

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def visible(progress: bool) -> bool:
    """Return True if progress is wanted and the process has a standard error to show it on."""
    return progress and sys.stderr is not None and not getattr(sys.stderr, "closed", False)


def in_notebook() -> bool:
    """Return True in a notebook, whose output cells can redraw a progress bar."""
    find: Any = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return find is not None and getattr(find(), "kernel", None) is not None


def refresh_seconds() -> float:
    """Return the seconds between updates of a progress bar; a log file gets a line for each."""
    return 0.1 if ErrorStream().isatty() else 0.2 if in_notebook() else 10.0


def bar_options(progress: bool | None) -> dict[str, Any]:
    """Return the options of a progress bar that decide where, whether and how often it is shown.

    Args:
        progress: show the bar; None: after one second, in a terminal or a notebook.
    """
    pause = refresh_seconds()
    watched = pause < 1.0 if progress is None else progress
    return {
        "disable": not visible(watched),
        "file": ErrorStream(),
        "mininterval": pause,
        "delay": 1.0 if progress is None else 0.0,
    }


__getattr__ = deprecated_names(globals(), RENAMED)
