"""forest: search of step functions in boxes, mixed spaces and latents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.types import Array


def steps(x: Any) -> float:
    """Return a sum over the coordinates of the values of three plateaus each."""
    return float(np.digitize(np.asarray(x), [0.45, 0.9]).sum())


def box(fn: Any = steps, d: int = 8) -> bi.Problem:
    return bi.Problem(bi.Box([0.0] * d, [1.0] * d), fn, bi.Maximize(), name="steps")


def losses(problem: bi.Problem, strategy: str, calls: int, seed: int = 0) -> Array:
    study = bi.Study.create("s", problem, strategy, seed=seed).run(calls)
    return np.array([trial.loss for trial in study.trials])


def test_it_climbs_steps() -> None:
    """A random search reaches about 12 of the 16 steps."""
    assert losses(box(), "forest", 30).min() < losses(box(), "random", 30).min() - 1.0


def test_irrelevant_inputs_do_not_matter() -> None:
    problem = box(lambda x: 4.0 * np.floor(5.0 * x[0]) + np.floor(5.0 * x[1]), 20)
    assert losses(problem, "forest", 30).min() <= -24.0


def test_categories_and_integers() -> None:
    space = bi.Box(
        {"kind": bi.Choice(list("abcdef")), "level": bi.Int(0, 9), "x": bi.Float(0.0, 1.0)}
    )
    problem = bi.Problem(
        space,
        lambda p: 10.0 * (p["kind"] == "d") + p["level"] + float(p["x"] > 0.5),
        bi.Maximize(),
        name="mixed",
    )
    study = bi.Study.create("s", problem, "forest", seed=0).run(30)
    assert study.best.loss is not None
    assert study.best.loss <= -19.0
    assert len({str(study.problem.decode(t.point)) for t in study.trials}) == 30


def test_a_latent_is_modelled_by_its_designs() -> None:
    """Two of the designs' numbers decide, and no latent coordinate alone."""
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    space = bi.Latent(lambda z: z @ turn, 6)
    problem = bi.Problem(
        space, lambda x: float(np.floor(2.0 * x[0]) + np.floor(2.0 * x[3])), bi.Maximize(), name="z"
    )
    found = [losses(problem, "forest", 25, seed).min() for seed in range(2)]
    drawn = [losses(problem, "prior", 25, seed).min() for seed in range(2)]
    assert np.median(found) < np.median(drawn)


def test_points_of_a_batch_differ_in_plateaus() -> None:
    study = bi.Study.create("s", box(), "forest", seed=0).run(12)
    batch = study.ask(4)
    assert len({tuple(np.digitize(trial.point, [0.45, 0.9])) for trial in batch}) == 4


@pytest.mark.parametrize("bound", [12.0, 100.0])
def test_constraints_and_failures(bound: float) -> None:
    def oracle(x: Any) -> list[float]:
        if x[0] > 0.9:
            raise ValueError("no answer")
        return [steps(x), 10.0 * float(np.sum(x))]

    problem = bi.Problem(
        bi.Box([0.0] * 4, [1.0] * 4), oracle, bi.Maximize("f"), outputs=["f", "g"],
        constraints=[bi.OutcomeConstraint("g", "<=", bound)], name="constrained",
    )  # fmt: skip
    study = bi.Study.create("s", problem, "forest", seed=0).run(30)
    assert study.best.feasible
    assert sum(trial.loss is None for trial in study.trials) < 12
