"""Features over Feast's online store."""

import logging
from datetime import UTC, datetime
from typing import Any, NamedTuple

from feast import FeatureStore
from feast.errors import FeastObjectNotFoundException
from feast.type_map import feast_value_type_to_python_type

from decisioning.content_types import Value
from decisioning.errors import SetupError, StoreError
from decisioning.profile import StoredFeatures
from storage.feature_store import accounts_service, list_features

logger = logging.getLogger(__name__)
CUSTOMER_KEY, ACCOUNT_KEY = "customer_id", "account_id"


class FeastFeatures:
    """Reads one customer's features, and the account's above, through the domain's feature services.

    The account's id is the customer's feature `account_id`. A domain without accounts has no service
    of theirs.

    Raises:
        SetupError: The registry has no such feature service yet.
    """

    def __init__(self, store: FeatureStore, domain: str) -> None:
        self._store = store
        try:
            service = store.get_feature_service(domain)
        except Exception as error:  # Feast raises different types for a missing registry and a missing service
            raise SetupError(
                f"Feast has no feature service '{domain}' ({error}); run: nextmove ingest --dataset {domain}"
            ) from error
        self._customers = _Service(service, CUSTOMER_KEY, list_features(service))
        self._accounts: _Service | None = None
        try:
            service = store.get_feature_service(accounts_service(domain))
            self._accounts = _Service(service, ACCOUNT_KEY, list_features(service))
        except FeastObjectNotFoundException:
            logger.info("'%s' has no account features", domain)
        self.names = frozenset(
            feature.name for view in self._customers.service.feature_view_projections for feature in view.features
        )
        # The first read opens the store and takes a hundred times as long.
        self._read(self._customers, "")
        if self._accounts is not None:
            self._read(self._accounts, "")

    async def read(self, customer_id: str, *, account_id: str | None = None) -> StoredFeatures | None:
        """See `ports.Features`."""
        try:
            return self._stored(customer_id, account_id)
        except Exception as error:  # whatever a store's client raises
            logger.warning("features cannot be read: %s", error)
            raise StoreError(f"the online feature store does not answer: {error}") from error

    def _stored(self, customer_id: str, account_id: str | None) -> StoredFeatures | None:
        values, as_of = self._read(self._customers, customer_id)
        if as_of is None:
            return None
        known = values.get(ACCOUNT_KEY) if account_id is None else account_id
        if self._accounts is None or not isinstance(known, str):
            return StoredFeatures(values, as_of, account_id)
        account, account_as_of = self._read(self._accounts, known)
        if account_as_of is None:
            return StoredFeatures(values, as_of, known)
        return StoredFeatures(values, min(as_of, account_as_of), known, account)

    def _read(self, service: "_Service", entity_id: str) -> tuple[dict[str, Value], datetime | None]:
        """Values by name, and how old the oldest is: None when no view knows the entity."""
        response = self._store.get_online_features(service.service, entity_rows=[{service.key: entity_id}]).proto
        values: dict[str, Value] = {}
        oldest: datetime | None = None
        for name, column in zip(response.metadata.feature_names.val, response.results, strict=True):
            if name == service.key:
                continue
            value = feast_value_type_to_python_type(column.values[0])
            values[name] = tuple(value or ()) if name in service.lists else value
            written = column.event_timestamps[0]
            if written.seconds > 0:  # the statuses of an unknown entity differ from store to store; this does not
                at = written.ToDatetime(tzinfo=UTC)
                oldest = at if oldest is None else min(oldest, at)
        return values, oldest


class _Service(NamedTuple):
    """A feature service, the key of whom it is about, and which of its features are lists."""

    service: Any
    key: str
    lists: frozenset[str]
