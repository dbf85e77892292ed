"""Moments, erasure, what feeds tell, how large audiences are, and who told an outcome."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables. Written out, not taken from `tables.py`: a revision must never change."""
    op.create_table(
        "moments",
        sa.Column("moment_id", sa.Text, primary_key=True),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("moment", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("customer_id", sa.Text),
        sa.Column("anonymous_id", sa.Text),
        sa.Column("market", sa.Text),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("target", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("occurred_at", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("next_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("counted_at", sa.BigInteger),
        sa.Column("claimed_until", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("decision_id", sa.Text, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.Column("settled_at", sa.BigInteger),
    )
    op.create_index("moments_by_time", "moments", ["domain", "state", "target", "next_at"])
    op.create_index("moments_by_end", "moments", ["domain", "state", "expires_at"])
    op.create_index("moments_by_customer", "moments", ["domain", "customer_id"])
    op.create_index("moments_by_visitor", "moments", ["domain", "anonymous_id"])
    op.create_table(
        "privacy_requests",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("subject", sa.LargeBinary),
        sa.Column("requested_at", sa.BigInteger, nullable=False),
        sa.Column("completed_at", sa.BigInteger),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "erased",
        sa.Column("domain", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "erased_charges",
        sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("budget", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("cost", sa.Float, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "feed_counts",
        sa.Column("domain", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("hour", sa.BigInteger, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("what", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
    )
    op.create_index("feed_counts_by_hour", "feed_counts", ["domain", "hour"])
    op.create_table(
        "audience_sizes",
        sa.Column("domain", sa.Text, primary_key=True),
        sa.Column("market", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("out_of", sa.BigInteger, nullable=False),
    )
    op.create_index("audience_sizes_by_time", "audience_sizes", ["domain", "at"])
    op.add_column("outcomes", sa.Column("source", sa.Text))
