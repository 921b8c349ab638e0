"""What the server answers, as OpenAPI describes it. Answers are not checked against this while serving; tests do."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bo_invert.types import JSON, State


class Answer(BaseModel):
    """Nothing comes that is not named here."""

    model_config = ConfigDict(extra="forbid")


class Cost(Answer):
    """Calls and seconds of an attempt."""

    values: int
    gradients: int
    seconds: float


class Attempt(Answer):
    """One try at a trial; times are seconds since 1970."""

    worker: str | None
    started: float
    ended: float | None
    state: State
    cost: Cost
    lease: float | None


class Trial(Answer):
    """A point and what came of it. ``attempt`` goes back with the answer."""

    number: int
    state: State
    attempt: int | None
    origin: str
    point: list[float]
    parameters: dict[str, Any] | None
    query: dict[str, Any]
    outputs: list[float] | None
    loss: float | None
    feasible: bool
    violation: float
    reason: str
    cost: Cost
    attempts: list[Attempt]


class Trials(Answer):
    """Several of them."""

    trials: list[Trial]


class Asked(Trials):
    """Trials to evaluate, or why there are none."""

    why: Literal["", "wait", "budget", "done"]


class TrialPage(Trials):
    """Some of them, and where the next ones begin."""

    next: int | None


class Best(Answer):
    """The best trial, once there is one."""

    best: Trial | None


class Bill(Answer):
    """What a study spent."""

    calls: int
    values: int
    gradients: int
    attempts: int
    failed: int
    infeasible: int
    lost: int
    reused: int
    running: int
    seconds: float
    asking: float
    asks: int


class Study(Answer):
    """What a study is about, found and spent; ``best`` is in the user's own quantity, which ``best_is`` names."""

    name: str
    problem: dict[str, Any]
    problem_name: str
    strategy: dict[str, Any]
    seed: int
    created: str
    provenance: dict[str, Any] | None
    trials: int
    events: int
    states: dict[State, int]
    spent: Bill
    budget: int | None
    best_loss: float | None
    best: float | None
    best_is: str
    raised: bool
    asks_here: bool
    why_not: str


class StudyPage(Answer):
    """Some studies, and where the next ones begin."""

    studies: list[Study]
    next: int | None


class Columns(Answer):
    """Trials, one list per quantity."""

    number: list[int]
    state: list[State]
    origin: list[str]
    loss: list[float | None]
    feasible: list[bool]
    calls: list[int]
    ended: list[float | None]
    worker: list[str | None]
    point: list[list[float]]
    next: int | None
    events: int
    total: int


class Picture(Answer):
    """The design of a trial, drawn; ``picture`` is a ``data:`` address."""

    number: int
    loss: float
    picture: str


class Gallery(Answer):
    """The best designs, drawn."""

    pictures: list[Picture]


class Held(Answer):
    """Whether a trial is still its worker's own."""

    held: bool
    state: State


class Heard(Answer):
    """Whose sign of life was heard."""

    worker: str


class Curve(Answer):
    """Lowest loss by calls spent."""

    calls: list[int]
    losses: list[float | None]


class Events(Answer):
    """Events of a study; what it is about comes with the first ones."""

    header: dict[str, Any] | None
    events: list[JSON]
