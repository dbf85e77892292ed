"""Features over Feast's online store."""

import logging
from datetime import UTC, datetime
from typing import Any

from feast import FeatureStore
from feast.type_map import feast_value_type_to_python_type

from decisioning.content import Scalar
from decisioning.errors import SetupError, StoreError
from decisioning.profile import StoredFeatures

logger = logging.getLogger(__name__)
ENTITY_KEY = "customer_id"


class FeastFeatures:
    """Reads one customer's features through the domain's feature service.

    Raises:
        SetupError: The registry has no such feature service yet.
    """

    def __init__(self, store: FeatureStore, domain: str) -> None:
        self._store = store
        try:
            self._service = store.get_feature_service(domain)
        except Exception as error:  # Feast raises different types for a missing registry and a missing service
            raise SetupError(
                f"Feast has no feature service '{domain}' ({error}); run: nextmove ingest --dataset {domain}"
            ) from error
        self.names = frozenset(
            feature.name for view in self._service.feature_view_projections for feature in view.features
        )
        self._read("")  # the first read opens the store and takes a hundred times as long

    async def read(self, customer_id: str) -> StoredFeatures | None:
        """See `ports.Features`."""
        try:
            return self._read(customer_id)
        except Exception as error:  # whatever a store's client raises
            logger.warning("features cannot be read: %s", error)
            raise StoreError(f"the online feature store does not answer: {error}") from error

    def _read(self, customer_id: str) -> StoredFeatures | None:
        return _stored(self._store.get_online_features(self._service, entity_rows=[{ENTITY_KEY: customer_id}]).proto)


def _stored(response: Any) -> StoredFeatures | None:
    """Values by name from Feast's answer for one entity; None when no view knows the entity."""
    values: dict[str, Scalar] = {}
    oldest: datetime | None = None
    for name, column in zip(response.metadata.feature_names.val, response.results, strict=True):
        if name == ENTITY_KEY:
            continue
        values[name] = feast_value_type_to_python_type(column.values[0])
        written = column.event_timestamps[0]
        if written.seconds > 0:  # the statuses of an unknown entity differ from store to store; this does not
            at = written.ToDatetime(tzinfo=UTC)
            oldest = at if oldest is None else min(oldest, at)
    return StoredFeatures(values=values, as_of=oldest) if oldest is not None else None
