"""Objective of several criteria: the result is a Pareto front instead of one design."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from bo_invert.errors import InvalidInputError, printable
from bo_invert.objectives.base import Objective, Tensor
from bo_invert.objectives.nearest import Nearest
from bo_invert.objectives.single_output import (
    PLAUSIBILITY,
    Maximize,
    Minimize,
    OneOutput,
    Plausibility,
)
from bo_invert.objectives.target import Target
from bo_invert.types import JSON, Array
from bo_invert.user_code import torch_module
from bo_invert.user_data import real, real_vector
from bo_invert.user_tables import record, require_names

MAX_CRITERIA = 5
"""Largest number of criteria. Engineering choice: an ask with 6 takes 3 seconds, and with 10 some
minutes."""


@dataclass(frozen=True, init=False)
class Pareto(Objective):
    """Objective of k >= 2 criteria that are in conflict.

    The result is ``study.front``, the feasible trials that no other trial dominates: none is at
    least equal in all criteria and better in one. ``study.hypervolume`` measures its progress.

    The *losses* of the criteria are ``y`` of ``Minimize``, ``-y`` of ``Maximize`` and
    ``Plausibility``, the distance ``sqrt(mean_i r_i^2)`` of a ``Target`` with residuals r, and the
    function of a ``Composite``. The *values* in tables have the sign of the outputs.

    ``trial.loss`` is the mean of the losses in units of ``scale``. It is a function of the outputs
    of the trial alone, as in every log. No strategy minimises it. It orders tables, and
    ``study.best`` is the point of the front with the lowest one.

    Args:
        *objectives: criteria: ``Minimize``, ``Maximize``, ``Target``, ``Composite`` or
            ``Plausibility``.
        reference: worst value of interest of each criterion, in the order of the criteria or by
            name, in the units and with the sign of the output. Points that are worse in a criterion
            add nothing to the hypervolume. None, or a criterion without one: inferred from the
            observations, see ``pareto_front.reference_point``; 0 for ``Plausibility``.
        scale: unit of each loss in ``trial.loss``, one number or one per criterion.

    Raises:
        InvalidInputError: there are less than two criteria, one occurs twice, an output is both
            minimised and maximised, or the reference has another length or unknown names.
    """

    objectives: tuple[Objective, ...]
    reference: tuple[float | None, ...]
    scale: tuple[float, ...]
    structured = True

    def __init__(
        self,
        *objectives: Objective,
        reference: Sequence[float | None] | Mapping[str, float | None] | None = None,
        scale: float | Sequence[float] | Mapping[str, float] = 1.0,
    ) -> None:
        for one in objectives:
            if not isinstance(one, Objective) or isinstance(one, (Nearest, Pareto)):
                raise InvalidInputError(
                    "Pareto: objectives must be Minimize(...), Maximize(...), Target(...), "
                    f"Composite(...) or Plausibility(), got {one!r:.80}. Write "
                    "Pareto(Minimize('cost'), Maximize('yield'))."
                )
        if len(objectives) < 2:
            raise InvalidInputError(
                f"Pareto: at least two objectives are needed, got {len(objectives)}. Use a single "
                "objective itself."
            )
        if len(objectives) > MAX_CRITERIA:
            raise InvalidInputError(
                f"Pareto: at most {MAX_CRITERIA} objectives are supported, because the work for an "
                f"exact hypervolume grows exponentially; got {len(objectives)}. Make some of them "
                "outcome constraints, or combine several in a Target with ranges or a Composite"
            )
        _require_different(objectives)
        vars(self)["objectives"] = tuple(objectives)  # the class is frozen
        vars(self).update(reference=self._reference(reference), scale=self._scale(scale))

    @property
    def names(self) -> tuple[str, ...]:
        read = (name for one in self._measured for name in one.names)
        return tuple(dict.fromkeys(read))

    @property
    def size(self) -> int | None:
        sizes = [one.size for one in self._measured if not one.names]
        return None if None in sizes else max((size or 1 for size in sizes), default=1)

    @property
    def indices(self) -> tuple[int, ...] | None:
        """Positions of the outputs that it reads; None for all."""
        read: set[int] = set()
        for one in self.objectives:
            own = [one.index] if hasattr(one, "index") else getattr(one, "indices", None)
            if own is None:
                return None
            read.update(own)
        return tuple(sorted(read))

    @property
    def plausibility(self) -> Plausibility | None:
        """Criterion ``Plausibility``; None without it."""
        found = (one for one in self.objectives if isinstance(one, Plausibility))
        return next(found, None)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the criteria in tables: outputs, ``off_target``, or names of functions."""
        labels: list[str] = []
        for one in self.objectives:
            label = "off_target" if isinstance(one, Target) else "loss"
            if hasattr(one, "index"):
                label = (*one.names, "output")[0]
            elif not isinstance(one, Target):
                label = str(one.to_json().get("name") or label)
            while label in labels:
                label += "_"
            labels.append(label)
        return tuple(labels)

    @property
    def signs(self) -> Array:
        """Factors from losses to values, shape ``(k,)``: -1 for maximised criteria."""
        raised = [isinstance(one, (Maximize, Plausibility)) for one in self.objectives]
        return np.where(raised, -1.0, 1.0)

    @property
    def reference_losses(self) -> Array:
        """Reference point in losses, shape ``(k,)``; NaN if it is inferred."""
        # Zero is the worst plausibility, and all observations of a young front are plausible.
        worst = [0.0 if isinstance(one, Plausibility) else math.nan for one in self.objectives]
        pairs = zip(self.reference, worst, strict=True)
        return np.array([end if one is None else one for one, end in pairs]) * self.signs

    def bind(self, outputs: Sequence[str]) -> Pareto:
        bound = copy.copy(self)  # ``replace`` fails, because fields differ from arguments
        # The plausibility is appended to the outputs of the oracle, which keep their positions.
        own = [name for name in outputs if name != PLAUSIBILITY] if self._derives else outputs
        vars(bound)["objectives"] = tuple(
            one.bind(outputs if isinstance(one, Plausibility) else own)
            for one in (_named(one, own) for one in self.objectives)
        )
        _require_different(bound.objectives, own)
        return bound

    def losses(self, y: Tensor) -> Tensor:
        """Compute the losses of the criteria ``(..., k)`` of outputs ``(..., m)``."""
        parts = [
            one.distance(y) if isinstance(one, Target) else one.loss(y) for one in self.objectives
        ]
        if all(isinstance(part, (np.ndarray, float, int)) for part in parts):
            return np.stack([np.asarray(part, dtype=float) for part in parts], axis=-1)
        return torch_module().stack(parts, -1)

    def values(self, y: Array) -> Array:
        """Compute the values of the criteria ``(..., k)``, with the sign of the outputs."""
        return np.asarray(self.losses(y)) * self.signs

    def loss(self, y: Tensor) -> Tensor:
        losses = self.losses(y)
        scale = self.scale if isinstance(losses, np.ndarray) else losses.new_tensor(self.scale)
        return (losses / scale).mean(-1)

    def to_json(self) -> JSON:
        return {
            "type": "pareto",
            "objectives": [one.to_json() for one in self.objectives],
            "reference": list(self.reference),
            "scale": list(self.scale),
        }

    def __str__(self) -> str:
        return printable(f"Pareto({', '.join(map(str, self.objectives))})")

    @property
    def _measured(self) -> Iterator[Objective]:
        """Criteria of outputs of the oracle."""
        return (one for one in self.objectives if not isinstance(one, Plausibility))

    @property
    def _derives(self) -> bool:
        return self.plausibility is not None

    def _reference(self, given: object) -> tuple[float | None, ...]:
        k = len(self.objectives)
        named = record(given)
        if named is not None:
            unknown = [name for name in named if name not in self.labels]
            if unknown:
                raise InvalidInputError(
                    f"Pareto: reference must have names among {list(self.labels)}, got {unknown}"
                )
            given = [named.get(label) for label in self.labels]
        values = [None] * k if given is None else cast("list[object]", list(cast("Any", given)))
        if len(values) != k:
            raise InvalidInputError(
                f"Pareto: reference must have one value per objective, {k}, got {len(values)}"
            )
        return tuple(None if one is None else real("Pareto", "reference", one) for one in values)

    def _scale(self, given: object) -> tuple[float, ...]:
        k, named = len(self.objectives), record(given)
        if named is not None:
            require_names("Pareto: scale", self.labels, named)
            given = [named[label] for label in self.labels]
        scales = real_vector("Pareto", "scale", given)
        if scales.size not in (1, k) or not (scales > 0).all():
            raise InvalidInputError(
                f"Pareto: scale must be one number or {k} numbers > 0, got {given!r}"
            )
        return tuple(np.broadcast_to(scales, (k,)).tolist())


