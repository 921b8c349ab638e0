"""Steps and conditions of parameters over HTTP: by declaration, by a remote study, and errors."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from servers import Served

import bo_invert as bi

pytestmark = pytest.mark.service

SPACE = {
    "dose": bi.Float(0, 1, step=0.1),
    "ph": bi.Float(2, 9, digits=1),
    "acid": bi.Choice("none", "a", "b"),
    "of acid": bi.When("acid", ["a", "b"], {"amount": bi.Float(0, 5, step=0.25)}),
}


def measure(design: dict[str, Any]) -> float:
    assert ("amount" in design) == (design["acid"] != "none")
    return float(design["dose"] + design["ph"] + design.get("amount", 9.0))


def declared(**changes: Any) -> dict[str, Any]:
    parameters = {
        "dose": {"type": "float", "low": 0, "high": 1, "step": 0.1},
        "acid": {"type": "choice", "values": ["none", "a"]},
        "amount": {
            "type": "float", "low": 0, "high": 5, "digits": 0,
            "when": [{"parameter": "acid", "values": ["a"]}],
        },
    }  # fmt: skip
    problem = {
        "space": {"type": "box", "parameters": parameters | changes},
        "outputs": ["y"],
        "objective": {"type": "minimize"},
    }
    return {"problem": problem, "strategy": {"name": "sobol"}}


def test_a_remote_study(server: Served, request: pytest.FixtureRequest) -> None:
    problem = bi.Problem(bi.Box(SPACE), measure, bi.Minimize(), name="acid")
    name = request.node.name
    study = bi.Study.create(name, problem, "sobol", storage=server.url, token=server.token)
    study.run(12)
    local = bi.Study.create("local", problem, "sobol").run(12)
    assert [t.point.tolist() for t in study.trials] == [t.point.tolist() for t in local.trials]
    headers = {"Authorization": f"Bearer {server.token}"}
    listed = httpx.get(f"{server.url}/v1/studies/{name}/trials", headers=headers).json()["trials"]
    designs = [problem.space.decode(trial.point[None])[0] for trial in local.trials]
    assert [trial["parameters"] for trial in listed] == designs
    assert any("amount" in design for design in designs)
    assert any("amount" not in design for design in designs)


def test_a_declared_study(server: Served, request: pytest.FixtureRequest) -> None:
    headers = {"Authorization": f"Bearer {server.token}"}
    path = f"{server.url}/v1/studies/{request.node.name}"
    body = {"name": request.node.name, **declared()}
    made = httpx.post(f"{server.url}/v1/studies", json=body, headers=headers)
    assert made.status_code in (200, 201), made.text
    asked = httpx.post(f"{path}/ask", json={"count": 8}, headers=headers).json()["trials"]
    for trial in asked:
        values = trial["parameters"]
        assert ("amount" in values) == (values["acid"] == "a")
        assert str(values["dose"]) in {f"{k / 10:.1f}" for k in range(11)}
        assert values.get("amount", 0.0) in range(6)
    queued = httpx.post(
        f"{path}/enqueue", json={"parameters": {"dose": 0.3, "acid": "none"}}, headers=headers
    )
    assert queued.status_code in (200, 201), queued.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dose": {"type": "float", "low": 0, "high": 1, "step": 0.3}}, "whole number of steps"),
        ({"dose": {"type": "float", "low": 0, "high": 1, "step": -1}}, "greater than 0"),
        (
            {"dose": {"type": "int", "low": 0, "high": 3,
                      "when": [{"parameter": "base", "values": [1]}]}},
            "there is no parameter",
        ),
        (
            {"dose": {"type": "int", "low": 0, "high": 3,
                      "when": [{"parameter": "acid", "values": ["c"]}]}},
            "is not one of",
        ),
    ],
)  # fmt: skip
def test_invalid_declarations(server: Served, changes: dict[str, Any], message: str) -> None:
    headers = {"Authorization": f"Bearer {server.token}"}
    body = {"name": "wrong", **declared(**changes)}
    answer = httpx.post(f"{server.url}/v1/studies", json=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert message in answer.text
