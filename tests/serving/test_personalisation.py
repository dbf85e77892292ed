"""Who must not be known is decided for as nobody, and leaves no trace of who they are."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from decisioning.content import ContactPolicy, Content, Journey, Stage, Transition
from decisioning.encoding import RowEncoder
from decisioning.profile import Consent, Event, HotProfile, Purchase, StoredFeatures
from decisioning.record import DecisionRecord
from decisioning.replay import facts_of, model_rows, recorded_case, replay
from decisioning.request import DecisionRequest
from tests.builders import NOW, action, catalog, contact, placement, weekly_cap
from tests.serving.test_engine import Shop, shown

YES, NO = Consent("personalisation", "web"), HotProfile()
CONSENTING, OBJECTING = HotProfile(consents=(YES,)), HotProfile(withdrawn=(YES,))
NOT_PERSONALISED = "FALLBACK_NOT_PERSONALISED"


def shop(hot: HotProfile = NO, *actions: Any, **overrides: Any) -> Shop:
    return Shop(catalog(*actions, **{"personalisation": "consent", **overrides}), hot=hot)


def nothing_is_known(record: DecisionRecord) -> bool:
    return set(record.features.values()) == {None} and (record.account, record.features_as_of) == ({}, None)


def test_without_a_word_in_the_catalogue_personalisation_needs_consent() -> None:
    [default] = [field.default for field in msgspec.structs.fields(Content) if field.name == "personalisation"]
    assert default == "consent"


@pytest.mark.parametrize(
    ("legal_basis", "hot", "gpc", "is_personal"),
    [
        ("consent", NO, False, False),
        ("consent", CONSENTING, False, True),
        ("consent", HotProfile(consents=(Consent("personalisation", "email"),)), False, False),
        ("consent", HotProfile(consents=(Consent("marketing", "web"),)), False, False),
        ("consent", CONSENTING, True, False),
        ("default", NO, False, True),
        ("default", OBJECTING, False, False),
        ("default", HotProfile(withdrawn=(Consent("personalisation", "email"),)), False, True),
        ("default", NO, True, False),
    ],
)
def test_stored_features_are_used_by_consent_or_by_default_until_objection_and_never_under_sec_gpc(
    legal_basis: str, hot: HotProfile, gpc: bool, is_personal: bool
) -> None:
    asked = shop(hot, personalisation=legal_basis)
    record = asked.decide(global_privacy_control=gpc)
    assert record.reason == ("RANKED" if is_personal else NOT_PERSONALISED)
    assert (record.personal, nothing_is_known(record)) == (is_personal, not is_personal)
    assert asked.scorer.rows is not None
    assert bool(asked.scorer.rows[0][0] == 41.0) is is_personal
    assert shown(record)


def test_nothing_of_the_customer_is_in_the_record_of_a_decision_that_may_not_know_them() -> None:
    hot = HotProfile(events=(Event("cart_added", NOW),), purchases=(Purchase("p", NOW),), contacts=(contact("old"),))
    asked = shop(hot)
    asked.features.customers["c-1"] = {"age": 41.0, "city": "ulm", "account_id": "acme"}
    asked.features.accounts["acme"] = {"sites": 3.0}
    record = asked.decide(context={"cart_value": 12.5})
    kept = msgspec.json.encode(record)
    assert not [each for each in (b"41.0", b"ulm", b"sites", b"cart_added") if each in kept]
    # What caps and purchases need is there.
    assert (record.account_id, record.contacts, record.purchases) == ("acme", hot.contacts, hot.purchases)


def test_what_the_request_supplies_is_used_all_the_same() -> None:
    asked = shop(NO, action("card", eligibility="customer.age < 30.0"), action("loan"))
    record = asked.decide(context={"age": 20.0})
    assert "card" in shown(record)
    assert (record.features["age"], record.overridden) == (20.0, ("age",))


def test_history_neither_ranks_nor_goes_on_but_caps_and_purchases_hold() -> None:
    old = tuple(contact("card", ago=timedelta(hours=hours), decision_id=f"d-{hours}") for hours in (2, 1))
    journey = Journey(
        id="life",
        stages=(Stage(id="new", name="New", entry="true"), Stage(id="regular", name="Regular")),
        transitions=(Transition(source="new", target="regular", on="purchase"),),
    )
    hot = HotProfile(contacts=old, events=(Event("purchase", NOW),), purchases=(Purchase("rug", NOW),))
    actions = action("card"), action("loan", group="loans"), action("offer", promotes=("rug",))
    given: dict[str, Any] = {"continuity": timedelta(days=3), "journeys": (journey,)}
    asked = shop(hot, *actions, **given)
    record = asked.decide()
    assert asked.scorer.rows is not None
    assert asked.scorer.rows[:, 4].tolist() == [0.0, 0.0]
    assert record.stages == ("new",)
    assert min(candidate.tier for candidate in record.candidates) == 0
    assert {drop.action_id: drop.reason for drop in record.dropped} == {"offer": "ALREADY_BOUGHT"}
    known = shop(msgspec.structs.replace(hot, consents=(YES,)), *actions, **given)
    personal = known.decide()
    assert known.scorer.rows is not None
    assert known.scorer.rows[0, 4] == 2.0
    assert personal.stages == ("regular",)
    assert min(candidate.tier for candidate in personal.candidates) == -1
    capped = shop(hot, *actions, contact_policies=(weekly_cap(2, per="action"),)).decide()
    assert "card" not in shown(capped)


def test_the_model_is_asked_again_as_it_was_asked() -> None:
    asked = shop(HotProfile(contacts=(contact("card"),)))
    record = asked.decide(context={"cart_value": 12.5})
    blueprint = asked.engine.release.blueprint
    actions = [blueprint.actions[candidate.action_id] for candidate in record.candidates]
    encoder = RowEncoder(asked.scorer.manifest.features)
    again = model_rows(recorded_case(record, blueprint), facts_of(record), encoder, actions)
    assert asked.scorer.rows is not None
    assert again.tobytes() == asked.scorer.rows.tobytes()


def test_a_reload_is_the_same_contact_also_of_somebody_who_must_not_be_known() -> None:
    asked = shop(NO, action("card"), action("loan"), placements=(placement(slots=1),), continuity=timedelta(days=3))
    first, second = asked.decide(), asked.decide()
    assert shown(first) == shown(second)
    assert len(asked.hot_state.contacts) == 1


def test_caps_of_the_account_count_by_it_though_nothing_of_it_is_known() -> None:
    cap = ContactPolicy("together", limit=1, within=timedelta(days=7), of="account")
    asked = shop(NO, action("card"), placements=(placement(slots=1),), contact_policies=(cap,))
    asked.features.customers = {"c-1": {"account_id": "acme"}, "c-2": {"account_id": "acme"}}
    assert shown(asked.decide()) == ["card"]
    record = asked.decide(customer_id="c-2")
    assert [drop.reason for drop in record.dropped] == ["CAP_REACHED"]


def test_an_anonymous_decision_reads_no_features_and_keeps_none() -> None:
    asked = shop(HotProfile(contacts=(contact("card"),)), personalisation="default")

    async def read(customer_id: str, *, account_id: str | None = None) -> StoredFeatures | None:
        raise AssertionError("features were read")

    asked.features.read = read  # type: ignore[method-assign]
    record = asked.decide(customer_id=None, anonymous_id="a-1")
    assert (record.reason, record.personal, nothing_is_known(record)) == ("FALLBACK_UNKNOWN_CUSTOMER", False, True)
    assert asked.scorer.rows is not None
    assert asked.scorer.rows[0][4] == 0.0


def test_a_visitor_who_consented_is_remembered() -> None:
    asked = shop(HotProfile(consents=(YES,), contacts=(contact("card"),)))
    record = asked.decide(customer_id=None, anonymous_id="a-1")
    assert (record.reason, record.personal) == ("FALLBACK_UNKNOWN_CUSTOMER", True)
    assert asked.scorer.rows is not None
    assert asked.scorer.rows[0][4] == 1.0


def test_where_consent_cannot_be_read_nothing_is_known_and_what_needs_it_waits() -> None:
    careful = action("loan", suitability="customer.age == null || customer.age < 18.0", fallback=True)
    asked = shop(CONSENTING, action("card", fallback=True), careful)
    asked.hot_state.down = True
    record = asked.decide()
    assert (record.reason, record.personal, nothing_is_known(record)) == (
        "FALLBACK_HOT_STATE_UNAVAILABLE", False, True,
    )  # fmt: skip
    assert shown(record) == ["card"]
    assert {drop.action_id: drop.reason for drop in record.dropped} == {"loan": "FEATURES_UNKNOWN"}


def test_each_placement_of_a_request_goes_by_its_own_channel() -> None:
    places = placement(slots=1), placement("inbox", channel="email", slots=1)
    asked = shop(HotProfile(consents=(Consent("personalisation", "email"), Consent("marketing", "email"))),
                 action("card"), action("loan"), placements=places)  # fmt: skip
    request = {"customer_id": "c-1", "placements": ("home_hero", "inbox")}
    records = asyncio.run(asked.engine.decide_placements(msgspec.convert(request, DecisionRequest), now=NOW))
    assert [(record.personal, record.features["age"]) for record in records] == [(False, None), (True, 41.0)]


def test_consent_withdrawn_while_a_decision_is_made_leaves_nothing_to_show() -> None:
    asked = shop(CONSENTING)
    read = asked.hot_state.read

    async def then_withdrawn(*args: Any, **kwargs: Any) -> HotProfile:
        profile = await read(*args, **kwargs)
        asked.hot_state.profile = HotProfile(version=1)
        return profile

    asked.hot_state.read = then_withdrawn  # type: ignore[method-assign]
    record = asked.decide()
    assert shown(record) == []
    assert {drop.reason for drop in record.dropped} == {"TAKEN_MEANWHILE"}


@pytest.mark.parametrize("hot", [NO, CONSENTING, HotProfile(contacts=(contact("card", decision_id="d"),))])
@pytest.mark.parametrize("gpc", [True, False])
def test_such_decisions_replay_to_the_last_bit(hot: HotProfile, gpc: bool) -> None:
    asked = shop(hot, continuity=timedelta(days=3))
    record = asked.decide(global_privacy_control=gpc)
    kept = msgspec.json.decode(msgspec.json.encode(record), type=DecisionRecord)
    replayed = replay(kept, asked.engine.release.blueprint, key=b"0123456789abcdef")
    assert (replayed.verdict, replayed.differences) == ("identical", ())
