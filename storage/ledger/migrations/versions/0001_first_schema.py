"""Decisions, outcomes, consents, blobs, pointers."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables. Written out, not taken from `tables.py`: a revision must never change."""
    op.create_table(
        "decisions",
        sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("decision_id", sa.Text, nullable=False, unique=True),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("market", sa.Text, nullable=False),
        sa.Column("customer_id", sa.Text, nullable=False),
        sa.Column("placement", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("decided_at", sa.BigInteger, nullable=False),
        sa.Column("action_id", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("drawn", sa.Boolean, nullable=False),
        sa.Column("catalog_version", sa.Text, nullable=False),
        sa.Column("bundle_sha256", sa.Text),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("decisions_by_time", "decisions", ["domain", "decided_at"])
    op.create_index("decisions_by_customer", "decisions", ["customer_id"])
    op.create_table(
        "outcomes",
        sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("outcome_id", sa.Text, nullable=False, unique=True),
        sa.Column("decision_id", sa.Text, nullable=False),
        sa.Column("action_id", sa.Text),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("detail", sa.Text),
        sa.Column("value", sa.Float),
        sa.Column("occurred_at", sa.BigInteger, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("outcomes_by_decision", "outcomes", ["decision_id"])
    op.create_index("outcomes_by_arrival", "outcomes", ["received_at"])
    op.create_table(
        "consents",
        sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("customer_id", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("granted", sa.Boolean, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.UniqueConstraint("domain", "customer_id", "purpose", "channel", "at", "granted", name="consents_once"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.Text, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "pointers",
        sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("pointers_by_name", "pointers", ["name", "seq"])
