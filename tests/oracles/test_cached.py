"""Nothing is paid for twice, nothing is forgotten, and nothing wrong is remembered."""

from __future__ import annotations

import json
import pickle
import sqlite3
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.errors import StorageError
from bo_invert.oracles.base import OracleResult

X = np.array([1.0, 2.0])


class Counted(bi.Oracle):
    """Adds up, and counts how often each design was asked for."""

    def __init__(self, batched: bool = False) -> None:
        self.asked: list[Any] = []
        self.batched = batched

    def __call__(self, designs: Any) -> list[Any]:
        self.asked += [
            design if isinstance(design, dict) else np.asarray(design).tolist()
            for design in designs
        ]
        return [self.one(design) for design in designs]

    def one(self, design: Any) -> Any:
        value = float(np.sum(design))
        if value < 0:
            return bi.InfeasibleError(f"{value} is below 0 \ud800")
        return bi.FailedError("too large") if value > 100 else value / 3.0

    def to_json(self) -> Any:
        return {"type": "Counted"}


def ask(oracle: bi.Oracle, *designs: Any, outputs: tuple[str, ...] = ("y",)) -> list[OracleResult]:
    return oracle.answers(list(designs), outputs)


def bill(answers: list[OracleResult]) -> list[int]:
    return [answer.calls for answer in answers]


@pytest.fixture(params=["memory", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    return {} if request.param == "memory" else {"path": tmp_path / "cache.db", "version": "1"}


@pytest.mark.parametrize("batched", [False, True])
def test_what_is_known_costs_nothing_and_is_the_same_to_the_bit(
    place: dict[str, Any], batched: bool
) -> None:
    inner = Counted(batched)
    oracle = bi.Cached(inner, **place)
    first = ask(oracle, X, X + 1, X)
    assert bill(first) == [1, 1, 0], "one that is in a batch twice is asked for once"
    again = ask(oracle, X + 1, X, X + 2)
    assert bill(again) == [0, 0, 1]
    assert inner.asked == [[1.0, 2.0], [2.0, 3.0], [3.0, 4.0]]
    assert again[0].y.tobytes() == first[1].y.tobytes() == np.array([5.0 / 3.0]).tobytes()
    odd = np.array([5e-324, -1.7976931348623157e308, 0.1 + 0.2])
    exact = bi.Cached(lambda x: odd, **({**place, "version": "2"} if place else {}))
    for _ in range(2):
        (answer,) = ask(exact, X, outputs=("a", "b", "c"))
        assert answer.y.tobytes() == odd.tobytes()


def test_infeasibility_is_cached_and_failures_are_not(place: dict[str, Any]) -> None:
    inner = Counted()
    oracle = bi.Cached(inner, **place)
    for calls in (1, 0):
        (answer,) = ask(oracle, -X)
        assert isinstance(answer.error, bi.InfeasibleError)
        assert answer.error.reason.startswith("-3.0 is below 0")
        assert answer.calls == calls
    for _ in range(2):
        (answer,) = ask(oracle, 100 * X)
        assert isinstance(answer.error, bi.FailedError)
        assert answer.calls == 1
    assert len(inner.asked) == 3


def test_designs_of_all_kinds_are_known_again(place: dict[str, Any]) -> None:
    asked: list[Any] = []
    oracle = bi.Cached(lambda design: float(len(asked.append(design) or asked)), **place)
    designs = [
        "CCO",
        "OCC",
        {"a": 1, "b": 0.5},
        {"a": 1.0, "b": 0.5},
        7,
        np.zeros((2, 2)),
        np.zeros(4),
        ["a", "b"],
    ]
    fresh = ask(oracle, *designs)
    known = ask(oracle, *designs, {"b": 0.5, "a": 1})
    assert [a.y.tolist() for a in known] == [a.y.tolist() for a in [*fresh, fresh[2]]]
    assert bill(known) == [0] * 9
    assert len(asked) == 8
    assert bill(ask(oracle, object()) + ask(oracle, object())) == [1, 1], (
        "what cannot be compared is asked"
    )


def test_a_study_pays_for_new_designs_only(place: dict[str, Any]) -> None:
    inner = Counted()
    space = bi.Box({"a": bi.Int(0, 3), "b": bi.Choice(["p", "q"])})
    inner.one = lambda design: float(design["a"])  # type: ignore[method-assign]
    study = bi.Study.create(
        "s", bi.Problem(space, bi.Cached(inner, **place), bi.Minimize()), strategy="random"
    )
    study.run(5, stop=lambda: len(study.trials) >= 50)
    assert study.spent.values == len(inner.asked) == 5
    assert study.spent.attempts == len(study.trials) >= 5
    assert sum(trial.cost.values == 0 for trial in study.trials) >= 1
    assert all(trial.cost.values <= 1 for trial in study.trials)
    assert None not in [trial.loss for trial in study.trials]
    assert study.best is not None
    assert study.history.calls == study.spent.calls


def test_gradients_flow_through_and_are_billed() -> None:
    module = torch.nn.Linear(2, 1).double()
    oracle = bi.Cached(module)
    assert oracle.differentiable
    problem = bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), oracle, bi.Minimize())
    for _ in range(2):
        (outcome,) = problem.evaluate([bi.Query([0.5, 0.5], gradient=True)])
        assert (outcome.cost.values, outcome.cost.gradients) == (1, 1)
        np.testing.assert_allclose(outcome.gradient, module.weight.detach().numpy()[0])
    (walked,) = problem.evaluate([bi.Query([0.5, 0.5], descent=bi.Descent(4))])
    assert (walked.cost.values, walked.cost.gradients) == (4, 3)


