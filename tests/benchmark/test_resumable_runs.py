"""The benchmark runner: stored runs are not repeated, interrupted ones resume."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import bo_invert as bi
from bo_invert.benchmark import suite
from bo_invert.benchmark.process_pool import perform
from bo_invert.benchmark.results import Key, Results, from_line, to_line
from bo_invert.benchmark.resumable_runs import UNFINISHED, Progress, Task, keys, run_missing, work
from bo_invert.cli.bench import parse_methods
from bo_invert.cli.main import app
from bo_invert.errors import InvalidInputError, MissingExtraError
from bo_invert.report.benchmark_tables import (
    BEGIN,
    END,
    BenchmarkRuns,
    bench_markdown,
    benchmark_tables,
    fill_page,
)
from bo_invert.report.html import bench_html
from bo_invert.report.performance import (
    calls_to_solve,
    contenders,
    ranks_at,
    run_frame,
    thorough,
)
from bo_invert.report.runs import Find, Run, Status
from bo_invert.report.statistical_tests import data_profile, stratified_balance
from bo_invert.storage.worker_id import is_gone, this_worker

METHODS = {"random": {"name": "random"}, "sobol": {"name": "sobol"}}


def bowl(seed: int) -> bi.Problem:
    """Its lowest value is 0, somewhere else for each seed."""
    centre = np.random.default_rng(seed).uniform(size=2)
    return bi.Problem(
        bi.Box([0.0, 0.0], [1.0, 1.0]),
        lambda x: float(((x - centre) ** 2).sum()),
        bi.Minimize(),
        name="bowl",
    )


def a_run(
    losses: list[float],
    label: str = "a",
    problem: str = "p",
    seed: int = 0,
    status: Status = Status.FINISHED,
) -> Run:
    """One loss after each call."""
    curve = np.minimum.accumulate(np.array(losses, dtype=float))
    finds = (Find(0, np.zeros(1), np.zeros(1), float(curve[-1])),) if losses else ()
    return Run(
        label,
        problem,
        seed,
        {"name": label},
        len(losses),
        calls=np.arange(1, len(losses) + 1),
        losses=curve,
        finds=finds,
        status=status,
    )


# ---------------------------------------------------------------------- running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another in this process: a pool of processes takes seconds to start."""
    monkeypatch.setattr(
        "bo_invert.benchmark.resumable_runs.perform",
        lambda work, tasks, jobs, **given: perform(work, tasks, jobs, executor="serial", **given),
    )


def judge(
    folder: Path,
    seeds: int = 2,
    methods: dict[str, Any] = METHODS,
    budget: int = 10,
    batch: int = 4,
) -> Progress:
    return run_missing(
        {"bowl": bowl}, methods, range(seeds), budget=budget, batch=batch, results=Results(folder)
    )


@pytest.mark.usefixtures("quick")
def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    first = judge(tmp_path)
    assert (first.total, first.there, first.done, first.left) == (4, 0, 4, 0)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    assert {path.name for path in before} == {"random.jsonl", "sobol.jsonl"}
    again = judge(tmp_path)
    assert (again.there, again.done) == (4, 0)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")} == before
    more = judge(tmp_path, seeds=3)
    assert (more.there, more.done) == (4, 2)
    for path, data in before.items():
        assert path.read_bytes().startswith(data), "lines are appended, never changed"
    assert judge(tmp_path, budget=12).done == 4, "another budget is another run"
    assert judge(tmp_path, batch=2).done == 4, "another batch is another run"
    other = {"random": {"name": "random", "options": {}}}
    assert judge(tmp_path, methods=other).done == 2, (
        "another spec under the same label is another run"
    )


@pytest.mark.usefixtures("quick")
def test_a_result_says_what_a_quiet_study_says(tmp_path: Path) -> None:
    judge(tmp_path)
    wanted = keys(["bowl"], METHODS, range(2), 10, 4)
    runs = Results(tmp_path).runs(wanted)
    assert [(run.label, run.seed) for run in runs.values()] == [
        ("random", 0), ("sobol", 0), ("random", 1), ("sobol", 1)]  # fmt: skip
    for key, run in zip(wanted, runs.values(), strict=True):
        study = bi.Study.create("s", bowl(key.seed), key.label, key.seed).run(10, batch=4)
        assert study.best is not None
        assert run.loss == pytest.approx(study.best.loss, rel=1e-9)
        assert run.calls[-1] == run.bill.calls == 10
        whole = np.minimum.accumulate([trial.loss for trial in study.trials])
        assert run.loss_at(np.arange(1, 11)) == pytest.approx(whole, rel=1e-9)
        assert run.ask_seconds is not None
        assert 0 < run.ask_seconds <= run.bill.asking


