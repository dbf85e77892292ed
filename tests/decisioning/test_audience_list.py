"""Whom a list for others may name, and who is left out and why."""

from datetime import timedelta
from typing import Any

import pytest

from decisioning.audience_list import Lists, Wanted, hashed, lists_of, normalised
from decisioning.content import Audience
from decisioning.profile import Consent, Event, Facts, HotProfile, Purchase
from tests.builders import NOW, catalog

AGREED = (Consent("marketing", "email"),)
ADULTS = Audience(id="adults", rule="customer.age > 18.0")
LONG_AGO = NOW - timedelta(days=60)


def customer(contact: Any = "mia@example.com", *, age: float | None = 40.0, **hot: Any) -> Facts:
    return Facts(features={"age": age, "mail": contact}, hot=HotProfile(**({"consents": AGREED} | hot)))


def lists(*customers: Facts, shop: dict[str, Any] | None = None, **wanted: Any) -> Lists:
    asked: dict[str, Any] = {
        "audience": "adults", "purpose": "marketing", "channel": "email", "contact": "mail", "kind": "email"
    }  # fmt: skip
    shop = {"audiences": (ADULTS,), **(shop or {})}
    return lists_of(catalog(**shop), customers, Wanted(**(asked | wanted)), now=NOW)


def test_members_who_consented_are_listed_normalised_and_once() -> None:
    found = lists(customer(" Mia@Example.com"), customer("mia@example.com "), customer("bo@example.com", age=9.0))
    assert found.members == ("mia@example.com",)
    assert found.left_out == {"same contact": 1}
    assert (found.outside, found.unknown) == (1, 0)


@pytest.mark.parametrize(
    ("hot", "why"),
    [
        ({"consents": ()}, "no consent"),
        ({"consents": (Consent("marketing", "web"),)}, "no consent"),
        ({"consents": (Consent("personalisation", "email"),)}, "no consent"),
        ({"suppressed": ("email",)}, "suppressed"),
        ({"consents": (), "withdrawn": AGREED}, "said no"),
        ({"withdrawn": (Consent("personalisation", "email"),)}, "not personalised"),
    ],
)
def test_who_did_not_consent_to_just_this_is_left_out(hot: dict[str, Any], why: str) -> None:
    found = lists(customer(**hot))
    assert (found.members, found.left_out) == ((), {why: 1})


def test_where_personalisation_needs_consent_an_audience_does_too() -> None:
    asked = {"personalisation": "consent"}
    assert lists(customer(), shop=asked).left_out == {"not personalised": 1}
    both = (*AGREED, Consent("personalisation", "email"))
    assert lists(customer(consents=both), shop=asked).members == ("mia@example.com",)


def test_another_purpose_needs_its_own_consent_and_no_objection_to_marketing() -> None:
    agreed = (Consent("personalisation", "email"),)
    assert lists(customer(consents=agreed), purpose="personalisation").members == ("mia@example.com",)
    assert lists(customer(consents=agreed, withdrawn=AGREED), purpose="personalisation").left_out == {"said no": 1}


@pytest.mark.parametrize("contact", [None, "", "mia", "mia@example", "a b@example.com", "@example.com", 7.0])
def test_who_has_no_contact_that_can_be_used_is_left_out(contact: Any) -> None:
    [(why, count)] = lists(customer(contact)).left_out.items()
    assert (why, count) == ("unusable contact" if contact else "no contact", 1)


def test_a_contact_that_one_customer_forbids_no_other_allows() -> None:
    forbids = customer("MIA@example.com", age=9.0, suppressed=("email",))
    for both in ((customer(), forbids), (forbids, customer())):
        found = lists(*both, bought_since=NOW - timedelta(days=30))
        assert (found.members, found.left_out) == ((), {"forbidden by the same contact": 1})
    bought = customer(events=(Event("purchase", NOW),))
    assert lists(bought, forbids, bought_since=NOW - timedelta(days=30)).buyers == ()


def test_who_is_unknown_to_the_rule_is_no_member() -> None:
    found = lists(customer(age=None))
    assert (found.members, found.unknown) == ((), 1)


def test_recent_buyers_are_left_out_and_listed_members_or_not() -> None:
    lately, long_ago = (Purchase("rug", NOW - timedelta(days=1)),), (Purchase("rug", LONG_AGO),)
    found = lists(
        customer("a@x.de", purchases=lately),
        customer("b@x.de", purchases=long_ago),
        customer("c@x.de", events=(Event("purchase", NOW - timedelta(days=2)),)),
        customer("d@x.de", age=9.0, purchases=lately),
        customer("e@x.de", events=(Event("click", NOW),)),
        customer("f@x.de", purchases=lately, consents=()),
        bought_since=NOW - timedelta(days=30),
    )
    assert sorted(found.members) == ["b@x.de", "e@x.de"]
    assert sorted(found.buyers) == ["a@x.de", "c@x.de", "d@x.de"]
    assert found.left_out == {"bought lately": 2, "no consent": 1}


def test_of_products_only_who_bought_one_of_them_is_a_recent_buyer() -> None:
    bought = {product: (Purchase(product, NOW),) for product in ("sofa", "rug")}
    anything = (Event("purchase", NOW),)
    sofa, rug = (customer(f"{name}@x.de", purchases=each, events=anything) for name, each in bought.items())
    found = lists(sofa, rug, bought_since=NOW - timedelta(days=30), products=("rug",))
    assert (found.members, found.buyers) == (("sofa@x.de",), ("rug@x.de",))


def test_the_order_says_nothing_of_the_customers() -> None:
    addresses = [f"{n}@x.de" for n in range(20)]
    found = lists(*map(customer, addresses)).members
    assert found == lists(*map(customer, reversed(addresses))).members
    assert [hashed(each) for each in found] == sorted(hashed(each) for each in addresses)


def test_telephone_numbers_are_taken_in_e164_alone() -> None:
    numbers = {
        "+14155552671": True,
        " +442071838750 ": True,
        "0170 1234567": False,
        "+0170": False,
        "+1234567890123456": False,
    }
    assert {number: normalised("phone", number) is not None for number in numbers} == numbers


def test_a_hash_is_that_of_the_platforms() -> None:
    # Of `printf mia@example.com | sha256sum`.
    assert hashed("mia@example.com") == "99857fe111df1f77228c50bacc8acf00afc1516d7c38fe9089f02a1e7e0d512d"
