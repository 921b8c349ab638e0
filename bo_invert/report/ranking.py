"""How the methods on one problem stand: what tables and words are computed from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.report.performance import starts
from bo_invert.report.runs import Run, Status
from bo_invert.report.statistics import Ranking, Spread, rank, spread
from bo_invert.types import JSON

#: A design of lower plausibility is more peculiar than 95 % of the reference measure.
IMPLAUSIBLE = 0.05

#: Somebody is fooled when the judge confirms less than this share of the improvement claimed.
CONFIRMED = 0.5


@dataclass(frozen=True, eq=False)
class Standing:
    """One method over all seeds of one problem.

    Args:
        label: of the method.
        strategy: the strategy's name.
        runs: all of them, refused and broken ones too.
        claimed: lowest loss by the oracle the search could see; infinite for a run without a feasible design.
        judged: loss of the same designs by the judge; None without a judge.
        score: what decides: ``judged`` where there is a judge, ``claimed`` otherwise. None if nothing ran.
        plausibility: of the same designs; None where it is not measured.
        fooled: runs whose claim the judge does not confirm.
        implausible: runs whose best design is outside the reference measure's central 95 %.
        hits: runs that met the target within its tolerance; None without a tolerance.
        rank: mean rank of the score over paired seeds, 1 is best; None if the method is not ranked.
        p_value: Holm-adjusted, of the score against the best ranked; None for that one.
    """

    label: str
    strategy: str
    runs: tuple[Run, ...]
    claimed: Spread | None
    judged: Spread | None
    score: Spread | None
    plausibility: Spread | None
    fooled: int
    implausible: int
    hits: int | None
    rank: float | None = None
    p_value: float | None = None

    @property
    def ran(self) -> tuple[Run, ...]:
        """The runs that were not refused."""
        return tuple(run for run in self.runs if run.status is not Status.REFUSED)

    @property
    def refused(self) -> str:
        """The sentence of a refusal; empty if the method ran at all."""
        return self.runs[0].ended if not self.ran else ""

    @property
    def broken(self) -> tuple[Run, ...]:
        """Runs that ended with an error."""
        return tuple(run for run in self.runs if run.status is Status.ERROR)


@dataclass(frozen=True, eq=False)
class Field:
    """All methods on one problem, best score first; refused ones last.

    Args:
        problem: its name.
        goal: the objective as JSON.
        has_judge: whether any design was judged.
        start: median over seeds and methods of the first loss seen: what a search begins with.
        pairs: seeds over which ranks and tests are paired.
        standings: of the methods.
    """

    problem: str
    goal: JSON
    has_judge: bool
    start: float
    pairs: int
    standings: tuple[Standing, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(run for standing in self.standings for run in standing.runs)

    @property
    def seeds(self) -> int:
        """How many different seeds there are."""
        return len({run.seed for run in self.runs})


def fields(runs: Sequence[Run]) -> list[Field]:
    """One field per problem, in the order of their first runs."""
    names = list(dict.fromkeys(run.problem for run in runs))
    return [_field(name, [run for run in runs if run.problem == name]) for name in names]


def breaks(run: Run) -> bool:
    """Whether the best design breaks outcome constraints by the judge's outputs."""
    return run.best is not None and run.best.upheld is False


def fooled(run: Run, start: float) -> bool:
    """Whether the judge confirms less than half of the improvement over ``start`` that the best design claims.

    A design that breaks the constraints by the judge's outputs confirms nothing. For a target the improvement is
    measured in distances, which is what a target is about, not in their squares.
    """
    best = run.best
    if best is None or best.judged is None or not math.isfinite(start):
        return False
    if best.upheld is False:
        return True
    claimed, judged = best.loss, best.judged
    if run.goal.get("type") == "target":
        claimed, judged, start = math.sqrt(claimed), math.sqrt(judged), math.sqrt(start)
    return judged > claimed and start - judged < CONFIRMED * (start - claimed)


def implausible(run: Run) -> bool:
    """Whether the best design is more peculiar than 95 % of the reference measure."""
    return (
        run.best is not None
        and run.best.plausibility is not None
        and run.best.plausibility < IMPLAUSIBLE
    )


def score(run: Run, has_judge: bool) -> float:
    """What decides about a run: the judge's loss if there is a judge, the claimed one otherwise.

    Infinite where nothing feasible was found, or where the judge failed or finds constraints broken.
    """
    if run.best is None:
        return math.inf
    if not has_judge:
        return run.best.loss
    return math.inf if run.best.judged is None or run.best.upheld is False else run.best.judged


def placing(run: Run, has_judge: bool) -> float:
    """The score, by which runs are ranked: infinite for one that was refused or broke down, however far it came."""
    return math.inf if run.status in (Status.REFUSED, Status.ERROR) else score(run, has_judge)


def _field(problem: str, runs: Sequence[Run]) -> Field:
    has_judge = any(find.judged is not None for run in runs for find in run.finds)
    begun = starts(runs)
    labels = list(dict.fromkeys(run.label for run in runs))
    grouped = {label: [run for run in runs if run.label == label] for label in labels}
    ranked = [
        label for label in labels if any(run.status is not Status.REFUSED for run in grouped[label])
    ]
    ranking = _ranking({label: grouped[label] for label in ranked}, has_judge)
    standings = []
    for label in labels:
        place = ranked.index(label) if label in ranked else None
        standings.append(
            _standing(
                label,
                grouped[label],
                has_judge,
                begun,
                None if place is None or ranking is None else ranking.ranks[place],
                None if place is None or ranking is None else ranking.p_values[place],
            )
        )
    standings.sort(
        key=lambda s: (math.inf, math.inf) if s.score is None else (s.score.median, s.rank or 0.0)
    )
    known = spread(value for value in begun.values() if math.isfinite(value))
    start = math.inf if known is None else known.median
    return Field(problem, runs[0].goal or _first_goal(runs), has_judge, start, ranking.pairs if ranking else 0,
                 tuple(standings))  # fmt: skip


def _first_goal(runs: Sequence[Run]) -> JSON:
    return next((run.goal for run in runs if run.goal), {})


def _ranking(grouped: dict[str, list[Run]], has_judge: bool) -> Ranking | None:
    """Over the seeds that every method ran; None when there are not two methods or no common seed."""
    tables = [{run.seed: placing(run, has_judge) for run in runs} for runs in grouped.values()]
    common = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    if len(tables) < 2 or not common:
        return None
    return rank(np.array([[table[seed] for table in tables] for seed in common]))


def _standing(
    label: str,
    runs: Sequence[Run],
    has_judge: bool,
    begun: dict[tuple[str, int], float],
    place: float | None,
    p_value: float | None,
) -> Standing:
    ran = [run for run in runs if run.status is not Status.REFUSED]
    best = [run.best for run in ran if run.best is not None]
    hits = [find.hit for find in best if find.hit is not None]
    return Standing(
        label=label,
        strategy=str(runs[0].strategy.get("name", "")),
        runs=tuple(runs),
        claimed=spread(run.loss for run in ran),
        judged=spread(find.judged for find in best),
        score=spread(score(run, has_judge) for run in ran),
        plausibility=spread(find.plausibility for find in best),
        fooled=sum(fooled(run, begun[run.problem, run.seed]) for run in ran),
        implausible=sum(implausible(run) for run in ran),
        hits=sum(hits) if hits else None,
        rank=place,
        p_value=p_value,
    )
