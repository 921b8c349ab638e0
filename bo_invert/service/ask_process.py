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
        url: URL of the storage.
        study: name of the study.
        count: number of queries.
        budget: largest number of calls of the study; None for no limit.
        identity: id of the study, which differs from an earlier study of the same name.
    """

    url: str
    study: str
    count: int
    budget: int | None
    identity: str | None


@dataclass(frozen=True)
class ProposalError:
    """Error of the library in a worker process; errors with several arguments do not unpickle."""

    kind: type[BoInvertError]
    text: str


_studies = LRUCache[tuple[str, str], Study](lambda study: study.journal.size)


@dataclass(frozen=True)
class AskWorker:
    """Function that runs strategies in a worker process of the server.

    Args:
        registered: registered problems of the server.
    """

    registered: RegisteredProblems

    def __call__(self, request: ProposalRequest | None) -> LoggedProposal | ProposalError | None:
        """Run a strategy without writing anything.

        Args:
            request: study and number of queries. None imports the surrogate, so that the first
                ask is fast.

        Returns:
            The answer; None if the budget is spent.
        """
        if request is None:
            import bo_invert.models.gp.surrogate  # noqa: F401

            return None
        try:
            study = self._study(request)
            view = study.journal.view(request.budget)
            if view.room <= 0:
                return None
            return study.propose(request.budget, view, int(min(request.count, view.room)))
        except BoInvertError as error:
            _studies.pop((request.url, request.study))
            return ProposalError(type(error), str(error))

    def _study(self, request: ProposalRequest) -> Study:
        key = (request.url, request.study)
        study = _studies.get(key)
        if study is None or study.journal.header.get("id") != request.identity:
            study = self.registered.open(request.url, request.study)
            _studies.put(key, study)
        return study
