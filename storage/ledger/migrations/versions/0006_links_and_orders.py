"""Links and orders of a person are found by indices."""

import sqlalchemy as sa
from alembic import context, op

revision = "0006"
down_revision = "0005"

_PREVIOUS = {
    "sqlite": "json_extract(CAST(record AS TEXT), '$.previous_id')",
    "postgresql": "convert_from(record, 'UTF8')::json ->> 'previous_id'",
}


def upgrade() -> None:
    """Add what an alias names, and the names of events to indices.

    Written out, not taken from `tables.py`: a revision must never change.
    """
    op.add_column("events", sa.Column("previous_id", sa.Text))
    previous = _PREVIOUS[context.get_context().dialect.name]
    op.execute(f"UPDATE events SET previous_id = {previous} WHERE type = 'alias'")  # noqa: S608 (texts of ours)
    op.create_index("events_by_alias", "events", ["domain", "previous_id"])
    op.drop_index("events_by_customer", "events")
    op.create_index("events_by_customer", "events", ["domain", "customer_id", "name", "occurred_at"])
    op.drop_index("events_by_visitor", "events")
    op.create_index("events_by_visitor", "events", ["domain", "anonymous_id", "name"])
