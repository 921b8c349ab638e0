"""Tables of the SQL storage. Only the files ``sql*`` use SQLAlchemy."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()
META = sa.Table(
    "meta",
    METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
STUDIES = sa.Table(
    "studies",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("header", sa.Text, nullable=False),
    sa.Column("created", sa.String(40), nullable=False),
)
EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("study", sa.ForeignKey("studies.id"), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("data", sa.Text, nullable=False),
)
BEATS = sa.Table(
    "beats",
    METADATA,
    sa.Column("study", sa.ForeignKey("studies.id"), primary_key=True),
    sa.Column("worker", sa.String(255), primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)
HEADS = sa.Table(
    "heads",
    METADATA,
    sa.Column("study", sa.ForeignKey("studies.id"), primary_key=True, autoincrement=False),
    sa.Column("header", sa.String(64), nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("checksum", sa.String(64), nullable=False),
    sa.Column("summary", sa.Text),
)
"""Start of the chain, last position, last checksum and summary of each log; see ``checksum_chain``
and ``log_summary``."""
SCHEMA_VERSION = sa.select(META.c.value).where(META.c.key == "schema")
