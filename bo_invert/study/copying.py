"""Copies and pickles of a study: each opens the log again."""

from __future__ import annotations

import copy
from typing import Any, Self

from bo_invert.errors import InvalidInputError
from bo_invert.execution.supervised_process import ByValue, pack
from bo_invert.problems.problem import Problem
from bo_invert.storage.base import Store


class CopiedByReopening:
    """Base of a study that is copied, pickled and sent to processes without its connections.

    A copy opens the log again: in a database or on a server, all copies share one log. The memory
    of a process cannot be shared, so a deep copy or a pickle there holds the log of that moment.
    Copies in one process share the problem, which has no state.
    """

    name: str
    problem: Problem | None
    _store: Store

    def __copy__(self) -> Self:
        return self._reopened(self._store)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self._reopened(copy.deepcopy(self._store, memo))

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.problem, vars(self).get("strategy"))
        try:
            pack(parts)
        except InvalidInputError as error:
            raise InvalidInputError(
                f"study {self.name!r} cannot be pickled with its problem: {error}. Or pickle the "
                "name and the storage only, and call Study.open(name, storage, problem=...)"
            ) from error
        return _opened, (type(self), self.name, self._store, ByValue(parts))

    def _reopened(self, store: Store) -> Self:
        make: Any = type(self)
        made: Self = make(self.name, store, self.problem, vars(self).get("strategy"))
        return made


def _opened(cls: type[Any], name: str, store: Store, parts: tuple[Any, Any]) -> object:
    return cls(name, store, *parts)
