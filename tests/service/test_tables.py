"""Tables, pending trials and amendments over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inside import Inside

import bo_invert as bi

BOX = {"a": bi.Float(0.0, 1.0), "solvent": bi.Choice("water", "dmso")}
AT = "/v1/studies/s"


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    """A server with a study of two outputs, of which two trials are running."""
    made = Inside(tmp_path)
    problem = bi.Problem(bi.Box(BOX), None, bi.Maximize("y"), outputs=["y", "z"])
    bi.Study.create("s", problem, "random", storage=made.store).ask(2)
    return made


def sent(inside: Inside, path: str, body: dict[str, Any], status: int = 200) -> Any:
    answer = inside.request("POST", f"{AT}/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def trial(inside: Inside, number: int) -> dict[str, Any]:
    found: dict[str, Any] = inside.request("GET", f"{AT}/trials/{number}").json()
    return found


def test_a_table_is_added_once(inside: Inside) -> None:
    text = "a;solvent;y;z;colour\n0,5;water;1,5;2;red\n0,25;watr;1;2;\n1,5;water;1;2;\n"
    found = sent(inside, "table", {"csv": text}, 201)
    assert found["trials"] == [2]
    assert [one["row"] for one in found["rejected"]] == ["row 3", "row 4"]
    assert found["summary"].startswith("1 observation recorded, 2 rows invalid")
    again = sent(inside, "table", {"csv": text, "outside": "model"}, 201)
    assert (again["trials"], again["repeated"]) == ([3], [{"row": "row 2", "trial": 2}])
    assert trial(inside, 2)["extra"] == {"colour": "red"}
    assert trial(inside, 3)["outside"] is True
    assert trial(inside, 3)["parameters"]["a"] == 1.5
    assert inside.request("GET", f"{AT}/best").json()["best"]["number"] == 2
    rows = [{"A": 0.75, "solvent": "dmso", "y": None, "z": None}]
    queued = sent(inside, "table", {"rows": rows, "columns": {"A": "a"}}, 201)
    assert trial(inside, queued["trials"][0])["state"] == "queued"


def test_results_of_pending_trials(inside: Inside) -> None:
    assert inside.request("GET", f"{AT}/pending").json()["pending"][0]["y"] is None
    page = inside.request("GET", f"{AT}/pending?limit=1").json()
    assert ([one["trial"] for one in page["pending"]], page["next"]) == ([0], 1)
    page = inside.request("GET", f"{AT}/pending?after=1").json()
    assert ([one["trial"] for one in page["pending"]], page["next"]) == ([1], None)
    answer = inside.request("GET", f"{AT}/pending?format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    first, second = answer.text.splitlines()[1:]
    text = f"trial,a,solvent,y,z\n{first.removesuffix(',')}1,2\n{second}\n"
    found = sent(inside, "results", {"csv": text})
    assert (found["trials"], found["skipped"][0]["reason"]) == ([0], "no outputs")
    moved = sent(inside, "results", {"rows": [{"trial": 1, "a": 0.125, "y": "0,5", "z": 1}]})
    assert moved["trials"] == [1]
    shown = trial(inside, 1)
    assert (shown["moved"], shown["parameters"]["a"]) == (True, 0.125)
    assert shown["query"]["point"][0] != 0.125


def test_conditions_further_values_and_amendments(inside: Inside) -> None:
    body = {"outputs": {"y": 1.0, "z": 2.0}, "parameters": {"a": 0.5}, "extra": {"ph": 7}}
    done = sent(inside, "trials/0/tell", body)
    assert (done["moved"], done["extra"], done["parameters"]["a"]) == (True, {"ph": 7}, 0.5)
    sent(inside, "trials/1/fail", {"reason": "boiled", "parameters": {"a": 0.9}})
    body = {"outputs": {"y": 3.0}, "reason": "typing error", "revision": 0}
    amended = sent(inside, "trials/0/amend", body)
    assert (amended["outputs"], amended["parameters"]["a"]) == ([3.0, 2.0], 0.5)
    assert amended["amendments"][0]["outputs"] == [1.0, 2.0]
    assert sent(inside, "trials/0/amend", body)["outputs"] == [3.0, 2.0]
    conflict = sent(inside, "trials/0/amend", body | {"outputs": {"y": 4.0}}, 409)
    assert "amended meanwhile" in conflict["detail"]
    assert sent(inside, "trials/1/amend", {"outputs": [5.0, 6.0]})["state"] == "completed"
    spent = inside.request("GET", AT).json()["spent"]
    assert (spent["failed"], spent["values"]) == (0, 2)


@pytest.mark.parametrize(
    ("path", "body", "part"),
    [
        ("table", {}, "either 'csv' or 'rows'"),
        ("table", {"csv": "a,y\n1,1\n"}, "are missing"),
        ("results", {"csv": "y,z\n1,1\n"}, "'trial' is missing"),
        ("trials/0/tell", {"outputs": [1, 1], "parameters": {"b": 1}}, "names must be among"),
        ("trials/0/tell", {"outputs": [1, 1], "parameters": {"a": 2}}, "outside"),
        ("trials/0/tell", {"outputs": [1, 1], "parameters": {"a": 1}, "point": [1, 0]}, "only one"),
        ("trials/0/tell", {"outputs": [1, 1], "point": [2, 0]}, "outside"),
        ("trials/0/tell", {"outputs": [1, 1], "extra": {"y": 1}}, "an output"),
        ("observations", {"observations": [{"outputs": [1, 1]}]}, "'point' or 'parameters'"),
        ("observations", {"observations": [{"point": [3, 0], "outputs": [1, 1]}]}, "outside"),
    ],
)
def test_invalid_requests_are_explained(
    inside: Inside, path: str, body: dict[str, Any], part: str
) -> None:
    assert part in sent(inside, path, body, 422)["detail"]
    assert inside.request("GET", AT).json()["trials"] == 2


def test_observations_have_parameters_or_points(inside: Inside) -> None:
    body = {
        "observations": [
            {"parameters": {"a": 0.3, "solvent": "dmso"}, "outputs": [1, 2], "extra": {"n": 1}},
            {"parameters": {"a": 3.0, "solvent": "dmso"}, "outputs": [9, 2], "outside": True},
        ]
    }
    first, second = sent(inside, "observations", body, 201)["trials"]
    assert (first["extra"], first["outside"]) == ({"n": 1}, False)
    assert (second["parameters"]["a"], second["outside"], second["feasible"]) == (3.0, True, False)


def test_readers_have_no_forms(inside: Inside) -> None:
    for token, access in (("read", "read"), ("write", "write")):
        answer = inside.request("GET", AT, token=token)
        assert answer.headers["token-access"] == access
    assert inside.request("POST", f"{AT}/table", token="read", json={}).status_code == 403
