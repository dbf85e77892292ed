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

REVISION = "0006"  # newest file in migrations/versions; a test holds them together

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
    Column("source", Text),  # the name of the key, or of the hook, that told it
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
    Column("previous_id", Text),  # of an alias
    Column("occurred_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("record", LargeBinary, nullable=False),  # an `EventRecord` as JSON
    Index("events_by_customer", "domain", "customer_id", "name", "occurred_at"),
    Index("events_by_visitor", "domain", "anonymous_id", "name"),
    Index("events_by_alias", "domain", "previous_id"),
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

# An event that matched a moment, from being awaited to being delivered. These rows change, and hold all that is
# kept of a moment but its decision.
moments = Table(
    "moments",
    metadata,
    Column("moment_id", Text, primary_key=True),  # of the moment and the event: found twice, it is one
    Column("domain", Text, nullable=False),
    Column("moment", Text, nullable=False),  # its id in the catalogue
    Column("event_id", Text, nullable=False),
    Column("customer_id", Text),
    Column("anonymous_id", Text),
    Column("market", Text),
    Column("channel", Text, nullable=False),
    Column("target", Text),  # once decided, the webhook that it goes to; NULL where the channel fetches it
    Column("state", Text, nullable=False),  # waiting, decided, delivered, dead, ended
    Column("reason", Text),  # why it ended without a delivery
    Column("occurred_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("next_at", BigInteger, nullable=False),  # when there is something to do: decide, deliver, try again
    Column("expires_at", BigInteger),  # once decided: delivered before then, or not at all
    Column("counted_at", BigInteger),  # when the moment's `at_most` let it through
    Column("claimed_until", BigInteger),  # by a process that is at it
    Column("attempts", Integer, nullable=False),  # at delivering
    Column("decision_id", Text, nullable=False),  # that it gets, or has
    Column("record", LargeBinary, nullable=False),  # JSON: the event; once decided, what is delivered
    Column("settled_at", BigInteger),
    Index("moments_by_time", "domain", "state", "target", "next_at"),
    Index("moments_by_end", "domain", "state", "expires_at"),
    Index("moments_by_customer", "domain", "customer_id"),
    Index("moments_by_visitor", "domain", "anonymous_id"),
)

# What people asked of us under data protection law; these rows change. `subject` is there until it is done.
privacy_requests = Table(
    "privacy_requests",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("domain", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),  # pending, done
    Column("subject", LargeBinary),
    Column("requested_at", BigInteger, nullable=False),
    Column("completed_at", BigInteger),
    Column("record", LargeBinary, nullable=False),  # what was done where, in numbers
)

# Ids that must not come back: keyed hashes (`storage.id_digests`), from which nobody can tell the id.
erased = Table(
    "erased",
    metadata,
    Column("domain", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
)

# What budgets were charged in decisions that are erased or purged: it stays spent.
erased_charges = Table(
    "erased_charges",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("domain", Text, nullable=False),
    Column("budget", Text, nullable=False),
    Column("at", BigInteger, nullable=False),  # the begin of the quarter of an hour in which it was
    Column("cost", Float, nullable=False),
    sqlite_autoincrement=True,
)

# How many events and outcomes, and of what was wrong with them, came from a source in an hour. Counts grow.
feed_counts = Table(
    "feed_counts",
    metadata,
    Column("domain", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("hour", BigInteger, primary_key=True),  # its begin
    Column("name", Text, primary_key=True),  # of the event or outcome
    Column("what", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Index("feed_counts_by_hour", "domain", "hour"),
)

audience_sizes = Table(
    "audience_sizes",
    metadata,
    Column("domain", Text, primary_key=True),
    Column("market", Text, primary_key=True),
    Column("kind", Text, primary_key=True),  # audience, reach (of an audience, by channel), action
    Column("id", Text, primary_key=True),
    Column("at", BigInteger, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("out_of", BigInteger, nullable=False),
    Index("audience_sizes_by_time", "domain", "at"),
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

# What the promotion gate was asked and said, and how much error it spent.
gate_attempts = Table(
    "gate_attempts",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("domain", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("scheduled", Boolean, nullable=False),
    Column("alpha", Float, nullable=False),
    Column("outcome", Text, nullable=False),  # passed, refused, forced
    Column("bundle_sha256", Text, nullable=False),
    Column("champion_sha256", Text),
    Column("record", LargeBinary, nullable=False),  # a `GateAttempt` as JSON
    Index("gate_attempts_by_time", "domain", "at"),
    sqlite_autoincrement=True,
)

# Who does alone what must not be done twice at once; these rows change. A lease that ran out is nobody's.
leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
)
