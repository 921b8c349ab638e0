"""Asks in worker processes, so that the server can answer other requests at the same time."""

from __future__ import annotations

from dataclasses import dataclass

from bo_invert.errors import BoInvertError
from bo_invert.service.lru_cache import Kept
from bo_invert.service.registered_problems import Registered
from bo_invert.storage.journal_base import Answer
from bo_invert.study.study import Study


@dataclass(frozen=True)
class Wanted:
    """One ask, as it travels to another process.

    Args:
        url: of the storage.
        study: its name.
        count: how many queries.
        budget: calls the whole study may spend.
        identity: tells the study from an older one of the same name.
    """

    url: str
    study: str
    count: int
    budget: int | None
    identity: str | None


@dataclass(frozen=True)
class Refused:
    """An error of this library, as it travels back. Errors with several arguments do not survive pickling."""

    kind: type[BoInvertError]
    text: str


_studies = Kept[tuple[str, str], Study](lambda study: study.journal.size)


@dataclass(frozen=True)
class AskWorker:
    """Function that asks strategies in a worker process of the server.

    Args:
        registered: Problems of the operator.
    """

    registered: Registered

    def __call__(self, wanted: Wanted | None) -> Answer | Refused | None:
        """Ask a strategy without writing anything.

        Args:
            wanted: Which study and how many queries. None imports what models need, so that the
                first ask is fast.

        Returns:
            The answer; None if the budget is spent.
        """
        if wanted is None:
            import bo_invert.models.gp.surrogate  # noqa: F401

            return None
        try:
            study = self._study(wanted)
            view = study.journal.view(wanted.budget)
            if view.room <= 0:
                return None
            return study.propose(wanted.budget, view, int(min(wanted.count, view.room)))
        except BoInvertError as error:
            _studies.pop((wanted.url, wanted.study))
            return Refused(type(error), str(error))

    def _study(self, wanted: Wanted) -> Study:
        key = (wanted.url, wanted.study)
        known = _studies.get(key)
        if known is None or known.journal.header.get("id") != wanted.identity:
            known = self.registered.open(wanted.url, wanted.study)
            _studies.put(key, known)
        return known
