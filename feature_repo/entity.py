"""Who features are about. Offline files lie in `<home>/feast/offline/<domain>/<table>.parquet`."""

from datetime import timedelta

from feast import Entity, FileSource, ValueType
from feast.data_format import ParquetFormat

from storage.settings import Settings

customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
# A company that buys through several customers, its contacts. Each names it in the feature `account_id`.
account = Entity(name="account", join_keys=["account_id"], value_type=ValueType.STRING)

# A feature never expires by itself: an old value says more about a customer than a missing one,
# and the record of a decision carries its age.
NEVER = timedelta(0)


def table(settings: Settings, domain: str, name: str, *, in_parts: bool = False) -> FileSource:
    """The parquet file that `nextmove ingest` writes for one table of a domain, or all files of a folder."""
    return FileSource(
        name=f"{domain}_{name}_file",
        path=str(settings.feast_dir / "offline" / domain / (f"{name}/*.parquet" if in_parts else f"{name}.parquet")),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
    )