@pytest.mark.usefixtures("quick")
def test_a_torn_line_costs_one_run(tmp_path: Path) -> None:
    judge(tmp_path)
    path = tmp_path / "bowl" / "random.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    assert judge(tmp_path).done == 1
    lines = path.read_bytes().split(b"\n")
    assert lines[0] == whole.split(b"\n")[0]
    assert json.loads(lines[2])["seed"] == 1, "a new line does not run on from the torn one"
    assert judge(tmp_path).done == 0


@pytest.mark.usefixtures("quick")
def test_a_run_that_broke_is_written_down_and_tried_again(tmp_path: Path) -> None:
    def broken(seed: int) -> bi.Problem:
        raise RuntimeError("no such machine")

    account = run_missing(
        {"broken": broken}, METHODS, range(1), budget=4, batch=1, results=Results(tmp_path)
    )
    assert account.left == 2
    assert "no such machine" in account.troubles[0]
    assert not list(tmp_path.rglob("*.claim"))


@pytest.mark.usefixtures("quick")
def test_refusals_are_results_but_missing_packages_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = {"least_squares": {"name": "least_squares"}}
    account = judge(tmp_path, methods=methods)
    assert (account.done, account.left) == (2, 0)
    assert "needs residuals" in account.troubles[0]
    assert judge(tmp_path, methods=methods).there == 2

    def absent(*args: object) -> None:
        raise MissingExtraError("the package moon is not installed")

    monkeypatch.setattr("bo_invert.strategies.peers.cmaes.CMAES.check", absent)
    monkeypatch.setattr("bo_invert.benchmark.resumable_runs.version_of", lambda package: None)
    account = judge(tmp_path, methods={"cmaes": {"name": "cmaes"}})
    assert (account.done, account.left) == (0, 2)
    assert "the package moon is not installed" in account.troubles[0]
    monkeypatch.undo()


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    seen: list[int] = []

    def watched(seed: int) -> bi.Problem:
        def oracle(x: np.ndarray) -> float:
            seen.append(1)
            return float(x.sum())

        return bi.Problem(bi.Box([0.0], [1.0]), oracle, bi.Minimize(), name="watched")

    class Late(Task):
        def over(self) -> bool:
            return len(seen) >= 5

    key = Key("watched", "random", {"name": "random"}, 0, 12, 2)
    folder = tmp_path / UNFINISHED
    folder.mkdir()
    run, line = work(Late(key, watched, folder, math.inf, this_worker()))
    # Each answer of a batch is recorded at once, and the stop does not wait for the others.
    assert (run.status, line, len(seen)) == (Status.STOPPED, None, 5)
    run, line = work(Task(key, watched, folder, math.inf, this_worker()))
    assert (run.status, len(seen), run.bill.lost) == (Status.FINISHED, 12, 0)
    quiet = bi.Study.create("s", watched(0), "random", 0).run(12, batch=2)
    assert run.best is not None
    assert quiet.best is not None
    assert run.best.loss == quiet.best.loss


def test_a_claimed_run_is_skipped(tmp_path: Path) -> None:
    key = Key("bowl", "random", {"name": "random"}, 0, 6, 2)
    task = Task(key, bowl, tmp_path / UNFINISHED, math.inf, this_worker())
    task.checkpoints.mkdir()
    run, line = work(task)
    assert run.status is Status.FINISHED
    path = next(task.checkpoints.glob("*.db"))
    claim = path.with_name(path.name.rpartition("--")[0] + ".claim")
    claim.write_text(f"{this_worker()}\n{this_worker()}\n")
    assert work(task)[0].ended == "another process executes it"
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    dead = this_worker().rsplit(":", 2)[0] + f":{gone.pid}:1"
    claim.write_text(f"{dead}\n{dead}\n")
    assert work(task)[0].status is Status.FINISHED, "a claim of a process that is gone is void"
    assert not claim.exists()
    Results(tmp_path).append(key, line)
    assert work(task)[0].ended == "another process finished it"