def test_a_descent_on_a_stand_in_that_ends_where_the_truth_is_known() -> None:
    inner = Counted()
    problem = bi.Problem(
        bi.Box([0.0, 0.0], [1.0, 1.0]),
        bi.Cached(bi.GradientProxy(inner, torch.nn.Linear(2, 1).double())),
        bi.Minimize(),
    )
    query = bi.Query([0.5, 0.5], descent=bi.Descent(4))
    (first,), (again,) = problem.evaluate([query]), problem.evaluate([query])
    assert len(inner.asked) == 1
    assert again.loss == first.loss == pytest.approx(float(np.sum(first.point)) / 3.0)
    assert first.cost.values == again.cost.values + 1 == 4
    assert again.cost.gradients == first.cost.gradients
    assert first.trace is not None
    assert again.trace is not None
    assert again.trace[-1] == first.trace[-1] == first.loss
    study = bi.Study.create("s", problem, strategy="random")
    study.enqueue(point=[0.1, 0.2])
    study.run(2)
    assert study.spent.values == len(inner.asked) - 1


# Files


def test_a_file_outlives_its_process_and_knows_whose_answers_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    ask(bi.Cached(Counted(), path, version="1"), X, -X)
    inner = Counted()
    assert bill(ask(bi.Cached(inner, path, version="1"), X, -X)) == [0, 0]
    assert bill(ask(bi.Cached(inner, path, version="2"), X)) == [1]
    assert bill(ask(bi.Cached(lambda x: 0.0, path, version="1"), X)) == [1]
    assert bill(ask(bi.Cached(inner, path, version="1"), X, outputs=("other",))) == [1]


def test_a_file_wants_a_version_unless_the_oracle_knows_its_content(tmp_path: Path) -> None:
    with pytest.raises(bi.InvalidInputError, match="version='1'"):
        bi.Cached(lambda x: 0.0, tmp_path / "cache.db")
    assert not (tmp_path / "cache.db").exists()

    class Hashed(Counted):
        def to_json(self) -> Any:
            return {"type": "Hashed", "sha256": "ab"}

    assert bill(ask(bi.Cached(Hashed(), tmp_path / "cache.db"), X)) == [1]


SHARED = """
import sys, bo_invert as bi, numpy as np
class Slow(bi.Oracle):
    def __call__(self, designs):
        open(sys.argv[2], "a").write("." * len(designs))
        return [float(np.sum(d)) + np.random.rand() for d in designs]
    def to_json(self):
        return {"type": "Slow"}
oracle = bi.Cached(Slow(), sys.argv[1], version="1")
for i in range(40):
    oracle.answers([np.array([float(i % 20)])], ("y",))
print([float(oracle.answers([np.array([float(i)])], ("y",))[0].y[0]) for i in range(20)])
"""


