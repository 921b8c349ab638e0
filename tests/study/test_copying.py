"""Copies and pickles of studies and trials, and trials that meet another study."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest

import bo_invert as bi
from bo_invert.types import Query, Trial


def problem() -> bi.Problem:
    offset = 0.25  # the oracle is a closure, which only cloudpickle can send
    return bi.Problem(bi.Box([0, 0], [1, 1]), lambda x: float(x.sum()) + offset, bi.Minimize("y"))


def joblib_copy(study: bi.Study) -> bi.Study:
    (made,) = joblib.Parallel(1)([joblib.delayed(_same)(pickle.loads(pickle.dumps(study)))])
    return made


def _same(study: bi.Study) -> bi.Study:
    return study


COPIES: dict[str, Callable[[bi.Study], bi.Study]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda study: pickle.loads(pickle.dumps(study)),
    "cloudpickle": lambda study: pickle.loads(cloudpickle.dumps(study)),
    "joblib": joblib_copy,
}


def storage(kind: str, folder: Path) -> str | None:
    return None if kind == "memory" else f"sqlite:///{folder}/runs.db"


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_copy_continues(how: str, kind: str, tmp_path: Path) -> None:
    study = bi.Study.create("s", problem(), strategy="random", storage=storage(kind, tmp_path))
    study.run(3)
    made = COPIES[how](study)
    assert repr(made) == repr(study)
    made.run(5)
    assert len(made.trials) == 5
    shared = kind == "file" or how == "copy"
    assert len(study.trials) == (5 if shared else 3)
    study.run(6)  # the original is intact
    alone = bi.Study.create("s", problem(), strategy="random").run(6)
    assert np.array_equal(study.history.points, alone.history.points)


def test_a_copy_has_the_strategy_of_the_user() -> None:
    class Corner(bi.Strategy):
        name = "corner of a test"

        def ask(self, statement: Any, trials: Any, request: Any) -> bi.Proposal:
            return bi.Proposal((Query(np.zeros(2), origin="corner"),))

    study = bi.Study.create("s", problem(), strategy=Corner()).run(1)
    for made in (pickle.loads(pickle.dumps(study)), copy.deepcopy(study)):
        assert made.run(2).trials[-1].point.tolist() == [0.0, 0.0]


def test_what_cannot_be_copied_says_how() -> None:
    study = bi.Study.create("s", problem(), strategy="random", storage="sqlite://")
    with pytest.raises(bi.InvalidInputError, match=r"storage='sqlite:///runs\.db'"):
        pickle.dumps(study)
    with pytest.raises(bi.InvalidInputError, match=r"storage='sqlite:///runs\.db'"):
        copy.deepcopy(study)
    lock = threading.Lock()
    asked = bi.Problem(bi.Box([0], [1]), lambda x: float(lock.locked()), bi.Minimize())
    study = bi.Study.create("s", asked, strategy="random").run(1)
    with pytest.raises(bi.InvalidInputError, match=r"Study\.open"):
        pickle.dumps(study)
    assert len(copy.deepcopy(study).trials) == 1


@pytest.mark.parametrize("how", [pickle.loads, None])
def test_trials_hold_their_design(how: Callable[[bytes], Any] | None) -> None:
    study = bi.Study.create("s", problem(), strategy="random").run(2)
    trial = study.trials[1]
    made: Trial = copy.deepcopy(trial) if how is None else how(pickle.dumps(trial))
    assert np.array_equal(made.design, trial.design)
    assert repr(made) == repr(trial)
    assert study.tell(made, trial.y).number == 1  # a copy is a trial of the same study
    assert pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(trial)))).design is not None


def studies(folder: Path) -> dict[str, bi.Study]:
    """Return studies that differ in one respect from the first."""
    first = bi.Study.create("one", problem(), strategy="random", seed=0)
    url = f"sqlite:///{folder}/runs.db"
    return {
        "first": first,
        "other seed": bi.Study.create("two", problem(), strategy="random", seed=1),
        "same seed": bi.Study.create("two", problem(), strategy="random", seed=0),
        "same name": bi.Study.create("one", problem(), strategy="random", seed=0),
        "other storage": bi.Study.create("one", problem(), strategy="random", storage=url),
    }


@pytest.mark.parametrize("other", ["other seed", "same seed", "same name", "other storage"])
@pytest.mark.parametrize("verb", ["tell", "tell, pickled", "cancel"])
def test_a_trial_of_another_study_is_refused(other: str, verb: str, tmp_path: Path) -> None:
    both = studies(tmp_path)
    (foreign,) = both["first"].ask()
    both[other].ask()
    if "pickled" in verb:
        foreign = pickle.loads(pickle.dumps(foreign))
    with pytest.raises(bi.InvalidInputError, match=r"another study.*study\.add"):
        both[other].cancel(foreign) if verb == "cancel" else both[other].tell(foreign, 1.0)
    (trial,) = both[other].trials
    assert trial.outcome is None
    assert trial.state.open


def test_a_trial_without_a_study_must_have_its_point() -> None:
    study = bi.Study.create("s", problem(), strategy="random")
    (trial,) = study.ask()
    own = Trial(0, Query(trial.point), trial.state)
    with pytest.raises(bi.InvalidInputError, match="another study"):
        study.tell(Trial(0, Query(trial.point + 0.1), trial.state), 1.0)
    assert study.tell(own, 1.0).y is not None
    assert study.tell(0, 1.0).number == 0
    assert study.tell(np.int64(0), 1.0).number == 0
