"""Problem: space, oracle and objective; evaluates queries, holds no state."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.domains.input_noise import InputNoise
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import (
    EvaluationError,
    FailedError,
    InfeasibleError,
    InvalidInputError,
    printable,
    require,
)
from bo_invert.objectives.base import Objective
from bo_invert.objectives.nearest import Nearest
from bo_invert.objectives.outcome_constraint import OutcomeConstraint
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.oracles.base import Oracle, OracleResult, as_oracle
from bo_invert.oracles.raw_outputs import output_positions
from bo_invert.problems.oracle_inputs import check_inputs, designs_by_name
from bo_invert.problems.output_names import oracle_output_names
from bo_invert.problems.plausibility_output import OutputNames, reads_plausibility
from bo_invert.spaces.base import Space
from bo_invert.types import JSON, Array, Cost, Design, Outcome, Query, State
from bo_invert.user_code import own_settings, user_function
from bo_invert.user_data import number, numbers

if TYPE_CHECKING:
    import torch


class Problem:
    """Black-box inversion problem.

    Args:
        space: map from points to designs.
        oracle: map from designs to outputs: an ``Oracle``, a callable on one design, a
            ``torch.nn.Module`` on a batch, or an estimator with ``predict``. None if designs are
            evaluated elsewhere (``study.ask`` and ``tell`` only).
        objective: map from outputs to a loss.
        constraints: constraints on outputs, such as ``"confidence >= 0.9"``, or objects.
        outputs: names of the outputs, or their number. Default: the oracle's names, else the names
            in objective and constraints, else ``y`` (or ``y0, y1, ...``).
        name: name in tables and messages.
        judge: second oracle on the same designs. No search sees it; it scores returned designs.
        draw: map from a design to a picture, an array ``(height, width)`` or
            ``(height, width, 3)`` in [0, 1].
        realism: share of the reference measure that strategies search: 0.99 excludes the least
            plausible 1 % of real codes. None or 1.0 searches the whole ball or box. Default: 0.99
            in a latent and 0.95 in a box with data. A box without data ignores it.
        reuse: answer a known design from the log, without a call. Designs with two different
            outcomes, and all designs of a study with ``noisy=True``, are evaluated again. Default:
            True if designs are texts, integers, choices or composed of these.
        plausibility: plausibility of n designs in [0, 1], shape ``(n,)``, independent of the space,
            so that methods with different spaces can be compared.
        units: units of parameters and outputs by name, for axes of plots, such as
            ``{"temperature": "°C"}``.
        input_noise: deviations of manufactured designs from the proposed ones: standard deviations
            of real parameters in their units, ``{"width": 0.1}``, or ``("uniform", half-width)``;
            one number for all of them, or for the coordinates of a latent. ``auto`` then searches
            the design of the highest yield: the probability that a manufactured one meets the
            target and the constraints; or of the lowest expected loss.

    Raises:
        InvalidInputError: the arguments do not match; the message names them.
    """

    domain: Domain
    """Search domain: that of the space, restricted by ``realism``."""

    @own_settings()
    def __init__(
        self,
        space: Space,
        oracle: Oracle | Callable[[Design], object] | None,
        objective: Objective,
        *,
        constraints: str | OutcomeConstraint | Sequence[str | OutcomeConstraint] = (),
        outputs: Sequence[str] | int | None = None,
        name: str | None = None,
        judge: Oracle | Callable[[Design], object] | None = None,
        draw: Callable[[Design], ArrayLike] | None = None,
        realism: float | Literal["default"] | None = "default",
        reuse: bool | None = None,
        plausibility: Callable[[Sequence[Design]], Array] | None = None,
        units: Mapping[str, str] | None = None,
        input_noise: object = None,
    ) -> None:
        if not isinstance(space, Space):
            raise InvalidInputError(
                f"Problem: space must be a Space such as Box or Latent, got {type(space).__name__}"
            )
        if not isinstance(objective, Objective):
            raise InvalidInputError(
                "Problem: objective must be Minimize(), Maximize(), Target(...), Nearest(...), "
                f"Pareto(...) or Composite(fn), got {type(objective).__name__}"
            )
        if isinstance(constraints, (str, OutcomeConstraint)):
            constraints = [constraints]
        parsed = tuple(OutcomeConstraint.parse(constraint) for constraint in constraints)
        self.space = space
        self.oracle = None if oracle is None else as_oracle(oracle)
        names = oracle_output_names(outputs, self.oracle, objective, parsed)
        if isinstance(objective, Nearest):
            objective = objective.located(space.domain, space.encode)
            parsed += tuple(one for one in objective.bounds(names) if one not in parsed)
        self.output_names = OutputNames.of(names, objective)
        self.outputs = self.output_names.problem
        if self.oracle is not None and self.oracle is not oracle and self.oracle.outputs is None:
            self.oracle.outputs = names  # those of the user stay as they are
        for one in (self.oracle, None if judge is None else as_oracle(judge)):
            if one is not None:
                output_positions("Problem: outputs", one.outputs, names)
                check_inputs(space, one)
        self.objective = objective.bind(self.outputs)
        self.constraints = tuple(constraint.bind(self.outputs) for constraint in parsed)
        self.name = name or type(space).__name__.lower()
        self.input_noise = InputNoise.read(input_noise, space.domain)
        require(
            self.input_noise is None or not isinstance(objective, Nearest),
            f"Problem: input_noise must be None with the objective Nearest, whose change has no "
            f"noise, got {input_noise!r:.80}. Use the target itself for the design of the highest "
            "yield",
        )
        self.judge = None if judge is None else as_oracle(judge)
        self.draw = user_function(draw)
        self.plausibility = user_function(plausibility)
        self.units = {str(key): str(unit) for key, unit in (units or {}).items()}
        unknown = set(self.units) - {*space.domain.parameters, *self.outputs}
        require(
            not unknown,
            f"Problem: units must name parameters or outputs, got {sorted(unknown)}; known are "
            f"{[*space.domain.parameters, *self.outputs]}",
        )
        self.reuse = space.discrete if reuse is None else reuse
        default = isinstance(realism, str) and realism == "default"
        self.realism = space.realism if default else cast("float | None", realism)
        if reads_plausibility(objective) and plausibility is None and not self.measured:
            raise InvalidInputError(
                "Problem: Plausibility() needs a measure of real designs, and all points of "
                f"{type(space).__name__} are equally plausible. Use a Latent, Box(data=...), or "
                "Problem(plausibility=function of designs)."
            )

    @property
    def realism(self) -> float | None:
        """Share of the reference measure that strategies search; None for all of it.

        Raises:
            InvalidInputError: the assigned value is not in (0, 1].
        """
        return self._realism

    @realism.setter
    def realism(self, share: float | None) -> None:
        self._realism = None if share is None else _share(share)
        self.domain = self.space.domain.with_floor(1.0 - (self._realism or 1.0))

    @property
    def measured(self) -> bool:
        """True if the space has a reference measure, so that plausibilities differ."""
        return self.space.domain.latent or self.space.domain.reference is not None

    @property
    def differentiable(self) -> bool:
        """True if space and oracle are differentiable, and neither runs without gradients."""
        oracle = self.oracle
        return (
            self.space.differentiable
            and oracle is not None
            and oracle.differentiable
            and not isinstance(self.objective, Nearest)  # it reads the change, no output of it
            and self._passes_gradients
        )

    @cached_property
    @own_settings()
    def _passes_gradients(self) -> bool:
        assert self.oracle is not None
        points = self.space.sample(np.random.default_rng(0), 2)
        return self.oracle.passes_gradients(points, self.space.decode_tensor)

    @property
    def statement(self) -> ProblemStatement:
        """Problem statement, the part of the problem that a strategy receives."""
        return ProblemStatement(
            self.name, self.domain, self.outputs, self.objective, self.constraints,
            self.differentiable, user_function(self.space.features),
            user_function(self.space.identify), self.input_noise,
        )  # fmt: skip

    @own_settings()
    def decode(self, point: Array) -> Design:
        """Decode one point ``(d,)`` to a design."""
        return self.space.decode(np.asarray(point)[None])[0]

    def designs(self, queries: Sequence[Query]) -> Sequence[Design]:
        """Return the designs of queries: those of the user exactly, the others decoded."""
        decoded = self.space.decode(np.array([query.point for query in queries]))
        if all(query.design is None for query in queries):
            return decoded
        exact = [query.exact(design) for query, design in zip(queries, decoded, strict=True)]
        arrays = hasattr(decoded, "dtype") and not hasattr(decoded, "detach")
        return cast("Sequence[Design]", np.array(exact)) if arrays else exact

    def answers(self, oracle: Oracle, designs: Sequence[Design]) -> list[OracleResult]:
        """Evaluate designs by an oracle, which receives their names if it has names of inputs."""
        if designs_by_name(self.space, oracle):
            names = list(self.space.domain.parameters)
            designs = [dict(zip(names, design, strict=True)) for design in designs]
        return oracle.answers(designs, self.output_names.oracle)

    @own_settings()
    def evaluate(self, queries: Sequence[Query]) -> list[Outcome]:
        """Evaluate queries; return one outcome each, in order. Errors become outcomes.

        Raises:
            InvalidInputError: the problem has no oracle.
        """
        if self.oracle is None:
            raise InvalidInputError(
                f"problem {self.name!r} has no oracle. Use study.ask() and study.tell()."
            )
        plain = [i for i, query in enumerate(queries) if not (query.descent or query.gradient)]
        values = self._values(self.oracle, [queries[i] for i in plain]) if plain else []
        outcomes = dict(zip(plain, values, strict=True))
        if len(plain) < len(queries):
            from bo_invert.problems.gradient_descent import evaluate_gradients

            rest = [i for i in range(len(queries)) if i not in outcomes]
            outcomes.update(
                zip(rest, evaluate_gradients(self, [queries[i] for i in rest]), strict=True)
            )
        return [outcomes[i] for i in range(len(queries))]

    def _values(self, oracle: Oracle, queries: Sequence[Query]) -> list[Outcome]:
        started = time.perf_counter()
        try:
            answers = self.answers(oracle, self.designs(queries))
        except (Exception, SystemExit) as error:  # the decoder failed before any oracle call
            answers = [
                OracleResult(
                    None, FailedError(f"decoding failed: {type(error).__name__}: {error}"), 1
                )
            ] * len(queries)
        seconds = (time.perf_counter() - started) / len(queries)
        return [
            self.outcome(one.outputs_or_error, Cost(one.calls, 0, seconds), query.point)
            for one, query in zip(answers, queries, strict=True)
        ]

    @own_settings()
    def outcome(
        self,
        answer: object,
        cost: Cost,
        at: Array | None = None,
        **extra: Any,
    ) -> Outcome:
        """Convert raw outputs or an ``EvaluationError`` to an outcome.

        Args:
            answer: raw outputs of the oracle, or an error.
            cost: cost of the attempt.
            at: point ``(d,)``, whose plausibility is an output if the objective reads it.
            **extra: further fields of the outcome.
        """
        try:
            y = self.output_names.complete(answer, at, self._derived)
            loss = number(self.objective.loss(y))
            if not math.isfinite(loss):
                raise FailedError(f"the objective's loss of y = {y.tolist()} is {loss}")
            violation = self.violation(y)
            if not math.isfinite(violation):
                raise FailedError(f"the constraint violation of y = {y.tolist()} is {violation}")
            return Outcome(State.COMPLETED, y, loss, violation, cost, **extra)
        except EvaluationError as error:
            state = State.INFEASIBLE if isinstance(error, InfeasibleError) else State.FAILED
            reason = error.reason or type(error).__name__
        except Exception as error:
            state, reason = State.FAILED, f"the objective raised {type(error).__name__}: {error}"
        # File names in messages may hold lone surrogates, which cannot be sent or printed.
        return Outcome(state, cost=cost, reason=reason.encode("utf-8", "backslashreplace").decode())

    def _derived(self, points: Array) -> object:
        """Return the derived output ``(n,)`` of points ``(n, d)``: their change or plausibility."""
        if isinstance(self.objective, Nearest) and self.objective.change is not None:
            return self.objective.change(points)
        if self.plausibility is None:
            return self.space.plausibility(points)
        return self.plausibility(self.space.decode(points))

    def violation(self, y: Array) -> float:
        """Sum the constraint violations of outputs ``(m,)``; 0 if all constraints hold."""
        return float(self.violations(y)) if self.constraints else 0.0

    def violations(self, y: Array) -> Array:
        """Sum the constraint violations of outputs ``(..., m)``, shape ``(...)``."""
        total = np.zeros(np.shape(y)[:-1])
        for constraint in self.constraints:
            total = total + _violation(constraint, y)
        return total

    def broken(self, y: Array) -> tuple[str, ...]:
        """List the violated constraints of outputs ``(m,)`` with their violations."""
        beyond = [(constraint, float(_violation(constraint, y))) for constraint in self.constraints]
        return tuple(
            f"{constraint} by {excess:.3g}" for constraint, excess in beyond if excess > 0.0
        )

    @own_settings()
    def second_opinions(
        self, designs: Sequence[Design], points: Array | None = None
    ) -> tuple[list[Outcome | None], int]:
        """Evaluate designs with the judge; no ledger counts its calls.

        Args:
            designs: n designs.
            points: their points ``(n, d)``; needed if their plausibility is an output.

        Returns:
            Outcomes, None without a judge, and the number of calls.
        """
        if self.judge is None:
            return [None] * len(designs), 0
        answers = self.answers(self.judge, designs)
        places = [None] * len(answers) if points is None else list(points)
        opinions: list[Outcome | None] = [
            self.outcome(one.outputs_or_error, Cost(one.calls), place)
            for one, place in zip(answers, places, strict=True)
        ]
        return opinions, sum(answer.calls for answer in answers)

    def loss_tensor(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the loss of outputs ``(n, m)`` plus a quadratic constraint penalty, ``(n,)``."""
        loss: torch.Tensor = self.objective.loss(outputs)
        for constraint in self.constraints:
            loss = loss + 10.0 * constraint.excess(outputs).clamp(min=0.0) ** 2
        return loss

    def __repr__(self) -> str:
        rules = f", subject to {', '.join(map(str, self.constraints))}" if self.constraints else ""
        mapping = f"{self.space} -> {', '.join(self.outputs)}"
        return printable(f"Problem({self.name!r}: {mapping}; {self.objective}{rules})")

    def to_json(self) -> JSON:
        """Return the JSON that identifies the problem in a log."""
        described = {
            "space": self.space.to_json(),
            "outputs": list(self.outputs),
            "objective": self.objective.to_json(),
            "constraints": [constraint.to_json() for constraint in self.constraints],
        }
        if self.input_noise:
            described["input_noise"] = self.input_noise.to_json()
        if self.measured and self.realism != self.space.realism:
            described["realism"] = self.realism or 1.0
        return json.loads(json.dumps(described, allow_nan=False))


def _share(share: object) -> float:
    """Return a share in (0, 1]."""
    try:
        found = math.nan if isinstance(share, (bool, str)) or callable(share) else number(share)
    except TypeError:
        found = math.nan
    if not 0 < found <= 1:
        hint = ". Pass functions of designs as plausibility=." if callable(share) else ""
        raise InvalidInputError(
            f"Problem: realism must be a share in (0, 1] or None, got {share!r}{hint}"
        )
    return found


def _violation(constraint: OutcomeConstraint, y: Array) -> Array:
    """Compute the violation ``(...)`` of outputs ``(..., m)``; 0 if the constraint holds.

    An output in single precision that equals the bound in that precision satisfies it.
    """
    value = np.asarray(y)[..., constraint.index]
    with np.errstate(over="ignore"):
        single = value.astype(np.float32)
        equal = (single == value) & (single == np.float32(constraint.bound))
    # A missing excess of a user's class is no 0.
    return np.where(equal, 0.0, np.maximum(0.0, numbers(constraint.excess(y))))
