"""Studies that a server caches."""

from __future__ import annotations

import pytest

from bo_invert.service import lru_cache
from bo_invert.service.lru_cache import LRUCache


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lru_cache, "STUDIES", 3)
    monkeypatch.setattr(lru_cache, "BYTES", 100)


def filled(*sizes: tuple[str, int], busy: str = "") -> LRUCache[str, tuple[str, int]]:
    made = LRUCache[str, tuple[str, int]](lambda one: one[1], lambda one: one[0] in busy)
    for name, size in sizes:
        made.store(name, (name, size))
    return made


def names(known: LRUCache[str, tuple[str, int]]) -> list[str]:
    return [name for name, _ in known.values()]


def test_the_least_recently_used_goes_first() -> None:
    known = filled(("a", 1), ("b", 1), ("c", 1))
    assert known.use("a") == ("a", 1)
    known.store("d", ("d", 1))
    assert names(known) == ["c", "a", "d"]
    assert known.store("c", ("another", 1)) == ("c", 1)
    assert names(known) == ["a", "d", "c"]
    del known["a"]
    assert known.use("a") is None


def test_long_logs_take_the_room_of_many() -> None:
    assert names(filled(("a", 60), ("b", 30), ("c", 50))) == ["b", "c"]
    assert names(filled(("a", 60), ("b", 30), ("huge", 500))) == ["huge"]


def test_what_is_in_use_stays() -> None:
    assert names(filled(("a", 60), ("b", 30), ("c", 50), busy="a")) == ["a", "c"]
    assert names(filled(("a", 60), ("b", 60), ("c", 60), busy="ab")) == ["a", "b", "c"]
