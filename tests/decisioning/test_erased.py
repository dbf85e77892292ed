"""What is left of requests, events and records that name an erased id: nothing that says whose they are."""

from datetime import timedelta

import msgspec

from decisioning.case import reason_of
from decisioning.decision import narrow
from decisioning.erased import facts_of_nobody, nobodys, units_of, without_erased, without_mentions
from decisioning.experiment_content import Holdout
from decisioning.profile import Facts, HotProfile
from tests.builders import NOW, case, catalog, contact, record, request
from tests.storage.kept import event


def test_a_request_loses_whoever_it_is_about_and_keeps_what_it_is_about() -> None:
    asked = request(customer_id="c-1", context={"device": "mobile", "who": "c-1", "account_id": "acme"})
    left = nobodys(asked, decision_id="d-9", about=("account_id",))
    assert (left.customer_id, left.anonymous_id, left.context) == (None, "d-9", {"device": "mobile"})
    assert "c-1" not in repr(left)


def test_a_callers_decision_id_stays_unless_the_id_stands_in_it() -> None:
    for given, expected in (("visit-7", "visit-7"), ("visit-of-c-1", None)):
        assert nobodys(request(customer_id="c-1", decision_id=given), decision_id="x", about=()).decision_id == expected


def test_nobody_is_in_the_control_consented_or_was_contacted() -> None:
    everyone = catalog(holdout=Holdout(share=1.0))
    known = Facts(features={"age": 41.0}, hot=HotProfile(contacts=(contact(),), erased=True), account_id="acme")
    facts = facts_of_nobody(known, case(everyone))
    assert (facts.features, facts.account_id, facts.contacts, facts.known) == ({"age": None}, None, (), False)
    assert reason_of(case(everyone), facts, has_model=True) == "FALLBACK_ERASED"


def test_what_the_request_supplies_is_what_is_known() -> None:
    known = Facts(features={"age": 20.0, "city": "ulm"}, overridden=("age",), hot=HotProfile(erased=True))
    facts = facts_of_nobody(known, case(context={"age": 20.0}))
    assert (facts.features, facts.overridden) == ({"age": 20.0, "city": None}, ("age",))


def test_nothing_is_sent_to_somebody_who_was_erased() -> None:
    pushed = case(placement="newsletter")
    narrowed = narrow(pushed, facts_of_nobody(Facts(hot=HotProfile(erased=True)), pushed))
    assert {drop.reason for drop in narrowed.dropped} == {"SUPPRESSED"}
    assert [eligible.proposal.action.id for eligible in narrowed.eligible] == ["no_action"]


def test_every_id_that_an_event_names_counts() -> None:
    alias = event(type="alias", name="alias", customer_id="c-1", anonymous_id="v", previous_id="old")
    assert units_of(alias) == {"c-1", "anonymous:v", "old", "anonymous:old"}
    for unit in ("c-1", "old", "anonymous:old"):
        assert without_erased(alias, {unit}) is None
    left = without_erased(alias, {"anonymous:v"})
    assert left is not None
    assert (left.customer_id, left.anonymous_id) == ("c-1", None)
    assert without_erased(alias, {"c-2"}) is alias


def test_somebody_elses_record_names_the_erased_no_longer() -> None:
    theirs = msgspec.structs.replace(
        record(),
        features={"reports_to": "c-1", "segment": "c-1", "age": 41.0},
        contacts=(contact(customer_id="c-1", ago=timedelta(days=1)), contact(customer_id="c-3")),
    )
    left = without_mentions(theirs, {"c-1"}, naming={"reports_to"})
    assert left.features == {"reports_to": None, "segment": "c-1", "age": 41.0}, "a value is not an id"
    assert [each.customer_id for each in left.contacts] == [None, "c-3"]
    assert without_mentions(theirs, {"c-2"}, naming={"reports_to"}) == theirs
    assert NOW
