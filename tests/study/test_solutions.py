"""Solutions of a study with verdicts of the judge and plausibility."""

from __future__ import annotations

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.benchmark.single_run import summarize
from bo_invert.report.ranking import score, unconfirmed
from bo_invert.report.summary import summary_text


def judged(judge: object, **options: object) -> bi.Study:
    space = bi.Box([0.0, 0.0], [1.0, 1.0])
    oracle = bi.Function(
        lambda x: {"lift": float(x[0]), "trust": 1.0 - float(x[0]) / 4}, outputs=["lift", "trust"]
    )
    problem = bi.Problem(
        space, oracle, bi.Maximize("lift"), constraints=["trust >= 0.5"], judge=judge, **options
    )
    study = bi.Study.create("s", problem, strategy="sobol")
    study.run(32)
    return study


def test_claims_stand_beside_what_the_judge_says() -> None:
    asked = []

    def judge(x: np.ndarray) -> dict[str, float]:
        asked.append(x)
        return {"lift": float(x[0]) / 2, "trust": 1.0}

    study = judged(judge)
    found = study.solutions(3)
    assert len(found) == len(asked) == found.judge_calls == 3
    assert study.spent.values == 32, "the judge is on no bill"
    assert [one.loss for one in found] == sorted(one.loss for one in found)
    for one in found:
        assert one.judged == pytest.approx(one.loss / 2)
        assert one.upheld is True
        assert -one.loss == pytest.approx(one.design[0])
    gaps = [
        np.linalg.norm(a.trial.point - b.trial.point) for a in found for b in found if a is not b
    ]
    assert min(gaps) > 0.02
    assert "judge says" in repr(found)
    assert "called 3 times" in repr(found)
    assert "<table>" in found._repr_html_()


def test_a_judge_may_find_constraints_broken() -> None:
    """Such a design confirms nothing, whatever its value."""
    study = judged(lambda x: {"lift": 10.0, "trust": 0.1})
    (one,) = study.solutions()
    assert one.judged == -10.0
    assert one.upheld is False
    (limit,) = study.problem.constraints
    assert one.broken == (f"{limit} by {limit.bound - 0.1:.3g}",)
    assert f"constraints broken: {limit}" in repr(study.solutions())
    run = summarize(study)
    assert run.best is not None
    assert run.best.upheld is False
    assert unconfirmed(run, run.start)
    assert score(run, True) == np.inf
    assert "The judge confirms no design: its outputs violate the constraints" in summary_text(
        [run]
    )
    assert type(run).from_json(run.to_json()).best.upheld is False


def test_a_judge_may_fail() -> None:
    def broken(x: np.ndarray) -> float:
        raise ValueError("no licence")

    (one,) = judged(broken).solutions()
    assert one.judged is None
    assert one.upheld is None
    assert "no licence" in repr(judged(broken).solutions())


def test_without_a_judge_there_is_no_column_for_it() -> None:
    found = judged(None).solutions(2)
    assert found.judge_calls == 0
    assert "judge" not in repr(found)
    assert found[0].plausibility == 1.0


def test_plausibility_is_the_problems_own_where_it_has_one() -> None:
    found = judged(None, plausibility=lambda designs: np.full(len(designs), 0.25)).solutions(2)
    assert [one.plausibility for one in found] == [0.25, 0.25]


@pytest.mark.slow
def test_of_a_noisy_oracle_the_recommended_comes_first() -> None:
    rng = np.random.default_rng(0)
    space = bi.Box([0.0], [1.0])
    problem = bi.Problem(space, lambda x: float(x[0] + 0.5 * rng.standard_normal()), bi.Maximize())
    study = bi.Study.create("s", problem, strategy="gp", noisy=True).run(20, batch=5)
    first = study.solutions(2)[0].trial
    assert first.number == study.recommend().trial.number
    assert study.solutions(2)[1].trial.number != first.number


def test_why_no_design_is_feasible() -> None:
    box = bi.Box([0.0], [1.0])
    bounded = bi.Problem(box, None, bi.Minimize("y"), outputs=["y", "z"], constraints=["z >= 2"])
    study = bi.Study.create("s", bounded, "random")
    study.add([[0.1], [0.2], [0.3]], [[0.0, 0.5], [0.0, 1.5], bi.FailedError("boiled")])
    found = study.solutions(2)
    assert [one.trial.number for one in found] == [1]  # the nearest one, with a note
    assert "none of 2 completed trials satisfies the outcome constraints" in repr(found)
    assert "smallest violation is 0.5, in trial 1; 1 of 3 trials failed. Last error: boiled" in str(
        found
    )
    plain = bi.Study.create("t", bi.Problem(box, None, bi.Minimize(), outputs=["y"]), "random")
    plain.add([[0.1], [0.2]], [bi.InfeasibleError("too thin"), bi.InfeasibleError("too thin")])
    assert repr(plain.solutions()) == (
        "no solutions yet: 2 of 2 trials failed. Last error: too thin"
    )
    with pytest.raises(bi.InvalidInputError, match="2 of 2 trials failed"):
        plain.plot.solutions()


def test_nothing_found_is_no_error() -> None:
    problem = bi.Problem(bi.Box([0.0], [1.0]), lambda x: x[0], bi.Minimize())
    assert (
        repr(bi.Study.create("s", problem).solutions()) == "no solutions yet: no trial is completed"
    )
    with pytest.raises(bi.InvalidInputError, match="count"):
        bi.Study.create("t", problem).solutions(0)


@pytest.mark.parametrize("count", [1, 3])
def test_a_hit_precedes_a_miss_of_smaller_loss(count: int) -> None:
    target = bi.Target({"force": 5.0, "gap": (1e-6, 2e-6)}, tolerance={"force": 0.3})
    problem = bi.Problem(bi.Box({"x": bi.Float(0, 1)}), None, target, outputs=["force", "gap"])
    study = bi.Study.create("units", problem)
    # Losses add squares: the gap of the first row is too small, but by 1e-7 only.
    rows = [{"force": 5.0, "gap": 9e-7}, {"force": 5.2, "gap": 1.5e-6}]
    study.add([{"x": 0.2}, {"x": 0.8}], rows)
    assert study.best is not None
    assert study.best.number == 0
    assert study.solutions(count)[0].trial.number == 1
