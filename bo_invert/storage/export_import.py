"""A study as a JSON Lines file, to archive it or to move it between storages."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np

from bo_invert.errors import InvalidInputError, SchemaTooNewError
from bo_invert.search_domain import stored_domain
from bo_invert.storage.base import SCHEMA, Store
from bo_invert.storage.log_replay import Log
from bo_invert.types import JSON

FORMAT = "bo_invert study"


def export_study(store: Store, name: str, path: str | Path) -> int:
    """Write a study to a file.

    The first line describes the study, each further line is an event, and the last line holds the
    number of events. The file replaces an old one only when it is complete.

    Args:
        store: Storage of the study.
        name: Name of the study.
        path: Path of the file.

    Returns:
        The number of events.

    Raises:
        StudyNotFoundError: There is no such study.
        InvalidInputError: The folder does not exist.
        OSError: The file cannot be written.
    """
    target = Path(path).absolute()
    if not target.parent.is_dir():
        raise InvalidInputError(
            f"export: the folder {str(target.parent)!r} must exist. Create it first"
        )
    events = store.events(name)
    head = {"format": FORMAT, "schema": SCHEMA, "name": name, "header": store.header(name)}
    with NamedTemporaryFile(
        "w",
        encoding="utf-8",
        dir=target.parent,
        prefix=f".{target.name}.",
        suffix=".part",
        delete=False,
    ) as file:
        try:
            file.writelines(
                json.dumps(line, allow_nan=False) + "\n"
                for line in (head, *events, {"end": len(events)})
            )
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # so that the rename survives a power failure
    finally:
        os.close(folder)
    return len(events)


def import_study(store: Store, path: str | Path, name: str | None = None) -> str:
    """Read a study from a file into a storage, all or nothing.

    Args:
        store: Storage of the new study.
        path: File from ``export_study``.
        name: Name of the new study. Default: the name in the file.

    Returns:
        The name.

    Raises:
        InvalidInputError: The file is missing, incomplete or not a study; the message names the
            line.
        SchemaTooNewError: A newer version wrote the file.
        StudyExistsError: The name is taken.
    """
    lines = _lines(Path(path))
    head = lines[0] if lines else None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise InvalidInputError(
            f"import: {str(path)!r} must be a file from an export; its first line is none"
        )
    if not isinstance(head.get("schema"), int) or head["schema"] > SCHEMA:
        raise SchemaTooNewError(
            f"import: {str(path)!r} was written by a newer version of bo_invert "
            f"(schema {head.get('schema')!r}, this one knows {SCHEMA}); "
            "run: pip install --upgrade bo-invert"
        )
    with _invalid(f"the first line of {str(path)!r} describes no study"):
        _check_header(head)
    ends = [i for i, line in enumerate(lines) if isinstance(line, dict) and "end" in line]
    events = lines[1 : ends[0] if ends else None]
    log = Log()
    for number, event in enumerate(events, start=2):
        with _invalid(f"line {number} of {str(path)!r} is not a valid next event"):
            known = len(log)
            log.apply([event])
            for point in (log[trial].point for trial in range(known, len(log))):
                if point.ndim != 1 or not np.isfinite(point).all():
                    raise ValueError(f"a point must be a list of finite numbers, got {point}")
    if not ends or lines[ends[0]]["end"] != len(events):
        raise InvalidInputError(
            f"import: {str(path)!r} is incomplete: its last line must be the number of events, "
            f"{len(events)}. Export the study again"
        )
    if len(lines) > ends[0] + 1:
        raise InvalidInputError(
            f"import: {str(path)!r} continues after its end, in line {ends[0] + 2}"
        )
    chosen = head["name"] if name is None else name
    if not chosen.strip():
        raise InvalidInputError(f"import: the name must not be blank, got {chosen!r}")
    store.create(chosen, head["header"], events)
    return chosen


def _lines(path: Path) -> list[JSON]:
    """Return the content of each line of a file."""
    with _invalid(f"{str(path)!r} cannot be read"), path.open(encoding="utf-8") as file:
        texts = list(file)
    lines = []
    for number, text in enumerate(texts, start=1):
        with _invalid(f"line {number} of {str(path)!r} is incomplete or not JSON"):
            lines.append(json.loads(text))
            # This rejects text that no storage accepts.
            json.dumps(lines[-1], allow_nan=False, ensure_ascii=False).encode()
    return lines


@contextmanager
def _invalid(cause: str) -> Iterator[None]:
    """Convert the errors of invalid content to ``InvalidInputError``."""
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise InvalidInputError(f"import: {cause} ({type(error).__name__}: {error})") from error


def _check_header(head: dict[str, JSON]) -> None:
    """Check the header of an imported study.

    An invalid header would make it impossible to list the studies of its storage.
    """
    header = head["header"]
    problem, strategy = header["problem"], header["strategy"]
    stored_domain(problem)
    objective = problem["objective"]
    words = [head["name"], header["problem_name"], header["created"], strategy["name"]]
    numbers = [header["seed"], *(objective.get("scale") or [1.0])]
    for kind, values in (
        (str, [*words, objective["type"], *problem["outputs"]]),
        ((int, float), numbers),
    ):
        if not all(isinstance(value, kind) for value in values):
            raise TypeError(f"expected {kind}, got {values}")
