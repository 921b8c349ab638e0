"""A study as one JSON-lines file: to keep, to send, to move between storages."""

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
from bo_invert.storage.events import Log
from bo_invert.types import JSON, Array

FORMAT = "bo_invert study"


def export_study(store: Store, name: str, path: str | Path) -> int:
    """Write a study to a file: a line about it, a line for each event, a line that says how many they were.

    The file appears whole or not at all: until then, and if anything goes wrong, the old one stays.

    Args:
        store: where the study lives.
        name: of the study.
        path: of the file.

    Returns:
        How many events it has.

    Raises:
        StudyNotFoundError: there is no such study.
        InvalidInputError: the folder does not exist.
        OSError: the file cannot be written.
    """
    target = Path(path).absolute()
    if not target.parent.is_dir():
        raise InvalidInputError(
            f"export: the folder {str(target.parent)!r} does not exist; create it first"
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
    """Take a study from a file into a storage, whole or not at all.

    Args:
        store: where it will live.
        path: of a file that ``export_study`` wrote.
        name: of the study there; default: the one it had.

    Returns:
        The name.

    Raises:
        InvalidInputError: there is no such file, it is torn, or it is no study; the message names the line.
        SchemaTooNewError: a newer version wrote it.
        StudyExistsError: the name is taken.
    """
    lines = _lines(Path(path))
    number, head = next(lines, (1, None))
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise InvalidInputError(
            f"import: {str(path)!r} is not a study; its first line should say so"
        )
    if not isinstance(head.get("schema"), int) or head["schema"] > SCHEMA:
        raise SchemaTooNewError(
            f"import: {str(path)!r} was written by a newer version of bo_invert (schema {head.get('schema')!r}, this "
            f"one knows {SCHEMA}); run: pip install --upgrade bo-invert"
        )
    _refuse_header(head, path)
    events: list[JSON] = []
    end: JSON = None
    log = Log()
    for number, line in lines:
        if end is not None:
            raise InvalidInputError(
                f"import: {str(path)!r} goes on behind its end, in line {number}"
            )
        if isinstance(line, dict) and "end" in line:
            end = line["end"]
            continue
        try:
            known = len(log)
            log.apply([line])
            for trial in range(known, len(log)):
                _refuse_point(log[trial].point)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            said = f"{type(error).__name__}: {error}"
            raise InvalidInputError(
                f"import: line {number} of {str(path)!r} is no event that can follow ({said})"
            ) from error
        events.append(line)
    if end != len(events):
        raise InvalidInputError(
            f"import: {str(path)!r} is torn: it has {len(events)} events and no line that says so; export it again"
        )
    chosen = head["name"] if name is None else name
    store.create(chosen, head["header"], events)
    return chosen


def _lines(path: Path) -> Iterator[tuple[int, JSON]]:
    """Numbers, from 1, and contents of the lines of a file."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    content = json.loads(line)
                    json.dumps(
                        content, allow_nan=False, ensure_ascii=False
                    ).encode()  # what no storage could keep
                    yield number, content
                except (ValueError, RecursionError) as error:
                    raise InvalidInputError(
                        f"import: line {number} of {str(path)!r} is torn or not JSON: {error}"
                    ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"import: {str(path)!r} cannot be read: {error}") from error


def _refuse_header(head: dict[str, JSON], path: str | Path) -> None:
    """A study that cannot be shown would keep all others of its storage from being listed.

    Raises:
        InvalidInputError: it is not what ``Study.create`` writes.
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
        said = f"{type(error).__name__}: {error}"
        raise InvalidInputError(
            f"import: the first line of {str(path)!r} describes no study ({said})"
        ) from error


def _refuse_point(point: Array) -> None:
    if point.ndim != 1 or not np.isfinite(point).all():
        raise ValueError(f"a point is a list of finite numbers, got {point.tolist()}")


def _synchronise(folder: Path) -> None:
    """Make a rename in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
