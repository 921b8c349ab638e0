"""Ax as a strategy."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bo_invert.domains.parameters import Choice
from bo_invert.errors import UnsuitableStrategyError
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed, option
from bo_invert.strategies.library_warnings import quiet
from bo_invert.types import Query, Trial
from bo_invert.user_code import default_dtype

if TYPE_CHECKING:
    from ax.generation_strategy.generation_strategy import GenerationStrategy

# Largest number of values of a choice in Ax, in values per parameter: more than 1,000 raise an
# error in Ax (https://ax.dev).
_MAX_VALUES = 1000

# Ax seeds the global generators while it proposes and restores them, so asks must not overlap.
_one_at_a_time = threading.Lock()


@contextmanager
def _importing_ax() -> Iterator[None]:
    """Undo side effects of importing Ax: a log message, and draws from ``random``."""
    logger = logging.getLogger("ax.storage.sqa_store.with_db_settings_base")
    logger.disabled = True
    before = random.getstate()
    try:
        yield
    finally:
        random.setstate(before)
        logger.disabled = False


@dataclass(frozen=True)
class Ax(Strategy):
    """Ax ``Client`` (Olson et al. 2025), rebuilt from the log at every ask.

    Parameters of a box retain their names, types and scales; a latent becomes ``z0, z1, ...``
    between its bounds. ``Minimize``, ``Maximize`` and outcome constraints are passed as such. The
    ``Client`` has no composite objectives, so a ``Target`` or ``Composite`` is one metric, the
    loss. The criteria of ``Pareto`` are several objectives, and its reference their thresholds.

    The first points are the centre and a scrambled Sobol sequence. All trials of the log count
    towards ``initialization_budget``. Failed trials are passed as abandoned, because Ax would
    propose them again. Ax draws from the global generators; they are seeded during an ask and
    restored. A thread that draws from them during an ask disturbs it.

    Args:
        method: ``"fast"`` (a GP with LogEI), ``"quality"`` (fully Bayesian, minutes per ask) or
            ``"random_search"``.
        initialization_budget: points before the first model, at least 2; None for Ax's default 5.
        center: start at the centre of the search space.
    """

    name = "ax"
    multi_objective = True
    method: str = option("fast", among=("fast", "quality", "random_search"))
    initialization_budget: int | None = option(None, ge=2)
    center: bool = True

    def check(self, statement: ProblemStatement) -> None:
        for name, parameter in statement.domain.parameters.items():
            if isinstance(parameter, Choice) and len(parameter.values) > _MAX_VALUES:
                raise UnsuitableStrategyError(
                    f"strategy 'ax' supports at most {_MAX_VALUES} values per choice, parameter "
                    f"{name!r} of problem {statement.name!r} has {len(parameter.values)}. Use an "
                    "Int range, or strategy 'gp'"
                )

    @default_dtype("float32")  # parts of the library use the default type
    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        with _importing_ax():
            from ax.exceptions.core import OptimizationComplete

            from bo_invert.strategies.ax.conversion import Frame, client_from

        frame = Frame(statement.domain)
        # Ax would search for the last design of a finite domain for minutes.
        known = {tuple(statement.domain.project(trial.point)) for trial in trials}
        count = int(min(request.count, statement.domain.size - len(known)))
        if count < 1:
            return Proposal(())
        queries: list[Query] = []
        with _one_at_a_time, quiet("ax"):
            client = client_from(
                statement, trials, seed=draw_seed(request.rng()), abandon_failed=True
            )
            client.set_generation_strategy(self._generation_strategy(trials, request))
            with suppress(OptimizationComplete):  # Ax finds none of the few combinations left
                while len(queries) < count:
                    for index, parameters in client.get_next_trials(count - len(queries)).items():
                        run = client._experiment.trials[index].generator_runs[0]
                        meta = {"node": run._generation_node_name}
                        queries.append(
                            Query(frame.from_ax(parameters), origin=self.name, meta=meta)
                        )
        return Proposal(tuple(queries))

    def _generation_strategy(self, trials: Sequence[Trial], request: Request) -> GenerationStrategy:
        from ax.api.utils.generation_strategy_dispatch import choose_generation_strategy
        from ax.api.utils.structs import GenerationStrategyDispatchStruct

        chosen = choose_generation_strategy(
            GenerationStrategyDispatchStruct(
                method=self.method,
                initialization_budget=self.initialization_budget,
                initialization_random_seed=draw_seed(request.stream(0)),
                initialize_with_center=self.center and not trials,
                allow_exceeding_initialization_budget=True,
            )
        )
        drawn = sum(t.origin == self.name and t.query.meta.get("node") == "Sobol" for t in trials)
        for node in chosen._nodes:
            # A new client begins the sequence again; the log holds its position.
            if node.name == "Sobol":
                node.generator_specs[0].generator_kwargs["init_position"] = drawn
        return chosen
