"""Asks in boxes with few designs: distinct ones while there are any, then their number."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.domains.constrained_box import constrained_box, fix_values, read_fixed
from bo_invert.domains.distinct_designs import distinct_points
from bo_invert.domains.search_domain import Domain

AB = {"a": bi.Float(0, 1), "b": bi.Float(0, 1)}
KIND = {"kind": bi.Choice("x", "y", "z")}
SETS: dict[str, tuple[dict[str, Any], Any, dict[str, Any], int]] = {
    "choices": ({**KIND, "n": bi.Int(1, 4)}, (), {"kind": "x"}, 4),
    "real is fixed": ({**KIND, "a": bi.Float(0, 1)}, (), {"a": 0.5}, 3),
    "one point": ({**KIND, **AB}, "a + b == 1", {"a": 0.3}, 3),
    "a point for each integer": ({**KIND, **AB, "n": bi.Int(0, 1)}, "a + b == 2 n", {}, 6),
    "conditional": ({**KIND, "n": bi.When("kind", "y", bi.Float(0, 1))}, (), {"kind": "x"}, 1),
    "corners": ({**KIND, **AB}, ["a + b == 1", "at most 1 of a, b"], {}, 6),
    "integers": ({"m": bi.Int(0, 3), "n": bi.Int(0, 3)}, "m + n == 3", {"m": 1}, 1),
}


def study(
    name: str, strategy: str = "auto", storage: str | None = None, **options: Any
) -> bi.Study:
    parameters, constraints, _, _ = SETS[name]
    space = bi.Box(parameters, constraints=constraints)
    problem = bi.Problem(space, None, bi.Minimize("f"), outputs=["f"])
    return bi.Study.create("few", problem, strategy, 0, storage, **options)


def points(trials: list[bi.Trial]) -> set[tuple[float, ...]]:
    return {tuple(np.round(trial.point, 8)) for trial in trials}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("strategy", ["auto", "random", "cmaes", "forest"])
def test_an_ask_returns_distinct_designs_and_then_their_number(name: str, strategy: str) -> None:
    _, _, fixed, count = SETS[name]
    lab = study(name, strategy)
    with pytest.warns(UserWarning, match=f"{count} distinct design"):
        trials = lab.ask(30, fixed=fixed)
    assert len(trials) == len(points(trials)) == count
    for number, trial in enumerate(trials):
        lab.tell(trial, float(number))
    with pytest.warns(UserWarning, match="distinct design"):
        assert lab.ask(5, fixed=fixed) == []


@pytest.mark.parametrize("name", ["one point", "choices"])
def test_asks_one_by_one_are_distinct_and_reproducible(name: str, tmp_path: Path) -> None:
    _, _, fixed, count = SETS[name]
    found = []
    for folder in ("a", "b"):
        lab = study(name, "random", f"sqlite:///{tmp_path}/{folder}.db")
        for number in range(count):
            (trial,) = lab.ask(fixed=fixed)
            lab.tell(trial, float(number))
        found.append([tuple(trial.point) for trial in lab.trials])
    assert found[0] == found[1]
    assert len(set(found[0])) == count


def test_a_noisy_oracle_repeats_designs() -> None:
    lab = study("choices", "gp", noisy=True)
    assert len(lab.ask(12, fixed={"kind": "x"})) == 12


def test_inactive_branches_are_asked_once() -> None:
    lab = study("conditional", "random")
    kinds = [trial.design["kind"] for trial in lab.ask(20)]
    assert (kinds.count("x"), kinds.count("z")) == (1, 1)


def test_a_run_with_fixed_values_ends_with_the_last_design() -> None:
    calls: list[dict[str, Any]] = []

    def oracle(design: dict[str, Any]) -> float:
        calls.append(design)
        return design["n"] + design["a"]

    space = bi.Box({"n": bi.Int(1, 4), "a": bi.Float(0, 1)})
    lab = bi.Study.create("run", bi.Problem(space, oracle, bi.Minimize()), "random", seed=0)
    with pytest.warns(UserWarning, match="4 distinct designs exist with fixed="):
        lab.run(30, fixed={"a": 0.25})
    assert sorted(design["n"] for design in calls) == [1, 2, 3, 4]
    assert {design["a"] for design in calls} == {0.25}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lab.run(8)
    assert len(lab.trials) == 8


@pytest.mark.parametrize("name", SETS)
def test_all_designs_are_listed(name: str) -> None:
    parameters, constraints, fixed, count = SETS[name]
    domain = bi.Box(parameters, constraints=constraints).domain
    listed = distinct_points(fix_values(domain, read_fixed(domain, fixed)))
    assert listed is not None
    assert len(listed) == count
    assert domain.satisfied(listed).all()


def thin(width: float) -> Domain:
    return bi.Box(AB, constraints=["a + b == 1", f"0.3 <= a <= {0.3 + width}"]).domain


def test_continua_have_no_list() -> None:
    for domain in (
        bi.Box(AB).domain, bi.Box(AB, constraints="a + b == 1").domain, thin(1e-3),
        bi.Box({"n": bi.Int(0, 10**6)}).domain, bi.Latent(lambda z: z, 2).domain,
        bi.Box({**KIND, **AB}, constraints=[bi.Feasible(lambda v: v["a"] > v["b"])]).domain,
        constrained_box({**KIND, **AB}, (), {"a": 0.5}),
    ):  # fmt: skip
        assert distinct_points(domain) is None


@pytest.mark.parametrize("broken", [False, True])
def test_a_run_ends_without_an_ask_once_all_designs_are_recorded(broken: bool) -> None:
    def oracle(design: dict[str, int]) -> float:
        if broken and design["m"] == 1:
            raise RuntimeError("no steam")
        return float(design["m"] + design["n"])

    space = bi.Box({"m": bi.Int(0, 3), "n": bi.Int(0, 2)}, constraints="m + n <= 3")
    lab = bi.Study.create("few", bi.Problem(space, oracle, bi.Minimize()), "gp", seed=0)
    with pytest.warns(UserWarning, match="9 distinct designs exist"):
        lab.run(40)
    assert lab.spent.values == len({trial.point.tobytes() for trial in lab.trials}) == 9
    assert lab.ended == "9 distinct designs exist; all are recorded or under way"
    asks = lab.spent.asks
    with pytest.warns(UserWarning, match="9 distinct designs exist"):
        assert lab.ask(2) == []
    assert lab.spent.asks == asks
    lab.run(12, reuse_limit=0)  # as in comparisons
    assert lab.spent.values == 12
