"""The sampler inside real studies of Optuna: spaces, constraints, states, and workers."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from typing import Any

import pytest

optuna = pytest.importorskip("optuna")

from bo_invert import registry  # noqa: E402  # after the check for an optional package
from bo_invert.integrations.optuna import BoInvertSampler  # noqa: E402

optuna.logging.set_verbosity(optuna.logging.ERROR)
#: Options that save time.
PLAIN = {"kernel": "matern", "warp": False, "initial": 4}
SPACE = {
    "x": optuna.distributions.FloatDistribution(-1.0, 2.0),
    "rate": optuna.distributions.FloatDistribution(1e-3, 1.0, log=True),
    "share": optuna.distributions.FloatDistribution(0.0, 1.0, step=0.1),
    "n": optuna.distributions.IntDistribution(1, 8),
    "wide": optuna.distributions.IntDistribution(10, 50, step=10),
    "kind": optuna.distributions.CategoricalDistribution(["a", None, 2.5, True]),
}


def mixed(trial: optuna.Trial) -> float:
    values = {name: trial._suggest(name, one) for name, one in SPACE.items()}
    assert type(values["n"]) is int
    assert values["wide"] in (10, 20, 30, 40, 50)
    loss = (values["x"] - 0.5) ** 2 + abs(math.log10(values["rate"]) + 2) / 10
    return float(loss + abs(values["share"] - 0.3) + (values["kind"] is not None) + values["n"] / 9)


def bowl(trial: optuna.Trial) -> float:
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    return (x - 0.3) ** 2 + (y - 0.6) ** 2


def relative(study: optuna.Study) -> int:
    """Return the number of trials that a strategy proposed."""
    return len(study.sampler._mirror._own)


@pytest.mark.parametrize("name", ["auto", "gp", "turbo", "forest", "cmaes", "sobol", "nevergrad"])
def test_strategies_propose_all_types(name: str) -> None:
    options = PLAIN if name in ("gp", "turbo") else {}
    study = optuna.create_study(sampler=BoInvertSampler(name, seed=0, **options))
    study.optimize(mixed, n_trials=12)
    assert relative(study) == 11
    assert len({str(trial.params) for trial in study.trials}) >= 11


def test_it_beats_random_search() -> None:
    study = optuna.create_study(sampler=BoInvertSampler("gp", seed=0, **PLAIN))
    study.optimize(bowl, n_trials=18)
    assert study.best_value < 1e-3
    largest = optuna.create_study(
        direction="maximize", sampler=BoInvertSampler("gp", seed=0, **PLAIN)
    )
    largest.optimize(lambda trial: -bowl(trial), n_trials=18)
    assert largest.best_value > -1e-3


def test_equal_seeds_give_equal_trials() -> None:
    params = []
    for _ in range(2):
        study = optuna.create_study(sampler=BoInvertSampler("gp", seed=3, **PLAIN))
        study.optimize(bowl, n_trials=8)
        params.append([trial.params for trial in study.trials])
    assert params[0] == params[1]


def test_a_given_space_is_proposed_jointly_from_the_first_trial() -> None:
    study = optuna.create_study(sampler=BoInvertSampler("sobol", seed=0, search_space=SPACE))
    study.optimize(mixed, n_trials=4)
    assert relative(study) == 4


def test_branches_of_a_dynamic_space_are_drawn_independently() -> None:
    def dynamic(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        if trial.suggest_categorical("branch", ["a", "b"]) == "a":
            return x + trial.suggest_float("only a", 0, 1)
        return x + trial.suggest_int("only b", 1, 3)

    study = optuna.create_study(sampler=BoInvertSampler("gp", seed=0, **PLAIN))
    study.optimize(dynamic, n_trials=12)
    assert set(study.sampler._mirror.key[0]) == {"x", "branch"}
    assert {frozenset(trial.params) for trial in study.trials} == {
        frozenset({"x", "branch", "only a"}),
        frozenset({"x", "branch", "only b"}),
    }


def test_constraints_are_outputs() -> None:
    def limited(trial: optuna.Trial) -> float:
        value = bowl(trial)
        trial.set_user_attr("c", [trial.params["x"] - 0.1])
        return value

    study = optuna.create_study(
        sampler=BoInvertSampler(
            "gp", seed=0, constraints_func=lambda trial: trial.user_attrs["c"], **PLAIN
        )
    )
    study.optimize(limited, n_trials=18)
    mirror = study.sampler._mirror
    assert [c.output for c in mirror._study.problem.constraints] == ["constraint 0"]
    feasible = [t for t in study.trials if t.constraints["0"] <= 0]
    assert min(t.value for t in feasible) < 0.045
    assert study.best_trial.constraints["0"] <= 0


def test_failed_and_pruned_trials_are_understood() -> None:
    def troubled(trial: optuna.Trial) -> float:
        value = bowl(trial)
        if trial.number % 4 == 1:
            raise RuntimeError("the simulator crashed")
        if trial.number % 4 == 2:
            trial.report(value - 10.0, step=1)
            raise optuna.TrialPruned
        if trial.number % 4 == 3 and trial.number > 4:
            raise optuna.TrialPruned
        return value

    study = optuna.create_study(sampler=BoInvertSampler("gp", seed=0, **PLAIN))
    study.optimize(troubled, n_trials=13, catch=RuntimeError)
    study.sampler._mirror.update(study.trials)
    log = study.sampler._mirror._study
    states = [trial.state.name for trial in log.trials]
    assert states.count("FAILED") == 3 + 2
    completed = [t.value for t in study.trials if t.state.name == "COMPLETE"]
    pruned = [t for t in study.trials if t.state.name == "PRUNED" and t.intermediate_values]
    assert len(pruned) == 3
    losses = sorted(trial.loss for trial in log.trials if trial.loss is not None)
    assert losses[0] == min(completed)  # no pruned trial is better than the completed ones
    assert len(losses) == len(completed) + len(pruned)


def test_running_trials_are_pending_points() -> None:
    study = optuna.create_study(sampler=BoInvertSampler("gp", seed=0, **PLAIN))
    study.optimize(bowl, n_trials=6)
    open_trials = [study.ask(SPACE_2) for _ in range(3)]
    assert len({str(trial.params) for trial in open_trials}) == 3
    assert len(study.sampler._mirror._study.pending) == 3
    for trial in open_trials:
        study.tell(trial, 1.0)
    study.ask(SPACE_2)
    assert len(study.sampler._mirror._study.pending) == 1


SPACE_2 = {name: optuna.distributions.FloatDistribution(0, 1) for name in ("x", "y")}


def test_enqueued_trials_are_recorded_as_they_ran() -> None:
    study = optuna.create_study(sampler=BoInvertSampler("gp", seed=0, **PLAIN))
    study.optimize(bowl, n_trials=5)
    study.enqueue_trial({"x": 0.25, "y": 0.75})
    study.enqueue_trial({"x": 0.125})
    study.optimize(bowl, n_trials=3)
    study.sampler._mirror.update(study.trials)
    recorded = {str(trial.design) for trial in study.sampler._mirror._study.trials}
    assert recorded == {str(trial.params) for trial in study.trials}


def test_workers_share_a_storage(tmp_path: Any) -> None:
    """A second process, or one after a crash, uses the trials of the first."""
    url = f"sqlite:///{tmp_path}/optuna.db"
    for seed in range(2):
        study = optuna.create_study(
            storage=url, study_name="s", load_if_exists=True,
            sampler=BoInvertSampler("gp", seed=seed, **PLAIN),
        )  # fmt: skip
        study.optimize(bowl, n_trials=6)
    assert len(study.trials) == 12
    assert relative(study) == 6
    assert len(study.sampler._mirror._study.trials) == 12


def test_threads_and_copies() -> None:
    sampler = BoInvertSampler("gp", seed=0, **PLAIN)
    study = optuna.create_study(sampler=sampler)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.optimize(bowl, n_trials=8, n_jobs=2)
    assert len(study.trials) == 8
    for twin in copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler)):
        again = optuna.create_study(sampler=twin)
        again.optimize(bowl, n_trials=2)


def test_several_objectives() -> None:
    def two(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 0, 1)
        return x, (1 - x) ** 2

    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=BoInvertSampler(seed=0)
    )
    study.optimize(two, n_trials=7)
    assert relative(study) == 6


def test_every_registered_name_is_accepted() -> None:
    for name in registry.names("strategies"):
        assert BoInvertSampler(name) is not None


def test_an_unknown_strategy_or_option_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"no strategies named 'nope'"):
        BoInvertSampler("nope")
    with pytest.raises(ValueError, match="no option kernl"):
        BoInvertSampler("gp", kernl="matern")
