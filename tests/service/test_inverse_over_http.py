"""Verdicts, posteriors, tolerances and further targets on a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from servers import Served

import bo_invert as bi
from bo_invert.service.registered_problems import RegisteredProblems

pytestmark = pytest.mark.service
SPACE = bi.Box({"a": bi.Float(-2.0, 2.0)})


def problem(value: float) -> bi.Problem:
    target = bi.Target({"y": value}, tolerance=0.05)
    return bi.Problem(SPACE, lambda d: {"y": d["a"] ** 2}, target, name="square")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("inverse")
    made = Served(folder, f"sqlite:///{folder}/runs.db")
    yield made
    assert made.stop() in (0, -15)


@pytest.fixture(scope="module")
def study(served: Served) -> bi.Study:
    """A study whose target is out of reach, ended by the rule ``verdict``."""
    made = bi.Study.create("far", problem(9.0), storage=served.url, token=served.token)
    return made.run(40, stop="verdict")


def send(
    served: Served, path: str, body: object = None, status: int = 200, token: str = "", **query: Any
) -> Any:
    """Return the answer to a request with the read-only token, or another one."""
    answer = httpx.request(
        "GET" if body is None else "POST",
        f"{served.url}/v1/studies/{path}",
        json=body,
        params=query,
        headers={"Authorization": f"Bearer {token or served.reader}"},
        timeout=60.0,
    )
    assert answer.status_code == status, answer.text
    return answer.json()


def test_the_server_asks_for_best_hopes(served: Served, study: bi.Study) -> None:
    assert "the target is unreachable" in study.ended
    assert len(study.trials) < 40
    assert sum(trial.query.origin == "verdict" for trial in study.trials) >= 3
    found = send(served, "far/verdict")
    assert found["status"] == "unreachable"
    assert found["text"] == study.verdict().reason
    assert found["nearest"]["outputs"]["y"] == pytest.approx(4.0, abs=0.1)
    assert set(found["nearest"]["values"]) == {"a"}
    assert send(served, "far/verdict", status=422, alpha=2.0)


def test_targets_that_can_be_reached(served: Served, study: bi.Study) -> None:
    for wrong in ([{"y": 1.0}, [9.0]], [{"z": 1.0}], [[1.0, 2.0]], []):
        refused = send(served, "far/reachable", {"values": wrong}, status=422)
        assert "values" in refused["detail"]
    found = send(served, "far/reachable", {"values": [{"y": 1.0}, {"y": 9.0}]})
    here = study.reachable([1.0, 9.0])
    assert np.allclose(found["probability"], here.probability)
    assert found["probability"][0] > 0.9 > 0.1 > found["probability"][1]
    assert len(send(served, "far/reachable", {})["values"]) > 10


def test_a_further_target(served: Served, study: bi.Study) -> None:
    wanted = {
        "name": "near",
        "objective": {"type": "target", "outputs": ["y"], "value": [1.0], "tolerance": 0.02},
    }
    send(served, "far/retarget", wanted, status=403)
    for status in (201, 409):
        send(served, "far/retarget", wanted, status=status, token=served.token)
    again = {**wanted, "exist_ok": True}
    made = send(served, "far/retarget", again, status=201, token=served.token)
    assert made["name"] == "near"
    guess = send(served, "near/predicted")
    assert guess["values"]["a"] ** 2 == pytest.approx(1.0, abs=0.05)
    near = bi.Study.open("near", served.url, token=served.token)
    assert near.source is not None
    assert (near.source.study, near.spent.calls) == ("far", 0)
    ask = {"count": 1, "worker": "me"}
    (trial,) = send(served, "near/ask", ask, token=served.token)["trials"]
    value = trial["parameters"]["a"] ** 2
    tell = {"outputs": {"y": value}, "attempt": 0}
    send(served, f"near/trials/{trial['number']}/tell", tell, token=served.token)
    assert value == pytest.approx(1.0, abs=0.05)
    samples = send(served, "near/posterior", count=100)
    assert {round(one["a"]) for one in samples["parameters"]} == {-1, 1}
    assert len(samples["hit"]) == len(samples["branches"]) == len(samples["points"]) == 100
    best = send(served, "near/best")["best"]
    limits = send(served, f"near/trials/{best['number']}/tolerances")
    (row,) = limits["parameters"]
    assert all(abs(end**2 - 1.0) < 0.1 for end in row["box"])
    assert limits["to_measure"]
    send(served, "near/trials/999/tolerances", status=404)


def test_yields_under_noise_of_the_inputs(served: Served) -> None:
    target = bi.Target({"y": 1.0}, tolerance=0.2)
    rough = bi.Problem(SPACE, lambda d: {"y": d["a"] ** 2}, target, input_noise=0.05)
    study = bi.Study.create("rough", rough, "random", storage=served.url, token=served.token)
    study.run(12)
    found, here = send(served, "rough/recommended"), study.recommend()
    assert here.robust is not None
    assert found["trial"]["number"] == here.trial.number
    assert found["robust"]["expected"] == pytest.approx(here.robust.expected)
    assert found["robust"]["expected"] >= found["nominal"]["expected"]
    assert send(served, "far/recommended")["robust"] is None


def test_a_registered_problem_has_the_objective_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "hidden.py").write_text(
        "import bo_invert as bi\n"
        "space = bi.Box({'a': (-2, 2)}, constraints=[bi.Feasible(lambda x: x['a'] < 1.9)])\n"
        "target = bi.Target({'y': 9.0}, tolerance=0.1)\n"
        "problem = bi.Problem(space, lambda d: {'y': d['a']}, target)\n"
    )
    (tmp_path / "serve.toml").write_text("[problems.hidden]\nsource = 'hidden.py'\n")
    registered = RegisteredProblems.load(tmp_path / "serve.toml")
    known = registered.problem("hidden")
    first = bi.Study.create("far", known, "random", storage=f"sqlite:///{tmp_path}/runs.db")
    first.run(3)
    header = first.retarget({"y": 1.0}).journal.header
    found = registered.problem_of(header, "far 2")
    assert found.to_json() == header["problem"]
    assert found.oracle is known.oracle
    assert registered.why_not(header, "far 2") == ""