def children(parent: int) -> list[str]:
    """Names of the worker processes that a process began, as ``workers.is_gone`` takes them."""
    host, _, _ = this_worker().rsplit(":", 2)
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = path.read_text().rpartition(")")[2].split()
        if (
            fields[1] == str(parent)
            and "resource_tracker" not in (path.parent / "cmdline").read_text()
        ):
            found.append(f"{host}:{path.parent.name}:{fields[19]}")
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_killed_it_goes_on_inside_a_run(tmp_path: Path) -> None:
    script = tmp_path / "line.py"
    script.write_text(
        "import sys, time\n"
        "import bo_invert as bi\n"
        "from pathlib import Path\n"
        "from bo_invert.benchmark.resumable_runs import run_missing\n"
        "from bo_invert.benchmark.results import Results\n"
        "folder, pause = Path(sys.argv[1]), float(sys.argv[2])\n"
        "def slow(seed):\n"
        "    def oracle(x):\n"
        "        with (folder / 'calls').open('a') as calls:\n"
        "            calls.write('.')\n"
        "        time.sleep(pause)\n"
        "        return float(x[0])\n"
        "    return bi.Problem(bi.Box([0.0], [1.0]), oracle, bi.Minimize(), name='slow')\n"
        "if __name__ == '__main__':\n"
        "    account = run_missing({'slow': slow}, {'random': {'name': 'random'}}, [0],\n"
        "                      budget=12, batch=1,\n"
        "                      results=Results(folder / 'results'))\n"
        "    print(account.done)\n"
    )
    first = subprocess.Popen([sys.executable, script, tmp_path, "0.25"])
    log = tmp_path / "calls"
    while not log.exists() or log.stat().st_size < 4:
        time.sleep(0.02)
    workers = children(first.pid)
    assert workers
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not list(tmp_path.rglob("*.jsonl"))
    begun = log.stat().st_size
    assert begun < 12
    assert list((tmp_path / "results" / UNFINISHED).glob("*.db"))
    second = subprocess.run(
        [sys.executable, script, tmp_path, "0"], capture_output=True, text=True, check=True
    )
    assert second.stdout.strip() == "1"
    line = json.loads(next(tmp_path.rglob("random.jsonl")).read_text())
    assert line["bill"]["values"] >= 12
    assert log.stat().st_size <= 12 + 2, "what was answered before was not asked again"
    for _ in range(100):
        if all(is_gone(worker) for worker in workers):
            break
        time.sleep(0.1)
    else:
        pytest.fail("worker processes outlived the one that began them")
    assert not list((tmp_path / "results" / UNFINISHED).glob("*.db"))


def fatal(task: str) -> str:
    if task == "fatal":
        os._exit(3)
    return task


def test_a_worker_that_dies_takes_only_its_task_along() -> None:
    results = dict(perform(fatal, ["one", "fatal", "two"], jobs=1))
    assert results[0] == "one"
    assert isinstance(results[1], BrokenExecutor)
    assert results[2] == "two"


# ---------------------------------------------------------------------- the form of a result


def test_a_line_keeps_the_curve_and_the_bill() -> None:
    run = a_run([5.0, 5.0, 1 / 3, 0.4, -2e-30])
    key = Key("p", "a", {"name": "a"}, 0, 5, 1)
    line = json.loads(json.dumps(to_line(key, run, {}), allow_nan=False))
    assert line["calls"] == [1, 3, 5]
    back = from_line(line)
    assert back.loss_at([1, 2, 3, 4, 5]) == pytest.approx([5, 5, 1 / 3, 1 / 3, -2e-30], rel=1e-9)
    nothing = from_line(
        to_line(key, Run("a", "p", 0, {"name": "a"}, 5, status=Status.REFUSED, ended="no"), {})
    )
    assert (nothing.loss, nothing.ended, len(nothing.calls)) == (math.inf, "no", 0)


def test_labels_may_hold_anything() -> None:
    assert str(Key("p", 'optuna:{"a": 1}/../x', {}, 0, 1, 1).path).count("/") == 1


# ---------------------------------------------------------------------- statistics


def test_data_profile_by_hand() -> None:
    assert data_profile([3, 10, math.inf, 10], [0, 3, 9, 10, 1e9]).tolist() == [
        0,
        0.25,
        0.25,
        0.75,
        0.75,
    ]


def test_balance_by_hand() -> None:
    assert stratified_balance([([1, 2, 3], [2, 4, 6])]) == -1
    assert stratified_balance([([1, 2, math.inf], [0, 2, 5])]) == 1
    assert stratified_balance([([0, 0, 3], [1, 2, 0])]) == 0  # ranks 1 and 2 against rank 3
    assert stratified_balance([([1, 1], [1, 1])]) == 0


