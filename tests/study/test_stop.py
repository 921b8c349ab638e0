"""Stop rules: texts, combinations, ends of runs, recorded reasons, resumption."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.errors import InvalidInputError
from bo_invert.storage.open import open_store
from bo_invert.study.stop import StopRule, as_rule, checks, parse


def bowl(x: np.ndarray) -> float:
    return float(((np.asarray(x) - 0.3) ** 2).sum())


def problem(oracle=bowl) -> bi.Problem:
    return bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), oracle, bi.Minimize(), name="bowl")


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (bi.stop.patience(30), "patience:30"),
        (bi.stop.gain("1%"), "gain:1%"),
        (bi.stop.regret(0.25), "regret:0.25"),
        (bi.stop.seconds(3600), "seconds:3600"),
        (bi.stop.cost(100), "cost:100"),
        (bi.stop.cost(1.5, "seconds"), "cost:1.5 seconds"),
        (bi.stop.verdict(), "verdict:0.05"),
        (bi.stop.verdict(0.1) | bi.stop.patience(3), "verdict:0.1 | patience:3"),
        (bi.stop.patience(3) | bi.stop.seconds(9), "patience:3 | seconds:9"),
        (
            bi.stop.patience(3) & bi.stop.cost(9) | bi.stop.gain(0.1),
            "patience:3 & cost:9 | gain:0.1",
        ),
    ],
)
def test_rules_have_texts_that_give_them_back(rule: StopRule, text: str) -> None:
    assert str(rule) == text
    assert parse(text) == rule
    assert as_rule(rule) is rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patience", "'patience' must be NAME:NUMBER, got no number.*verdict needs no number"),
        ("patince:3", "got 'patince'; did you mean 'patience'"),
        ("patience:3 calls", "must be patience:NUMBER, got the words"),
        ("cost:3 calls more", "must be cost:NUMBER UNIT, got the words"),
        ("luck:3", "gain, regret, patience, seconds, cost"),
        ("patience:three", "must hold a number"),
        ("patience:2.5", "calls"),
        ("patience:0", "calls"),
        ("gain:-1", "least must be a number >= 0"),
        ("regret:x%", "least must be a number >= 0"),
        ("seconds:0", "must be > 0"),
        ("cost:3 apples", "unit must be one of"),
        ("patience:3 |", "NAME:NUMBER"),
        ("verdict:0", "alpha must be in"),
        ("verdict:low", "must hold a number"),
    ],
)
def test_other_texts_are_refused_before_a_call(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        parse(text)
    study = bi.Study.create("refused", problem(), "random")
    with pytest.raises(InvalidInputError):
        study.run(5, stop=text)
    assert not study.trials


def test_number_of_verdict_has_a_default_and_combinations_ask_for_hopes() -> None:
    assert parse("verdict") == bi.stop.verdict(0.05)
    assert (bi.stop.patience(3) | bi.stop.verdict(0.1)).hope_level == 0.1
    assert (bi.stop.verdict(0.2) & bi.stop.verdict(0.1)).hope_level == 0.1
    assert bi.stop.patience(3).hope_level is None


@pytest.mark.parametrize("stop", ["verdict", "patience:2 | verdict:0.1", bi.stop.verdict()])
@pytest.mark.parametrize("nearest", [False, True])
def test_verdict_needs_a_target(stop: Any, nearest: bool) -> None:
    goal = bi.Nearest([0.2], bi.Target(0.5, 0.1)) if nearest else bi.Minimize()
    plain = bi.Problem(bi.Box([0.0], [1.0]), lambda x: float(x[0]), goal)
    study = bi.Study.create("s", plain, seed=0)
    with pytest.raises(InvalidInputError, match=r"stop='verdict'.*must have a target"):
        study.run(5, stop=stop)
    assert not study.trials


def test_what_is_no_rule_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="must be a rule such as"):
        as_rule(3)


def events(study: bi.Study) -> list[str]:
    return [event["kind"] for event in study._store.events(study.name)]


def test_patience_counts_calls_since_the_last_improvement() -> None:
    study = bi.Study.create("patient", problem(), "random", seed=3)
    study.run(200, stop=bi.stop.patience(8))
    losses = [trial.loss for trial in study.trials]
    assert len(losses) == int(np.argmin(losses)) + 1 + 8 < 200
    for n in range(1, len(losses)):  # no earlier run of 8 calls without an improvement
        assert n - 1 - int(np.argmin(losses[:n])) < 8
    assert study.ended == "no improvement in 8 calls"


def test_patience_waits_for_a_feasible_observation() -> None:
    def fails(x: np.ndarray) -> float:
        raise bi.InfeasibleError("never")

    study = bi.Study.create("hopeless", problem(fails), "random")
    with pytest.warns(UserWarning, match="failed"):
        study.run(12, stop=bi.stop.patience(3))
    assert len(study.trials) == 12
    assert study.ended == ""


def test_a_resumed_run_ends_at_once_and_another_rule_continues(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/runs.db"
    study = bi.Study.create("resumed", problem(), "random", 3, store)
    study.run(200, stop="patience:8")
    count, written = len(study.trials), len(events(study))
    again = bi.Study.open("resumed", store, problem=problem())
    assert again.ended == "no improvement in 8 calls"
    again.run(200, stop="patience:8")
    assert (len(again.trials), len(events(again))) == (count, written)
    again.run(200, stop=bi.stop.patience(8) & bi.stop.cost(count + 2))
    assert len(again.trials) == count + 2
    assert again.ended == f"no improvement in 10 calls; and {count + 2} calls are billed"
    again.run(count + 3)
    assert again.ended == ""  # new trials


def test_interrupted_and_whole_runs_end_at_the_same_call(tmp_path: Path) -> None:
    rule = bi.stop.regret("5%") | bi.stop.patience(40)
    whole = bi.Study.create("whole", problem(), "gp").run(60, stop=rule)
    parts = bi.Study.create("parts", problem(), "gp", storage=f"sqlite:///{tmp_path}/runs.db")
    for calls in (5, 14, 23, 60):
        parts = bi.Study.open("parts", parts._store, problem=problem())
        parts.run(60, stop=rule | bi.stop.cost(calls))
    assert [t.loss for t in parts.trials] == [t.loss for t in whole.trials]
    assert parts.ended == whole.ended
    assert "regret:5%" in whole.ended
    assert len(whole.trials) < 60


def test_cost_seconds_and_functions_end_runs() -> None:
    study = bi.Study.create("costly", problem(), "random").run(50, stop=bi.stop.cost(7))
    assert len(study.trials) == 7
    assert study.ended == "7 calls are billed"
    study = bi.Study.create("slow", problem(), "random").run(50, stop=bi.stop.seconds(1e-9))
    assert not study.trials
    seen: list[int] = []

    def function() -> bool:
        seen.append(1)
        return len(seen) > 4

    study = bi.Study.create("called", problem(), "random").run(50, stop=function)
    assert 0 < len(study.trials) < 50
    assert study.ended == "the stop function returned True"
    seen.clear()
    study = bi.Study.create("both", problem(), "random")
    study.run(50, stop=bi.stop.cost(3) | function)
    assert study.ended == "3 calls are billed"
    assert study.trials[-1].number == 2


def test_a_run_without_a_rule_writes_the_same_events_as_ever() -> None:
    study = bi.Study.create("plain", problem(), "random").run(3)
    assert set(events(study)) == {"asked", "started", "finished"}


def test_rules_hold_for_concurrent_calls() -> None:
    study = bi.Study.create("parallel", problem(), "random")
    study.run(50, batch=3, executor="threads", stop=bi.stop.cost(9))
    assert 9 <= len(study.trials) < 50
    # Calls end in any order, so trials of the last batch may wait for a later run.
    assert {trial.state for trial in study.history.pending} <= {bi.State.QUEUED}
    assert study.ended.endswith("calls are billed")


def test_checks_depend_on_the_number_of_observations_alone() -> None:
    counts = [checks(n) for n in range(1, 400)]
    assert counts[:11] == [0] * 11
    assert counts[11] == 1
    assert all(0 <= b - a <= 1 for a, b in itertools.pairwise(counts))
    assert counts[-1] < 25


def test_exported_reasons_are_imported(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/runs.db")
    study = bi.Study.create("out", problem(), "random", storage=store)
    study.run(50, stop=bi.stop.cost(3))
    from bo_invert.storage.export_import import export_study, import_study

    export_study(store, "out", tmp_path / "out.jsonl")
    other = open_store(f"sqlite:///{tmp_path}/other.db")
    import_study(other, tmp_path / "out.jsonl")
    assert bi.Study.open("out", other).ended == "3 calls are billed"


def test_several_criteria_must_improve_the_hypervolume() -> None:
    both = bi.Problem(
        bi.Box([0.0, 0.0], [1.0, 1.0]),
        lambda x: [float(x[0]), float(x[1])],
        bi.Pareto(bi.Minimize("a"), bi.Minimize("b"), reference=[1.0, 1.0]),
        outputs=["a", "b"],
    )
    study = bi.Study.create("front", both, "random").run(300, stop=bi.stop.patience(10))
    assert study.ended == "no improvement in 10 calls"
    volumes = study.hypervolume.volumes
    assert volumes[-1] == volumes[-11] > volumes[-12]
    assert len(study.predict([[0.5, 0.5]])) == 1


def _quarter(x: np.ndarray) -> list[float]:
    """Return two criteria whose front is b = (1 - sqrt(a))^2, of hypervolume 5/6 below (1, 1)."""
    first, second = float(x[0] ** 2 + x[1]), float((x[0] - 1.0) ** 2 + x[1])
    return [first, second]


def _both(**options: object) -> bi.Problem:
    criteria = bi.Pareto(bi.Minimize("a"), bi.Minimize("b"), reference=[1.0, 1.0])
    box = bi.Box([0.0, 0.0], [1.0, 1.0])
    return bi.Problem(box, _quarter, criteria, outputs=["a", "b"], **options)  # type: ignore[arg-type]


def test_the_outlook_of_several_criteria_is_a_gain_of_hypervolume() -> None:
    study = bi.Study.create("front", _both(), seed=0).run(52)
    found, volume = study.outlook(), study.hypervolume.volumes[-1]
    assert found.decided
    assert found.best == pytest.approx(volume)
    assert found.scale == pytest.approx(volume)
    missing = 5.0 / 6.0 - volume
    assert 0.0 < missing <= found.bound
    assert 0.0 < found.expected <= found.bound < 0.05
    assert f"hypervolume {volume:.4g}; expected further gain" in str(found)
    assert found.to_json()["best"] == pytest.approx(volume)
    # The rules compare with it: a share is one of the hypervolume.
    stopped = bi.Study.create("stop", _both(), seed=0).run(80, stop=bi.stop.regret("5%"))
    assert 25 < len(stopped.trials) < 80
    assert f"limit {0.05 * stopped.hypervolume.volumes[-1]:.3g}" in stopped.ended
    assert 5.0 / 6.0 - stopped.hypervolume.volumes[-1] <= 0.05 * stopped.hypervolume.volumes[-1]


def test_the_outlook_of_three_criteria_is_estimated() -> None:
    def three(x: np.ndarray) -> list[float]:
        return [float(x[0]), float(x[1]), float(2.0 - x[0] - x[1])]

    criteria = bi.Pareto(*map(bi.Minimize, "abc"), reference=[1.0, 1.0, 2.0])
    problem = bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), three, criteria, outputs=list("abc"))
    found = bi.Study.create("three", problem, "sobol").run(40).outlook()
    assert found.decided
    assert 0.0 < found.expected <= found.bound < 2.0


def test_the_outlook_needs_a_point_better_than_the_reference() -> None:
    criteria = bi.Pareto(bi.Minimize("a"), bi.Minimize("b"), reference=[-1.0, -1.0])
    box = bi.Box([0.0, 0.0], [1.0, 1.0])
    problem = bi.Problem(box, _quarter, criteria, outputs=["a", "b"])
    found = bi.Study.create("none", problem, "random").run(30).outlook()
    assert not found.decided
    assert "better than the reference point" in found.why


_NOISY = {"name": "gp", "options": {"noisy": True, "initial": 25}}


def test_the_outlook_of_noisy_criteria_uses_expected_values() -> None:
    rng = np.random.default_rng(0)

    def noisy(x: np.ndarray) -> list[float]:
        return [value + 0.02 * rng.standard_normal() for value in _quarter(x)]

    criteria = bi.Pareto(bi.Minimize("a"), bi.Minimize("b"), reference=[1.0, 1.0])
    box = bi.Box([0.0, 0.0], [1.0, 1.0])
    problem = bi.Problem(box, noisy, criteria, outputs=["a", "b"])
    study = bi.Study.create("noisy", problem, _NOISY, seed=0)
    found = study.run(27).outlook()
    assert found.decided
    assert found.best == pytest.approx(study.hypervolume.volumes[-1])
    assert 0.0 < found.expected <= found.bound < 0.9


def test_a_front_cannot_be_polished() -> None:
    study = bi.Study.create("front", _both(), "random").run(5)
    with pytest.raises(bi.InvalidInputError, match=r"several criteria.*study\.run"):
        study.polish(3)
    assert len(study.trials) == 5


def test_an_outlook_without_a_trend_is_undecided() -> None:
    problem = bi.Problem(bi.Box([0.0], [1.0]), lambda x: float(x[0] ** 2), bi.Minimize())
    study = bi.Study.create("short", problem, "random").run(20)
    early = study.outlook()
    assert not early.decided
    assert "20 calls" in early.why
    assert "inf" not in str(early)
    later = study.run(40).outlook()
    assert later.decided
    assert np.isfinite([later.expected, later.bound]).all()


@pytest.mark.parametrize("pareto", [False, True])
def test_interrupted_calls_do_not_count_as_calls_without_improvement(pareto: bool) -> None:
    """Ctrl-C in every third call; the run ends at the same call as one without."""

    def study(name: str, hits: list[int] | None) -> bi.Study:
        calls: list[float] = []

        def oracle(x: Any) -> list[float]:
            calls.append(float(x[0]))
            if hits is not None and len(calls) % 3 == 0 and len(calls) < 12:
                hits.append(len(calls))
                raise KeyboardInterrupt
            return [abs(float(x[0]) - 0.3), abs(float(x[0]) - 0.6)]

        objective = bi.Pareto(bi.Minimize("a"), bi.Minimize("b")) if pareto else bi.Minimize("a")
        space = bi.Box([0.0], [1.0])
        made = bi.Problem(space, oracle, objective, outputs=["a", "b"])
        return bi.Study.create(name, made, "random", 1)

    whole = study("whole", None).run(60, stop=bi.stop.patience(6))
    hits: list[int] = []
    parts = study("parts", hits)
    for _ in range(20):
        try:
            parts.run(60, stop=bi.stop.patience(6))
            break
        except KeyboardInterrupt:
            continue
    assert len(hits) >= 3
    assert [t.point.tolist() for t in parts.trials] == [t.point.tolist() for t in whole.trials]
    assert parts.ended == whole.ended == "no improvement in 6 calls"
    assert parts.spent.lost == len(hits)


def test_a_reached_target_is_the_reason_of_the_end() -> None:
    aimed = bi.Problem(bi.Box([0.0], [1.0]), lambda x: float(x[0]), bi.Target(0.5, tolerance=0.4))
    study = bi.Study.create("aimed", aimed, "random").run(50)
    assert study.ended == f"the target is reached in trial {study.trials[-1].number}"
    assert study.ended in repr(study)
    assert study.run(50).ended == study.ended
    assert events(study).count("ended") == 1
    study.run(len(study.trials) + 2, stop_when_hit=False)
    assert study.ended == ""
