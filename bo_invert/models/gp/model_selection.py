"""Selection of kernel, noise prior, output warp and shared lengthscale by held-out likelihood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product, zip_longest

import torch
from torch import Tensor

from bo_invert.models.base import KERNELS, MAX_INDEPENDENT_OUTPUTS
from bo_invert.models.gp.averaged_posterior import OUTPUT_SCALES
from bo_invert.models.gp.cross_validation import (
    FOLDS,
    cross_validated_log_densities,
    log_densities,
)
from bo_invert.models.gp.hyperparameter_fit import (
    EXACT,
    MEASURED,
    NOISY,
    NoisePrior,
    evenly_spaced,
    fit_hyperparameters,
)
from bo_invert.models.gp.kernels import Kernel, get_kernel
from bo_invert.models.gp.mixed_kernel import ColumnStructure, MixedKernel
from bo_invert.models.gp.output_warp import Warp, threshold_candidates
from bo_invert.models.gp.posterior import condition
from bo_invert.types import JSON

_MAX_POINTS = 100
"""Largest number of observations in a comparison. Engineering choice: bounds its cost."""
_MAX_COLUMNS = 3
"""Largest number of outputs in the cross-validation. Engineering choice: bounds its cost."""
_MARGIN = 2.0
"""Lead of the current model over others in nats. Engineering choice: avoids switches by chance."""

_WARP_MARGIN = 4.0
"""Lead in nats that a warp needs. Engineering choice: of few observations, warps follow the lowest
one, which leave-one-out does not see. experiments/small_samples.py measured 0 and 4."""
_CRITERIA_RESOLUTION = 0.01
"""``ModelSearchSpace.resolution`` for several criteria, in standard deviations of an output.
Engineering choice: compared with 0 on 22 functions other than those of experiments/pareto.py."""
_MAX_AVERAGED = 60
"""Largest number of observations in an average over components; beyond, it predicts little better
(experiments/small_samples.py)."""
_TEMPER = 0.25
"""Exponent of the cross-validated density in the weight of a component. Engineering choice: errors
of the folds are dependent. experiments/small_samples.py measured its calibration."""


@dataclass(frozen=True)
class ModelSearchSpace:
    """Candidate models; the first value of each field is the default.

    Args:
        kernels: Names of kernels.
        noise_priors: Noise priors.
        warp_directions: For each output 1 if high values are bad, -1 if low ones are, 0 if unknown.
            Outputs with a direction may be warped. None excludes warps.
        shared_lengthscales: Candidates for ``ModelSpec.shared_lengthscale``.
        structure: Columns of the inputs that encode unordered choices; None without choices.
        averaged: Average over output scales and shared or separate lengthscales, if there are few
            observations and outputs.
        resolution: Standard deviation, in units of that of an output, below which predictions count
            as equally good.
    """

    kernels: tuple[str, ...] = ("rbf",)
    noise_priors: tuple[NoisePrior, ...] = (EXACT,)
    warp_directions: tuple[int, ...] | None = None
    shared_lengthscales: tuple[bool, ...] = (False,)
    structure: ColumnStructure | None = None
    averaged: bool = False
    resolution: float = 0.0

    @classmethod
    def of(
        cls,
        kernel: str,
        noisy: bool,
        warp_directions: tuple[int, ...] | None,
        structure: ColumnStructure | None = None,
    ) -> ModelSearchSpace:
        """Return the search space of a strategy's options; ``kernel`` is a key of ``KERNELS``."""
        priors = (NOISY, MEASURED if noisy else EXACT)
        return cls(KERNELS[kernel], priors, warp_directions, (True, False), structure, True)

    def for_several_criteria(self) -> ModelSearchSpace:
        """Return the candidates for the outputs of several criteria, which share one specification.

        An output that is predicted to many digits, such as a criterion that is one parameter, must
        not choose the model of the others. The points of the search of a front are clustered, and
        cross-validation then misjudges shared lengthscales, so separate ones are used.
        """
        return replace(
            self, shared_lengthscales=(False,), averaged=False, resolution=_CRITERIA_RESOLUTION
        )

    def kernel(self, name: str) -> Kernel:
        """Return the kernel of that name for the columns of the inputs."""
        base = get_kernel(name)
        return (
            base if self.structure is None else MixedKernel(f"mixed {name}", base, self.structure)
        )

    def default_spec(self, outputs: int) -> ModelSpec:
        """Return the first candidate, without warps."""
        return ModelSpec(
            self.kernels[0], self.noise_priors[0], (0.0,) * outputs, self.shared_lengthscales[0]
        )


