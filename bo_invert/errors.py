"""Every error this library raises on purpose.

::

    BoInvertError
    ├── InvalidInput (ValueError)      an argument cannot be what was meant
    ├── Unsuitable                     a strategy cannot work on this problem
    ├── MissingExtra (ImportError)     an optional dependency is not installed
    ├── StudyNotFound (KeyError)       no study of that name in this storage
    ├── StudyExists                    a study of that name is already there
    ├── ProblemChanged                 the stored study was about another problem
    ├── TellConflict                   a trial was told two different things
    ├── AccessDenied                   a server wants another token
    ├── TrackingError                  MLflow cannot be reached, or refuses
    └── StorageError
        ├── StorageConflict            somebody else appended to the log first
        ├── StorageBusy                the database stayed locked for too long
        ├── ServerUnreachable          a server did not answer
        └── SchemaTooNew               written by a newer version of bo_invert

    Verdict                            an answer about a design, not a defect of the program:
    ├── Failed                         the call went wrong; it may be worth another try
    └── Infeasible                     the design cannot be evaluated and never will be
"""

from __future__ import annotations


class BoInvertError(Exception):
    """Base of all errors raised on purpose by this library."""


class InvalidInput(BoInvertError, ValueError):
    """An argument cannot be what was meant; the message says which, where, and what would do."""


class Unsuitable(BoInvertError):
    """A strategy cannot work on this problem; the message names both and the remedy."""


class MissingExtra(BoInvertError, ImportError):
    """An optional dependency is not installed; the message says how to install it."""


class StudyNotFound(BoInvertError, KeyError):
    """No study of that name lives in this storage."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0]) if self.args else ""


class StudyExists(BoInvertError):
    """A study of that name is already there."""


class ProblemChanged(BoInvertError):
    """The stored study was about another problem; the message lists the differences."""


class TellConflict(BoInvertError):
    """A trial that was already told something is told something else."""


class AccessDenied(BoInvertError):
    """A server refuses: no token, a wrong one, or one that may only read."""


class TrackingError(BoInvertError):
    """MLflow cannot be reached, or refuses; the study is as it was, and what MLflow lacks can be added later."""


class StorageError(BoInvertError):
    """The storage could not do what was asked of it."""


class StorageConflict(StorageError):
    """The log grew since it was read; read again, decide again, append again."""


class StorageBusy(StorageError):
    """The database stayed locked by another program for too long."""


class ServerUnreachable(StorageError):
    """A server did not answer for too long; the message says which and to what."""


class SchemaTooNew(StorageError):
    """The storage was written by a newer version of bo_invert."""


class Verdict(Exception):
    """What became of a call that gave no outputs: returned to ``study.tell`` or raised by an oracle."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason!r})"


class Failed(Verdict):
    """The call went wrong (crash, time-out, not a number). Billed; may be tried again."""


class Infeasible(Verdict):
    """The design cannot be evaluated (no mesh, no synthesis). Billed; never proposed again."""
