"""Asks in worker processes, so that the server answers other requests at the same time."""

from __future__ import annotations

from dataclasses import dataclass

from bo_invert.errors import BoInvertError
from bo_invert.service.lru_cache import LRUCache
from bo_invert.service.registered_problems import RegisteredProblems
from bo_invert.storage.journal_base import LoggedProposal
from bo_invert.study.study import Study


@dataclass(frozen=True)
class ProposalRequest:
    """Request for proposals, sent to a worker process.

    Args:
        study: name of the study.
        identity: id of the study, which differs from an earlier study of the same name.
        count: number of queries.
        budget: largest number of calls of the study; None for no limit.
    """

    study: str
    identity: str | None
    count: int
    budget: int | None


_studies = LRUCache[tuple[str, str], Study](lambda study: study.journal.size)


def warm_up() -> None:
    """Import the surrogate, so that the first ask is fast."""
    import bo_invert.models.gp.surrogate  # noqa: F401


@dataclass(frozen=True)
class AskWorker:
    """Function that runs strategies in a worker process of the server.

    Args:
        url: URL of the storage.
        registered: registered problems of the server.
    """

    url: str
    registered: RegisteredProblems

    def __call__(self, request: ProposalRequest) -> LoggedProposal | None:
        """Run a strategy without writing anything.

        Returns:
            The answer; None if the budget is spent.
        """
        key = (self.url, request.study)
        try:
            study = _studies.get(key)
            if study is None or study.journal.header.get("id") != request.identity:
                _studies.pop(key)
                study = _studies.setdefault(key, self.registered.open(*key))
            view = study.journal.view(request.budget)
            count = int(min(request.count, view.room))
            return study.propose(request.budget, view, count) if count > 0 else None
        except BoInvertError:
            _studies.pop(key)
            raise
