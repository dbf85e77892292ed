"""The providers' hooks over HTTP: their documented events become outcomes, whoever else calls is refused."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import values

from decisioning.content_types import NO_ACTION
from decisioning.errors import StoreError
from decisioning.event_content import Hook, HookEvent
from decisioning.record import DecisionRecord, OutcomeRecord
from serving.http.app import Routes, create_app
from serving.http.guard import Guard
from serving.http.hook_formats import FORMATS
from serving.http.hook_routes import HOOK_LIMIT
from tests.builders import NOW, action, catalog
from tests.serving.hooks import HOOKS, SECRETS, body_of, signed
from tests.serving.test_access import KEYS, Site
from tests.serving.test_engine import Shop
from tests.serving.test_http import problem

D = "d-1"


class HookSite(Site):
    """A site whose catalogue has hooks; called from afar, as providers do."""

    def __init__(self, *keys: Any, hooks: Any = HOOKS, shop: Shop | None = None) -> None:
        super().__init__(*keys, shop=shop or Shop(catalog(hooks=hooks)))
        routes = Routes(lambda: self.shop.engine, self.metrics, hook_secrets=lambda: SECRETS)
        app = create_app(routes, self.metrics, self.callers)
        self.app = Guard(app, readiness=self.readiness, callers=self.callers, metrics=self.metrics)

    def post(
        self, source: str, content: bytes, *, headers: dict[str, str] | None = None, **call: Any
    ) -> httpx.Response:
        headers = signed(source, content, now=datetime.now(UTC)) if headers is None else headers
        return self.call("POST", f"/v1/hooks/{source}", content=content, headers=headers, **call)

    def tell(self, source: str, *items: Any) -> list[str]:
        """The status of each item."""
        # Segment signs single events alone.
        answer = self.post(source, body_of(items[0] if source == "segment" and len(items) == 1 else items))
        assert answer.status_code == 200, answer.text
        return [result["status"] for result in answer.json()["results"]]

    @property
    def outcomes(self) -> list[OutcomeRecord]:
        return [outcome for outcome, _ in self.shop.ledger.outcomes.values()]


@pytest.fixture(autouse=True)
def _counting_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)


@pytest.fixture
def site() -> HookSite:
    return HookSite(*KEYS)


def sendgrid(event: str = "delivered", **fields: Any) -> dict[str, Any]:
    """As https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event describes them."""
    return {
        "email": "mia@example.com",
        "timestamp": 1769700000,
        "smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>",
        "event": event,
        "category": ["newsletter"],
        "sg_event_id": f"sg-{event}",
        "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
        "decision_id": D,  # a custom argument
    } | fields


def brevo(event: str = "delivered", **fields: Any) -> dict[str, Any]:
    """As https://developers.brevo.com/docs/transactional-webhooks describes them."""
    return {
        "event": event,
        "email": "mia@example.com",
        "id": 26570,
        "date": "2026-01-29 16:20:00",
        "ts": 1769700000,
        "message-id": "<201798300811.5787683@relay.domain.com>",
        "ts_event": 1769700000,
        "subject": "New this week",
        "X-Mailin-custom": json.dumps({"decision_id": D}),
        "template_id": 22,
        "tags": ["newsletter"],
        "ts_epoch": 1769700000123,
    } | fields


def segment(event: str = "Email Delivered", **fields: Any) -> dict[str, Any]:
    """As https://www.twilio.com/docs/segment/connections/spec/email describes them."""
    return {
        "type": "track",
        "messageId": f"ajs-{event}",
        "userId": "019mr8mf4r",
        "event": event,
        "timestamp": "2026-01-29T15:20:00.000Z",
        "context": {"traits": {"email": "mia@example.com"}},
        "properties": {"email_id": "18vzF7u3z", "campaign_name": "News", "decision_id": D},
    } | fields


