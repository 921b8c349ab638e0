"""A study as a JSON Lines file, to archive it or to move it between storages."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np

from bo_invert.errors import InvalidInputError, SchemaTooNewError
from bo_invert.parameters import parameter_from_json
from bo_invert.search_domain import box_domain
from bo_invert.storage.base import SCHEMA, Store
from bo_invert.storage.log_replay import Log
from bo_invert.types import JSON, Array

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
    lines = [
        {"format": FORMAT, "schema": SCHEMA, "name": name, "header": store.header(name)},
        *events,
    ]
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
                json.dumps(line, allow_nan=False) + "\n" for line in [*lines, {"end": len(events)}]
            )
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    _synchronise(target.parent)
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
    number, head = next(lines, (1, None))
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
    _check_header(head, path)
    events: list[JSON] = []
    end: JSON = None
    log = Log()
    for number, line in lines:
        if end is not None:
            raise InvalidInputError(
                f"import: {str(path)!r} continues after its end, in line {number}"
            )
        if isinstance(line, dict) and "end" in line:
            end = line["end"]
            continue
        try:
            known = len(log)
            log.apply([line])
            for trial in range(known, len(log)):
                _check_point(log[trial].point)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            cause = f"{type(error).__name__}: {error}"
            raise InvalidInputError(
                f"import: line {number} of {str(path)!r} is not a valid next event ({cause})"
            ) from error
        events.append(line)
    if end != len(events):
        raise InvalidInputError(
            f"import: {str(path)!r} is incomplete: its last line must be the number of events, "
            f"{len(events)}. Export the study again"
        )
    chosen = head["name"] if name is None else name
    store.create(chosen, head["header"], events)
    return chosen


def _lines(path: Path) -> Iterator[tuple[int, JSON]]:
    """Yield the number, from 1, and the content of each line of a file."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    content = json.loads(line)
                    json.dumps(
                        content, allow_nan=False, ensure_ascii=False
                    ).encode()  # rejects text that no storage accepts
                    yield number, content
                except (ValueError, RecursionError) as error:
                    raise InvalidInputError(
                        f"import: line {number} of {str(path)!r} is incomplete or not JSON: {error}"
                    ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"import: {str(path)!r} cannot be read: {error}") from error


def _check_header(head: dict[str, JSON], path: str | Path) -> None:
    """Check the header of an imported study.

    An invalid header would make it impossible to list the studies of its storage.

    Raises:
        InvalidInputError: The header is not one of ``Study.create``.
    """
    try:
        header = head["header"]
        problem, strategy = header["problem"], header["strategy"]
        parameters = problem["space"].get("domain", {}).get("parameters", {})
        box_domain({name: parameter_from_json(one) for name, one in parameters.items()})
        objective, outputs = problem["objective"], problem["outputs"]
        scales = objective.get("scale") or [1.0]
        words = [
            head["name"],
            header["problem_name"],
            header["created"],
            strategy["name"],
            objective["type"],
            *outputs,
        ]
        numbers = [header["seed"], *scales]
        if not all(isinstance(word, str) for word in words):
            raise TypeError(f"expected text, got {words}")
        if not all(isinstance(number, (int, float)) for number in numbers):
            raise TypeError(f"expected numbers, got {numbers}")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise InvalidInputError(
            f"import: the first line of {str(path)!r} describes no study ({cause})"
        ) from error


def _check_point(point: Array) -> None:
    if point.ndim != 1 or not np.isfinite(point).all():
        raise ValueError(f"a point must be a list of finite numbers, got {point.tolist()}")


def _synchronise(folder: Path) -> None:
    """Make a rename in a folder survive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
