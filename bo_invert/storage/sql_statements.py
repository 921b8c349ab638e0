"""SQL statements of the storage in a database, and a result."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from bo_invert.storage.sql_tables import EVENTS, HEADS, STUDIES

MATCHES_NAME = STUDIES.c.name == sa.bindparam("name")
SELECT_ID = sa.select(STUDIES.c.id).where(MATCHES_NAME)
LAST_POSITION = (
    sa.select(sa.func.coalesce(sa.func.max(EVENTS.c.seq), 0))
    .where(EVENTS.c.study == STUDIES.c.id)
    .correlate(STUDIES)
    .scalar_subquery()
)
SELECT_HEAD = (
    sa.select(STUDIES.c.id, HEADS.c.header, HEADS.c.seq, HEADS.c.checksum, LAST_POSITION)
    .outerjoin(HEADS, HEADS.c.study == STUDIES.c.id)
    .where(MATCHES_NAME)
)
# PostgreSQL: writers of one study wait here. On SQLite, BEGIN IMMEDIATE did this.
SELECT_LOCKED_HEAD = SELECT_HEAD.with_for_update(of=STUDIES)
SELECT_HEADER = sa.select(STUDIES.c.header).where(STUDIES.c.id == sa.bindparam("study"))
SELECT_EVENTS = (
    sa.select(EVENTS.c.seq, EVENTS.c.data)
    .where(EVENTS.c.study == sa.bindparam("study"), EVENTS.c.seq > sa.bindparam("after"))
    .order_by(EVENTS.c.seq)
)
INSERT_EVENTS = sa.insert(EVENTS)
MOVE_HEAD = (
    sa.update(HEADS)
    .where(HEADS.c.study == sa.bindparam("of"))
    .values(seq=sa.bindparam("last"), checksum=sa.bindparam("chain"), summary=sa.bindparam("state"))
)
SELECT_SUMMARIES = (
    sa.select(STUDIES.c.name, STUDIES.c.header, HEADS.c.header, HEADS.c.checksum, HEADS.c.summary)
    .outerjoin(HEADS, HEADS.c.study == STUDIES.c.id)
    .order_by(STUDIES.c.id)
)


class StoredLog(NamedTuple):
    """Log of a study in the database.

    Args:
        study: Id of the study.
        header: Checksum of its name and header; empty in tables of an older version.
        seq: Stored position of the last event.
        checksum: Stored checksum of the last event.
        last: Position of the last event that is there. It differs from ``seq`` in a damaged log,
            and after a program of an older version appended events.
    """

    study: int
    header: str = ""
    seq: int = 0
    checksum: str = ""
    last: int = 0
