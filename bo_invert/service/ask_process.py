"""Asks in worker processes, so that the server answers other requests at the same time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bo_invert.domains.constrained_box import FixedValues
from bo_invert.errors import BoInvertError
from bo_invert.service.lru_cache import LRUCache, journal_bytes
from bo_invert.service.registered_problems import RegisteredProblems
from bo_invert.storage.journal_base import LoggedProposal
from bo_invert.storage.open import open_store
from bo_invert.storage.trial_transitions import Assignment, Purpose
from bo_invert.study.study import Study


@dataclass(frozen=True)
class ProposalRequest:
    """Request for proposals, sent to a worker process.

    Args:
        study: name of the study.
        identity: id of the study, which differs from an earlier study of the same name.
        count: number of queries.
        budget: largest number of calls of the study; None for no limit.
        fixed: names and values of the fixed parameters.
        purpose: purpose of the ask.
        hope_level: see ``Assignment``.
    """

    study: str
    identity: str | None
    count: int
    budget: int | None
    fixed: FixedValues = ()
    purpose: Purpose = "search"
    hope_level: float | None = None


_studies = LRUCache[tuple[str | Path, str], Study](lambda study: journal_bytes(study.journal))


def propose(
    url: str | Path, registered: RegisteredProblems, request: ProposalRequest | None
) -> LoggedProposal | None:
    """Run a strategy in a worker process of the server, without writing anything.

    Args:
        url: URL or path of the storage.
        registered: registered problems of the server.
        request: study and number of queries; None prepares the process for the first ask.

    Returns:
        The answer; None if the budget is spent.
    """
    if request is None:
        import bo_invert.models.gp.surrogate  # noqa: F401

        return None
    key = (url, request.study)
    try:
        study = _studies.use(key)
        if study is None or study.journal.header.get("id") != request.identity:
            _studies.pop(key, None)
            store = open_store(url)
            problem = registered.problem_of(store.header(request.study), request.study)
            study = _studies.store(key, Study.open(request.study, store, problem))
        view = study.journal.view(request.budget)
        count = int(min(request.count, view.room))
        assignment = Assignment(
            fixed=request.fixed, purpose=request.purpose, hope_level=request.hope_level
        )
        return study.propose(request.budget, view, count, assignment) if count > 0 else None
    except BoInvertError:
        _studies.pop(key, None)
        raise
