"""A study as a JSON Lines file, to archive it or to move it between storages."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp

from bo_invert.errors import InvalidInputError, SchemaTooNewError, StudyDamagedError, blank
from bo_invert.storage.base import CHECKSUMS, SCHEMA, Store
from bo_invert.storage.checksum_chain import Chain, ChainError, link, seal, split
from bo_invert.storage.event_validation import EventRules, check_header
from bo_invert.storage.log_replay import Log
from bo_invert.storage.reader import INVALID
from bo_invert.types import JSON

FORMAT = "bo_invert study"


def export_study(store: Store, name: str, path: str | Path, *, intact: bool = False) -> int:
    """Write a study to a file.

    The first line describes the study, each further line is an event, and the last line holds the
    number of events. Each line but the first one ends with a chained checksum. The file replaces an
    old one only when it is complete.

    Args:
        store: Storage of the study.
        name: Name of the study.
        path: Path of the file.
        intact: Write the events before the first damaged one.

    Returns:
        The number of events.

    Raises:
        StudyNotFoundError: There is no such study.
        StudyDamagedError: The study is damaged.
        InvalidInputError: The folder does not exist.
        OSError: The file cannot be written.
    """
    target = Path(path).absolute()
    if not target.parent.is_dir():
        raise InvalidInputError(
            f"export: the folder {str(target.parent)!r} must exist. Create it first"
        )
    header = store.header(name)
    events = _intact_events(store, name, header) if intact else store.events(name)
    head, *lines = [
        json.dumps(line, allow_nan=False)
        for line in (
            {"format": FORMAT, "schema": SCHEMA, "name": name, "header": header},
            *events,
            {"end": len(events)},
        )
    ]
    with complete_file(target) as part, part.open("w", encoding="utf-8") as file:
        file.write(f"{head}\n")
        file.writelines(f"{line}\n" for line, _ in seal(link("", head), lines))
    return len(events)


@contextmanager
def complete_file(target: Path) -> Iterator[Path]:
    """Yield the path of a temporary file that becomes the target at the end of the block.

    The target is replaced only by a complete file that is on the disk.
    """
    handle, name = mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # so that the rename survives a power failure
    finally:
        os.close(folder)


def _intact_events(store: Store, name: str, header: JSON) -> list[JSON]:
    """Return the events of a study before the first damaged one."""
    limit: int | None = None
    while True:
        try:
            events = store.events(name, limit=limit)
            break
        except StudyDamagedError as error:
            if error.event is None or (limit is not None and error.event > limit):
                raise
            limit = error.event - 1
    log, rules = Log(), EventRules(header, strict=True)
    for intact, event in enumerate(events):
        try:
            rules.check(log, event)
            log.apply([event])
        except INVALID:
            return events[:intact]
    return events


def import_study(store: Store, path: str | Path, name: str | None = None) -> str:
    """Read a study from a file into a storage, all or nothing.

    Args:
        store: Storage of the new study.
        path: File from ``export_study``.
        name: Name of the new study. Default: the name in the file.

    Returns:
        The name.

    Raises:
        InvalidInputError: The file is missing, incomplete, changed or not a study; the message
            names the line.
        SchemaTooNewError: A newer version wrote the file.
        StudyExistsError: The name is taken.
    """
    texts, lines = _lines(Path(path))
    head = lines[0] if lines else None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise InvalidInputError(
            f"import: {str(path)!r} must be a file from an export; its first line is none"
        )
    schema = head.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise SchemaTooNewError(
            f"import: {str(path)!r} was written by a newer version of bo_invert "
            f"(schema {schema!r}, this one knows {SCHEMA}); "
            "run: pip install --upgrade bo-invert"
        )
    with _invalid(f"the first line of {str(path)!r} describes no study"):
        check_header(head.get("header"))
        if not isinstance(head.get("name"), str) or blank(head["name"]):
            raise ValueError(f"name must be a text, got {head.get('name')!r:.80}")
    ends = [i for i, line in enumerate(lines) if isinstance(line, dict) and "end" in line]
    end = ends[0] if ends else len(lines)
    events: list[JSON] = []
    log, rules = Log(), EventRules(head["header"], strict=True)
    chain = Chain(link("", texts[0]))
    for number, text in enumerate(texts[1:end], start=1):
        with _invalid(f"line {number + 1} of {str(path)!r} is not a valid next event"):
            events.append(_sealed(chain, number, text, schema))
            rules.check(log, events[-1])
            log.apply(events[-1:])
    if not ends or lines[end]["end"] != len(events):
        raise InvalidInputError(
            f"import: {str(path)!r} is incomplete: its last line must be the number of events, "
            f"{len(events)}. Export the study again"
        )
    with _invalid(f"line {end + 1} of {str(path)!r} is not the end of these events"):
        _sealed(chain, end, texts[end], schema)
    if len(lines) > end + 1:
        raise InvalidInputError(f"import: {str(path)!r} continues after its end, in line {end + 2}")
    chosen = head["name"] if name is None else name
    if blank(chosen):
        raise InvalidInputError(f"import: the name must not be blank, got {chosen!r}")
    store.create(chosen, head["header"], events)
    return chosen


def _sealed(chain: Chain, number: int, text: str, schema: int) -> JSON:
    """Return the content of a line; check its checksum if its version wrote one.

    Raises:
        ValueError: The line or one before it was changed.
    """
    body, checksum = split(text)
    if schema < CHECKSUMS:
        return json.loads(body)
    if checksum is None:
        raise ValueError("it has no checksum. Export the study again")
    try:
        return chain.read(number, text)
    except ChainError as error:
        raise ValueError(
            f"it {error.why}: it was changed, or lines before it are missing. Export the study "
            "again"
        ) from None


def _lines(path: Path) -> tuple[list[str], list[JSON]]:
    """Return text and content of each line of a file."""
    with _invalid(f"{str(path)!r} cannot be read"), path.open(encoding="utf-8") as file:
        texts = [line.rstrip("\r\n") for line in file]
    lines = []
    for number, text in enumerate(texts, start=1):
        with _invalid(f"line {number} of {str(path)!r} is incomplete or not JSON"):
            lines.append(json.loads(text))
            # This rejects text that no storage accepts.
            json.dumps(lines[-1], allow_nan=False, ensure_ascii=False).encode()
    return texts, lines


@contextmanager
def _invalid(cause: str) -> Iterator[None]:
    """Convert the errors of invalid content to ``InvalidInputError``."""
    try:
        yield
    except (*INVALID, OSError) as error:
        raise InvalidInputError(f"import: {cause} ({type(error).__name__}: {error})") from error
