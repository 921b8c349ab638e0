"""Messages about the outcomes of a run: log lines, and notes of outputs that are not recorded."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bo_invert.types import Outcome, State, Trial

_log = logging.getLogger(__name__)


def log_outcome(study: str, trial: Trial, outcome: Outcome) -> None:
    """Log an outcome: a failure as a warning, any other for debugging."""
    failed = outcome.state is State.FAILED
    level = logging.WARNING if failed else logging.DEBUG
    if _log.isEnabledFor(level):  # the text takes longer than the check
        _log.log(
            level, "study %r: trial %d %s, attempt %d%s",
            study, trial.number, outcome.state, len(trial.attempts),
            f": {outcome.reason}" if failed else f", loss {outcome.loss}",
        )  # fmt: skip


def note_interrupted(error: BaseException, study: str, lost: int) -> None:
    """Note on an interrupt how the study continues."""
    if isinstance(error, KeyboardInterrupt):
        calls = "1 call was" if lost == 1 else f"{lost} calls were"
        error.add_note(
            f"study {study!r}: all complete results are recorded; {calls} interrupted and billed. "
            "Run again with the same arguments to continue"
        )


def note_unrecorded(error: BaseException, answers: Sequence[tuple[Trial, Outcome]]) -> None:
    """Note outputs that were not recorded on the error, so that the user can tell them."""
    for trial, outcome in answers:
        if outcome.y is not None:
            error.add_note(
                f"not recorded: call study.tell({trial.number}, {outcome.y.tolist()!r}, "
                f"attempt={len(trial.attempts) - 1}) when the storage works again"
            )
