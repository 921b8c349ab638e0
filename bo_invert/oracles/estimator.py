"""Anything with ``predict`` as an oracle: scikit-learn's estimators and those that look like them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bo_invert.errors import InvalidInput
from bo_invert.oracles.base import Oracle
from bo_invert.types import JSON


class Estimator(Oracle):
    """A fitted estimator from a table ``(n, features)`` to ``(n,)`` or ``(n, m)``. It has no gradient.

    Designs that are dicts become a data frame if the estimator was fitted on one (then they may hold words too),
    and rows of numbers in the order of their names otherwise.

    Args:
        estimator: has ``predict``, or the ``method`` named.
        outputs: names of the outputs. With ``"predict_proba"`` default: the names of the classes.
        flatten: turn designs of any shape, such as images, into rows; False hands them over as they are.
        method: which of its methods answers, such as ``"predict_proba"`` of a classifier.

    Raises:
        InvalidInput: the estimator has no such method.
    """

    batched = True

    def __init__(
        self,
        estimator: Any,
        outputs: Sequence[str] | None = None,
        flatten: bool = True,
        method: str = "predict",
    ) -> None:
        if not callable(getattr(estimator, method, None)):
            raise InvalidInput(f"Estimator: {type(estimator).__name__} has no method {method!r}")
        if outputs is None and method == "predict_proba":
            outputs = [str(label) for label in getattr(estimator, "classes_", ())] or None
        self.estimator = estimator
        self.outputs = None if outputs is None else tuple(outputs)
        self.flatten = flatten
        self.method = method

    def __call__(self, designs: Sequence[Any]) -> Any:
        return np.asarray(getattr(self.estimator, self.method)(self._table(designs)))

    def _table(self, designs: Sequence[Any]) -> Any:
        if len(designs) and isinstance(designs[0], Mapping):
            return self._named(designs)
        array = np.asarray(designs)
        return array.reshape(len(array), -1) if self.flatten else array

    def _named(self, designs: Sequence[Mapping[str, Any]]) -> Any:
        fitted = getattr(self.estimator, "feature_names_in_", None)
        if fitted is not None:
            import pandas as pd

            missing = [name for name in fitted if name not in designs[0]]
            if missing:
                raise InvalidInput(f"the estimator was fitted with features {missing}, which designs do not have")
            return pd.DataFrame(list(designs))[list(fitted)]
        names = list(designs[0])
        rows = [[design[name] for name in names] for design in designs]
        words = [n for n, value in zip(names, rows[0], strict=True) if not isinstance(value, (int, float, np.number))]
        if words:
            raise InvalidInput(
                f"{type(self.estimator).__name__} takes numbers, and parameters {words} are none; fit a pipeline that "
                "encodes them on a data frame, or wrap it in a function"
            )
        return np.array(rows, dtype=float)

    @property
    def inside(self) -> Any:
        return self.estimator

    def to_json(self) -> JSON:
        return {"type": "estimator", "name": type(self.estimator).__name__, "method": self.method}