TOLD = [
    ("sendgrid", sendgrid("processed"), ("sent", None)),
    ("sendgrid", sendgrid("dropped", reason="Bounced Address"), ("not_sent", None)),
    ("sendgrid", sendgrid("delivered", response="250 OK"), ("delivered", None)),
    ("sendgrid", sendgrid("bounce", type="bounce", status="5.1.1"), ("bounce", "hard")),
    ("sendgrid", sendgrid("bounce", type="blocked", status="4.7.1"), ("bounce", "soft")),
    ("sendgrid", sendgrid("open", sg_machine_open=False), ("open", None)),
    ("sendgrid", sendgrid("open", sg_machine_open=True), ("open", "machine")),
    ("sendgrid", sendgrid("click", url="https://shop.example/coat"), ("click", None)),
    ("sendgrid", sendgrid("spamreport"), ("complaint", None)),
    ("sendgrid", sendgrid("unsubscribe"), ("unsubscribe", None)),
    ("sendgrid", sendgrid("group_unsubscribe", asm_group_id=10), ("unsubscribe", None)),
    ("brevo", brevo("request"), ("sent", None)),
    ("brevo", brevo("delivered"), ("delivered", None)),
    ("brevo", brevo("soft_bounce", reason="mailbox full"), ("bounce", "soft")),
    ("brevo", brevo("hard_bounce", reason="no such user"), ("bounce", "hard")),
    ("brevo", brevo("invalid_email"), ("bounce", "hard")),
    ("brevo", brevo("blocked"), ("not_sent", None)),
    ("brevo", brevo("error"), ("not_sent", None)),
    ("brevo", brevo("unique_opened"), ("open", None)),
    ("brevo", brevo("opened"), ("open", None)),
    ("brevo", brevo("proxy_open"), ("open", "machine")),
    ("brevo", brevo("unique_proxy_open"), ("open", "machine")),
    ("brevo", brevo("click", link="https://shop.example/coat"), ("click", None)),
    ("brevo", brevo("spam"), ("complaint", None)),
    ("brevo", brevo("unsubscribed"), ("unsubscribe", None)),
    ("segment", segment("Email Sent"), ("sent", None)),
    ("segment", segment("Email Delivered"), ("delivered", None)),
    ("segment", segment("Email Bounced"), ("bounce", None)),
    ("segment", segment("Email Opened"), ("open", None)),
    ("segment", segment("Email Link Clicked"), ("click", None)),
    ("segment", segment("Email Marked as Spam"), ("complaint", None)),
    ("segment", segment("Unsubscribed"), ("unsubscribe", None)),
]


@pytest.mark.parametrize(("source", "item", "expected"), TOLD, ids=lambda value: str(value)[:40])
def test_an_event_is_the_outcome_that_the_provider_means(
    source: str, item: Any, expected: tuple[str, str | None], site: HookSite
) -> None:
    record = decided(site)
    assert site.tell(source, item) == ["accepted"]
    [outcome] = site.outcomes
    assert (outcome.type, outcome.detail) == expected
    assert (outcome.decision_id, outcome.action_id) == (D, record.slots[0].action_id)
    assert outcome.occurred_at == datetime(2026, 1, 29, 15, 20, tzinfo=UTC)
    assert outcome.outcome_id.startswith(f"{source}/")
    assert [told.outcome for told in site.shop.hot_state.applied] == [outcome]
    assert "mia" not in repr(outcome)


def decided(site: Site, **fields: Any) -> DecisionRecord:
    return site.shop.decide(**{"decision_id": D, "limit": 1, "exclude": [NO_ACTION]} | fields)


