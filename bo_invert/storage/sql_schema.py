"""Version of the tables of a database, and their upgrade before the first change."""

from __future__ import annotations

import sqlalchemy as sa

from bo_invert.errors import SchemaTooNewError, StorageError
from bo_invert.storage.base import CHECKSUMS, SCHEMA
from bo_invert.storage.checksum_chain import first_link, link, split
from bo_invert.storage.sql_tables import EVENTS, HEADS, META, METADATA, SCHEMA_VERSION, STUDIES

_SETUP_LOCK = 0x626F696E
"""Key number of the PostgreSQL advisory lock on the setup of tables. Engineering choice: the bytes
of "boin", which other programs are unlikely to lock."""


def stored_version(connection: sa.Connection, storage: str) -> int:
    """Return the version of the tables, 0 without tables.

    Raises:
        StorageError: The tables belong to another program.
        SchemaTooNewError: A newer version of this package wrote the tables.
    """
    tables = set(sa.inspect(connection).get_table_names())
    if META.name not in tables:
        if tables & set(METADATA.tables):
            raise StorageError(
                f"storage {storage} belongs to another program; choose another file or database"
            )
        return 0
    version = int(connection.execute(SCHEMA_VERSION).scalar_one())
    if version > SCHEMA:
        raise SchemaTooNewError(
            f"storage {storage} was written by a newer version of bo_invert (schema {version}, "
            f"this one knows {SCHEMA}); run: pip install --upgrade bo-invert"
        )
    return version


def upgrade(connection: sa.Connection) -> None:
    """Create missing tables, and the checksum of each log that an older version wrote.

    Versions differ by additional tables only. The caller holds the lock of a writer.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SETUP_LOCK)))
    METADATA.create_all(connection)
    version = int(connection.execute(SCHEMA_VERSION).scalar_one_or_none() or 0)
    if version >= SCHEMA:
        return
    if version < CHECKSUMS:
        _add_checksums(connection)
    connection.execute(sa.delete(META).where(META.c.key == "schema"))
    connection.execute(sa.insert(META), {"key": "schema", "value": str(SCHEMA)})


def _add_checksums(connection: sa.Connection) -> None:
    """Store the checksum of each log; a log of a later version has one that reveals damage."""
    connection.execute(sa.delete(HEADS))
    for study, name, header in connection.execute(
        sa.select(STUDIES.c.id, STUDIES.c.name, STUDIES.c.header)
    ).all():
        start = chain = first_link(name, header)
        last = 0
        query = sa.select(EVENTS.c.seq, EVENTS.c.data).where(EVENTS.c.study == study)
        for seq, text in connection.execute(query.order_by(EVENTS.c.seq)):
            last, chain = seq, link(chain, split(text)[0])
        head = {"study": study, "header": start, "seq": last, "checksum": chain}
        connection.execute(sa.insert(HEADS), head)