DEFAULT_SEARCH_SPACE = ModelSearchSpace()
"""RBF kernel with one lengthscale per coordinate, the noise prior of exact oracles, no warp."""


@dataclass(frozen=True)
class ModelSpec:
    """Specification of a surrogate.

    Args:
        kernel: Name of the kernel.
        noise_prior: Noise prior.
        warp_thresholds: Warp threshold of each output; 0 for none.
        shared_lengthscale: All coordinates share one lengthscale.
    """

    kernel: str
    noise_prior: NoisePrior
    warp_thresholds: tuple[float, ...]
    shared_lengthscale: bool

    def warp(self, values: Tensor, warp_directions: tuple[int, ...] | None) -> Warp | None:
        """Return the output warp of values ``(n, c)``; None if no output is warped."""
        if warp_directions is None or not any(self.warp_thresholds):
            return None
        sign = values.new_tensor([float(direction or 1) for direction in warp_directions])
        threshold = values.new_tensor([t or float("inf") for t in self.warp_thresholds])
        return Warp(sign, (sign * values).amin(0), threshold)

    @property
    def family(self) -> tuple[str, NoisePrior, bool]:
        """Kernel, noise prior and presence of a warp; thresholds change with the data."""
        return self.kernel, self.noise_prior, any(self.warp_thresholds)


def is_compatible(memo: JSON, d: int, search_space: ModelSearchSpace) -> bool:
    """Return whether a memo describes a candidate; options or the problem may have changed."""
    logs = (memo or {}).get("logs", [])
    return bool(
        logs
        # Early versions had a lengthscale for every value of a choice.
        and memo.get("mixed", False) == (search_space.structure is not None)
        and all(len(row) == search_space.kernel(memo["kernel"]).size(d) + 1 for row in logs)
        and memo["kernel"] in search_space.kernels
        and memo["belief"] in {prior.name for prior in search_space.noise_priors}
        # Logs of early versions lack this key.
        and memo.get("tied") in search_space.shared_lengthscales
    )


def spec_from_memo(memo: JSON, search_space: ModelSearchSpace) -> ModelSpec:
    """Return the specification in a compatible memo."""
    prior = next(prior for prior in search_space.noise_priors if prior.name == memo["belief"])
    return ModelSpec(memo["kernel"], prior, tuple(memo["knees"]), memo["tied"])