@pytest.mark.parametrize(
    ("source", "item"),
    [
        ("sendgrid", sendgrid("deferred", attempt="5")),
        ("sendgrid", sendgrid("group_resubscribe")),
        ("brevo", brevo("deferred")),
        ("brevo", brevo("list_addition")),
        ("segment", {"type": "identify", "userId": "u"}),
        ("segment", segment("Song Played")),
        ("sendgrid", sendgrid("Delivered")),
        ("sendgrid", sendgrid(event=["delivered"])),  # type: ignore[arg-type]
        ("crm", {"kind": "opened", "meta": {"nba": {"decision": D}}}),
    ],
    ids=str,
)
def test_an_event_of_no_meaning_here_is_ignored(source: str, item: Any, site: HookSite) -> None:
    assert site.tell(source, item) == ["ignored"]
    assert not site.outcomes


@pytest.mark.parametrize(
    ("source", "item"),
    [
        ("sendgrid", {name: value for name, value in sendgrid().items() if name != "decision_id"}),
        ("sendgrid", sendgrid(decision_id="")),
        ("brevo", brevo(**{"X-Mailin-custom": "campaign:7|user:9"})),
        ("brevo", brevo(**{"X-Mailin-custom": "[" * 5000})),
        ("brevo", brevo(**{"X-Mailin-custom": '["decision_id"]'})),
        ("segment", segment(properties=None)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_message_that_we_did_not_decide_is_counted_and_nobody_is_looked_up_by_address(
    source: str, item: Any, site: HookSite
) -> None:
    answer = site.post(source, body_of(item))
    assert (answer.status_code, answer.json()) == (200, {"results": [{"status": "unjoined"}], "unjoined": 1})
    assert not site.outcomes
    metric = f'nextmove_hook_items_total{{hook="{source}",status="unjoined"}} 1.0'
    assert metric in site.call("GET", "/metrics").text


def test_an_item_of_a_custom_hook_is_read_where_the_catalogue_says(site: HookSite) -> None:
    record = decided(site)
    item = {"kind": "signed", "no": "77", "when": "2026-01-29T16:20:00+01:00", "meta": {"nba": {"decision": D}}}
    assert site.tell("crm", item) == ["accepted"]
    [outcome] = site.outcomes
    assert (outcome.outcome_id, outcome.type, outcome.action_id) == ("crm/77", "accept", record.slots[0].action_id)
    assert outcome.occurred_at == datetime(2026, 1, 29, 15, 20, tzinfo=UTC)


def test_the_catalogue_may_mean_something_else_by_a_known_event() -> None:
    ours = Hook(id="sendgrid", format="sendgrid", events={"group_unsubscribe": HookEvent(type="reject")})
    site = HookSite(*KEYS, hooks=(ours,))
    decided(site)
    assert site.tell("sendgrid", sendgrid("group_unsubscribe"), sendgrid("delivered")) == ["accepted"] * 2
    assert [outcome.type for outcome in site.outcomes] == ["reject", "delivered"]


def test_what_is_sent_again_counts_once_whether_or_not_events_have_ids(site: HookSite) -> None:
    decided(site)
    for source, item in (("sendgrid", sendgrid()), ("brevo", brevo()), ("segment", segment())):
        assert [site.tell(source, item), site.tell(source, item)] == [["accepted"], ["duplicate"]]
    assert site.tell("brevo", brevo("click", link="a"), brevo("click", link="b")) == ["accepted", "accepted"]
    assert len(site.outcomes) == 5


def test_an_odd_or_long_event_id_is_still_one_event(site: HookSite) -> None:
    for odd in ("x" * 300, "a\nb", 7, "", None):
        item = sendgrid(sg_event_id=odd)
        assert [site.tell("sendgrid", item), site.tell("sendgrid", item)] == [["accepted"], ["duplicate"]]
    assert len({outcome.outcome_id for outcome in site.outcomes}) == 5


def test_an_outcome_that_comes_before_its_decision_is_kept(site: HookSite) -> None:
    assert site.tell("sendgrid", sendgrid(decision_id="later")) == ["accepted"]
    assert [outcome.decision_id for outcome in site.outcomes] == ["later"]


def test_of_a_message_with_several_actions_what_happened_to_it_happened_to_all_and_a_click_must_say_which() -> None:
    shop = Shop(catalog(action("card"), action("loan"), hooks=HOOKS))
    site = HookSite(*KEYS, shop=shop)
    shown = [slot.action_id for slot in decided(site, limit=2, exclude=[]).slots]
    assert sorted(shown) == ["card", "loan"]
    assert site.tell("sendgrid", sendgrid("delivered"), sendgrid("open"), sendgrid("click")) == [
        "accepted", "accepted", "rejected",
    ]  # fmt: skip
    assert {told.contacts for told in shop.hot_state.applied} == {tuple((D, action_id) for action_id in shown)}
    assert site.tell("sendgrid", sendgrid("click", action_id="loan", sg_event_id="2")) == ["accepted"]


def test_one_bad_item_costs_nothing_but_itself(site: HookSite) -> None:
    decided(site)
    good = [sendgrid(sg_event_id=f"e-{number}") for number in range(250)]
    bad: list[Any] = [
        None, 7, "open", [sendgrid()],
        sendgrid(decision_id=7), sendgrid(decision_id="x" * 257), sendgrid(decision_id="a\nb"),
        sendgrid(action_id={"a": 1}), sendgrid(action_id="ghost"),
        sendgrid(timestamp="soon"), sendgrid(timestamp=True), sendgrid(timestamp=1e300), sendgrid(timestamp=[1]),
        sendgrid(timestamp=1769700000123),
    ]  # fmt: skip
    answer = site.post("sendgrid", body_of([*good[:120], *bad, *good[120:]])).json()
    statuses = [result["status"] for result in answer["results"]]
    assert statuses == ["accepted"] * 120 + ["rejected"] * len(bad) + ["accepted"] * 130
    assert answer["results"][120]["problem"]["where"] == "[120]"
    assert answer["results"][124]["problem"]["where"] == "[124].decision_id"
    assert answer["results"][129]["problem"]["where"] == "[129].timestamp"
    assert len(site.outcomes) == 250
    assert "mia" not in json.dumps(answer)


def test_a_time_of_the_future_is_that_of_arrival(site: HookSite) -> None:
    decided(site)
    began = datetime.now(UTC)
    ahead = int((began + timedelta(hours=2)).timestamp())
    assert site.tell("brevo", brevo("unsubscribed", ts_event=ahead)) == ["accepted"]
    assert site.tell("brevo", brevo("unsubscribed", ts_event=ahead)) == ["duplicate"]
    assert began <= site.outcomes[0].occurred_at <= datetime.now(UTC)


def test_without_a_store_the_provider_is_told_to_try_again_and_then_nothing_is_lost(site: HookSite) -> None:
    decided(site)
    site.shop.ledger.down = True
    assert problem(site.post("sendgrid", body_of([sendgrid()])))[:2] == (503, "store_unavailable")
    site.shop.ledger.down = False

    async def fails(_told: Any) -> None:
        raise StoreError("hot state is down")

    applies, site.shop.hot_state.apply = site.shop.hot_state.apply, fails  # type: ignore[method-assign]
    assert problem(site.post("sendgrid", body_of([sendgrid("unsubscribe")])))[:2] == (503, "store_unavailable")
    site.shop.hot_state.apply = applies  # type: ignore[method-assign]
    assert site.tell("sendgrid", sendgrid("unsubscribe")) == ["duplicate"]
    assert [told.outcome.type for told in site.shop.hot_state.applied] == ["unsubscribe"]


# Who may call.


def test_the_signature_lets_in_from_anywhere_once_there_are_keys_and_before_from_here_alone() -> None:
    content = body_of([sendgrid()])
    headers = signed("sendgrid", content, now=datetime.now(UTC))
    assert HookSite(*KEYS).post("sendgrid", content).status_code == 200
    keyless = HookSite()
    assert problem(keyless.post("sendgrid", content))[:2] == (403, "loopback_only")
    local = {"host": "localhost:3000"} | headers
    assert keyless.post("sendgrid", content, headers=local, client="127.0.0.1").status_code == 200


@pytest.mark.parametrize("source", SECRETS)
def test_a_key_is_no_signature_not_even_an_admin_s_nor_is_this_machine(source: str, site: HookSite) -> None:
    plain = {"content-type": "application/json", "host": "localhost"}
    for call in ({"key_id": "admin"}, {}, {"client": "127.0.0.1"}):
        assert problem(site.post(source, body_of([sendgrid()]), headers=dict(plain), **call))[:2] == (
            401,
            "unauthorized",
        )
    keyless = HookSite()
    assert keyless.post(source, b"[]", headers=plain, client="127.0.0.1").status_code == 401
    assert not site.outcomes
    assert 'nextmove_unauthorized_total{reason="signature"} 3.0' in site.call("GET", "/metrics").text


def test_a_replay_is_refused(site: HookSite) -> None:
    content = body_of([sendgrid()])
    headers = signed("sendgrid", content, now=datetime.now(UTC) - timedelta(minutes=6))
    assert problem(site.post("sendgrid", content, headers=headers))[:2] == (401, "unauthorized")


def test_a_hook_without_a_secret_takes_nothing(site: HookSite) -> None:
    answer = site.post("open", body_of(segment()), headers=signed("segment", body_of(segment()), now=NOW))
    assert problem(answer) == (503, "setup", "hook_secrets")
    assert not site.outcomes


@pytest.mark.parametrize("source", ["mailgun", "sendgrid%2F", "SendGrid"])
def test_a_hook_that_the_catalogue_does_not_have_is_not_there(source: str, site: HookSite) -> None:
    assert site.call("POST", f"/v1/hooks/{source}", content=b"[]").status_code == 404


# What cannot be read.


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "malformed_json"),
        (b"", 400, "malformed_json"),
        (b"[" * 5000, 400, "malformed_json"),
        (b'"\xff"', 400, "malformed_json"),
        (b"[" + b"1," * 5000 + b"1]", 413, "body_too_large"),
        (b'["' + b"x" * 1024 * 1024 + b'"]', 413, "body_too_large"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_signed_body_that_cannot_be_read_is_named(content: bytes, status: int, code: str, site: HookSite) -> None:
    assert problem(site.post("sendgrid", content))[:2] == (status, code)


def test_a_body_that_is_cut_at_the_limit_is_too_large_and_not_forged(site: HookSite) -> None:
    content = b" " * (HOOK_LIMIT + 1)
    assert problem(site.post("sendgrid", content, headers={}))[:2] == (413, "body_too_large")
    assert problem(site.post("sendgrid", content[1:], headers={}))[:2] == (401, "unauthorized")


def test_a_body_must_say_that_it_is_json(site: HookSite) -> None:
    headers = signed("sendgrid", b"[]", now=datetime.now(UTC)) | {"content-type": "text/plain"}
    assert problem(site.post("sendgrid", b"[]", headers=headers))[:2] == (415, "wrong_media_type")


def test_an_empty_list_is_no_mistake(site: HookSite) -> None:
    assert site.post("sendgrid", b"[]").json() == {"results": [], "unjoined": 0}


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(
    source=st.sampled_from(sorted(SECRETS)),
    items=st.lists(
        st.recursive(
            st.none()
            | st.booleans()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.integers()
            | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["event", "kind", "decision_id", "timestamp", "when", "x"]), inner)
            ),
            max_leaves=8,
        )
        | st.fixed_dictionaries({"event": st.sampled_from(sorted(set(FORMATS["brevo"].events)))}),
        max_size=5,
    ),
)
def test_whatever_a_provider_signs_has_a_result_for_each_item(source: str, items: list[Any]) -> None:
    answer = ODD_SITE.post(source, body_of(items))
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["results"]) == len(items)


ODD_SITE = HookSite(*KEYS)
