"""Bodies of the responses: studies and trials as pydantic models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from bo_invert.domains.search_domain import Domain
from bo_invert.history import Ledger
from bo_invert.problems.recorded_versions import noted
from bo_invert.report.dataframe import trial_values
from bo_invert.report.objective_view import Goal
from bo_invert.service.open_studies import OpenStudy
from bo_invert.storage.log_summary import LogSummary
from bo_invert.types import JSON, State, Trial

Time = Annotated[float, Field(description="Seconds since 1970-01-01 UTC.")]

ATTEMPTS = 100
"""Largest number of attempts in a response. Engineering choice: bounds the size of a trial."""


class ResponseBody(BaseModel, extra="forbid", from_attributes=True):
    """Base class of the responses; they have no other fields."""


class CostResponse(ResponseBody):
    """Calls and seconds of an attempt."""

    values: Annotated[int, Field(description="Oracle values.")]
    gradients: Annotated[int, Field(description="Oracle gradients.")]
    seconds: float


class AttemptResponse(ResponseBody):
    """Attempt at a trial."""

    worker: str | None
    started: Time
    ended: Time | None
    state: Annotated[State, Field(validation_alias="fate")]
    cost: CostResponse
    lease: Annotated[float | None, Field(description="Seconds without heartbeat until it is lost.")]


class AmendmentResponse(ResponseBody):
    """Correction of an outcome: the former outcome and the reason."""

    at: Time
    reason: str
    state: Annotated[State, Field(description="State before the correction.")]
    outputs: Annotated[list[float] | None, Field(description="Outputs before the correction.")]


class TrialResponse(ResponseBody):
    """Trial: a query and its outcome."""

    number: int
    state: State
    attempt: Annotated[
        int | None,
        Field(description="Number of the latest attempt; send it back with the outcome."),
    ]
    origin: Annotated[str, Field(description="Source of the query, for example a strategy.")]
    point: list[float]
    parameters: Annotated[
        dict[str, Any] | None, Field(description="Design as named parameters; null for a latent.")
    ]
    query: dict[str, Any]
    outputs: list[float] | None
    loss: float | None
    feasible: Annotated[bool, Field(description="Completed without violated constraints.")]
    violation: Annotated[float, Field(description="Sum of the constraint violations.")]
    reason: Annotated[str, Field(description="Reason of a failed or infeasible trial.")]
    extra: Annotated[dict[str, Any], Field(description="Further measured values by name.")]
    moved: Annotated[
        bool,
        Field(description="Run under other conditions; `query` holds the suggested ones."),
    ]
    outside: Annotated[
        bool, Field(description="Outside the search domain: models use it, `best` does not.")
    ]
    amendments: Annotated[
        list[AmendmentResponse],
        Field(description=f"The last corrections of the outcome, at most {ATTEMPTS}."),
    ]
    cost: Annotated[CostResponse, Field(description="Cost of all attempts.")]
    attempts: Annotated[
        list[AttemptResponse], Field(description=f"The last attempts, at most {ATTEMPTS}.")
    ]

    @classmethod
    def of(cls, trial: Trial, domain: Domain | None) -> TrialResponse:
        """Convert a trial; ``domain`` holds the named parameters, None for a latent."""
        return cls(
            number=trial.number,
            state=trial.state,
            attempt=len(trial.attempts) - 1 if trial.attempts else None,
            origin=trial.origin,
            point=trial.point.tolist(),
            parameters=None if domain is None else trial_values(trial, domain),
            query=trial.query.to_json(),
            outputs=None if trial.y is None else trial.y.tolist(),
            loss=trial.loss,
            feasible=trial.feasible,
            violation=0.0 if trial.outcome is None else trial.outcome.violation,
            reason=trial.reason,
            extra=dict(trial.extra),
            moved=trial.moved,
            outside=trial.outside,
            amendments=[
                AmendmentResponse(
                    at=one.at,
                    reason=one.reason,
                    state=one.before.state,
                    outputs=None if one.before.y is None else one.before.y.tolist(),
                )
                for one in trial.amendments[-ATTEMPTS:]
            ],
            cost=CostResponse.model_validate(trial.cost),
            attempts=[
                AttemptResponse.model_validate(attempt) for attempt in trial.attempts[-ATTEMPTS:]
            ],
        )


class TrialsResponse(ResponseBody):
    """List of trials."""

    trials: list[TrialResponse]


class AskResponse(TrialsResponse):
    """Trials to evaluate, or the reason why there are none."""

    why: Annotated[
        Literal["", "wait", "budget", "done"],
        Field(
            description="Empty with trials; `wait`: pending trials must end first; `budget`: the "
            "budget is spent; `done`: the strategy has finished."
        ),
    ]


class PendingResponse(ResponseBody):
    """Open trials as rows to complete."""

    pending: Annotated[
        list[dict[str, Any]], Field(description="Number, parameters and empty outputs.")
    ]
    next: Annotated[int | None, Field(description="`after` of the next page; null at the end.")]


class TableRow(ResponseBody):
    """Row of a table, with the reason why it is not recorded, or failed."""

    row: Annotated[str, Field(description="Name of the row; the header of a CSV file is row 1.")]
    reason: str


class RepeatedRow(ResponseBody):
    """Row of a table that belongs to a trial of the log."""

    row: Annotated[str, Field(description="Name of the row; the header of a CSV file is row 1.")]
    trial: Annotated[int, Field(description="Number of its trial.")]


class TableResponse(ResponseBody):
    """Records of the rows of a table."""

    trials: Annotated[list[int], Field(description="Trials that were added or completed.")]
    rejected: Annotated[list[TableRow], Field(description="Invalid rows.")]
    repeated: list[RepeatedRow]
    skipped: Annotated[list[TableRow], Field(description="Rows that were left out as requested.")]
    failed: Annotated[list[TableRow], Field(description="Rows that are recorded as failures.")]
    waiting: Annotated[
        list[RepeatedRow], Field(description="Rows without outputs whose trials stay open.")
    ]
    summary: str


class TrialPage(TrialsResponse):
    """Page of trials."""

    next: Annotated[int | None, Field(description="`after` of the next page; null at the end.")]


class BestResponse(ResponseBody):
    """Incumbent of a study."""

    best: Annotated[TrialResponse | None, Field(description="Null without a feasible trial.")]
    recommended: Annotated[
        TrialResponse | None,
        Field(description="Trial that a model of all observations recommends; null if exact."),
    ] = None
    expected: Annotated[
        list[float] | None,
        Field(description="Its expected `best_is`: low end, expectation, high end of 90 %."),
    ] = None


class PlotResponse(ResponseBody):
    """Data of a plot."""

    chart: Annotated[
        dict[str, Any],
        Field(description="Title, panels with axes and layers, legend, colour scale and notes."),
    ]
    events: Annotated[int, Field(description="Position of the last event.")]


_DESCRIPTIONS = {
    "calls": "Values plus gradients.",
    "reused": "Attempts answered by the log or a cache.",
    "seconds": "Seconds in the oracle.",
    "asking": "Seconds in the strategy.",
}
_LEDGER: dict[str, Any] = {
    name: (Annotated[type(value), Field(description=_DESCRIPTIONS.get(name))], ...)
    for name, value in Ledger().to_json().items()
}
LedgerResponse = create_model(
    "LedgerResponse", __base__=ResponseBody, __doc__="Ledger: costs of a study.", **_LEDGER
)


class StudyResponse(ResponseBody):
    """Study: problem, strategy, incumbent and costs."""

    name: str
    problem: dict[str, Any]
    problem_name: str
    strategy: dict[str, Any]
    seed: int
    created: str
    provenance: dict[str, Any] | None
    trials: Annotated[int, Field(description="Number of trials.")]
    events: Annotated[int, Field(description="Position of the last event.")]
    states: Annotated[dict[State, int], Field(description="Number of trials in each state.")]
    spent: LedgerResponse  # type: ignore[valid-type]  # a model, made from the ledger
    budget: int | None
    best_loss: float | None
    best: Annotated[float | None, Field(description="Best value of the quantity `best_is`.")]
    best_is: Annotated[str, Field(description="Name of the output, `off by` or `loss`.")]
    raised: Annotated[bool, Field(description="True if higher values of `best` are better.")]
    asks_here: Annotated[bool, Field(description="True if this server can continue the study.")]
    why_not: Annotated[str, Field(description="Reason why the study is read-only here.")]

    @classmethod
    def of(cls, name: str, header: JSON, summary: LogSummary, why_not: str) -> StudyResponse:
        """Describe a study.

        Args:
            name: name of the study.
            header: its header.
            summary: summary of its log.
            why_not: reason why it is read-only here; empty if it can continue.
        """
        loss = summary.best_loss
        goal = Goal(header["problem"]["objective"], header["problem"]["outputs"])
        return cls(
            name=name,
            problem=header["problem"],
            problem_name=header["problem_name"],
            strategy=header["strategy"],
            seed=header["seed"],
            created=header["created"],
            provenance=noted(header.get("provenance")) or None,
            trials=summary.trials,
            events=summary.seq,
            states={State(state): count for state, count in summary.states.items()},
            spent=LedgerResponse.model_validate(summary.ledger.to_json()),
            budget=summary.budget,
            best_loss=loss,
            best=None if loss is None else goal.value(loss),
            best_is=goal.label,
            raised=goal.is_raised,
            asks_here=not why_not,
            why_not=why_not,
        )

    @classmethod
    def of_open(cls, study: OpenStudy) -> StudyResponse:
        """Describe an open study; reads the log."""
        journal = study.journal
        return cls.of(journal.name, journal.header, journal.summary, study.why_not)


class DamagedStudy(ResponseBody):
    """Study that cannot be read."""

    name: str
    detail: Annotated[str, Field(description="The damage and the remedy.")]


class StudyPage(ResponseBody):
    """Page of studies."""

    studies: list[StudyResponse]
    damaged: Annotated[list[DamagedStudy], Field(description="Studies that cannot be read.")]
    next: Annotated[int | None, Field(description="`after` of the next page; null at the end.")]


class ColumnsResponse(ResponseBody):
    """Trials as one list per quantity, for plots."""

    number: list[int]
    state: list[State]
    origin: list[str]
    loss: list[float | None]
    feasible: list[bool]
    calls: list[int]
    ended: list[Time | None]
    position: Annotated[
        list[int | None], Field(description="Position in the log of the latest result.")
    ]
    worker: list[str | None]
    point: Annotated[list[list[float]], Field(description="The first 32 coordinates.")]
    next: int | None
    events: Annotated[int, Field(description="Position of the last event.")]
    total: Annotated[int, Field(description="Number of trials in the study.")]


class DesignPicture(ResponseBody):
    """Picture of a design."""

    number: Annotated[int, Field(description="Number of the trial.")]
    loss: float
    picture: Annotated[str, Field(description="PNG image as a `data:` URL.")]


class GalleryResponse(ResponseBody):
    """Pictures of the best designs."""

    pictures: list[DesignPicture]


class TrialHeartbeatResponse(ResponseBody):
    """State of a trial at a heartbeat."""

    held: Annotated[bool, Field(description="True if the attempt is still running.")]
    state: State


class WorkerHeartbeatResponse(ResponseBody):
    """Worker whose heartbeat was recorded."""

    worker: str


class CurveResponse(ResponseBody):
    """Lowest feasible loss by spent calls."""

    calls: list[int]
    losses: list[float | None]


class EventsResponse(ResponseBody):
    """Events of a study's log."""

    header: Annotated[
        dict[str, Any] | None, Field(description="Header of the study, with the first events.")
    ]
    events: list[JSON]
    next: Annotated[
        int | None,
        Field(
            description="`after` of the next page; null if this page reached the end or `limit`."
        ),
    ]
