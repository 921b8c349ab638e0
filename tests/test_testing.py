"""Every storage that comes with the library runs the conformance suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from servers import Served

from bo_invert.service.client import RemoteStore
from bo_invert.storage.memory import MemoryStore
from bo_invert.storage.open import open_store
from bo_invert.storage.sql import SqlStore
from bo_invert.testing import StudyConformance


class TestMemory(StudyConformance):
    @pytest.fixture
    def storage(self) -> Any:
        return MemoryStore()


class TestSQLite(StudyConformance):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Any:
        return f"sqlite:///{tmp_path}/runs.db"


@pytest.mark.service
class TestPostgreSQL(StudyConformance):
    examples = 5

    @pytest.fixture
    def storage(self, postgres_url: str) -> Any:
        store = open_store(postgres_url)
        assert isinstance(store, SqlStore)
        for name in store.names():
            store.delete(name)
        return store


@pytest.mark.service
class TestServer(StudyConformance):
    examples = 4

    @pytest.fixture
    def storage(self, server: Served) -> Any:
        store = RemoteStore(server.url, server.token)
        for name in store.names():
            store.delete(name)
        return store
