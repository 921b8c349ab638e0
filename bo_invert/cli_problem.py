"""Problems as the command line names them, and their settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from bo_invert import registry
from bo_invert.errors import InvalidInput
from bo_invert.problem import Problem
from bo_invert.sources import load_problem
from bo_invert.stores.base import Store


def parse_settings(pairs: Iterable[str] | None, flag: str) -> dict[str, Any]:
    """``key=value`` pairs; values are read as JSON where they can be (``3``, ``[0.1, 0.2]``, ``true``), else as text.

    Raises:
        InvalidInput: a pair has no equals sign; ``flag`` says where it was written.
    """
    settings = {}
    for pair in pairs or ():
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise InvalidInput(f"{flag} {pair!r}: expected key=value")
        try:
            settings[key] = json.loads(text)
        except ValueError:
            settings[key] = text
    return settings


def stored_problem(store: Store, name: str, source: str | None, settings: Mapping[str, Any]) -> Problem:
    """The problem of a stored study: from ``source``, or from its name in the log where it is a ready one.

    Raises:
        InvalidInput: it is none and no source is given, or there is no such problem.
        StudyNotFound: there is no such study.
    """
    known = store.header(name)["problem_name"]
    if source is None and known not in registry.names("problems"):
        raise InvalidInput(f"study {name!r} is about {known!r}, which is no ready problem; pass --problem file.py:name")
    return load_problem(source or known, settings)
