"""auto: which strategy is chosen when, why, and what is done about noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.storage.memory import MemoryStore
from bo_invert.strategies.base import Request, from_spec


def origins(study: bi.Study) -> set[str]:
    return {trial.origin for trial in study.trials}


def bowl(x: Any) -> float:
    return float(((np.asarray(x) - 0.3) ** 2).sum())


def plain(fn: Any = bowl, d: int = 2, objective: Any = None) -> bi.Problem:
    return bi.Problem(bi.Box([0.0] * d, [1.0] * d), fn, objective or bi.Minimize(), name="plain")


def begun(problem: bi.Problem, count: int, **options: Any) -> bi.Study:
    """Run a study of 60 calls until ``count`` trials after its 30 random points."""
    study = bi.Study.create("s", problem, seed=0, **options)
    points = np.random.default_rng(1).random((30, 2))
    assert problem.oracle is not None
    study.add(points, problem.oracle(points))
    return study.run(60, stop=lambda: len(study.trials) >= 30 + count)


def test_it_is_the_default() -> None:
    assert bi.Study.create("s", plain()).strategy.name == "auto"


def test_every_query_says_why() -> None:
    study = bi.Study.create("s", plain(), seed=0).run(8)
    reasons = {trial.query.meta["why"] for trial in study.trials}
    assert reasons == {
        "initial design",
        "gp: global Gaussian process",
    }


def test_a_target_goes_to_the_model_and_to_least_squares() -> None:
    problem = plain(lambda x: [x[0] + x[1] ** 2, x[0] * x[1]], objective=bi.Target([0.7, 0.2]))
    study = bi.Study.create("s", problem, seed=0).run(40)
    assert origins(study) == {"gp", "least_squares"}
    assert study.best.loss < 1e-12


def test_a_target_behind_trees_does_not() -> None:
    """Different points are answered exactly alike: finite differences would be zero."""
    problem = plain(
        lambda x: float(np.floor(6 * x[0]) + np.floor(6 * x[1]) / 6), objective=bi.Target(3.4)
    )
    study = bi.Study.create("s", problem, seed=1).run(25)
    assert "least_squares" not in origins(study)
    assert any("equal outputs" in trial.query.meta["why"] for trial in study.trials)


def steps(x: Any) -> float:
    """Return a sum over the coordinates of the values of three plateaus each."""
    return float(np.digitize(np.asarray(x), [0.45, 0.9]).sum())


def test_a_forest_is_asked_about_steps_and_never_about_a_bowl() -> None:
    problem = plain(steps, 8, bi.Maximize())
    study = bi.Study.create("s", problem, seed=0).run(40)
    asked = [trial for trial in study.trials if trial.origin == "forest"]
    assert asked
    assert all("left-out" in trial.query.meta["why"] for trial in asked)
    assert "forest" not in origins(bi.Study.create("s", plain(d=3), seed=0).run(30))


def test_plateaus_are_left_by_wide_samples() -> None:
    study = bi.Study.create("s", plain(steps, 8, bi.Maximize()), seed=0).run(40)
    sampled = [trial for trial in study.trials if trial.origin == "pcn"]
    assert sampled
    assert all("nothing new" in trial.query.meta["why"] for trial in sampled)
    resumed = bi.Study.create("t", plain(steps, 8, bi.Maximize()), seed=0)
    resumed.run(40, stop=lambda: len(resumed.trials) >= 20)
    resumed.run(40)
    assert [t.point.tolist() for t in resumed.trials] == [t.point.tolist() for t in study.trials]


def test_plateaus_among_integers_are_left_by_wide_samples() -> None:
    space = bi.Box({"whole": bi.Int(0, 1000), **dict.fromkeys("abcd", (0.0, 1.0))})

    def steps_of(design: Any) -> float:
        return float(round(4.0 * design["a"]) + round(4.0 * design["b"]) + design["whole"] // 300)

    study = bi.Study.create("s", bi.Problem(space, steps_of, bi.Maximize()), seed=0).run(40)
    assert "pcn" in {trial.origin for trial in study.trials}


def test_no_wide_samples_while_a_search_gains() -> None:
    def slope(x: Any) -> float:
        return float(np.exp(-3.0 * np.asarray(x).sum()))

    # The optimum, a corner, is reached after 13 calls.
    assert origins(bi.Study.create("s", plain(slope, 8), seed=0).run(13)) == {"gp"}


def test_far_points_are_drawn_while_a_basin_is_refined() -> None:
    study = bi.Study.create("s", plain(), seed=0).run(40)
    drawn = [trial for trial in study.trials if trial.origin == "prior"]
    assert drawn
    for trial in drawn:
        earlier = [t.point for t in study.trials[: trial.number]]
        assert np.linalg.norm(np.array(earlier) - trial.point, axis=1).min() > 0.05
    assert study.best.loss < 1e-6


def test_other_choices_are_searched_while_one_is_refined() -> None:
    space = bi.Box({"kind": bi.Choice("a", "b", "c", "d"), "x": bi.Float(0.0, 1.0)})
    offsets = {"a": 0.0, "b": 1.0, "c": 2.0, "d": 3.0}
    problem = bi.Problem(space, lambda d: offsets[d["kind"]] + (d["x"] - 0.3) ** 2, bi.Minimize())
    study = bi.Study.create("s", problem, seed=0).run(40)
    wide = [trial for trial in study.trials if "elsewhere" in trial.query.meta]
    assert len(wide) > 5
    for trial in wide:
        best = min(study.trials[: trial.number], key=lambda t: t.loss)
        assert trial.design["kind"] != best.design["kind"]


def test_typed_parameters_go_to_gp() -> None:
    space = bi.Box({"n": bi.Int(1, 9), "r": bi.Float(0.0, 1.0)})
    problem = bi.Problem(space, lambda d: d["n"] + d["r"], bi.Target(4.5), name="typed")
    assert origins(bi.Study.create("s", problem, seed=0).run(8)) == {"gp"}


@pytest.mark.slow
def test_gradients_are_used() -> None:
    import torch

    class Quadratic(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.at = torch.nn.Parameter(torch.tensor([0.2, 0.7], dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return ((x - self.at) ** 2).sum(1, keepdim=True)

    problem = bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), Quadratic(), bi.Minimize(), name="smooth")
    study = bi.Study.create("s", problem, seed=0).run(20)
    assert study.spent.gradients > 0


def test_many_trials_go_to_turbo() -> None:
    problem = plain(d=3)
    study = bi.Study.create("s", problem, strategy="random", seed=0)
    points = np.random.default_rng(0).random((1001, 3))
    study.add(X=points, Y=[[bowl(x)] for x in points])
    proposal = from_spec("auto").ask(problem.statement, study.trials, Request(0, 2, 0, 2000))
    assert {query.origin for query in proposal.queries} == {"turbo"}
    assert "too many" in proposal.queries[0].meta["why"]


def test_noise_is_found_out_by_asking_again() -> None:
    rng = np.random.default_rng(0)
    study = begun(plain(lambda x: bowl(x) + 0.1 * rng.standard_normal()), 6)
    again = [trial for trial in study.trials if "repeat" in trial.query.meta]
    assert len(again) == 1
    first = study.trials[again[0].query.meta["repeat"]]
    assert np.array_equal(again[0].point, first.point)
    assert any("evaluations differ" in why for why in reasons(study))


def test_a_smooth_exact_oracle_is_not_asked_twice() -> None:
    study = begun(plain(), 6)
    assert "gp" in origins(study)
    assert len({trial.point.tobytes() for trial in study.trials}) == len(study.trials)


def reasons(study: bi.Study) -> set[str]:
    return {trial.query.meta["why"] for trial in study.trials if "why" in trial.query.meta}


def test_an_oracle_declared_noisy_is_treated_as_noisy() -> None:
    """From the start and without a repeat, so least_squares is not used for a target."""
    rng = np.random.default_rng(0)
    problem = plain(lambda x: bowl(x) + 0.1 * rng.standard_normal(), objective=bi.Target(0.2))
    study = bi.Study.create("s", problem, seed=0, noisy=True).run(9, stop_when_hit=False)
    assert origins(study) == {"gp"}
    reason = "gp: global Gaussian process, with noise, because the oracle is declared noisy"
    assert reasons(study) == {"initial design", reason}
    assert not any("repeat" in trial.query.meta for trial in study.trials)
    assert '"noisy": true' in next(iter(study.journal.read().memo["children"]))


def test_an_oracle_declared_exact_is_never_repeated() -> None:
    """Check that no point is repeated and no reason names noise."""
    rng = np.random.default_rng(0)
    study = begun(plain(lambda x: bowl(x) + 0.1 * rng.standard_normal()), 0, noisy=False)
    study.enqueue(point=[0.5, 0.5])
    study.enqueue(point=[0.5, 0.5])
    study.run(60, stop=lambda: len(study.trials) >= 36)
    assert not any("repeat" in trial.query.meta for trial in study.trials)
    assert len({trial.point.tobytes() for trial in study.trials}) == len(study.trials) - 1
    assert not any("differ" in why or "noisy" in why for why in reasons(study))


def test_many_noisy_trials_go_to_a_turbo_that_knows() -> None:
    problem = plain(d=3)
    study = bi.Study.create("s", problem, strategy="random", seed=0)
    points = np.random.default_rng(0).random((1001, 3))
    study.add(X=points, Y=[[bowl(x)] for x in points])
    proposal = from_spec("auto", noisy=True).ask(
        problem.statement, study.trials, Request(0, 1, 0, 2000)
    )
    assert list(proposal.memo["children"]) == ['{"name": "turbo", "options": {"noisy": true}}']
    assert (
        proposal.queries[0]
        .meta["why"]
        .endswith("too many for a global GP, with noise, because the oracle is declared noisy")
    )


def test_a_study_begun_before_the_option_was_there_goes_on() -> None:
    """Its log has no word on noise: that is the default, and no change."""
    store = MemoryStore()
    bi.Study.create("s", plain(), seed=0, storage=store)
    header = store.header("s")
    old = {**header, "strategy": {"name": "auto", "options": {}}}
    store.create("old", old)
    assert (
        bi.Study.create("old", plain(), seed=0, storage=store, exist_ok=True).run(3).spent.calls
        == 3
    )
    with pytest.raises(bi.InvalidInputError, match="the strategy must be"):
        bi.Study.create("old", plain(), seed=0, storage=store, exist_ok=True, noisy=True)


@pytest.mark.slow
@pytest.mark.parametrize("linear", [True, False])
def test_wide_latents_go_to_what_predicts_better(linear: bool) -> None:
    slope = np.random.default_rng(1).standard_normal(48) / 48**0.5

    def oracle(x: Any) -> float:
        return (
            float(slope @ x) / np.linalg.norm(x)
            if linear
            else float(np.cos(2.0 * x[0]) + np.sin(2.0 * x[1]))
        )

    problem = bi.Problem(bi.Latent(lambda z: z, dim=48), oracle, bi.Maximize(), name="wide")
    study = bi.Study.create("s", problem, strategy="prior", seed=0).run(120)
    proposal = from_spec("auto").ask(problem.statement, study.trials, Request(0, 1, 0, 300))
    assert (proposal.queries[0].origin == "spherical") == linear
