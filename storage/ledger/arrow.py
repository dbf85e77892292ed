"""Decisions as columns, for analysis in Arrow, DuckDB or pandas."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from decisioning.record import DecisionRecord

_TIME = pa.timestamp("us", tz="UTC")

# Per slot or candidate: lists of equal length. `features` is JSON, since values differ in kind.
DECISIONS_SCHEMA = pa.schema(
    [
        ("decision_id", pa.string()),
        ("domain", pa.string()),
        ("market", pa.string()),
        ("customer_id", pa.string()),
        ("placement", pa.string()),
        ("channel", pa.string()),
        ("decided_at", _TIME),
        ("expires_at", _TIME),
        ("features_as_of", _TIME),
        ("reason", pa.string()),
        ("drawn", pa.bool_()),
        ("catalog_version", pa.string()),
        ("bundle_sha256", pa.string()),
        ("model_version", pa.string()),
        ("policy", pa.string()),
        ("variants", pa.map_(pa.string(), pa.string())),
        ("features", pa.string()),
        ("slot_action_ids", pa.list_(pa.string())),
        ("slot_probabilities", pa.list_(pa.float64())),
        ("candidate_ids", pa.list_(pa.string())),
        ("candidate_propensities", pa.list_(pa.float64())),
        ("candidate_priorities", pa.list_(pa.float64())),
        ("dropped_ids", pa.list_(pa.string())),
        ("dropped_reasons", pa.list_(pa.string())),
    ]
)


def decision_columns(records: Sequence[DecisionRecord]) -> dict[str, list[Any]]:
    """The records as columns of `DECISIONS_SCHEMA`."""
    plain = ("decision_id", "domain", "market", "customer_id", "placement", "channel", "decided_at", "expires_at",
             "features_as_of", "reason", "drawn", "catalog_version")  # fmt: skip
    return {name: [getattr(record, name) for record in records] for name in plain} | {
        "bundle_sha256": [record.model.bundle_sha256 if record.model else None for record in records],
        "model_version": [record.model.version if record.model else None for record in records],
        "policy": [record.policy.policy for record in records],
        "variants": [[(a.experiment, a.variant) for a in record.assignments] for record in records],
        "features": [msgspec.json.encode(record.features).decode() for record in records],
        "slot_action_ids": [[slot.action_id for slot in record.slots] for record in records],
        "slot_probabilities": [[slot.probability for slot in record.slots] for record in records],
        "candidate_ids": [[candidate.action_id for candidate in record.candidates] for record in records],
        "candidate_propensities": [[candidate.propensity for candidate in record.candidates] for record in records],
        "candidate_priorities": [[candidate.priority for candidate in record.candidates] for record in records],
        "dropped_ids": [[drop.action_id for drop in record.dropped] for record in records],
        "dropped_reasons": [[drop.reason for drop in record.dropped] for record in records],
    }
