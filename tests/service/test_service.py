"""A study on a server is the study it would have been here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from servers import Served

import bo_invert as bi
from bo_invert.errors import (
    AccessDeniedError,
    ProblemChangedError,
    ServerUnreachableError,
    StudyExistsError,
    StudyNotFoundError,
    TellConflictError,
)
from bo_invert.problems.loading import load_problem
from bo_invert.service.client import RemoteStore
from bo_invert.types import State

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "mine.py").write_text(
        "import bo_invert as bi\n"
        "def bowl(size=2):\n"
        "    box = bi.Box([0.0] * size, [1.0] * size)\n"
        "    return bi.Problem(box, lambda x: float(((x - 0.3) ** 2).sum()), bi.Minimize(),\n"
        "                      name='bowl')\n"
    )
    (folder / "config.toml").write_text(
        '[problems.bowl]\nsource = "mine.py:bowl"\nsettings = {size = 3}\n'
    )
    made = Served(folder, f"sqlite:///{folder}/runs.db", "--config", str(folder / "config.toml"))
    yield made
    assert made.stop() in (0, -15)


def bowl(x: np.ndarray) -> float:
    return float(((np.asarray(x) - 0.3) ** 2).sum())


def problem() -> bi.Problem:
    return bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), bowl, bi.Minimize(), name="bowl")


def mixed() -> bi.Problem:
    space = bi.Box(
        {"a": bi.Float(0.01, 1.0, log=True), "n": bi.Int(1, 5), "c": bi.Choice("x", "y", "z")}
    )

    def oracle(design: dict) -> dict[str, float]:
        if design["n"] == 5:
            raise bi.InfeasibleError("five is too many")
        return {"lift": design["a"] + design["n"], "drag": design["n"] / 2.0}

    return bi.Problem(
        space, oracle, bi.Maximize("lift"), outputs=["lift", "drag"], constraints=["drag <= 1.5"]
    )


def target() -> bi.Problem:
    return bi.Problem(
        bi.Box([0.0, 0.0], [1.0, 1.0]), lambda x: [x[0] + x[1], x[0] * x[1]], bi.Target([0.9, 0.2])
    )


def test_provenance_and_the_cost_of_a_doctor_reach_the_server(served: Served) -> None:
    made = problem()
    study = bi.Study.create("looked at", made, storage=served.url, token=served.token)
    found = bi.doctor(made, calls=7, study=study)
    assert study.spent.calls == found.calls == 7
    shown = RemoteStore(served.url, served.token).request("GET", "/v1/studies/looked%20at")
    assert shown["provenance"]["oracle"]["sha256"] == made.oracle.digest().sha256
    assert shown["provenance"]["packages"]["numpy"] == np.__version__
    other = bi.Problem(made.space, lambda x: float(x[0]), bi.Minimize(), name="bowl")
    with pytest.warns(UserWarning, match="the oracle is another"):
        bi.Study.open("looked at", served.url, problem=other, token=served.token)


def test_a_comparison_is_stored_on_a_server_and_resumed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BO_INVERT_TOKEN", served.token)
    here, first, again = (
        bi.compare(problem(), ["random", "sobol"], budget=6, seeds=2, storage=storage, jobs=jobs)
        for storage, jobs in ((None, 1), (served.url, 2), (served.url, 1))
    )
    best = [
        [run.best.loss for run in comparison.runs if run.best]
        for comparison in (here, first, again)
    ]
    assert len(best[0]) == 4
    assert best[0] == best[1] == best[2]
    names = [name for name in RemoteStore(served.url, served.token).names() if " / seed " in name]
    assert len(names) == 4
    assert {bi.Study.open(n, served.url, token=served.token).spent.values for n in names} == {6}


#: No selection of a model, and surrogate-based proposals early.
GP = {"name": "gp", "options": {"kernel": "matern", "warp": False, "initial": 4}}


@pytest.mark.parametrize(
    ("make", "strategy"),
    [(problem, "cmaes"), (mixed, GP), (target, GP), (target, "cmaes")],
    ids=["problem-cmaes", "mixed-gp", "target-gp", "target-cmaes"],
)
def test_a_run_through_a_server_is_the_run_here(
    make: object, strategy: object, server: Served
) -> None:
    assert callable(make)
    name = f"{make.__name__} / {strategy == GP}?"
    here = bi.Study.create(name, make(), strategy, 3)
    there = bi.Study.create(name, make(), strategy, 3, server.url, token=server.token)
    for study in (here, there):
        study.run(10, batch=2)
    assert [t.point.tolist() for t in there.trials] == [t.point.tolist() for t in here.trials]
    assert [t.loss for t in there.trials] == [t.loss for t in here.trials]
    assert [t.state for t in there.trials] == [t.state for t in here.trials]
    assert there.spent.values == here.spent.values == 10
    assert there.best is not None
    assert here.best is not None
    assert there.best.number == here.best.number
    assert len(there.to_dataframe()) == 10


def test_the_verbs_are_those_of_a_study(served: Served) -> None:
    study = bi.Study.create("verbs", problem(), "sobol", 0, served.url, token=served.token)
    study.add([[0.1, 0.2], [0.3, 0.4]], [1.0, bi.FailedError("no")])
    queued = study.enqueue([0.25, 0.5])
    first, second = study.ask(2)
    assert first.number == queued.number
    assert first.design.tolist() == [0.25, 0.5]
    assert study.tell(first, 0.5).loss == 0.5
    assert study.tell(first, 0.5).loss == 0.5
    with pytest.raises(TellConflictError, match="cannot become"):
        study.tell(first, 0.7)
    assert study.cancel(second).state is State.CANCELLED
    (third,) = study.ask()
    assert study.tell(third, bi.InfeasibleError("never")).state is State.INFEASIBLE
    assert [str(t.state) for t in study.trials] == [
        "completed",
        "failed",
        "completed",
        "cancelled",
        "infeasible",
    ]
    again = bi.Study.open("verbs", served.url, problem(), token=served.token)
    assert [t.number for t in again.trials] == [0, 1, 2, 3, 4]
    assert again.spent == study.spent
    assert "verbs" in RemoteStore(served.url, served.token).names()


def test_errors_are_those_of_a_local_study(served: Served) -> None:
    with pytest.raises(StudyNotFoundError, match="no study named 'nothing'"):
        bi.Study.open("nothing", served.url, token=served.token)
    bi.Study.create("taken", problem(), "sobol", 0, served.url, token=served.token)
    with pytest.raises(StudyExistsError):
        bi.Study.create("taken", problem(), "sobol", 0, served.url, token=served.token)
    same = bi.Study.create(
        "taken", problem(), "sobol", 0, served.url, token=served.token, exist_ok=True
    )
    assert same.trials == ()
    with pytest.raises(ProblemChangedError):
        bi.Study.open("taken", served.url, target(), token=served.token)
    with pytest.raises(AccessDeniedError, match="is read-only"):
        bi.Study.create("other", problem(), "sobol", 0, served.url, token=served.reader)
    with pytest.raises(AccessDeniedError, match="Authorization"):
        bi.Study.open("taken", served.url, token="wrong")
    assert bi.Study.open("taken", served.url, problem(), token=served.reader).trials == ()
    composite = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Composite(lambda y: y[..., 0]), outputs=1)
    with pytest.raises(bi.InvalidInputError, match="code is not sent"):
        bi.Study.create("code", composite, "sobol", 0, served.url, token=served.token)
    with pytest.raises(bi.InvalidInputError, match="no strategies named"):
        post(
            served,
            "/v1/studies",
            {**DECLARED, "name": "s", "strategy": {"name": "nope"}},
            raises=True,
        )


DECLARED = {
    "problem": {
        "space": {"type": "box", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
        "outputs": ["y"],
        "objective": {"type": "minimize", "output": "y"},
    }
}


def post(
    served: Served, path: str, body: object, raises: bool = False, **headers: str
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {served.token}", **headers}
    answer = httpx.post(served.url + path, json=body, headers=headers, timeout=60.0)
    if raises and answer.status_code >= 400:
        raise bi.InvalidInputError(answer.json()["detail"])
    return answer


def test_a_stopped_server_leaves_one_complete_file(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    served = Served(tmp_path, f"sqlite:///{file}")
    assert post(served, "/v1/studies", {**DECLARED, "name": "whole"}).status_code == 201
    assert post(served, "/v1/studies/whole/ask", {"worker": "lab"}).status_code == 200
    served.stop()
    assert [path.name for path in tmp_path.glob("runs.db*")] == ["runs.db"]
    assert len(bi.Study.open("whole", f"sqlite:///{file}").trials) == 1


def test_a_whole_search_in_plain_http(server: Served) -> None:
    assert (
        post(server, "/v1/studies", {**DECLARED, "name": "plain", "strategy": GP}).status_code
        == 201
    )
    for _ in range(8):
        (trial,) = post(server, "/v1/studies/plain/ask", {"worker": "lab", "budget": 8}).json()[
            "trials"
        ]
        report = {
            "attempt": trial["attempt"],
            "outputs": {"y": (trial["parameters"]["x"] - 0.7) ** 2},
        }
        assert (
            post(server, f"/v1/studies/plain/trials/{trial['number']}/tell", report).status_code
            == 200
        )
    assert (
        post(server, "/v1/studies/plain/ask", {"worker": "lab", "budget": 8}).json()["trials"] == []
    )
    best = httpx.get(
        f"{server.url}/v1/studies/plain/best", headers={"Authorization": f"Bearer {server.reader}"}
    )
    assert best.json()["best"]["parameters"]["x"] == pytest.approx(0.7, abs=0.02)
    study = bi.Study.open("plain", server.url, token=server.token)
    assert study.spent.values == 8


def test_no_trial_comes_with_a_reason(served: Served) -> None:
    bi.Study.create("reasons", problem(), "random", 0, served.url, token=served.token)
    ask = "/v1/studies/reasons/ask"
    first = post(served, ask, {"budget": 1}).json()
    assert (len(first["trials"]), first["why"]) == (1, "")
    assert post(served, ask, {"budget": 1}).json() == {"trials": [], "why": "wait"}
    tell = "/v1/studies/reasons/trials/0/tell"
    for outputs, words in (
        ({"z": 1.0}, "is"),
        ({"y": 1.0, "z": 2.0}, "got ['z']"),
        (None, "fail"),
    ):
        refused = post(served, tell, {"outputs": outputs})
        assert refused.status_code == 422
        assert words in refused.json()["detail"]
    assert post(served, tell, {"outputs": {"y": 1.0}}).status_code == 200
    assert post(served, ask, {"budget": 1}).json() == {"trials": [], "why": "budget"}


def test_a_comparison_without_the_right_token_does_not_begin(served: Served) -> None:
    with pytest.raises(AccessDeniedError, match="unknown token"):
        bi.compare(problem(), ["random"], budget=2, seeds=1, storage=served.url, token="wrong")
    stored = bi.compare(
        problem(), ["random"], budget=2, seeds=[7], storage=served.url, token=served.token
    )
    assert [run.bill.values for run in stored.runs] == [2]


def test_a_registered_problem_is_the_operators(served: Served) -> None:
    body = {"registered": "bowl", "name": "theirs", "strategy": {"name": "sobol"}}
    made = post(served, "/v1/studies", body)
    assert made.status_code == 201
    assert made.json()["problem_name"] == "bowl"
    (trial,) = post(served, "/v1/studies/theirs/ask", {}).json()["trials"]
    assert len(trial["point"]) == 3
    refused = post(served, "/v1/studies", {"registered": "nope", "name": "x"})
    assert refused.status_code == 422
    assert "bowl" in refused.json()["detail"]


def test_pages_curve_and_solutions(served: Served) -> None:
    study = bi.Study.create("paged", problem(), "random", 0, served.url, token=served.token)
    rng = np.random.default_rng(0)
    points = rng.random((250, 2))
    study.add(points, [bowl(x) for x in points])
    study.run(5)
    headers = {"Authorization": f"Bearer {served.reader}"}

    def get(path: str) -> dict:
        return httpx.get(f"{served.url}/v1/studies/paged/{path}", headers=headers).json()

    numbers, after = [], 0
    while after is not None:
        page = get(f"trials?after={after}&limit=100")
        numbers += [trial["number"] for trial in page["trials"]]
        after = page["next"]
    assert numbers == list(range(255))
    assert [t["number"] for t in get("trials?state=running")["trials"]] == []
    first = get("columns?limit=200")
    assert (len(first["number"]), first["next"], first["total"]) == (200, 200, 255)
    (asked,) = study.ask()
    assert get(f"columns?since={first['events']}")["number"] == [255]
    study.tell(asked, 9.0)
    now = get(f"columns?since={first['events']}")
    assert (now["number"], now["state"], now["loss"], now["next"]) == (
        [255],
        ["completed"],
        [9.0],
        None,
    )
    assert get(f"columns?since={now['events']}")["number"] == []
    assert get("columns?after=250&since=1")["number"] == [250, 251, 252, 253, 254, 255]
    curve = get("curve")
    assert curve["calls"][-1] == 6
    assert curve["losses"][-1] == study.best.loss
    picked = get("solutions?count=4&apart=0.1")["trials"]
    assert [t["loss"] for t in picked] == sorted(t["loss"] for t in picked)
    assert picked[0]["number"] == study.best.number
    gaps = [
        np.linalg.norm(np.subtract(a["point"], b["point"]))
        for a in picked
        for b in picked
        if a is not b
    ]
    assert min(gaps) >= 0.1 * np.sqrt(2.0)
    assert [t["number"] for t in get("solutions?count=20")["trials"]] == [
        solution.trial.number for solution in study.solutions(20)
    ]


@pytest.mark.slow
def test_a_study_begun_in_python_goes_on_where_its_problem_is_registered(tmp_path: Path) -> None:
    source = (
        "import numpy as np\nimport bo_invert as bi\n"
        "problem = bi.Problem(\n"
        "    bi.Latent(lambda z: np.tanh(z), 3), lambda x: float(x.sum()), bi.Minimize(),\n"
        "    draw=lambda x: np.clip(np.outer(x, x), 0, 1))\n"
    )
    (tmp_path / "mine.py").write_text(source)
    (tmp_path / "serve.toml").write_text(
        '[problems.broken]\nsource = "missing.py"\n[problems.any]\nsource = "mine.py"\n'
    )
    url = f"sqlite:///{tmp_path}/runs.db"
    mine = load_problem(f"{tmp_path}/mine.py:problem", {})
    bi.Study.create("mine", mine, "random", 0, url).run(3)
    other = bi.Problem(bi.Latent(lambda z: z, 2), lambda x: float(x.sum()), bi.Minimize())
    bi.Study.create("other", other, "random", 0, url).run(3)
    served = Served(tmp_path, url, "--config", str(tmp_path / "serve.toml"))
    try:
        with httpx.Client(
            base_url=served.url, headers={"Authorization": f"Bearer {served.token}"}
        ) as client:
            asked = client.post("/v1/studies/mine/ask", json={}, timeout=60.0)
            assert asked.status_code == 200, asked.text
            assert len(client.get("/v1/studies/mine/gallery").json()["pictures"]) == 3
            refused = client.post("/v1/studies/other/ask", json={})
            assert (refused.status_code, "Register the problem" in refused.text) == (422, True)
            assert client.get("/v1/studies/other/gallery").json() == {"pictures": []}
    finally:
        served.kill()


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_has_lost_nothing(tmp_path: Path) -> None:
    served = Served(tmp_path, f"sqlite:///{tmp_path}/runs.db")
    try:
        here = bi.Study.create("s", problem(), "cmaes", 1)
        here.run(7)
        there = bi.Study.create("s", problem(), "cmaes", 1, served.url, token=served.token)
        for i in range(7):
            if i == 2:
                served.kill()
                served.start()
            (trial,) = there.ask(budget=7)
            if i == 4:
                served.kill()
                served.start()
            there.tell(trial, bowl(trial.design))
        assert [t.point.tolist() for t in there.trials] == [t.point.tolist() for t in here.trials]
        assert there.spent.values == 7
        served.kill()
        store = RemoteStore(served.url, served.token, patience=0.5)
        with pytest.raises(ServerUnreachableError, match="did not answer"):
            store.names()
    finally:
        served.kill()


def test_watching_writes_nothing(tmp_path: Path) -> None:
    import re
    import subprocess
    import sys

    url = f"sqlite:///{tmp_path}/runs.db"
    study = bi.Study.create("mine", problem(), "sobol", 0, url)
    study.run(5)
    command = [sys.executable, "-m", "bo_invert.cli", "watch", str(tmp_path / "runs.db")]
    watching = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert watching.stderr is not None
        found = re.search(r"(http://127.0.0.1:\d+)/#token=(\S+)", watching.stderr.readline())
        assert found is not None
        headers = {"Authorization": f"Bearer {found[2]}"}
        assert httpx.get(f"{found[1]}/v1/studies/mine", headers=headers).json()["trials"] == 5
        assert (
            httpx.post(f"{found[1]}/v1/studies/mine/ask", json={}, headers=headers).status_code
            == 403
        )
        assert httpx.get(f"{found[1]}/v1/studies/mine").status_code == 401
        study.run(9)  # a reader locks nothing
        assert httpx.get(f"{found[1]}/v1/studies/mine", headers=headers).json()["trials"] == 9
    finally:
        watching.terminate()
        assert watching.wait(20) in (0, -15)
