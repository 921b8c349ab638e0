"""Posterior of the designs of a study, given its target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert.domains.parameters import VariedParameter
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError, printable
from bo_invert.history import History
from bo_invert.models.blas_threads import one_thread
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.problems.problem import Problem
from bo_invert.report.charts.plot import Plot
from bo_invert.report.charts.posterior_corner import posterior_corner
from bo_invert.report.charts.posterior_map import posterior_map
from bo_invert.report.charts.posterior_view import named_rows
from bo_invert.report.dataframe import records_frame
from bo_invert.report.runs import Picture
from bo_invert.study.design_pictures import design_pictures
from bo_invert.types import Array, Design, Indices
from bo_invert.user_code import own_settings
from bo_invert.user_data import real, real_vector

if TYPE_CHECKING:
    import pandas as pd

MIN_OBSERVATIONS = 2
"""Least number of observations: a single one has no spread."""
_HOPELESS = 1e-3
"""Share of samples expected to meet the target below which there are no branches to count.
Engineering choice: less than one sample of the default number."""
_TRUSTED = 0.5
"""Share of samples that must be expected to meet the target, for a posterior without a warning.
Engineering choice."""


@dataclass(frozen=True, eq=False, repr=False)
class Posterior:
    """Samples x of the posterior p(x | y within the target), all of equal weight.

    Args:
        points: Points of the domain, shape ``(n, d)``.
        outputs: Predicted outputs that the target and the constraints read, by name, ``(n,)`` each.
        hit: Probability that each sample meets the target and the constraints, shape ``(n,)``.
        verified_share: Share of the samples near a design that the oracle confirmed.
        branches: Branch of each sample, numbered by falling mass, shape ``(n,)``.
        branch_masses: Share of the mass of each branch, shape ``(b,)``.
        reachable_mass: Estimate of the share of the reference measure that meets the target.
        domain: Search domain.
        decode: Function from points to designs.
        verified: Points of the designs that the oracle confirmed, shape ``(v, d)``.
        units: Units of parameters by name.
        pictures: Function from points to pictures of their designs, None if these have none.
    """

    points: Array
    outputs: Mapping[str, Array]
    hit: Array
    verified_share: float
    branches: Indices
    branch_masses: Array
    reachable_mass: float
    domain: Domain
    decode: Callable[[Array], Any]
    verified: Array
    units: Mapping[str, str]
    pictures: Callable[[Array], list[Picture] | None]

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def designs(self) -> list[Design]:
        """Designs of the samples."""
        return list(self.decode(self.points))

    @property
    def effective_size(self) -> int:
        """Number of different samples; repeated ones add no information."""
        return len(np.unique(self.points, axis=0))

    @property
    def expected_hits(self) -> float:
        """Share of the samples that are expected to meet the target."""
        return float(self.hit.mean())

    def records(self) -> list[dict[str, Any]]:
        """Return one dictionary per sample: parameters, outputs, ``hit`` and ``branch``.

        Inactive parameters are None.
        """
        columns = {**self.outputs, "hit": self.hit, "branch": self.branches}
        rows = named_rows(self.domain, self.points)
        for name, values in columns.items():
            for row, value in zip(rows, values.tolist(), strict=True):
                row[name] = value
        return rows

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per sample; the columns are the keys of ``records``."""
        return records_frame(self.records())

    @property
    def axes(self) -> Mapping[str, VariedParameter]:
        """Parameters that vary, by name; ``z0, z1, ...`` in a latent."""
        return self.domain.axes

    @own_settings()
    def plot(self, params: Sequence[str] | None = None) -> Plot:
        """Plot the samples by branch, and the verified designs.

        A box has a corner plot of at most six parameters: marginals on the diagonal, pairs below.
        A latent has a map on the two principal axes of the samples, and pictures of samples of each
        branch if the designs are images.

        Args:
            params: Names of the parameters of a corner plot, ``z0, z1, ...`` in a latent. Default:
                those whose marginals differ most from the reference measure.

        Raises:
            InvalidInputError: A name is unknown or repeated, or there are more than six.
        """
        if params is None and self.domain.latent and len(self.axes) > 1:
            return Plot(posterior_map(self))
        return Plot(posterior_corner(self, params))

    @property
    def summary(self) -> tuple[str, ...]:
        """Sentences on the samples: their number, branches, expected hits and verified share."""
        if self.expected_hits < _HOPELESS:
            return (
                f"{len(self)} samples, none of which is expected to meet the target.",
                "study.verdict() judges whether it can be reached.",
            )
        count = int((self.branch_masses > 0.0).sum())
        kinds = "branches" if count != 1 else "branch"
        hits, near = f"{self.expected_hits:.0%}", f"{self.verified_share:.0%}"
        lines = [
            f"{len(self)} samples ({self.effective_size} different) in {count} {kinds}.",
            f"{hits} are expected to meet the target, {near} lie near a verified design.",
        ]
        if self.expected_hits < _TRUSTED:
            lines.append(
                "The model is uncertain here: more calls, as with strategy='inverse', narrow it."
            )
        return tuple(lines)

    def __repr__(self) -> str:
        return printable("posterior: " + "\n".join(self.summary))