def _require_different(objectives: Sequence[Objective], outputs: Sequence[str] = ()) -> None:
    """Require that no two criteria order the outputs equally or inversely.

    Args:
        objectives: criteria.
        outputs: names of the outputs, if the criteria are bound to them.
    """
    known: dict[object, Objective] = {}
    for one in objectives:
        key = _ordering(one, outputs)
        if key not in known:
            known[key] = one
            continue
        if type(one) is type(known[key]):
            raise InvalidInputError(
                f"Pareto: objectives must differ, got {known[key]} and {one}. Leave out one of them"
            )
        raise InvalidInputError(
            f"Pareto: objectives must not minimise and maximise one output, got {known[key]} and "
            f"{one}: every design would be on the front. Leave out one of them"
        )


def _ordering(one: Objective, outputs: Sequence[str]) -> object:
    """Return a value that is equal for criteria which order all outputs equally or inversely."""
    if isinstance(one, OneOutput):
        return one.output
    if not isinstance(one, Target):
        return str(one.to_json())
    entries = one.entries
    # Without names the entries are those of the first outputs.
    places: Sequence[object] = one.indices if len(one.outputs) < entries.count else one.outputs
    if outputs:
        places = [outputs[index] for index in one.indices]
    units = np.array(one.units) / max(one.units)  # a common factor changes no order
    columns = (places, entries.lower, entries.upper, entries.avoided, np.round(units, 9).tolist())
    return tuple(sorted(zip(*columns, strict=True), key=str))


def _named(one: Objective, outputs: Sequence[str]) -> Objective:
    """Return an objective with the name of the only output, which labels it."""
    if not isinstance(one, (Minimize, Maximize)) or one.output is not None or len(outputs) > 1:
        return one
    return type(one)(outputs[0])
