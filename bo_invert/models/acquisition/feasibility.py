"""Feasibility: probability that the oracle returns outputs, learned from failed trials."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from bo_invert.history import History
from bo_invert.models.acquisition.expected_improvement import log_feasibility
from bo_invert.models.acquisition.plausibility_penalty import plausibility_penalty
from bo_invert.models.base import to_unit
from bo_invert.models.data_subset import select_subset
from bo_invert.models.gp.hyperparameter_fit import LABELS, RARE_LABELS
from bo_invert.models.gp.mixed_kernel import ColumnStructure, column_structure
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.surrogate import Surrogate, fit_surrogate
from bo_invert.models.optim.score import Score, SumScore, differentiable
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.types import JSON, Array, Indices, State, Trial

_RECENT = 20
"""Number of latest trials that determine the caution. Engineering choice."""
_SETTLED = (0.1, 0.4)
"""Shares of recent failures, dimensionless, with the least and with full caution.
Engineering choice: the search settles at a share between them."""
_RARE = (0.4, 0.7)
"""Shares of failures in the design, dimensionless, without and with caution.
Engineering choice: where most designs are feasible, a boundary is learned soon."""
_STUCK = (0.4, 0.6)
"""Shares of recent failures, dimensionless, that need caution whatever the design shows.
Engineering choice."""
_FREQUENT = 0.25
"""Share of all failures, dimensionless, from which the model of labels is local.
Engineering choice: a boundary is learned where failures are rarer."""
_ENOUGH_EXPLAINED = 0.1
"""Explained share of the variance of labels for full caution, dimensionless. Engineering choice."""
_MAX_WEIGHT = 1000.0
"""Largest weight of log feasibility, dimensionless. Engineering choice: it exceeds the range of the
log expected improvement after convergence at a boundary."""
_BOUNDARY = 0.5
"""Level of a label at the boundary between outputs, 1, and failures, 0, by definition."""
_MAX_LEVEL = 0.8
"""Largest level that a label must exceed, as a label between 0 and 1. Engineering choice."""


def feasibility_and_plausibility(
    statement: ProblemStatement, history: History, memo: JSON, *, cautious: bool = True
) -> tuple[Score | None, JSON]:
    """Build log feasibility plus the plausibility penalty of unit inputs, and a memo.

    The score is None without failed trials and without a plausibility bound.

    Args:
        statement: Problem statement.
        history: Log with at least one completed trial.
        memo: Memo of an earlier ask.
        cautious: Raise the weight of log feasibility with the share of recent failures.
    """
    domain = statement.domain
    caution = failure_caution(history) if cautious else 0.0
    feasibility, note = fit_feasibility(
        to_unit(domain, history.points),
        to_unit(domain, history.failed_points),
        history.order,
        memo,
        caution,
        column_structure(domain),
    )
    penalty = plausibility_penalty(domain)
    return penalty if feasibility is None else with_feasibility(feasibility, penalty), note


def failure_caution(history: History) -> float:
    """Return how cautious proposals must be, from 0 to 1.

    It grows with the share of recent failures. It is less if the initial design shows that most
    designs are feasible, unless most recent trials fail.
    """
    ended = [trial for trial in history.trials if not trial.state.open]
    recent = _failed_share(ended[-_RECENT:])
    design = _failed_share([trial for trial in ended if "design" in trial.query.meta] or ended)
    return _ramp(recent, *_SETTLED) * max(_ramp(design, *_RARE), _ramp(recent, *_STUCK))


def _failed_share(trials: Sequence[Trial]) -> float:
    return sum(t.state is not State.COMPLETED for t in trials) / max(len(trials), 1)


def _ramp(share: float, low: float, high: float) -> float:
    """Return 0 below ``low``, 1 above ``high``, linear between."""
    return min(max((share - low) / (high - low), 0.0), 1.0)


def fit_feasibility(
    observed: Array,
    failed: Array,
    order: Indices,
    memo: JSON,
    caution: float = 0.0,
    structure: ColumnStructure | None = None,
) -> tuple[Score | None, JSON]:
    """Fit a surrogate of labels; return log feasibility and a memo, or None without failures.

    Failures that depend on the design are learned; others disappear in the noise of the labels.

    With calibrated probabilities, EI times probability would need no caution. But proposals are the
    maxima of scores, where probabilities are too high, and on thin feasible sets most would fail.
    Caution raises the weight of the log probability from 1 to 1,000. It raises the level that a
    label must exceed from 1/2, the boundary, to values nearer to observations than to failures.
    Failures that leave-one-out predictions do not explain need no caution, unless most trials fail.

    Args:
        observed: Unit inputs with outputs, shape ``(n, d)``.
        failed: Unit inputs of failed trials, shape ``(k, d)``.
        order: Positions of the observed inputs, best first, shape ``(n,)``.
        memo: Memo of an earlier ask.
        caution: Number from 0 to 1, see ``failure_caution``.
        structure: Columns of unordered choices; None without choices.
    """
    if not len(failed):
        return None, None
    inputs, labels, total = _labelled(observed, failed, order)
    # The noise prior of labels keeps lengthscales long: a boundary, not isolated holes.
    candidates = [ModelSearchSpace(noise_priors=(LABELS,), structure=structure)]
    if caution > 0.0 and len(failed) > _FREQUENT * total:
        # A local model has one lengthscale. Separate ones would be fitted to the few labels 1, and
        # far points that share a coordinate with one of these would look feasible.
        local = ModelSearchSpace(
            noise_priors=(RARE_LABELS,), shared_lengthscales=(True,), structure=structure
        )
        candidates.append(local)
    fits = [
        fit_surrogate(inputs, labels, note, search_space, total=total)
        for note, search_space in zip(_memos(memo), candidates, strict=False)
    ]
    # Full caution means that predictions failed, so those of the labels do not decide.
    surrogate = fits[-1] if caution == 1.0 else max(fits, key=_explained_share)
    if len(failed) < len(observed):
        caution *= _ramp(_explained_share(surrogate), 0.0, _ENOUGH_EXPLAINED)
    level = _BOUNDARY + (_MAX_LEVEL - _BOUNDARY) * caution
    weight = _MAX_WEIGHT**caution
    return log_feasibility(surrogate, level, weight), [fit.memo for fit in fits]


def predicted_feasibility(
    observed: Array, failed: Array, order: Indices, structure: ColumnStructure | None
) -> Score | None:
    """Return the log probability of outputs at any unit inputs; None without failures.

    A search avoids the neighbourhood of every failure. A prediction needs evidence: unless
    left-out predictions of the labels explain a part of their variance, as they never do for a
    single failure, the probability is the same everywhere, (n + 1) / (n + k + 2) after n outputs
    and k failures (rule of succession).

    Args:
        observed: Unit inputs with outputs, shape ``(n, d)``.
        failed: Unit inputs of failed trials, shape ``(k, d)``.
        order: Positions of the observed inputs, best first, shape ``(n,)``.
        structure: Columns of unordered choices; None without choices.
    """
    if not len(failed):
        return None
    inputs, labels, total = _labelled(observed, failed, order)
    space = ModelSearchSpace(noise_priors=(LABELS,), structure=structure)
    surrogate = fit_surrogate(inputs, labels, None, space, total=total)
    if _explained_share(surrogate) >= _ENOUGH_EXPLAINED:
        return log_feasibility(surrogate, _BOUNDARY, 1.0)
    log_share = math.log((len(observed) + 1.0) / (total + 2.0))
    return lambda at: torch.full_like(at[..., 0], log_share)


def _labelled(observed: Array, failed: Array, order: Indices) -> tuple[Array, Array, int]:
    """Return unit inputs and labels ``(s, 1)`` of a fit, and the number of all trials."""
    # Failures rank last, so that the subset holds the best points and those near them.
    inputs = np.concatenate([observed, failed])
    labels = np.repeat([1.0, 0.0], [len(observed), len(failed)])
    some = select_subset(inputs, np.append(order, np.arange(len(observed), len(inputs))))
    return inputs[some], labels[some, None], len(inputs)


def _memos(memo: JSON) -> tuple[JSON, JSON]:
    """Return the memos of the two models of labels; early versions had only the first."""
    memos = memo if isinstance(memo, list) else [memo]
    return memos[0], memos[1] if len(memos) > 1 else None


def _explained_share(surrogate: Surrogate) -> float:
    """Return the share of the variance of the labels that leave-one-out predictions explain."""
    labels = surrogate.gp.values[:, :, 0].mT
    errors = labels - surrogate.gp.leave_one_out()[0]
    return 1.0 - float(errors.square().mean() / labels.square().mean().clamp(min=1e-12))


def with_feasibility(score: Score, log_feasible: Score | None) -> Score:
    """Add a log probability to one score, or to many at once."""
    # EI of a feasible improvement is P(feasible) EI, a sum of logarithms (Gardner et al. 2014).
    if log_feasible is None:
        return score
    return SumScore(differentiable(score), differentiable(log_feasible))