@dataclass(frozen=True)
class PosteriorRequest:
    """Arguments of ``Study.posterior``.

    Args:
        count: Number of samples.
        tolerance: Tolerance of a target without one; None for a default.
        noise: Standard deviations of the measurement noise; None for none.
        seed: Seed of the samples.
    """

    count: int
    tolerance: float | None
    noise: object
    seed: int

    def checked(self, target: Target, where: str) -> tuple[float | None, tuple[float, ...]]:
        """Return tolerance and noise of the model.

        Args:
            target: Target of the problem.
            where: Name of the method, for messages.

        Raises:
            InvalidInputError: An argument is invalid.
        """
        tolerance = checked_tolerance(target, where, self.tolerance, ranges=False)
        return tolerance, _noise(target, self.noise)


@one_thread()
def sample_posterior(
    statement: ProblemStatement,
    history: History,
    noisy: bool,
    request: PosteriorRequest,
    problem: Problem,
) -> Posterior:
    """Sample the posterior of designs.

    Args:
        statement: Problem statement.
        history: Trials.
        noisy: Repeated calls at a point differ.
        request: Arguments of ``Study.posterior``.
        problem: Problem that decodes the samples.

    Raises:
        InvalidInputError: The objective is no target, there are fewer than two observations, or an
            argument is invalid.
    """
    target = require_target(statement, "posterior")
    if len(history.completed) < MIN_OBSERVATIONS:
        raise InvalidInputError(
            f"posterior: the study must have at least {MIN_OBSERVATIONS} observations, got "
            f"{len(history.completed)}. Run it, or add observations"
        )
    chosen = request.checked(target, "posterior")
    from bo_invert.models.inverse import fit as fits, solution_set

    options = fits.TargetOptions(*chosen, noisy, noise_model=True)
    fit = fits.fit_target_model(statement, history, options)
    model, domain = fit.model, statement.domain
    # Branches are those of all particles, because few samples leave gaps.
    verified = history.points[fit.hits]
    found, near = solution_set.sample_solutions(model, verified, request.count, request.seed)
    shuffled = np.random.default_rng([request.seed, 1]).permutation(len(found.points))
    rows = shuffled[: request.count]
    found = found.select(rows)
    means, names = model.mean(found.points), fit.fitted.outputs.names
    return Posterior(
        found.points, {name: means[:, j] for j, name in enumerate(names)},
        np.minimum(found.acceptance, 1.0), 1.0 - near.uncovered_share, near.branches[rows],
        near.masses,
        float(np.exp(min(0.0, found.log_evidence))), domain, problem.space.decode,
        verified, problem.units,
        lambda points: design_pictures(problem, problem.space.decode(points)),
    )  # fmt: skip


def require_target(statement: ProblemStatement, where: str) -> Target:
    """Return the target of a problem.

    Raises:
        InvalidInputError: The objective is no target.
    """
    if not isinstance(statement.objective, Target):
        raise InvalidInputError(
            f"{where}: problem {statement.name!r} must have a target, got {statement.objective}. "
            "Use Target(value, tolerance=...)"
        )
    return statement.objective


def checked_tolerance(
    target: Target, where: str, tolerance: object, *, ranges: bool
) -> float | None:
    """Return the tolerance of the entries of a target that have none; None for a default.

    Args:
        target: Target of the problem.
        where: Name of the method, for messages.
        tolerance: Argument of the user.
        ranges: The method uses the tolerance for ranges, too, not only for numbers.

    Raises:
        InvalidInputError: It is not > 0, or no entry of the target would use it.
    """
    if tolerance is None:
        return None
    found = real(where, "tolerance", tolerance)
    if not found > 0.0:
        raise InvalidInputError(f"{where}: tolerance must be > 0, got {tolerance!r}")
    rows = zip(target.entries.lower, target.entries.upper, target.tolerances, strict=True)
    if not any(not own and (ranges or low == high) for low, high, own in rows):
        raise InvalidInputError(
            f"{where}: tolerance must be left out for {target}, which has its own or ranges, got "
            f"{tolerance!r}. Use study.retarget(Target(value, tolerance=...)) for another one"
        )
    return found


def _noise(target: Target, noise: object) -> tuple[float, ...]:
    """Return standard deviations of the noise of the wanted entries; empty for none."""
    if noise is None:
        return ()
    entries = target.entries
    if isinstance(noise, Mapping):
        names = entries.wanted_names
        unknown = set(noise) - set(names)
        if unknown or not names:
            raise InvalidInputError(
                f"posterior: noise names {sorted(map(str, unknown or noise))}, and the target "
                f"has the outputs {list(names)}"
            )
        values = [real("posterior", f"noise of {name!r}", noise.get(name, 0.0)) for name in names]
    elif isinstance(noise, (int, float)):
        values = [real("posterior", "noise", noise)] * entries.wanted
    else:
        values = real_vector("posterior", "noise", noise).tolist()
    if len(values) != entries.wanted or min(values) < 0.0:
        raise InvalidInputError(
            f"posterior: noise must be {entries.wanted} standard deviations >= 0, one for each "
            f"entry of the target, got {noise!r:.80}"
        )
    if not any(values):
        raise InvalidInputError(
            f"posterior: noise must have a standard deviation > 0, got {noise!r:.80}. Leave it out "
            "for exact outputs within the tolerance"
        )
    return tuple(values)
