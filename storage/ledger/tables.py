"""The ledger's tables, as SQLite and PostgreSQL both understand them.

Rows are only ever added. Times are microseconds since 1970 in UTC. What is searched for stands in
columns; all else is in `record`: a `DecisionRecord` as JSON, not compressed (zlib at its fastest
saves two thirds of 6 KB but costs 100 us, twice what writing them does).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

REVISION = "0003"  # newest file in migrations/versions; a test holds them together

metadata = MetaData()

# SQLite numbers rows by itself only in a column of exactly this type.
_Sequence = BigInteger().with_variant(Integer, "sqlite")

decisions = Table(
    "decisions",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("decision_id", Text, nullable=False, unique=True),
    Column("domain", Text, nullable=False),
    Column("market", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("placement", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    Column("action_id", Text),  # of slot 1
    Column("reason", Text, nullable=False),
    Column("drawn", Boolean, nullable=False),
    Column("catalog_version", Text, nullable=False),
    Column("bundle_sha256", Text),
    Column("digest", Text, nullable=False),  # of the request's body
    Column("record", LargeBinary, nullable=False),
    Index("decisions_by_time", "domain", "decided_at"),
    Index("decisions_by_customer", "customer_id"),
    sqlite_autoincrement=True,
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("outcome_id", Text, nullable=False, unique=True),
    Column("decision_id", Text, nullable=False),  # may not be known yet, so no foreign key
    Column("action_id", Text),
    Column("type", Text, nullable=False),
    Column("detail", Text),
    Column("value", Float),
    Column("occurred_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Index("outcomes_by_decision", "decision_id"),
    Index("outcomes_by_arrival", "received_at"),
    sqlite_autoincrement=True,
)

consents = Table(
    "consents",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("domain", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("granted", Boolean, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("legal_basis", Text),
    # The same word told twice is one word.
    UniqueConstraint("domain", "customer_id", "purpose", "channel", "at", "granted", name="consents_once"),
    sqlite_autoincrement=True,
)

events = Table(
    "events",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("event_id", Text, nullable=False, unique=True),  # of the source that told it: `source/message id`
    Column("domain", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("customer_id", Text),
    Column("anonymous_id", Text),
    Column("occurred_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("record", LargeBinary, nullable=False),  # an `EventRecord` as JSON
    Index("events_by_customer", "domain", "customer_id", "occurred_at"),
    Index("events_by_visitor", "domain", "anonymous_id"),
    Index("events_by_arrival", "received_at"),
    sqlite_autoincrement=True,
)

preferences = Table(
    "preferences",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("domain", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Index("preferences_by_customer", "domain", "customer_id"),
    sqlite_autoincrement=True,
)

# Who may call. The only rows that change: a key is revoked. The secret itself is kept nowhere.
keys = Table(
    "keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("market", Text),
    Column("publishable", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

blobs = Table(
    "blobs",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

pointers = Table(
    "pointers",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Index("pointers_by_name", "name", "seq"),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("domain", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index("audit_by_kind", "domain", "what"),
    sqlite_autoincrement=True,
)
