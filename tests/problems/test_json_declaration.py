"""A declared problem is the same search as the real one."""

from __future__ import annotations

import json

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.problems.json_declaration import declaration_of, problem_from_declaration
from bo_invert.registry import resolve
from bo_invert.strategies.base import Request
from bo_invert.types import Cost


def problems() -> dict[str, bi.Problem]:
    rng = np.random.default_rng(0)
    mixed = bi.Box(
        {
            "a": bi.Float(1e-3, 1.0, log=True),
            "n": bi.Int(1, 9),
            "c": bi.Choice("x", "y", "z"),
            "b": (0, 1),
        }
    )
    codes = rng.standard_normal((300, 3)) @ rng.standard_normal((3, 3)) + 1.0
    return {
        "vector": bi.Problem(
            bi.Box([0.0, -1.0], [1.0, 2.0]), lambda x: float(x.sum()), bi.Minimize()
        ),
        "mixed": bi.Problem(
            mixed, None, bi.Maximize("lift"), outputs=["lift", "drag"], constraints=["drag <= 2"]
        ),
        "latent": bi.Problem(
            bi.Latent(lambda z: z, 3), None, bi.Target([1.0, 2.0], 0.1, [1.0, 3.0]), realism=None
        ),
        "measured": bi.Problem(
            bi.Latent(lambda z: z, 3, codes=codes), None, bi.Target({"b": 2.0}), realism=0.95
        ),
        "hartmann6": resolve("problems", "hartmann6")(),
    }


@pytest.mark.parametrize("name", list(problems()))
def test_what_is_sent_is_all_that_a_strategy_needs(name: str) -> None:
    real = problems()[name]
    sent = json.loads(json.dumps(declaration_of(real), allow_nan=False))
    other = problem_from_declaration(sent, real.name)
    assert other.to_json() == real.to_json()
    assert other.statement.to_json() == real.statement.to_json()
    assert other.differentiable == real.differentiable
    points = real.space.sample(np.random.default_rng(1), 8)
    assert other.space.plausibility(points) == pytest.approx(real.space.plausibility(points))
    assert other.space.sample(np.random.default_rng(1), 8) == pytest.approx(points)
    y = np.arange(1.0, len(real.outputs) + 1.0)
    assert other.outcome(y, Cost()).to_json() == real.outcome(y, Cost()).to_json()
    ours, theirs = (
        resolve("strategies", "gp")().ask(p.statement, (), Request(count=3)).queries
        for p in (real, other)
    )
    assert [q.point.tolist() for q in ours] == [q.point.tolist() for q in theirs]
    if name in ("vector", "mixed"):
        assert np.array_equal(other.decode(points[0]), real.decode(points[0]))
        designs = [real.decode(points[0])]
        assert other.space.encode(designs) == pytest.approx(real.space.encode(designs))


def test_code_is_not_sent() -> None:
    problem = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Composite(lambda y: y[..., 0]), outputs=1)
    with pytest.raises(bi.InvalidInputError, match="code is not sent"):
        declaration_of(problem)