@torch.inference_mode()
def select_model(
    x: Tensor, raw: Tensor, search_space: ModelSearchSpace, memo: JSON, size: int
) -> tuple[ModelSpec, JSON]:
    """Select the specification with the highest held-out log density.

    The warp comes first, then kernel and noise prior, then the shared lengthscale. An evenly spaced
    subset bounds the cost. Up to ``_MAX_AVERAGED`` observations, the posterior is averaged over
    components with weights proportional to exp(_TEMPER * cross-validated log density).

    Args:
        x: Unit inputs, shape ``(n, d)``.
        raw: Values, shape ``(n, c)``.
        search_space: Candidates.
        memo: Compatible memo of an earlier fit, or None.
        size: Number of completed trials, for the new memo.

    Returns:
        Specification, and a memo with its coarse fit.
    """
    default = search_space.default_spec(raw.shape[1])
    current = default if memo is None else spec_from_memo(memo, search_space)
    if len(x) > _MAX_POINTS:
        some = evenly_spaced(len(x), _MAX_POINTS)
        x, raw = x[some], raw[some]
    start = replace(default, shared_lengthscale=current.shared_lengthscale)
    best, highest, fitted = _best_by_leave_one_out(x, raw, search_space, [start], current)
    # Thresholds of one kernel and prior are compared in one batched fit.
    specs = [
        replace(start, warp_thresholds=thresholds)
        for thresholds in _candidate_thresholds(raw, search_space.warp_directions)
    ]
    if specs:
        found = _best_by_leave_one_out(x, raw, search_space, specs, current, fitted)
        if found[1] > highest:
            best, highest, fitted = found
    # A fit starts at that of the same noise prior, if there is one. Warps and kernels change the
    # hyperparameters little, unlike the noise prior.
    starts = {default.noise_prior: fitted}
    # The warp of the default kernel serves for the other candidates.
    for name, prior in product(search_space.kernels, search_space.noise_priors):
        if (name, prior) != (default.kernel, default.noise_prior):
            spec = replace(best, kernel=name, noise_prior=prior)
            found = _best_by_leave_one_out(x, raw, search_space, [spec], current, starts.get(prior))
            starts.setdefault(prior, found[2])
            if found[1] > highest:
                best, highest, fitted = found
    warp = best.warp(raw, search_space.warp_directions)
    scores = output_basis(raw if warp is None else warp(raw))[0]
    averaged = search_space.averaged and len(x) <= _MAX_AVERAGED and scores.shape[1] <= _MAX_COLUMNS
    scores = scores[:, :_MAX_COLUMNS]
    scales = OUTPUT_SCALES if averaged else (1.0,)
    # Shared lengthscales come first; they start the fit of separate ones.
    sharing = sorted(search_space.shared_lengthscales, reverse=True)
    densities = scores.new_zeros(len(sharing), len(scales), scores.shape[1])
    # Each fold must leave enough data to fit d lengthscales.
    if len(sharing) > 1 and len(x) >= 2 * FOLDS:
        kernel, logs = search_space.kernel(best.kernel), fitted[: scores.shape[1]]
        logs = logs.repeat(FOLDS * len(scales), 1)
        for own, shared in zip(densities, sharing, strict=True):
            own[:], logs = cross_validated_log_densities(
                x, scores, kernel, best.noise_prior, shared, scales, logs
            )
        # Specifications are compared at the output scale 1.
        margins = [_MARGIN * (shared == current.shared_lengthscale) for shared in sharing]
        totals = densities[:, scales.index(1.0)].sum(-1) + densities.new_tensor(margins)
        best = replace(best, shared_lengthscale=sharing[int(totals.argmax())])
    # Every ask stores the weights, so they are rounded.
    shares = torch.softmax(_TEMPER * densities.flatten(0, 1), 0).mul(1e4).round().div(1e4)
    # n = 0 forces a full fit, which the coarse one only warm-starts.
    options = {
        "mixed": search_space.structure is not None,
        "shares": shares.tolist() if averaged else None,
    }
    return best, to_memo(best, 0, fitted.tolist(), size, options)


def to_memo(
    spec: ModelSpec, n: int, logs: list[list[float]], chosen: int, options: Mapping[str, JSON]
) -> JSON:
    """Return the memo of a fit.

    Args:
        spec: Specification.
        n: Number of completed trials at the fit of the hyperparameters.
        logs: Hyperparameters of the kernel and log noise.
        chosen: Number of completed trials at the model selection.
        options: ``mixed``: the kernel is a mixed one; ``shares``: weights of an averaged posterior,
            one row per component. Empty ones are omitted.
    """
    return {
        "n": n,
        "logs": logs,
        "kernel": spec.kernel,
        "belief": spec.noise_prior.name,
        "knees": list(spec.warp_thresholds),
        "tied": spec.shared_lengthscale,
        "chosen": chosen,
        **{key: value for key, value in options.items() if value},
    }


