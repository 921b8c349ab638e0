"""Studies for further targets on a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from servers import Served

import bo_invert as bi

pytestmark = pytest.mark.service


def cost(design: dict[str, float]) -> float:
    if design["a"] > 1.9:
        raise bi.InfeasibleError("too wide")
    return design["a"] ** 2 + 0.3 * design["b"]


def test_observations_are_taken_on_a_server(tmp_path: Path) -> None:
    served = Served(tmp_path, f"sqlite:///{tmp_path}/runs.db")
    try:
        space = bi.Box({"a": bi.Float(0, 2), "b": bi.Float(0, 1)})
        made = bi.Problem(space, cost, bi.Target({"cost": 1.0}, tolerance=1e-3), outputs=["cost"])
        first = bi.Study.create("costs", made, storage=served.url, token=served.token)
        first.enqueue(x={"a": 1.99, "b": 0.5})
        first.run(20)
        other = first.retarget({"cost": 0.6}, "cheap", exist_ok=True)
        assert other.spent.calls == 0
        assert other.source is not None
        assert (other.source.study, other.source.trials) == ("costs", len(first.trials))
        assert np.array_equal(other.history.y, first.history.y)
        assert other.history.losses == pytest.approx((first.history.y[:, 0] - 0.6) ** 2)
        assert [trial.reason for trial in other.history.failed] == ["too wide"]
        again = first.retarget({"cost": 0.6}, "cheap", exist_ok=True)
        assert len(again.trials) == len(first.trials)
        again.run(10)
        assert again.best is not None
        assert abs(again.best.y[0] - 0.6) <= 1e-3  # type: ignore[index]
        assert first.retarget({"cost": 0.7}).name == "costs 2"
    finally:
        assert served.stop() in (0, -15)