def test_processes_share_a_file_and_agree_in_the_end(tmp_path: Path) -> None:
    run = [sys.executable, "-c", SHARED, str(tmp_path / "cache.db"), str(tmp_path / "calls")]
    callers = [subprocess.Popen(run, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    values = [caller.communicate(timeout=120)[0] for caller in callers]
    assert [caller.returncode for caller in callers] == [0, 0, 0]
    assert len(set(values)) == 1, "the oracle is noisy, and the answer written first is everybody's"
    assert [int(value) for value in json.loads(values[0])] == list(range(20))
    assert 20 <= (tmp_path / "calls").stat().st_size <= 60


def test_threads_and_pickles(place: dict[str, Any]) -> None:
    oracle = pickle.loads(pickle.dumps(bi.Cached(Counted(), **place)))
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda i: ask(oracle, np.array([i % 5, 0.0]))[0].y[0], range(80)))
    np.testing.assert_allclose(values, [i % 5 / 3.0 for i in range(80)])
    again = pickle.loads(pickle.dumps(oracle))
    assert bill(ask(again, np.array([3, 0.0]))) == [0]


def test_a_run_over_processes_shares_the_file(tmp_path: Path) -> None:
    oracle = bi.Cached(lambda design: float(design["a"]), tmp_path / "cache.db", version="1")
    space = bi.Box({"a": bi.Int(0, 2)})
    study = bi.Study.create("s", bi.Problem(space, oracle, bi.Minimize(), reuse=False), "random")
    study.run(7, executor="processes", batch=2, stop=lambda: len(study.trials) >= 20)
    assert 3 <= study.spent.values <= 6, (
        "three designs; two workers may have paid for the same one at once"
    )


@pytest.mark.parametrize("damage", ["text", "cut", "middle", "other", "folder"])
def test_a_damaged_file_is_reported_at_once(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "cache.db"
    oracle = bi.Cached(Counted(), path, version="1")
    ask(oracle, *[np.array([float(i)]) for i in range(300)])
    del oracle
    content = path.read_bytes()
    if damage == "text":
        path.write_text("this is my diary, and not a cache" * 100)
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "middle":
        path.write_bytes(content[:5000] + bytes(4000) + content[9000:])
    elif damage == "other":
        path.unlink()
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE mine (a)")
        connection.close()
    else:
        path = tmp_path
    with pytest.raises(
        (StorageError, bi.InvalidInputError), match=r"damaged|no cache|cannot be opened"
    ):
        bi.Cached(Counted(), path, version="1")
    if damage == "text":
        assert path.read_text().startswith("this is my diary"), "it is not written over"


def test_a_changed_answer_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    oracle = bi.Cached(Counted(), path, version="1")
    (true,) = ask(oracle, X)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE answers SET y = ?", (np.array([7.0]).tobytes(),))
    connection.close()
    with pytest.warns(RuntimeWarning, match="damaged"):
        (answer,) = ask(oracle, X)
    assert (answer.y, answer.calls) == (true.y, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bill(ask(oracle, X)) == [0], "memory took over"


def test_an_answer_that_cannot_be_written_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    oracle = bi.Cached(Counted(), path, version="1")
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON answers BEGIN SELECT RAISE (ABORT, 'full'); END"
        )
    connection.close()
    with pytest.warns(RuntimeWarning, match="in memory from now on"):
        (answer,) = ask(oracle, X)
    assert (answer.y, answer.calls) == ([1.0], 1)
    assert bill(ask(oracle, X)) == [0]


def test_what_it_says_of_itself() -> None:
    oracle = bi.Cached(Counted(), version="3")
    assert oracle.to_json() == {"type": "cached", "oracle": {"type": "Counted"}, "version": "3"}
    assert oracle([X]) == [1.0]
    assert ask(oracle, X)[0].calls == 1, "a direct call is the oracle's own, and is not kept"
    assert bi.Cached(bi.Function(lambda x: 0.0, outputs=["a"])).outputs == ("a",)