def test_calls_to_solve_by_hand() -> None:
    runs = [a_run([10, 4, 0.9], "a"), a_run([20, 20, 5], "b")]
    frame = run_frame(runs, {"p": 0.0})
    assert frame[["start", "best"]].to_numpy().tolist() == [[15.0, 0.0]] * 2
    assert calls_to_solve(frame, 0.3).tolist() == [2, math.inf]  # at 4.5 or below
    assert run_frame(runs)["best"].tolist() == [0.9, 0.9], "the lowest loss without an optimum"
    assert run_frame(runs, {"p": 1.0})["best"].tolist() == [0.9, 0.9], "lower than the optimum"
    nothing = run_frame([a_run([], "a", "q"), *runs], {"p": 0.0, "q": 0.0})
    assert calls_to_solve(nothing, 0.3).tolist()[1:] == [2, math.inf]
    assert math.isnan(calls_to_solve(nothing, 0.3)[0]), "no method has a feasible loss"


def test_ranks_use_the_pairs_that_all_have_and_weigh_problems_alike() -> None:
    runs = []
    for seed in range(4):  # on p, a is better; b has two seeds only
        runs.append(a_run([9, 1], "a", "p", seed))
        if seed < 2:
            runs.append(a_run([9, 2], "b", "p", seed))
    runs += [a_run([9, 3], "a", "q", 0), a_run([9, 2], "b", "q", 0)]  # on q, b is better
    runs += [a_run([9, 0], "c", "p", 0)]  # c did not run on q
    frame = run_frame(runs)
    assert contenders(frame) == ["a", "b"]
    assert thorough(frame) == ["a", "b"], "three pairs of five are more than half"
    more = [a_run([9, 1], "a", "p", seed) for seed in range(4, 6)]
    assert thorough(run_frame([*runs, *more])) == ["a"]
    ranks = ranks_at(frame, ["a", "b"], (1, 2))
    assert ranks is not None
    assert ranks.pairs == 3
    assert ranks.means.to_numpy().tolist() == [[1.5, 1.5], [1.5, 1.5]], (
        "two seeds of p weigh as much as one of q"
    )


def test_a_refusing_method_is_listed() -> None:
    runs = (
        a_run([3, 2], "a"),
        a_run([4, 1], "b"),
        a_run([3, 2], "a", seed=1),
        a_run([4, 1], "b", seed=1),
        a_run([], "c", status=Status.REFUSED),
        replace(a_run([5, 5], "d"), status=Status.ERROR, ended="oops"),
    )
    tables = benchmark_tables(BenchmarkRuns(runs, (1, 2), "a"))
    after = next(table for table in tables if table.caption == "After 2 calls")
    assert {row[0]: row[1:] for row in after.rows}["c"] == ("0", "refused")
    assert [row[:4] for row in tables[-1].rows] == [
        ("p", "c", 1, "refused"),
        ("p", "d", 1, "error"),
    ]
    assert {row[0]: row[1] for row in after.rows} == {"a": "2", "b": "2", "c": "0", "d": "1"}


# ---------------------------------------------------------------------- the command line


def test_methods_are_read_from_a_line() -> None:
    text = 'random, optuna tpe,mine=cmaes:{"sigma0": 0.3}, gp:{}'
    assert parse_methods(text) == {
        "random": {"name": "random"},
        "optuna tpe": suite.METHODS["optuna tpe"],
        "mine": {"name": "cmaes", "options": {"sigma0": 0.3}},
        "gp:{}": {"name": "gp", "options": {}},
    }
    for wrong in ("random,random", "nobody", "gp:{", "gp:3", 'gp:{"unheard": 1}', " "):
        with pytest.raises(InvalidInputError):
            parse_methods(wrong)


def test_the_suite_gives_every_method_the_same_problem() -> None:
    for name, problem in suite.PROBLEMS.items():
        if name == "digits":
            continue  # trains a network
        one, again, other = problem(3), problem(3), problem(4)
        assert not one.statement.differentiable, name
        assert one.to_json() == again.to_json()
        point = np.linspace(0.2, 0.6, one.space.domain.dim)
        losses = [_loss(made, point) for made in (one, again, other)]
        assert losses[0] == losses[1]
        assert (losses[0] != losses[2]) == problem.seeded, name
        if problem.optimum is not None:
            assert losses[0] > problem.optimum, name


