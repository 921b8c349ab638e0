"""Studies that commit 97e0e3f wrote: they open, replay to the same state, and continue."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bo_invert as bi

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
try:
    import studies
finally:
    sys.path.remove(str(GOLDEN))

EXPECTED = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
each_study = pytest.mark.parametrize(
    ("file", "name"), [(file, name) for file, named in studies.STUDIES.items() for name in named]
)


@pytest.fixture(autouse=True)
def versions_may_differ() -> Iterator[None]:
    """Ignore the warning that Python or a package is another major version than in the header."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=r"(?s)(?!.*the (oracle|decoder) is another).*\bwas .*, is "
        )
        yield


def opened(file: str, name: str, folder: Path) -> bi.Study:
    storage = studies.open_copy(file, folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        study = bi.Study.open(name, storage, problem=studies.STUDIES[file][name]())
    changed = [str(warning.message) for warning in caught if "is another" in str(warning.message)]
    assert changed == [], "the digest of an unchanged oracle is the same in every version"
    return study


@each_study
def test_a_golden_study_replays_to_the_same_state(file: str, name: str, tmp_path: Path) -> None:
    state, expected = studies.state(opened(file, name, tmp_path)), EXPECTED[file][name]["state"]
    # Later versions may add options, whose defaults apply.
    recorded = expected["strategy"]["options"]
    options = state["strategy"]["options"]
    state["strategy"]["options"] = {key: options[key] for key in options if key in recorded}
    assert state == expected


def test_golden_studies_hold_events_of_every_kind(tmp_path: Path) -> None:
    kinds, states = set(), set()
    for file in ("studies.db", "served.db"):
        with closing(sqlite3.connect(studies.open_copy(file, tmp_path))) as connection:
            kinds |= {
                json.loads(data)["kind"]
                for (data,) in connection.execute("select data from events")
            }
        states |= {
            t["state"] for study in EXPECTED[file].values() for t in study["state"]["trials"]
        }
    assert kinds == {
        *("asked", "enqueued", "added", "started", "finished"),
        *("late", "released", "lost", "cancelled", "keyed"),
    }
    assert states == {str(state) for state in bi.State}


@pytest.mark.parametrize("name", sorted(studies.PORTABLE))
def test_a_golden_study_without_a_model_continues_with_the_same_points(
    name: str, tmp_path: Path
) -> None:
    file = "served.db" if name == "served" else "studies.db"
    found = studies.continuation(opened(file, name, tmp_path))
    expected = EXPECTED[file][name]["continuation"]
    assert numbers(found) == pytest.approx(numbers(expected), abs=1e-12)
    assert without_numbers(found) == without_numbers(expected)


@each_study
def test_a_golden_study_continues(file: str, name: str, tmp_path: Path) -> None:
    """Proposals of models depend on the processor; ``golden/studies.py`` compares them exactly."""
    study = opened(file, name, tmp_path)
    before = studies.state(study)
    expected = EXPECTED[file][name]["continuation"]
    found = studies.continuation(study)
    after = studies.state(study)
    assert found["calls"] == expected["calls"] > before["calls"]
    assert len(found["proposed"]) == len(expected["proposed"])
    closed = [t for t in before["trials"] if t["state"] not in ("queued", "lost", "running")]
    assert [after["trials"][t["number"]] for t in closed] == closed, (
        "completed trials stay unchanged"
    )
    assert (
        studies.state(bi.Study.open(name, study_storage(file, tmp_path), problem=study.problem))
        == after
    )


def study_storage(file: str, folder: Path) -> str:
    return str(folder / (f"{file}.db" if file.endswith(".jsonl") else file))


def numbers(found: Any) -> list[float]:
    """All numbers of a JSON value, in order."""
    if isinstance(found, dict):
        return [number for key in sorted(found) for number in numbers(found[key])]
    if isinstance(found, list):
        return [number for one in found for number in numbers(one)]
    return [float(found)] if isinstance(found, (int, float)) else []


def without_numbers(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: without_numbers(value) for key, value in found.items()}
    if isinstance(found, list):
        return [without_numbers(one) for one in found]
    return 0 if isinstance(found, (int, float)) else found


def test_a_server_goes_on_with_a_golden_study(tmp_path: Path) -> None:
    from inside import Inside

    shutil.copy(GOLDEN / "served.db", tmp_path / "runs.db")
    server = Inside(tmp_path)
    expected = EXPECTED["served.db"]["served"]["state"]
    shown = server.request("GET", "/v1/studies/served/trials").json()["trials"]
    assert [(t["number"], t["state"], t["loss"]) for t in shown] == [
        (t["number"], t["state"], t["loss"]) for t in expected["trials"]
    ]
    assert (
        server.request("GET", "/v1/studies/served/best").json()["best"]["number"]
        == expected["best"]
    )
    again = server.request(
        "POST", "/v1/studies/served/ask", json={"count": 1}, headers={"Idempotency-Key": "key 2"}
    ).json()
    assert [t["number"] for t in again["trials"]] == expected["keys"]["key 2"], "a repeated request"
    asked = server.request("POST", "/v1/studies/served/ask", json={"count": 1, "worker": "w10"})
    assert asked.status_code == 200
    (trial,) = asked.json()["trials"]
    answer = server.request(
        "POST", f"/v1/studies/served/trials/{trial['number']}/tell", json={"outputs": [1.0, 0.9]}
    )
    assert answer.json()["state"] == "completed"
