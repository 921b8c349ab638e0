"""Ranges and several criteria over HTTP: declared problems, plausibility, the front."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inside import Inside

import bo_invert as bi
from bo_invert.problems.json_declaration import declaration_of, problem_from_declaration

pytestmark = pytest.mark.service
BOX = {"type": "box", "parameters": {"a": {"type": "float", "low": 0, "high": 1}}}
LATENT = {"type": "latent", "dim": 2}


def create(server: Inside, space: Any, objective: Any, **problem: Any) -> Any:
    body = {
        "name": "s",
        "problem": {"space": space, "objective": objective, **problem},
        "strategy": {"name": "random"},
    }
    return server.request("POST", "/v1/studies", json=body)


def tell_all(server: Inside, answers: list[Any]) -> list[Any]:
    asked = server.request("POST", "/v1/studies/s/ask", json={"count": len(answers)}).json()
    return [
        server.request(
            "POST", f"/v1/studies/s/trials/{trial['number']}/tell", json={"outputs": answer}
        ).json()
        for trial, answer in zip(asked["trials"], answers, strict=True)
    ]


PARETO = {
    "type": "pareto",
    "objectives": [
        {"type": "minimize", "output": "cost"},
        {"type": "maximize", "output": "yield"},
    ],
    "reference": [10, None],
}


def test_the_front_and_its_hypervolume(tmp_path: Path) -> None:
    server = Inside(tmp_path)
    assert create(server, BOX, PARETO).status_code == 201
    empty = server.request("GET", "/v1/studies/s/front").json()
    assert empty["numbers"] == []
    assert empty["reference"] is None
    tell_all(server, [[1.0, 2.0], [2.0, 4.0], [3.0, 3.0]])
    front = server.request("GET", "/v1/studies/s/front").json()
    assert front["labels"] == ["cost", "yield"]
    assert front["directions"] == ["minimize", "maximize"]
    assert front["numbers"] == [0, 1]
    assert front["compromise"] in (0, 1)
    assert [list(row) for row in front["parameters"]] == [["a"], ["a"]]
    assert front["values"] == [[1.0, 2.0], [2.0, 4.0]]
    assert front["reference"] == pytest.approx([10.0, 1.8])
    assert front["hypervolume"] == pytest.approx(1 * 0.2 + 8 * 2.2)
    curve = server.request("GET", "/v1/studies/s/hypervolume").json()
    assert curve["calls"] == [0, 1, 2, 3]
    assert curve["volumes"][-1] == pytest.approx(front["hypervolume"])


def test_other_objectives_have_no_front(tmp_path: Path) -> None:
    server = Inside(tmp_path)
    create(server, BOX, {"type": "minimize", "output": "y"})
    answer = server.request("GET", "/v1/studies/s/front")
    assert answer.status_code == 422
    assert "must be Pareto" in answer.text


def test_the_server_appends_the_plausibility(tmp_path: Path) -> None:
    server = Inside(tmp_path)
    objective = {"type": "pareto", "objectives": [{"type": "minimize", "output": "y"},
                                                  {"type": "plausibility"}]}  # fmt: skip
    assert create(server, LATENT, objective).status_code == 201
    # a client sends the outputs of the oracle, a worker all of them
    first, second = tell_all(server, [[1.0], [2.0, 0.5]])
    norm = float((np.array(first["point"]) ** 2).sum())
    assert first["outputs"] == pytest.approx([1.0, np.exp(-norm / 2)])
    assert second["outputs"] == [2.0, 0.5]
    refused = server.request(
        "POST", "/v1/studies/s/observations", json={"observations": [{"point": [0, 0]}]}
    )
    assert refused.status_code == 422
    added = server.request(
        "POST", "/v1/studies/s/observations",
        json={"observations": [{"point": [0, 0], "outputs": [3.0]}]},
    )  # fmt: skip
    assert added.json()["trials"][0]["outputs"] == [3.0, 1.0]


def test_ranges_and_intervals_to_avoid(tmp_path: Path) -> None:
    server = Inside(tmp_path)
    target = {
        "type": "target", "value": [[0.8, None], 1.0], "outputs": ["a", "b"],
        "avoid": {"f": [48, 52]}, "weights": [1, 2, 1], "scale": [1, 1, 2],
        "tolerance": {"b": 0.1, "f": 1},
    }  # fmt: skip
    assert create(server, BOX, target).status_code == 201
    (answered,) = tell_all(server, [[0.6, 1.5, 49.0]])
    assert answered["loss"] == pytest.approx((0.2**2 + 2 * 0.5**2 + 0.5**2) / 4)


def test_the_least_change_of_a_design(tmp_path: Path) -> None:
    server = Inside(tmp_path)
    target = {"type": "target", "value": [1.0], "tolerance": 0.1, "outputs": ["y"]}
    start = dict.fromkeys(BOX["parameters"], 0.5)
    goal = {"type": "nearest", "x0": start, "target": target, "few": True}
    assert create(server, BOX, goal).status_code == 201
    hit, miss = tell_all(server, [[1.05], [3.0]])
    assert hit["loss"] == hit["outputs"][1]
    assert (hit["violation"], miss["violation"]) == (0.0, pytest.approx(1.9))
    (tmp_path / "other").mkdir()
    wrong = create(Inside(tmp_path / "other"), BOX, {**goal, "x0": {"no": 1.0}})
    assert wrong.status_code == 422


@pytest.mark.parametrize(
    "objective",
    [
        {"type": "target", "value": [[2, 1]]},
        {"type": "target", "value": [[None, None]]},
        {"type": "target", "value": [[1, 2, 3]]},
        {"type": "pareto", "objectives": [{"type": "minimize"}]},
        {"type": "pareto", "objectives": [PARETO, PARETO]},
        {**PARETO, "reference": [1]},
        {"type": "pareto", "objectives": [{"type": "minimize"}, {"type": "plausibility"}]},
    ],
)
def test_invalid_objectives_are_refused(tmp_path: Path, objective: Any) -> None:
    assert create(Inside(tmp_path), BOX, objective).status_code == 422


def test_a_declaration_restores_criteria() -> None:
    space = bi.Latent(lambda z: z, dim=3)
    criteria = bi.Pareto(
        bi.Minimize("y"), bi.Plausibility(), bi.Target({"w": (0.0, None)}), reference={"y": 2.0}
    )
    problem = bi.Problem(space, None, criteria)
    again = problem_from_declaration(declaration_of(problem), "again")
    assert again.outputs == ("y", "w", "plausibility")
    assert again.objective == problem.objective
