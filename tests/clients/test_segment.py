"""Segment's own client for Python sends its events here, with nothing changed but its host and its key."""

import pytest

from tests.clients.conftest import Site

SENDS = """
import os
from datetime import datetime, timezone
from segment.analytics.client import Client

errors = []
client = Client(os.environ["KEY"], host=os.environ["URL"], on_error=lambda error, items: errors.append(error), MODE)
client.identify("c-1", {"plan": "gold"}, anonymous_id="v-1")
order = {"revenue": 20.5, "products": [{"product_id": "sofa"}]}
client.track("c-1", "Order Completed", order, timestamp=datetime(2026, 1, 2, tzinfo=timezone.utc), message_id="m-1")
client.track("c-1", "Order Completed", order, message_id="m-1")
client.page("c-1", "shop", "home", {"url": "https://shop.example/"})
client.screen("c-1", "app", "start")
client.group("c-1", "g-1", {"name": "Ulm Ltd"})
client.alias("c-0", "c-1")
if client.consumers:
    client.shutdown()
assert not errors, errors
"""


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("gzip", [False, True])
def test_each_call_of_the_client_is_kept_once(site: Site, gzip: bool, sync: bool) -> None:
    site.play(SENDS.replace("MODE", f"gzip={gzip}, sync_mode={sync}"))

    kept = {event.type: event for event, _ in site.shop.ledger.events.values()}
    assert len(site.shop.ledger.events) == 6  # an order that was sent twice is one
    assert kept.keys() == {"identify", "track", "page", "screen", "group", "alias"}
    assert {event.source for event in kept.values()} == {"web"}
    order = kept["track"]
    assert (order.name, order.customer_id, order.properties["value"]) == ("purchase", "c-1", 20.5)
    assert (kept["identify"].anonymous_id, kept["group"].group_id) == ("v-1", "g-1")
    assert (kept["alias"].customer_id, kept["alias"].previous_id) == ("c-1", "c-0")
    assert {each.products for each in site.shop.hot_state.happened} == {("sofa",)}


def test_a_client_with_a_wrong_key_is_told(site: Site) -> None:
    script = SENDS.replace('os.environ["KEY"]', '"nm_no_such"').replace("MODE", "max_retries=0")
    with pytest.raises(AssertionError, match="401"):
        site.play(script)
