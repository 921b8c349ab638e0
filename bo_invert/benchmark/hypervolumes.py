"""Comparison of runs with several criteria by their hypervolume, with one reference point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bo_invert.objectives.pareto_front import non_dominated, reference_point
from bo_invert.report.runs import Run, grouped
from bo_invert.study.front import CriteriaTrace
from bo_invert.types import Array


def with_hypervolumes(runs: Sequence[Run]) -> list[Run]:
    """Return runs whose losses are negative hypervolumes; others are returned as they are.

    All runs of a problem have one reference point: the given one, or that of the front of all of
    their feasible trials, see ``pareto_front.reference_point``.

    Args:
        runs: runs of one or several problems.
    """
    made = list(runs)
    for own in grouped([run for run in runs if run.criteria], lambda run: run.problem).values():
        traces = [CriteriaTrace.from_json(run.criteria) for run in own]
        reference = _common_reference(traces)
        for run, trace in zip(own, traces, strict=True):
            calls, volumes = trace.curve(reference)
            losses = np.where(volumes > 0.0, -volumes, 0.0)
            if np.isnan(trace.losses).all():
                losses = np.full(len(calls), np.inf)
            # The best design stands for the whole front.
            finds = tuple(replace(one, loss=float(losses[-1]), judged=None) for one in run.finds)
            made[made.index(run)] = replace(
                run, calls=calls, losses=losses, finds=finds, goal={"type": "hypervolume"}
            )
    return made


def _common_reference(traces: Sequence[CriteriaTrace]) -> Array:
    """Return the reference point ``(k,)`` of traces, in losses."""
    observed = np.concatenate([trace.losses for trace in traces])
    usable = observed[np.isfinite(observed).all(axis=1)]
    return reference_point(usable[non_dominated(usable)], usable, traces[0].given)