def _loss(problem: bi.Problem, point: np.ndarray) -> float:
    outcome = problem.evaluate([bi.Query(problem.space.domain.project(point))])[0]
    assert outcome.loss is not None
    return outcome.loss


@pytest.mark.usefixtures("quick")
def test_the_command_line_runs_lists_and_reports(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n{BEGIN}\nold\n{END}\ntail\n")
    line = [
        "bench",
        "--problems",
        "sine",
        "--strategies",
        "random,sobol",
        "--seeds",
        "2",
        "--budget",
        "60",
        "--results",
        str(tmp_path / "results"),
    ]
    outcome = CliRunner().invoke(
        app, [*line, "--report", str(tmp_path / "report"), "--page", str(page)]
    )
    assert outcome.exit_code == 0, outcome.output
    html = (tmp_path / "report" / "report.html").read_text()
    text = page.read_text()
    for caption in (
        "After 50 calls",
        "After 60 calls",
        "Mean ranks",
        "Too few common seeds",
        "Seconds per ask",
    ):
        assert caption in html
        assert caption in text
    assert html.count('class="figure"') == 2
    assert 'src="http' not in html
    assert text.startswith("# Page\n")
    assert text.endswith(f"{END}\ntail\n")
    assert "old" not in text
    outcome = CliRunner().invoke(app, [*line, "--list"])
    assert outcome.stdout.count(" 2\n") == 2
    outcome = CliRunner().invoke(app, [*line, "--seeds", "3", "--time-limit", "0"])
    assert "6 runs (1 problem, 2 methods, 3 seeds, 60 calls): 4 done, 2 left" in outcome.output
    assert "4 of 6 runs" in outcome.output


@pytest.mark.usefixtures("quick")
def test_the_command_line_says_what_it_is_at(tmp_path: Path) -> None:
    line = [
        "bench",
        "--problems",
        "sine",
        "--strategies",
        "random",
        "--seeds",
        "2",
        "--budget",
        "5",
        "--results",
        str(tmp_path),
    ]
    printed = CliRunner().invoke(app, line).stderr
    plan, begun, ended = (printed.index(words) for words in (
        "2 runs (1 problem, 1 method, 2 seeds, 5 calls): none done, 2 left",
        "0/2 [00:00<?, ?run/s, sine · random · seed 0]",
        "sine · random · seed 0: loss ",
    ))  # fmt: skip
    assert plan < begun < ended
    assert "2/2" in printed
    assert (
        CliRunner().invoke(app, [*line, "--seeds", "3", "--quiet"]).stderr
        == f"3 of 3 runs in {tmp_path}, 1 new\n"
    )


@pytest.mark.parametrize(
    ("labels", "seeds", "captions"),
    [
        ("a", 1, []),
        ("ab", 1, ["Mean ranks over 1 common pair ", "a against"]),
        ("ab", 3, ["Mean ranks over 3 common pairs", "a against", "Problems"]),
    ],
)
def test_tables_without_rows_are_left_out(labels: str, seeds: int, captions: list[str]) -> None:
    runs = tuple(a_run([3.0, 2.0], label, seed=seed) for label in labels for seed in range(seeds))
    tables = benchmark_tables(BenchmarkRuns(runs, (2,), "a"))
    assert all(table.rows for table in tables)
    for caption, table in zip([*captions, "After", "Calls", "Seconds"], tables, strict=True):
        assert table.caption.startswith(caption)
    assert ("No peer leads on any problem" in bench_markdown(BenchmarkRuns(runs, (2,), "a"))) == (
        seeds == 3
    )


def test_counts_of_one_are_singular() -> None:
    html = bench_html(BenchmarkRuns((a_run([3.0, 2.0]),), (2,)), "Title")
    assert "<p>1 problem · 1 method · 1 run</p>" in html


def test_a_comparison_shows_profiles_and_calls_to_hit(tmp_path: Path) -> None:
    comparison = bi.compare({"bowl": bowl}, ["random", "sobol"], budget=8, seeds=2)
    comparison.save(tmp_path)
    html = (tmp_path / "report.html").read_text()
    assert "Problems solved over calls" in html
    assert html.count('class="figure"') == 2
    assert "Calls until 99 % of the improvement" in (tmp_path / "table.md").read_text()


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(InvalidInputError, match="must have the lines"):
        fill_page(page, "tables")
    assert page.read_text() == "nothing"


def test_unknown_problems_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="got nowhere"):
        suite.chosen_problems(["sine", "nowhere"])
