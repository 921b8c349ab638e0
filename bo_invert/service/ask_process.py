"""What runs in the processes that ask strategies, so that the server can answer others meanwhile."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import Any

from bo_invert.errors import BoInvertError
from bo_invert.service.lru_cache import Kept
from bo_invert.service.registered_problems import Registered
from bo_invert.storage.journal_base import Answer
from bo_invert.study.study import Study


@dataclass(frozen=True)
class Wanted:
    """One ask, as it travels to another process.

    Args:
        url: of the storage.
        study: its name.
        count: how many queries.
        budget: calls the whole study may spend.
        identity: tells the study from an older one of the same name.
    """

    url: str
    study: str
    count: int
    budget: int | None
    identity: str | None


@dataclass(frozen=True)
class Refused:
    """An error of this library, as it travels back. Errors with several arguments do not survive pickling."""

    kind: type[BoInvertError]
    text: str


_studies = Kept[tuple[str, str], Study](lambda study: study.journal.size)
_registered = Registered({})


def begin(parent: int, registered: Registered) -> None:
    """Prepare a process: one numerical thread, an end when the server ends."""
    global _registered
    _registered = registered
    threading.Thread(target=_end_with, args=(parent,), daemon=True, name="parent-watch").start()


def warm() -> None:
    """Import what models need, so that the first ask does not wait for it."""
    import bo_invert.models.gp.surrogate  # noqa: F401


def propose(wanted: Wanted) -> tuple[Answer, float] | Refused | None:
    """What a strategy wants to know next, and the seconds it took. Nothing is written. None: the budget is spent."""
    try:
        study = _study(wanted)
        view = study.journal.view(wanted.budget)
        if view.room <= 0:
            return None
        began = time.perf_counter()
        answer = study.propose(wanted.budget, view, int(min(wanted.count, view.room)))
        return answer, time.perf_counter() - began
    except BoInvertError as error:
        _studies.pop((wanted.url, wanted.study))
        return Refused(type(error), str(error))


def _study(wanted: Wanted) -> Study:
    key = (wanted.url, wanted.study)
    known = _studies.get(key)
    if known is None or known.journal.header.get("id") != wanted.identity:
        known = _registered.open(wanted.url, wanted.study)
        _studies.put(key, known)
    return known


def _end_with(parent: int) -> Any:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
