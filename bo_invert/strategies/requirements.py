"""Requirements of strategies on a problem and on the installation."""

from __future__ import annotations

from bo_invert.errors import UnsuitableStrategyError
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.strategies.base import Strategy


def require_support(strategy: Strategy, statement: ProblemStatement) -> None:
    """Check that a strategy supports a problem: its objective, and its own requirements.

    Raises:
        UnsuitableStrategyError: it does not; the message names the problem and the remedy.
    """
    if isinstance(statement.objective, Pareto) and not strategy.multi_objective:
        raise UnsuitableStrategyError(
            f"strategy {strategy.name!r} minimises one loss, and the objective of problem "
            f"{statement.name!r} is {statement.objective}. Use 'auto', 'gp', 'random', 'sobol', "
            "'prior', 'optuna', 'ax' or 'botorch', or one objective with constraints on the other "
            "outputs"
        )
    strategy.check(statement)


def require_gradients(name: str, statement: ProblemStatement) -> None:
    """Check that the problem has gradients.

    Raises:
        UnsuitableStrategyError: the space or the oracle is not differentiable.
    """
    if not statement.differentiable:
        raise UnsuitableStrategyError(
            f"strategy {name!r} needs gradients, and problem {statement.name!r} has none: its "
            "space or its oracle is not differentiable. Use torch modules for both, give the "
            "oracle a differentiable proxy (bo_invert.GradientProxy), or use a strategy without "
            "gradients: 'gp', 'cmaes', 'prior'"
        )


def require_residuals(name: str, statement: ProblemStatement, alternatives: str) -> None:
    """Check that the problem has residuals with slopes: a target and real parameters.

    Args:
        name: name of the strategy.
        statement: the problem.
        alternatives: strategies for the message, such as ``"'gp' or 'cmaes'"``.

    Raises:
        UnsuitableStrategyError: the objective is no target, or a parameter is no real number.
    """
    if not isinstance(statement.objective, Target):
        raise UnsuitableStrategyError(
            f"strategy {name!r} needs residuals, and the objective of problem {statement.name!r} "
            f"is {statement.objective}. Use Target(value), or {alternatives}"
        )
    if not statement.domain.continuous:
        raise UnsuitableStrategyError(
            f"strategy {name!r} needs finite differences, and problem {statement.name!r} has "
            "integers, choices or steps among its parameters. Make them Float without a step, fix "
            f"them, or use {alternatives}"
        )
