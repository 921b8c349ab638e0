"""Anything with ``predict`` as an oracle: scikit-learn's estimators, boosted trees, and what looks like them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.oracles.base import Oracle
from bo_invert.types import JSON


class Estimator(Oracle):
    """A fitted estimator from a table ``(n, features)`` to ``(n,)`` or ``(n, m)``. It has no gradient.

    Designs that are dicts become a data frame if the estimator was fitted on one (then they may hold words too),
    and rows of numbers in the order of their names otherwise.

    Forests and boosted trees of scikit-learn, LightGBM and XGBoost are asked on ``n_jobs`` threads each, because
    several workers that each start as many threads as there are processors get in each other's way; the estimator
    given is not changed. A ``lightgbm.Booster`` or ``xgboost.Booster`` is taken as it is. After early stopping all of
    them predict with the best iteration, not the last.

    Args:
        estimator: has ``predict``, or the ``method`` named.
        outputs: names of the outputs. With ``"predict_proba"`` default: the names of the classes.
        flatten: turn designs of any shape, such as images, into rows; False hands them over as they are.
        method: which of its methods answers, such as ``"predict_proba"`` of a classifier.
        n_jobs: threads of one prediction, where an estimator says how many it uses; None leaves it as it is.

    Raises:
        InvalidInputError: the estimator has no such method.
    """

    batched = True

    def __init__(
        self,
        estimator: Any,
        outputs: Sequence[str] | None = None,
        flatten: bool = True,
        method: str = "predict",
        n_jobs: int | None = 1,
    ) -> None:
        if not callable(getattr(estimator, method, None)):
            raise InvalidInputError(
                f"Estimator: {type(estimator).__name__} has no method {method!r}"
            )
        if outputs is None and method == "predict_proba":
            outputs = [str(label) for label in getattr(estimator, "classes_", ())] or None
        self.estimator = estimator if n_jobs is None else _on_threads(estimator, n_jobs)
        self.n_jobs = n_jobs
        self.outputs = None if outputs is None else tuple(outputs)
        self.flatten = flatten
        self.method = method

    def __call__(self, designs: Sequence[Any]) -> Any:
        return np.asarray(self._predict(self._table(designs)))

    @property
    def _predict(self) -> Callable[[Any], Any]:
        predict: Callable[..., Any] = getattr(self.estimator, self.method)
        if self.method == "predict" and hasattr(
            self.estimator, "inplace_predict"
        ):  # predict of xgboost.Booster wants a DMatrix
            last = getattr(self.estimator, "best_iteration", None)
            trees = (0, 0) if last is None else (0, int(last) + 1)
            return lambda table: self.estimator.inplace_predict(table, iteration_range=trees)
        if self.n_jobs is not None and _is_lightgbm(self.estimator):
            return lambda table: predict(table, num_threads=self.n_jobs)
        return predict

    def _table(self, designs: Sequence[Any]) -> Any:
        if len(designs) and isinstance(designs[0], Mapping):
            return self._named(designs)
        array = np.asarray(designs)
        return array.reshape(len(array), -1) if self.flatten else array

    def _named(self, designs: Sequence[Mapping[str, Any]]) -> Any:
        fitted = self._features(designs[0])
        if fitted is not None:
            import pandas as pd

            missing = [name for name in fitted if name not in designs[0]]
            if missing:
                raise InvalidInputError(
                    f"the estimator was fitted with features {missing}, which designs do not have"
                )
            return pd.DataFrame(list(designs))[list(fitted)]
        names = list(designs[0])
        rows = [[design[name] for name in names] for design in designs]
        words = [
            n
            for n, value in zip(names, rows[0], strict=True)
            if not isinstance(value, (int, float, np.number))
        ]
        if words:
            raise InvalidInputError(
                f"{type(self.estimator).__name__} takes numbers, and parameters {words} are none; fit a pipeline that "
                "encodes them on a data frame, or wrap it in a function"
            )
        return np.array(rows, dtype=float)

    @property
    def inside(self) -> Any:
        return self.estimator

    def _features(self, design: Mapping[str, Any]) -> list[str] | None:
        """Names of the columns it was fitted on; None if they had none."""
        names = getattr(self.estimator, "feature_names_in_", None)
        if names is None and hasattr(self.estimator, "inplace_predict"):
            names = getattr(self.estimator, "feature_names", None)
        if names is None and _is_lightgbm(self.estimator):
            names = self.estimator.feature_name()
        if names is None or all(
            re.fullmatch(r"Column_\d+", name) and name not in design for name in names
        ):
            return None  # LightGBM invents names for arrays
        return [str(name) for name in names]

    def to_json(self) -> JSON:
        return {"type": "estimator", "name": type(self.estimator).__name__, "method": self.method}


def _is_lightgbm(estimator: Any) -> bool:
    """Whether it is a ``lightgbm.Booster``, by its looks."""
    return hasattr(estimator, "num_trees") and callable(getattr(estimator, "feature_name", None))


def _on_threads(estimator: Any, n_jobs: int) -> Any:
    """The estimator, or a copy of it that predicts on so many threads."""
    if hasattr(estimator, "inplace_predict") and hasattr(estimator, "set_param"):  # xgboost.Booster
        estimator = copy.deepcopy(estimator)
        estimator.set_param({"nthread": n_jobs})
    elif hasattr(estimator, "get_booster") and hasattr(
        estimator, "set_params"
    ):  # XGBoost, as scikit-learn has it
        estimator = copy.deepcopy(estimator)
        estimator.set_params(n_jobs=n_jobs)
        estimator.get_booster().set_param({"nthread": n_jobs})
    elif getattr(estimator, "n_jobs", n_jobs) != n_jobs:
        estimator = copy.copy(estimator)  # shares what was fitted
        estimator.n_jobs = n_jobs
    return estimator
