"""Run by Alembic. The connection comes from the caller, so no address stands in a file.

Without one (offline) the SQL is written out instead, for an administrator who wants to read it.
"""

from alembic import context

from storage.ledger.tables import metadata


def run() -> None:
    """Bring the caller's database up to date, or write out how."""
    connection = context.config.attributes.get("connection")
    if connection is None:
        context.configure(
            dialect_name=context.config.get_main_option("dialect"),
            target_metadata=metadata,
            literal_binds=True,
            output_buffer=context.config.output_buffer,
        )
    else:
        context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()


# Absent when something other than Alembic imports this file.
if hasattr(context, "config"):
    run()
