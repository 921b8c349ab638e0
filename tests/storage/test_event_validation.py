"""Hostile and damaged data: refused at import with line and reason, harmless when stored."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inside import Inside
from typer.testing import CliRunner

import bo_invert as bi
from bo_invert.cli.main import app
from bo_invert.errors import InvalidInputError, StudyDamagedError
from bo_invert.storage.base import CHECKSUMS
from bo_invert.storage.checksum_chain import link, seal
from bo_invert.storage.export_import import export_study, import_study
from bo_invert.storage.memory import MemoryStore
from bo_invert.storage.reader import JournalReader, readers
from bo_invert.storage.sql import SqlStore
from bo_invert.study.study import Study

GOLDEN = Path(__file__).parents[1] / "golden" / "export.jsonl"
HEAD, *EVENTS, END = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
KINDS = sorted({event["kind"] for event in EVENTS})
HOSTILE: tuple[Any, ...] = (None, True, -1, 1.5, 1e300, 2**70, "x", [], {}, [1], {"a": 1})


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all values inside a value."""
    yield path
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inside in items:
            yield from leaves(inside, (*path, key))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy of a value with another value at a path."""
    if not path:
        return new
    changed = copy.deepcopy(value)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return changed


def write(file: Path, head: Any, events: list[Any], *, sealed: bool = False) -> Path:
    """Write an export, without checksums as older versions did."""
    lines = [json.dumps(line) for line in (*events, {"end": len(events)})]
    if sealed:
        head = {**head, "schema": CHECKSUMS}
        lines = [line for line, _ in seal(link("", json.dumps(head)), lines)]
    file.write_text("\n".join([json.dumps(head), *lines]), encoding="utf-8")
    return file


def refusal(store: MemoryStore, file: Path) -> str | None:
    """Import a study; return the message if it is refused."""
    try:
        import_study(store, file)
    except InvalidInputError as error:
        return str(error)
    return None


def used(store: MemoryStore, name: str) -> None:
    """Use everything that lists and pages show of a study."""
    study = Study.open(name, store)
    assert repr(study)
    assert study._repr_html_()
    study.to_dataframe()


@pytest.mark.parametrize("kind", KINDS)
def test_no_value_of_an_event_does_harm(kind: str, tmp_path: Path) -> None:
    """Each value is refused with its line and a reason, or the study is usable."""
    number = next(i for i, event in enumerate(EVENTS) if event["kind"] == kind)
    refused = 0
    for path in leaves(EVENTS[number]):
        for value in HOSTILE:
            changed = put(EVENTS[number], path, value)
            file = write(tmp_path / "s.jsonl", HEAD, [*EVENTS[:number], changed])
            store = MemoryStore()
            message = refusal(store, file)
            if message is None:
                used(store, HEAD["name"])
                continue
            refused += 1
            assert f"line {number + 2} of" in message, (path, value)
            assert "is not a valid next event" in message
            assert store.names() == []
    assert refused > len(HOSTILE)


@pytest.mark.parametrize("kind", KINDS)
def test_no_stored_event_hides_other_studies(kind: str, tmp_path: Path) -> None:
    """Events as an older version imported them, without validation."""
    number = next(i for i, event in enumerate(EVENTS) if event["kind"] == kind)
    store = MemoryStore()
    store.create("good", HEAD["header"], EVENTS)
    for i, path in enumerate(leaves(EVENTS[number])):
        changed = put(EVENTS[number], path, HOSTILE[i % len(HOSTILE)])
        name = str(path)
        store.create(name, HEAD["header"], [*EVENTS[:number], changed])
        found = dict(readers(store))
        assert isinstance(found["good"], JournalReader)
        if isinstance(found[name], JournalReader):
            used(store, name)
        else:
            assert f"event {number + 1} is invalid" in str(found[name])
        store.delete(name)


def test_no_stored_header_hides_other_studies(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "runs.db")
    store.create("good", HEAD["header"], EVENTS)
    names = []
    for i, path in enumerate(leaves(HEAD["header"])):
        for value in (HOSTILE[i % len(HOSTILE)], HOSTILE[(i + 5) % len(HOSTILE)]):
            header = put(HEAD["header"], path, value)
            names.append(f"{path} {value}")
            store.create(names[-1], header)
    found = dict(readers(store))
    assert isinstance(found["good"], JournalReader)
    assert sum(isinstance(one, StudyDamagedError) for one in found.values()) > len(names) // 4
    for name, one in found.items():
        if isinstance(one, StudyDamagedError):
            assert repr(name) in str(one)
            assert "its header is invalid: " in str(one)
    for shape in ("table", "json"):
        command = ["list", "--storage", str(tmp_path / "runs.db"), "--format", shape]
        listed = CliRunner().invoke(app, command)
        assert listed.exit_code == 0
        assert "good" in listed.stdout
    page = Inside(tmp_path).request("GET", "/v1/studies?limit=1000")
    assert page.status_code == 200
    body = page.json()
    assert "good" in [one["name"] for one in body["studies"]]
    assert len(body["studies"]) + len(body["damaged"]) == len(names) + 1


@pytest.mark.parametrize("value", HOSTILE)
def test_no_hostile_header_is_imported(value: Any, tmp_path: Path) -> None:
    """Each header is refused with a reason, or the study is usable."""
    for path in leaves({"header": HEAD["header"], "name": HEAD["name"]}):
        file = write(tmp_path / "s.jsonl", put(HEAD, path, value), [])
        store = MemoryStore()
        message = refusal(store, file)
        if message is None:
            used(store, store.names()[0])
        else:
            assert "must be" in message or "invalid" in message, (path, value)
            assert store.names() == []


STATES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "a start of a running trial": (
        [{"kind": "started", "trial": 0, "worker": None}] * 2,
        "cannot start",
    ),
    "an outcome without a start": (
        [{"kind": "finished", "trial": 0, "outcome": {}}],
        "cannot finish",
    ),
    "a negative trial": ([{"kind": "started", "trial": -1}], "trial must be a whole number"),
    "a trial that is none": ([{"kind": "lost", "trial": 7}], "trial must be below 1"),
    "a loss of no worker": ([{"kind": "lost", "trial": 0}], "not running"),
    "an ask that is not the next": (
        [{"kind": "asked", "ask": 3, "seconds": 0.0, "memo": None, "queries": []}],
        "ask must be 0",
    ),
    "keys of other trials": ([{"kind": "keyed", "key": "k", "trials": [3]}], "below 1"),
    "an unknown kind": ([{"kind": "exec"}], "kind must be one of"),
}


@pytest.mark.parametrize("what", STATES)
def test_events_must_fit_the_log_before_them(what: str, tmp_path: Path) -> None:
    first = {
        "kind": "enqueued",
        "at": 0.0,
        "queries": [
            {"point": [0.5], "gradient": False, "descent": None, "origin": "user", "meta": {}}
        ],
    }
    problem = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize("y"))
    made = MemoryStore()
    bi.Study.create("s", problem, "random", storage=made)
    head = {**HEAD, "name": "s", "header": made.header("s")}
    events, reason = STATES[what]
    events = [first, *({"at": 0.0, **event} for event in events)]
    for sealed in (False, True):
        file = write(tmp_path / "s.jsonl", head, events, sealed=sealed)
        with pytest.raises(InvalidInputError, match=rf"line {len(events) + 1} .*{reason}"):
            import_study(MemoryStore(), file)
    outside = put(first, ("queries", 0, "point"), [1.5])
    with pytest.raises(InvalidInputError, match=r"line 2 .*unit cube"):
        import_study(MemoryStore(), write(tmp_path / "s.jsonl", head, [outside]))
    longer = put(first, ("queries", 0, "point"), [0.5, 0.5])
    with pytest.raises(InvalidInputError, match=r"line 2 .*1 coordinates, got 2"):
        import_study(MemoryStore(), write(tmp_path / "s.jsonl", head, [longer]))


@pytest.fixture
def lines(tmp_path: Path) -> list[str]:
    """The lines of an export of this version."""
    store = MemoryStore()
    problem = bi.Problem(bi.Box([0.0], [1.0]), lambda x: float(x[0]), bi.Minimize("y"))
    bi.Study.create("s", problem, "random", storage=store).run(3)
    export_study(store, "s", tmp_path / "s.jsonl")
    return (tmp_path / "s.jsonl").read_text().splitlines()


def test_each_changed_line_of_an_export_is_named(lines: list[str], tmp_path: Path) -> None:
    file = tmp_path / "changed.jsonl"
    import_study(MemoryStore(), write_lines(file, lines))
    for number, line in enumerate(lines, start=1):
        for position in range(0, len(line), 7):
            changed = line[:position] + chr(ord(line[position]) ^ 1) + line[position + 1 :]
            write_lines(file, [*lines[: number - 1], changed, *lines[number:]])
            with pytest.raises(bi.BoInvertError) as refused:
                import_study(MemoryStore(), file)
            # The checksum of the first line is in the second one.
            named = {f"line {number} ", f"line {max(number, 2)} ", "first line", "newer version"}
            assert any(words in str(refused.value) for words in (*named, "incomplete"))


def test_missing_swapped_and_unsealed_lines_are_refused(lines: list[str], tmp_path: Path) -> None:
    file = tmp_path / "changed.jsonl"
    end = json.loads(lines[-1])["end"]
    unsealed = json.dumps({k: v for k, v in json.loads(lines[3]).items() if k != "checksum"})
    shorter = json.dumps({"end": end - 1})
    for content, words in (
        ([*lines[:3], *lines[4:]], "line 4 .*it was changed, or lines before it are missing"),
        ([*lines[:3], lines[4], lines[3], *lines[5:]], "line 4 .*not match its checksum"),
        ([*lines[:3], unsealed, *lines[4:]], "line 4 .*has no checksum"),
        ([*lines[:-2], shorter], f"line {len(lines) - 1} .*has no checksum"),
        ([*lines[:-2], lines[-1]], "incomplete"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            import_study(MemoryStore(), write_lines(file, content))


def write_lines(file: Path, lines: list[str]) -> Path:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
