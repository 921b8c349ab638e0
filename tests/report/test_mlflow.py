"""Tests of the MLflow export: it matches the log after repeated exports from any process."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import Served, wait_until

import bo_invert as bi
from bo_invert.cli import main as cli
from bo_invert.errors import MissingExtraError, TrackingError
from bo_invert.report.mlflow import client, trial_runs as mirror
from bo_invert.storage.open import open_store
from bo_invert.types import Cost, Outcome

mlflow = pytest.importorskip("mlflow")
MlflowClient = mlflow.MlflowClient

SPACE = bi.Box(
    {"rate": bi.Float(1e-3, 1.0, log=True), "layers": bi.Int(1, 9), "kind": bi.Choice("a", "b")}
)


def oracle(p: dict[str, Any]) -> dict[str, float]:
    if p["layers"] == 1:
        raise bi.InfeasibleError("no mesh")
    if p["layers"] == 9:
        raise bi.FailedError("it leaked")
    return {"yield%": 3.0 - p["rate"], "loss": float(p["layers"])}


def problem(answer: Callable[[Any], Any] | None = oracle) -> bi.Problem:
    return bi.Problem(
        SPACE, answer, bi.Maximize("yield%"), constraints=["loss <= 6"], name="tuning"
    )


def assorted(storage: str | None = None, calls: int = 14) -> bi.Study:
    """Every fate that a trial can have."""
    study = bi.Study.create("assorted", problem(), "random", 3, storage)
    study.add({"rate": 0.9, "layers": 3, "kind": "a"}, {"yield%": 2.1, "loss": 3.0})
    (first,) = study.ask()
    study.tell(first, bi.FailedError("once"))
    (again,) = study.take(1, None, retries=1)
    assert again.number == first.number
    study.tell(again, {"yield%": 2.0, "loss": 2.0})
    leaking, folded = study.ask(2)
    study.tell(leaking, bi.FailedError("it leaked " + "a lot " * 200))
    study.tell(folded, bi.InfeasibleError("no mesh"))
    study.run(calls)
    open_, given_up = study.ask(2)
    study.cancel(given_up)
    study.enqueue({"rate": 0.5, "layers": 2, "kind": "b"})
    assert {str(trial.state) for trial in study.trials} == {
        "completed", "failed", "infeasible", "running", "cancelled", "queued",
    }  # fmt: skip
    assert open_.number in {trial.number for trial in study.history.pending}
    return study


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database; to make its tables takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def new_uri(template: Path, tmp_path: Path) -> Callable[[], str]:
    count = iter(range(100))

    def made() -> str:
        path = tmp_path / f"mlflow{next(count)}.db"
        shutil.copy(template, path)
        return f"sqlite:///{path}"

    return made


@pytest.fixture
def uri(new_uri: Callable[[], str]) -> str:
    return new_uri()


def runs(uri: str, experiment: str = "bo-invert") -> tuple[Any, dict[int, Any]]:
    """The run of the only study, and those of its trials."""
    client = MlflowClient(uri)
    found = client.search_runs(
        [client.get_experiment_by_name(experiment).experiment_id], max_results=5000
    )
    (parent,) = (run for run in found if "mlflow.parentRunId" not in run.data.tags)
    rest = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(rest) == len(found) - 1
    children = {int(run.data.tags["bo_invert.trial"]): run for run in rest}
    assert len(children) == len(rest), "one run for each trial"
    return parent, children


def points(uri: str, run: Any) -> dict[str, list[tuple[int, int, float]]]:
    client = MlflowClient(uri)
    histories = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    return {
        key: sorted((m.step, m.timestamp, m.value) for m in history)
        for key, history in histories.items()
    }


def snapshot(uri: str) -> Any:
    """Everything that a mirror holds, without the names that MLflow gave."""
    parent, children = runs(uri)

    def shown(run: Any) -> Any:
        tags = {
            key: value
            for key, value in run.data.tags.items()
            if key != "mlflow.parentRunId" and value
        }
        info = run.info
        return (
            info.status,
            info.start_time,
            info.end_time,
            info.run_name,
            run.data.params,
            tags,
            points(uri, run),
        )

    return shown(parent), {number: shown(run) for number, run in sorted(children.items())}


def check_trials(study: bi.Study, children: dict[int, Any], uri: str) -> None:
    expected = {
        "completed": "FINISHED",
        "failed": "FAILED",
        "infeasible": "FAILED",
        "cancelled": "KILLED",
        "running": "RUNNING",
    }
    begun = [trial for trial in study.trials if str(trial.state) != "queued"]
    assert sorted(children) == [trial.number for trial in begun]
    for trial in begun:
        run = children[trial.number]
        data, tags = run.data, run.data.tags
        assert run.info.status == expected[str(trial.state)]
        assert tags["state"] == str(trial.state)
        assert tags.get("origin", "") == trial.origin
        assert tags["attempts"] == str(len(trial.attempts))
        assert data.params == {key: str(value) for key, value in trial.design.items()}
        if trial.attempts:
            last = trial.attempts[-1]
            assert run.info.start_time == round(1000 * trial.attempts[0].started)
            assert tags.get("worker", "") == (last.worker or "")
            if not trial.state.open:
                assert run.info.end_time == round(1000 * last.ended)
        wanted: dict[str, float] = {}
        if not trial.state.open:
            wanted |= {"calls": trial.cost.calls, "seconds": trial.cost.seconds}
            assert (
                tags.get("reason", "")[:400]
                == (trial.outcome.reason if trial.outcome else "")[:400]
            )
        if trial.y is not None and trial.loss is not None and trial.outcome is not None:
            # An output with the name of a built-in metric gets a suffix; names cannot hold %.
            wanted |= {"yield_": trial.y[0], "loss_": trial.y[1]}
            wanted |= {"loss": trial.loss, "violation": trial.outcome.violation}
        assert data.metrics == wanted
        assert all(len(history) == 1 for history in points(uri, run).values())


def check_curve(study: bi.Study, events: list[Any], parent: Any, uri: str) -> None:
    """Against the events as they stand in the store."""
    rows: list[dict[str, float]] = []
    now = {"calls": 0.0, "failures": 0.0, "oracle_seconds": 0.0, "asking_seconds": 0.0}
    for event in events:
        outcomes = [event["outcome"]] if event["kind"] == "finished" else event.get("outcomes", [])
        now["asking_seconds"] += event.get("seconds", 0.0) if event["kind"] == "asked" else 0.0
        for outcome in outcomes:
            if event["kind"] == "finished":
                now["calls"] += outcome["cost"]["values"]
                now["oracle_seconds"] += outcome["cost"]["seconds"]
                now["failures"] += outcome["y"] is None
            if outcome["y"] is not None and outcome["violation"] <= 0:
                now["best_loss"] = min(now.get("best_loss", math.inf), outcome["loss"])
                now["best_yield_"] = -now["best_loss"]
            rows.append(dict(now))
    history = points(uri, parent)
    for key in now:
        expected = [(row["calls"], pytest.approx(row[key])) for row in rows if key in row]
        assert [(step, value) for step, _, value in history[key]] == expected, key
    assert study.best is not None
    assert parent.data.metrics["best_yield_"] == study.best.y[0]
    assert parent.data.metrics["calls"] == study.history.calls


@pytest.mark.slow
def test_it_says_what_the_log_says(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = f"sqlite:///{tmp_path}/runs.db"
    study = assorted(storage)
    run_id = bi.to_mlflow(study, tracking_uri=uri)
    parent, children = runs(uri)
    assert parent.info.run_id == run_id
    assert parent.info.run_name == "assorted"
    assert parent.info.status == "RUNNING", "one trial is under way"
    assert (
        parent.info.start_time
        == 1000 * datetime.fromisoformat(study.journal.header["created"]).timestamp()
    )
    tags = parent.data.tags
    assert (tags["study"], tags["problem"], tags["strategy"], tags["seed"]) == (
        "assorted",
        "tuning",
        "random",
        "3",
    )
    assert tags["bo_invert.study_id"] == study.journal.header["id"]
    assert tags["bo_invert.version"] == bi.__version__
    assert tags["spent"] == str(study.spent)
    assert study.best is not None
    assert tags["best_trial"] == str(study.best.number)
    assert parent.data.params["strategy"] == "random"
    assert json.loads(parent.data.params["objective"]) == study.problem.objective.to_json()
    check_trials(study, children, uri)
    check_curve(study, open_store(storage).events("assorted"), parent, uri)
    retried = children[1].data.tags
    assert (retried["attempts"], retried["fates"], retried.get("reason", "")) == (
        "2",
        "failed, completed",
        "",
    )
    assert not (tmp_path / "mlruns").exists(), "no files beside the database"


@pytest.mark.slow
def test_again_adds_nothing_and_later_only_what_is_new(
    new_uri: Callable[[], str], monkeypatch: Any
) -> None:
    study, uri = assorted(), new_uri()
    first = bi.to_mlflow(study, tracking_uri=uri)
    before = snapshot(uri)
    writes: list[str] = []
    monkeypatch.setattr(client, "log", lambda *_, **__: writes.append("log"))
    assert bi.to_mlflow(study, tracking_uri=uri) == first
    assert not writes
    assert snapshot(uri) == before
    monkeypatch.undo()

    (waiting,) = (trial for trial in study.history.pending if trial.attempts)
    study.tell(waiting, {"yield%": 2.9999, "loss": 1.0})
    study.run(study.history.calls + 4)
    assert not study.history.pending
    bi.to_mlflow(study, tracking_uri=uri)
    parent, children = runs(uri)
    assert parent.info.run_id == first
    assert parent.info.status == "FINISHED"
    assert parent.info.end_time == max(
        round(1000 * a.ended) for t in study.trials for a in t.attempts if a.ended
    )
    check_trials(study, children, uri)
    whole = new_uri()
    bi.to_mlflow(study, tracking_uri=whole)
    assert snapshot(uri) == snapshot(whole), "in two pieces or in one, it is the same"


def test_known_answers_that_come_last_still_count(uri: str) -> None:
    study = bi.Study.create("late", problem(), "random")
    study.run(3)
    bi.to_mlflow(study, tracking_uri=uri)
    study.add({"rate": 0.001, "layers": 3, "kind": "a"}, {"yield%": 2.99999, "loss": 3.0})
    bi.to_mlflow(study, tracking_uri=uri)
    parent, _ = runs(uri)
    assert parent.data.metrics["best_yield_"] == 2.99999
    assert parent.data.metrics["best_loss"] == -2.99999
    assert parent.data.metrics["calls"] == 3


class Mortal:
    """Client whose process is killed at its n-th call, before or after MLflow completes it."""

    def __init__(self, client: Any, calls: Iterator[int], last: int, done: bool) -> None:
        self._client, self._calls, self._last, self._done = client, calls, last, done

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._client, name)

        def call(*args: Any, **options: Any) -> Any:
            if next(self._calls) == self._last:
                if self._done:
                    verb(*args, **options)
                raise KeyboardInterrupt
            return verb(*args, **options)

        return call


def mortal(calls: Iterator[int], last: int, done: bool) -> Callable[[], Any]:
    return lambda: lambda uri: Mortal(MlflowClient(uri), calls, last, done)


@pytest.mark.parametrize("done", [False, True])
def test_killed_half_way_nothing_is_missing_and_nothing_twice(
    done: bool, new_uri: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "ROWS", 2)  # curves in several pieces
    study = assorted(calls=6)
    whole = new_uri()
    calls = iter(range(10**6))
    monkeypatch.setattr(client, "require_client", mortal(calls, -1, done))
    bi.to_mlflow(study, tracking_uri=whole)
    total = next(calls)
    reference = snapshot(whole)
    uri = new_uri()
    # A new process each time, and each is killed one call later than the one before.
    for last in range(1, total):
        calls = iter(range(10**6))
        monkeypatch.setattr(client, "require_client", mortal(calls, last, done))
        try:
            bi.to_mlflow(study, tracking_uri=uri)
        except KeyboardInterrupt:
            continue
        break
    else:
        raise AssertionError("it never came through")
    assert last > 3
    assert snapshot(uri) == reference


@pytest.mark.parametrize("dim", [3, 64, 2000])
def test_latents_of_any_dimension(dim: int, uri: str) -> None:
    space = bi.Latent(lambda z: z, dim)
    study = bi.Study.create(
        "latent", bi.Problem(space, lambda x: float(x @ x), bi.Target([1.0])), "prior"
    ).run(3)
    bi.to_mlflow(study, tracking_uri=uri)
    parent, children = runs(uri)
    assert parent.data.metrics["best_distance"] == pytest.approx(math.sqrt(study.best.loss))
    for trial in study.trials:
        params = children[trial.number].data.params
        if dim == 3:
            assert [float(params[f"z{i}"]) for i in range(3)] == trial.point.tolist()
        elif dim == 64:
            assert json.loads(params["point"]) == trial.point.tolist()
        else:
            assert params["point"].endswith(", ... 2000 in all]")
            shown = json.loads(params["point"].partition(", ...")[0] + "]")
            assert len(shown) > 400
            np.testing.assert_allclose(shown, trial.point[: len(shown)], rtol=1e-5)


def test_many_parameters_and_many_outputs(uri: str) -> None:
    outputs = [f"y{i}" for i in range(1700)]
    for dim in (100, 130):
        made = bi.Problem(
            bi.Box([0.0] * dim, [1.0] * dim),
            lambda x: np.arange(1700.0),
            bi.Minimize("y5"),
            outputs=outputs,
        )
        study = bi.Study.create(f"box{dim}", made, "random").run(1)
        bi.to_mlflow(study, f"box{dim}", uri)
        _, children = runs(uri, f"box{dim}")
        data = children[0].data
        assert len(data.metrics) == 1700 + 4
        assert data.metrics["y1699"] == 1699.0
        assert len(data.params) == (100 if dim == 100 else 1)


def test_names_that_mlflow_does_not_take(uri: str) -> None:
    outputs = ["a/../b", "σ²", "a?", "a!", "/root", "..", "calls", "x" * 300, "x" * 301]
    made = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize("a!"), outputs=outputs)
    study = bi.Study.create("names", made, "random")
    (trial,) = study.ask()
    study.tell(trial, np.arange(10.0, 19.0))
    bi.to_mlflow(study, tracking_uri=uri)
    metrics = runs(uri)[1][0].data.metrics
    outputs = {key: value for key, value in metrics.items() if value >= 10.0}
    assert sorted(outputs.values()) == sorted([*range(10, 19), 13.0]), "and the loss, which is a!"
    assert {"a_", "a__", "calls_"} <= set(outputs)


def test_a_best_that_is_not_there_is_no_number(uri: str) -> None:
    made = bi.Problem(
        SPACE,
        lambda p: {"yield%": 1.0, "loss": 9.0},
        bi.Maximize("yield%"),
        constraints=["loss <= 6"],
    )
    bi.to_mlflow(bi.Study.create("none", made, "random").run(2), tracking_uri=uri)
    parent, children = runs(uri)
    assert set(parent.data.metrics) == {"calls", "failures", "oracle_seconds", "asking_seconds"}
    assert "best_trial" not in parent.data.tags
    assert {run.data.tags["feasible"] for run in children.values()} == {"false"}


def test_a_descent_shows_where_it_arrived(uri: str) -> None:
    study = bi.Study.create(
        "descent", bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), None, bi.Minimize()), "random"
    )
    study.journal.enqueue(bi.Query([0.5, 0.5], descent=bi.Descent(5)))
    study.ask()
    bi.to_mlflow(study, tracking_uri=uri)
    assert runs(uri)[1][0].data.params == {}
    study.journal.finish(
        0, Outcome(bi.State.COMPLETED, np.ones(1), 1.0, cost=Cost(5, 4), point=np.array([0.1, 0.2]))
    )
    bi.to_mlflow(study, tracking_uri=uri)
    parent, children = runs(uri)
    assert [float(one) for one in children[0].data.params.values()] == [0.1, 0.2]
    assert parent.data.metrics["calls"] == 9


def test_a_run_of_the_users_own_is_left_alone(uri: str) -> None:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        with mlflow.start_run() as own:
            study = bi.Study.create("s", problem(), "random")
            with bi.mlflow_tracking(study, every=0.1):
                study.run(3)
            mlflow.log_metric("mine", 1.0)
            assert mlflow.active_run().info.run_id == own.info.run_id
        mine = MlflowClient(uri).get_run(own.info.run_id)
        assert mine.data.metrics == {"mine": 1.0}
        assert mine.data.params == {}
        assert "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT" not in os.environ
        assert len(runs(uri)[1]) == len(study.trials)
    finally:
        mlflow.set_tracking_uri(before)


def test_it_follows_while_the_study_runs(uri: str) -> None:
    seen: list[int] = []

    def slow(p: dict[str, Any]) -> dict[str, float]:
        if len(seen) < 3:
            wait_until(lambda: tracking.run_id is not None and len(runs(uri)[1]) > len(seen))
            parent, children = runs(uri)
            assert parent.info.status == "RUNNING"
            seen.append(len(children))
        return {"yield%": 1.0, "loss": 1.0}

    study = bi.Study.create("live", problem(slow), "random")
    with bi.mlflow_tracking(study, tracking_uri=uri, every=0.05) as tracking:
        study.run(5)
    assert seen == [1, 2, 3]
    parent, children = runs(uri)
    assert tracking.error is None
    assert tracking.run_id == parent.info.run_id
    assert parent.info.status == "FINISHED"
    check_trials(study, children, uri)


def test_an_interrupted_study_is_marked_and_goes_on_in_the_same_run(uri: str) -> None:
    answered: list[int] = []

    def interrupted(p: dict[str, Any]) -> dict[str, float]:
        answered.append(1)
        if len(answered) == 3:
            raise KeyboardInterrupt
        return {"yield%": 1.0, "loss": 1.0}

    study = bi.Study.create("stopped", problem(interrupted), "random")
    with pytest.raises(KeyboardInterrupt), bi.mlflow_tracking(study, tracking_uri=uri):
        study.run(5)
    parent, children = runs(uri)
    assert parent.info.status == "KILLED"
    assert [children[number].info.status for number in range(3)] == [
        "FINISHED",
        "FINISHED",
        "SCHEDULED",
    ]
    with bi.mlflow_tracking(study, tracking_uri=uri):
        study.run(5)
    again, children = runs(uri)
    assert (again.info.run_id, again.info.status) == (parent.info.run_id, "FINISHED")
    assert children[2].data.tags["fates"] == "lost, completed"
    check_trials(study, children, uri)


def closed_port() -> int:
    with socket.socket() as once:
        once.bind(("127.0.0.1", 0))
        return int(once.getsockname()[1])


def test_a_study_continues_without_mlflow_and_is_exported_later(uri: str) -> None:
    study = bi.Study.create("alone", problem(), "random")
    address = f"http://me:secret@127.0.0.1:{closed_port()}"
    tracking = bi.mlflow_tracking(study, tracking_uri=address, every=0.02)

    def run() -> None:
        with tracking:
            study.run(10)
            time.sleep(0.2)  # for more attempts than one

    with pytest.warns(UserWarning, match="cannot be reached") as caught:
        run()
    assert len(caught) == 1
    assert "secret" not in str(caught[0].message)
    assert isinstance(tracking.error, TrackingError)
    assert study.history.calls == 10
    with pytest.raises(TrackingError, match="cannot be reached"):
        bi.to_mlflow(study, tracking_uri=address)
    bi.to_mlflow(study, tracking_uri=uri)
    check_trials(study, runs(uri)[1], uri)


def test_warnings_as_errors_do_not_end_it() -> None:
    study = bi.Study.create("strict", problem(), "random")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with bi.mlflow_tracking(
            study, tracking_uri=f"http://127.0.0.1:{closed_port()}", every=0.02
        ) as tracking:
            study.run(5)
    assert study.history.calls == 5
    assert tracking.error is not None


def test_an_mlflow_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    study = bi.Study.create("hung", problem(), "random")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        tracking = bi.mlflow_tracking(study, tracking_uri=address, patience=0.3)
        began = time.monotonic()
        with pytest.warns(UserWarning, match=r"for 0\.3 seconds"), tracking:
            study.run(5)
        assert time.monotonic() - began < 15
    assert study.history.calls == 5


def test_an_address_that_is_none_is_refused_in_words() -> None:
    study = bi.Study.create("s", problem(), "random")
    with pytest.raises(TrackingError, match=r"refused: .*nowhere"):
        bi.to_mlflow(study, tracking_uri="nowhere://me:secret@here")
    with pytest.raises(bi.InvalidInputError, match="every"):
        bi.mlflow_tracking(study, every=0.0)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    study = bi.Study.create("s", problem(), "random")
    for call in (bi.to_mlflow, bi.mlflow_tracking):
        with pytest.raises(MissingExtraError, match=r"pip install 'bo-invert\[mlflow\]'"):
            call(study)


def bo(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["bo-invert", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None)


def test_the_command_line_needs_no_problem(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = assorted(f"sqlite:///{tmp_path}/runs.db", calls=5)
    line = (
        "mlflow",
        "assorted",
        "--storage",
        str(tmp_path / "runs.db"),
        "--tracking-uri",
        uri,
        "--experiment",
        "mine",
    )
    bo(monkeypatch, *line)
    bo(monkeypatch, *line)
    parent, children = runs(uri, "mine")
    assert capsys.readouterr().out.split() == [parent.info.run_id] * 2
    check_trials(study, children, uri)


@pytest.mark.service
def test_the_command_line_follows_a_server(uri: str, server: Served) -> None:
    study = bi.Study.create("far", problem(), "random", storage=server.url, token=server.token)
    study.run(2)
    line = [
        sys.executable,
        "-m",
        "bo_invert.cli",
        "mlflow",
        "far",
        "--storage",
        server.url,
        "--tracking-uri",
        uri,
        "--follow",
        "--every",
        "0.1",
    ]
    follower = subprocess.Popen(
        line,
        env={**os.environ, "BO_INVERT_TOKEN": server.reader},
        stdout=subprocess.PIPE,
        text=True,
    )

    def exported() -> bool:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("bo-invert")
        return experiment is not None and bool(client.search_runs([experiment.experiment_id]))

    wait_until(exported)
    study.run(5)
    wait_until(lambda: len(runs(uri)[1]) == len(study.trials))
    follower.send_signal(signal.SIGTERM)
    out, _ = follower.communicate(timeout=30)
    parent, children = runs(uri)
    assert follower.returncode == 0
    assert out.strip() == parent.info.run_id
    assert parent.info.status == "FINISHED"
    check_trials(study, children, uri)


def test_conditions_and_amendments_are_mirrored(uri: str) -> None:
    study = bi.Study.create("lab", problem(None), "random", 3)
    (trial,) = study.ask()
    bi.to_mlflow(study, tracking_uri=uri)
    study.tell(trial, [2.0, 3.0], at={"layers": 3}, extra={"colour": "red"})
    bi.to_mlflow(study, tracking_uri=uri)
    study.amend(0, {"yield%": 2.5}, reason="typing error")
    bi.to_mlflow(study, tracking_uri=uri)
    _, children = runs(uri)
    data = children[0].data
    assert data.params["layers"] == str(trial.design["layers"])
    assert 2.5 in data.metrics.values()
    assert data.tags["extra.colour"] == "red"
    assert "layers=3" in data.tags["conditions"]
    assert data.tags["amended"] == "[2.0, 3.0] typing error"