def _best_by_leave_one_out(
    x: Tensor,
    raw: Tensor,
    search_space: ModelSearchSpace,
    specs: Sequence[ModelSpec],
    current: ModelSpec,
    start: Tensor | None = None,
) -> tuple[ModelSpec, float, Tensor]:
    """Return the best of specifications that differ in the warp, its log density and its fit.

    ``start`` ``(k, h + 1)`` is where the fits start, if given.

    The density is that of the raw outputs: with y = w^-1(weights s + offset), log p(y) is
    log p(s) + log w'(y) - log|weights|.
    """
    warps = [spec.warp(raw, search_space.warp_directions) for spec in specs]
    bases = [output_basis(raw if warp is None else warp(raw)) for warp in warps]
    k = bases[0][0].shape[1]
    kernel = search_space.kernel(specs[0].kernel)
    found, _ = fit_hyperparameters(
        x,
        torch.cat([basis[0] for basis in bases], 1),
        specs[0].noise_prior,
        kernel,
        None if start is None else start.repeat(len(specs), 1),
        coarse=True,
        shared_lengthscale=specs[0].shared_lengthscale,
        single_start=start is not None,
    )
    densities = []
    for i, (spec, warp, (scores, weights, _)) in enumerate(zip(specs, warps, bases, strict=True)):
        logs = found[i * k : (i + 1) * k]
        gp = condition(kernel, logs[:, :-1], logs[:, -1].exp(), x, scores)
        mean, variance = gp.leave_one_out()
        floor = search_space.resolution**2
        density = float(log_densities(scores, mean, variance + floor).sum())
        # Change of variables, so that densities of different warps are comparable.
        if warp is not None:
            density += float(warp.log_slope(raw).sum())
        if raw.shape[1] <= MAX_INDEPENDENT_OUTPUTS:
            density -= float(weights.diagonal().log().sum()) * len(x)
        lead = _MARGIN * (spec.family == current.family) - _WARP_MARGIN * (warp is not None)
        densities.append(density + lead)
    at = max(range(len(specs)), key=densities.__getitem__)
    return specs[at], densities[at], found[at * k : (at + 1) * k]


def _candidate_thresholds(
    raw: Tensor, warp_directions: tuple[int, ...] | None
) -> list[tuple[float, ...]]:
    """Return candidate sets of warp thresholds, without the set that has no warp."""
    columns: list[list[float]] = []
    if len(raw) >= 8 and raw.shape[1] <= MAX_INDEPENDENT_OUTPUTS:
        columns = [
            threshold_candidates(raw[:, j], float(direction)) if direction else []
            for j, direction in enumerate(warp_directions or ())
        ]
    # Outputs with fewer candidates are not warped in the remaining sets.
    return list(zip_longest(*columns, fillvalue=0.0))


def output_basis(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Standardise outputs or project them to principal components.

    Values are scores @ weights + offset. Up to ``MAX_INDEPENDENT_OUTPUTS`` outputs are
    standardised. More outputs are replaced by the leading components that explain all but 1e-6 of
    the variance, at most ``MAX_INDEPENDENT_OUTPUTS`` (Higdon et al. 2008).

    Args:
        values: Values, shape ``(n, c)``.

    Returns:
        Scores ``(n, k)`` with mean 0 and variance 1, weights ``(k, c)`` and offset ``(c,)``.
    """
    offset = values.mean(0)
    spread = values.std(0, correction=0)
    spread = torch.where(spread > 1e-12 * offset.abs(), spread, 1.0)
    standard = (values - offset) / spread
    if values.shape[1] <= MAX_INDEPENDENT_OUTPUTS:
        return standard, spread.diag(), offset
    # standard = U S V': sqrt(n) U are the scores and S V' / sqrt(n) the weights.
    left, sizes, right = torch.linalg.svd(standard, full_matrices=False)
    missing = 1.0 - (sizes**2).cumsum(0) / (sizes**2).sum().clamp(min=1e-300)
    k = min(MAX_INDEPENDENT_OUTPUTS, 1 + int((missing > 1e-6).sum()), len(sizes))
    root = len(values) ** 0.5
    scale = (sizes[:k] / root).clamp(min=1e-12)
    return left[:, :k] * root, scale[:, None] * right[:k] * spread, offset
