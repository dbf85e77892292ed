"""Consent that was given or withdrawn elsewhere: kept in the ledger, then true in hot state."""

from collections.abc import Sequence

from decisioning.profile import ConsentChange
from storage.hot_state.rebuild import StoredHotState, not_during_rebuild
from storage.ledger.consents import append_consents
from storage.settings import Settings


def record_consents(settings: Settings, hot_state: StoredHotState, changes: Sequence[ConsentChange]) -> int:
    """Keep these changes and let them count; returns how many were new. Again changes nothing.

    Raises:
        StoreError: A store does not take them now; do it again.
    """
    with not_during_rebuild(settings):
        new = append_consents(settings, changes)
        hot_state.set_consents(changes)
    return new
