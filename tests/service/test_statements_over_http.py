"""Constraints, fixed and conditional parameters, steps, units and several criteria on a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from servers import Served

import bo_invert as bi

pytestmark = pytest.mark.service
STATEMENT: dict[str, Any] = {
    "space": {
        "type": "box",
        "parameters": {
            "a": {"type": "float", "low": 0, "high": 1},
            "b": {"type": "float", "low": 0, "high": 1},
            "heat": {"type": "float", "low": 20, "high": 100, "step": 10},
            "solvent": {"type": "choice", "values": ["water", "dmso"]},
            "dose": {
                "type": "float", "low": 0, "high": 1,
                "when": [{"parameter": "solvent", "values": ["dmso"]}],
            },
            "base": {"type": "fixed", "value": "NaOH"},
        },
        "constraints": ["a + b == 1", "dose <= a"],
    },
    "outputs": ["yield", "cost"],
    "objective": {
        "type": "pareto",
        "objectives": [
            {"type": "maximize", "output": "yield"}, {"type": "minimize", "output": "cost"},
        ],
    },
    "units": {"heat": "°C", "yield": "%"},
}  # fmt: skip
HEADER = "a;b;heat;solvent;dose;yield;cost\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("statements")
    made = Served(folder, f"sqlite:///{folder}/runs.db")
    yield made
    assert made.stop() in (0, -15)


class Api:
    """Requests for one study."""

    def __init__(self, served: Served, name: str) -> None:
        self.served, self.name = served, name
        answer = self.send(
            "", {"name": name, "problem": STATEMENT, "strategy": {"name": "random"}, "seed": 0}
        )
        assert answer.status_code == 201, answer.text

    def send(self, path: str, body: object, reader: bool = False) -> httpx.Response:
        token = self.served.reader if reader else self.served.token
        where = f"/{self.name}/{path}" if path else ""
        return httpx.post(
            f"{self.served.url}/v1/studies{where}", json=body, timeout=60.0,
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip

    def get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.served.reader}"}
        url = f"{self.served.url}/v1/studies/{self.name}/{path}"
        return httpx.get(url, headers=headers).json()


def outputs(values: dict[str, Any]) -> dict[str, float]:
    return {"yield": 10 * values["a"], "cost": values["heat"] + values.get("dose", 0.0)}


def test_asks_tells_and_predictions_of_a_constrained_study(served: Served) -> None:
    api = Api(served, "mixture")
    for fixed in ({}, {"solvent": "dmso"}, {"heat": 50.0}):
        trials = api.send("ask", {"count": 4, "fixed": fixed}).json()["trials"]
        assert len(trials) == 4
        for trial in trials:
            values = trial["parameters"]
            assert values["a"] + values["b"] == pytest.approx(1.0, abs=1e-9)
            assert values["base"] == "NaOH"
            assert ("dose" in values) == (values["solvent"] == "dmso")
            assert values.get("dose", 0.0) <= values["a"] + 1e-9
            assert fixed.items() <= values.items()
            conditions = {**values, "heat": 43.21} if trial["number"] == 0 else None
            body = {"outputs": outputs(values), "parameters": conditions}
            answer = api.send(f"trials/{trial['number']}/tell", body)
            assert answer.status_code == 200, answer.text
    moved = api.get("trials?limit=1")["trials"][0]
    assert moved["parameters"]["heat"] == 43.21
    design = {"a": 0.4, "b": 0.6, "heat": 33.3, "solvent": "water"}
    found = api.send("predict", {"parameters": [design]}, reader=True)
    assert found.status_code == 200, found.text
    assert found.json()["outputs"].keys() == {"yield", "cost"}
    for wrong, reason in (
        ({"fixed": {"solvent": "ether"}}, "not one of"),
        ({"fixed": {"heat": 33.0}}, "step"),
        ({"fixed": {"a": 0.5, "b": 0.9}}, "no point can be proposed"),
    ):
        refused = api.send("ask", {"count": 1, **wrong})
        assert (refused.status_code, reason in refused.text) == (422, True), refused.text
    assert api.send("ask", {}, reader=True).status_code == 403


def test_tables_fronts_and_the_study_in_python(served: Served) -> None:
    api = Api(served, "table")
    rows = "0,5;0,5;33,3;water;;1,234;7\n0,5;0,6;30;water;;1;7\n0,4;0,6;120;dmso;0,1;1;7\n"
    answer = api.send("table", {"csv": HEADER + rows + "0,3;0,7;20;dmso;0,2;5;;\n"}).json()
    assert len(answer["trials"]) == 1, answer
    assert [one["row"] for one in answer["rejected"]] == ["row 3", "row 4", "row 5"]
    assert "a + b == 1" in answer["rejected"][0]["reason"]
    tabs = (HEADER + "0.5;0.5;50;dmso;0.1;1,234;3\n").replace(";", "\t")
    refused = api.send("table", {"csv": tabs}).json()
    assert "can be read as 1.234 or as 1234" in refused["rejected"][0]["reason"]
    assert len(api.send("table", {"csv": tabs, "thousands": ","}).json()["trials"]) == 1
    asked = api.send("ask", {"count": 1}).json()["trials"][0]
    blank = {**asked["parameters"], "yield": None, "cost": None}
    left = api.send("table", {"rows": [blank], "blank": "failed"}).json()
    assert (left["trials"], left["waiting"][0]["trial"]) == ([], asked["number"])
    forced = api.send("table", {"rows": [blank], "blank": "failed-open"}).json()
    assert forced["failed"][0]["reason"] == "no value of yield, cost"
    front = api.get("front")
    assert front["hypervolume"] > 0
    study = bi.Study.open("table", served.url, token=served.token)
    assert study.trials[0].y.tolist() == [1.234, 7.0]
    reader = bi.Study.open("table", served.url, token=served.reader)
    assert [t.number for t in study.front] == [t.number for t in reader.front]
    assert study.journal.header["units"] == {"heat": "°C", "yield": "%"}
