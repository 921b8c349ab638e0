"""Predictions, outlook and ends of runs on a server."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from servers import Served

import bo_invert as bi
from bo_invert.errors import InvalidInputError

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("predicted")
    made = Served(folder, f"sqlite:///{folder}/runs.db")
    yield made
    assert made.stop() in (0, -15)


def problem() -> bi.Problem:
    space = bi.Box({"a": bi.Float(0, 2), "n": bi.Int(1, 5)})
    return bi.Problem(
        space, lambda d: d["a"] ** 2 + d["n"], bi.Minimize("cost"), outputs=["cost"], name="costs"
    )


DESIGNS = [{"a": 0.5, "n": 2}, {"a": 1.5, "n": 4}]


@pytest.fixture(scope="module")
def study(served: Served) -> bi.Study:
    made = bi.Study.create("costs", problem(), "random", storage=served.url, token=served.token)
    return made.run(20)


def test_the_server_predicts_what_the_client_predicts(served: Served, study: bi.Study) -> None:
    here = study.predict(DESIGNS)
    blind = bi.Study.open("costs", served.url, token=served.token)  # without the problem
    there = blind.predict(DESIGNS)
    assert np.allclose(there.loss.mean, here.loss.mean)
    assert there.records()[0].keys() == here.records()[0].keys()
    points = blind.predict(points=here.points)
    assert np.allclose(points.outputs["cost"].low, here.outputs["cost"].low)
    with pytest.raises(InvalidInputError, match="must be dicts of parameters"):
        blind.predict([[0.5, 2]])


def post(served: Served, path: str, body: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {served.token}"}
    return httpx.post(f"{served.url}/v1/studies/costs/{path}", json=body, headers=headers)


def test_requests_without_or_with_wrong_designs_are_refused(
    served: Served, study: bi.Study
) -> None:
    assert post(served, "predict", {"parameters": DESIGNS}).status_code == 200
    for body in ({}, {"points": [[0.5]]}, {"parameters": [{"a": 0.5}]}, {"parameters": []}):
        answer = post(served, "predict", body)
        assert answer.status_code in (400, 422), (body, answer.text)


def test_the_outlook_and_the_end_of_a_run_are_on_the_server(
    served: Served, study: bi.Study
) -> None:
    headers = {"Authorization": f"Bearer {served.token}"}
    answer = httpx.get(f"{served.url}/v1/studies/costs/outlook", headers=headers).json()
    assert answer["calls"] == len(study.trials)
    assert answer["ended"] == ""
    study.run(200, stop=bi.stop.cost(study.spent.calls + 2))
    assert study.ended.endswith("calls are billed")
    answer = httpx.get(f"{served.url}/v1/studies/costs/outlook", headers=headers).json()
    assert answer["ended"] == study.ended


def test_a_study_on_a_server_is_polished(served: Served) -> None:
    study = bi.Study.create("polish", problem(), "random", storage=served.url, token=served.token)
    with pytest.raises(InvalidInputError, match="no observation to refine"):
        study.polish(3)
    study.run(12)
    best = study.best
    study.polish(6)
    assert len(study.trials) == 18
    assert study.best.loss <= best.loss
    assert all(t.query.meta["why"].startswith("polish:") for t in study.trials[12:])
    study.run(20)
    assert study.trials[-1].origin == "random"


def test_a_reader_may_predict_and_may_not_write(served: Served, study: bi.Study) -> None:
    """A prediction is a read, although its designs are sent in a POST request."""

    def send(path: str, body: object) -> int:
        headers = {"Authorization": f"Bearer {served.reader}"}
        url = f"{served.url}/v1/studies/costs/{path}"
        return httpx.post(url, json=body, headers=headers).status_code

    count = len(study.trials)
    assert send("predict", {"parameters": DESIGNS}) == 200
    for path in ("ask", "table", "results", "observations", "enqueue", "trials/0/amend", "end"):
        assert send(path, {}) == 403
    assert len(bi.Study.open("costs", served.url, token=served.reader).trials) == count
    reader = bi.Study.open("costs", served.url, token=served.reader)
    assert reader.predict(DESIGNS).loss.mean.shape == (2,)
