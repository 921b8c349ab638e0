from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.report.runs import Run


@pytest.fixture
def scripts() -> Any:
    import gradient_parity
    import parity_problems

    return argparse.Namespace(parity=gradient_parity, problems=parity_problems)


def test_ten_networks_have_four_roles_and_references_need_gradients(scripts: Any) -> None:
    names = list(scripts.problems.sources("development"))
    assert len(names) == len(set(names)) == 40
    with_gradients = [name for name in names if scripts.parity.differentiable(name)]
    assert len(with_gradients) == 20
    assert all(name.endswith(("gradients", "proxy")) for name in with_gradients)
    assert not set(names) & set(scripts.problems.sources("acceptance"))


@pytest.mark.parametrize("number", [8, 9])
def test_roles_of_a_network_have_equal_outputs(scripts: Any, number: int) -> None:
    """One number is a latent, the other one a box."""
    roles = {role: scripts.problems.made(3, number, role) for role in scripts.problems.ROLES}
    points = roles["forest"].domain.uniform(np.random.default_rng(0), 3)

    def outputs(role: str) -> Any:
        return [outcome.y for outcome in roles[role].evaluate([bi.Query(x) for x in points])]

    assert np.allclose(outputs("network"), outputs("network, gradients"), rtol=1e-9)
    assert np.array_equal(outputs("forest"), outputs("forest, proxy"))
    assert roles["network, gradients"].differentiable
    assert not roles["network"].differentiable


def test_excesses_are_relative_to_the_better_reference(
    scripts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts.parity, "typical_loss", lambda source: 1.0)

    def run(role: str, label: str, loss: float) -> Run:
        return Run(label, f"1-08 {role}", 0, {}, 150, calls=np.array([1]), losses=np.array([loss]))

    references = [
        run("network, gradients", "adam", -0.5),
        run("network, gradients", "lbfgs", -1.0),
    ]
    runs = [run("network", "auto", -0.9), run("network, gradients", "auto", -1.0)]
    found = scripts.parity.excesses(runs, references, "development")
    assert found["network", "auto"] == {"1-08": [pytest.approx(0.05)]}
    assert found["network, gradients", "auto"] == {"1-08": [0.0]}
    assert not scripts.parity.excesses(runs, references[:1], "development")
