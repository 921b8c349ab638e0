"""Pareto front and hypervolume of a study."""

from __future__ import annotations

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.errors import InvalidInputError

VALUES = [(1.0, 4.0), (2.0, 2.0), (4.0, 1.0), (3.0, 3.0), (2.0, 2.0), (0.5, 9.0)]
"""Cost and waste; the last one violates the constraint, the fourth is dominated."""


def study_of(objective: bi.Pareto, **options: object) -> bi.Study:
    problem = bi.Problem(
        bi.Box({"x": bi.Float(0, 10)}), None, objective, outputs=["cost", "waste"],
        constraints=["waste <= 8"],
    )  # fmt: skip
    study = bi.Study.create("fronts", problem, "random", **options)
    study.add([{"x": float(i)} for i in range(len(VALUES))], VALUES)
    return study


def test_front_and_hypervolume_of_known_values() -> None:
    study = study_of(bi.Pareto(bi.Minimize("cost"), bi.Minimize("waste"), reference=[5.0, 5.0]))
    front = study.front
    assert [trial.number for trial in front] in ([0, 1, 2], [0, 1, 4, 2])
    # Staircase up to (5, 5): (5 - 1) (5 - 4) + (5 - 2) (4 - 2) + (5 - 4) (2 - 1)
    assert front.hypervolume == pytest.approx(4.0 + 6.0 + 1.0)
    assert study.hypervolume.volumes[-1] == pytest.approx(front.hypervolume)
    assert (np.diff(study.hypervolume.volumes) >= 0.0).all()
    frame = study.to_dataframe()
    assert frame.loc[frame.front, "cost"].max() == 4.0
    assert not frame.front[[3, 5]].any()


def test_directions_keep_the_sign_of_the_outputs() -> None:
    front = study_of(bi.Pareto(bi.Minimize("cost"), bi.Maximize("waste"))).front
    assert front.directions == ("minimize", "maximize")
    assert [trial.number for trial in front] == [0]
    assert front.values.tolist() == [[1.0, 4.0]]


def test_the_text_of_a_study_shows_the_front() -> None:
    study = study_of(bi.Pareto(bi.Minimize("cost"), bi.Minimize("waste"), reference=[5.0, 5.0]))
    assert "hypervolume 11, cost 1 to 4, waste 1 to 4" in repr(study)
    empty = bi.Study.create("none", study.problem, "random")
    assert "front" not in repr(empty)
    assert len(empty.front) == 0


def test_one_criterion_has_no_front() -> None:
    problem = bi.Problem(bi.Box({"x": bi.Float(0, 1)}), None, bi.Minimize("cost"), outputs=["cost"])
    with pytest.raises(InvalidInputError, match="Pareto"):
        _ = bi.Study.create("one", problem, "random").front
