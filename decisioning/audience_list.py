"""Lists of an audience's contacts for others: whom they may name, and how a contact is written in them.

Nobody is listed who did not consent to just this, on just this channel. A contact is a person's even
where two customers have it: what one of them forbids, the other does not allow.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple

from decisioning.catalog import Catalog
from decisioning.content_types import MARKETING, Purpose
from decisioning.events import PURCHASE
from decisioning.personalisation import agrees_to_personalisation
from decisioning.profile import Consent, Facts, HotProfile
from decisioning.rules import Rule, RuleFailure, RuleScope

ContactKind = Literal["email", "phone"]
LeftOut = Literal[
    "suppressed", "said no", "no consent", "not personalised", "no contact", "unusable contact",
    "forbidden by the same contact", "bought lately", "same contact",
]  # fmt: skip
_REFUSALS: tuple[LeftOut, ...] = ("suppressed", "said no")  # the person's own word, which goes with the contact
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@.]+")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")  # ITU-T E.164, section 6: 15 digits at most


class Wanted(NamedTuple):
    """What a list is for.

    Attributes:
        contact: The customer feature that holds the contact.
        bought_since: Who bought since then, one of `products` or anything, must not be targeted.
    """

    audience: str
    purpose: Purpose
    channel: str
    contact: str
    kind: ContactKind
    bought_since: datetime | None = None
    products: tuple[str, ...] = ()


class Lists(NamedTuple):
    """Contacts, as they are normalised, in an order that says nothing of the customers.

    Attributes:
        members: Of the audience.
        buyers: Whoever bought lately, in the audience or not: to be suppressed.
        left_out: How many members are not listed, by why; `outside` and `unknown` are no members.
    """

    members: tuple[str, ...]
    buyers: tuple[str, ...]
    left_out: Mapping[LeftOut, int]
    outside: int
    unknown: int


def member(audience: Rule, scope: RuleScope, untold: Collection[tuple[str, str]] = ()) -> bool | None:
    """Whether a customer is in an audience; None where nobody can say: the rule errs, or asks for what is `untold`.

    >>> rule, at = Rule("customer.age > 18.0"), datetime(2026, 1, 1)
    >>> adult, ageless = (RuleScope(customer=known, now=at) for known in ({"age": 41.0}, {}))
    >>> member(rule, adult), member(rule, ageless), member(rule, adult, [("customer", "age")])
    (True, None, None)
    """
    try:
        return audience.holds(scope) if audience.names.isdisjoint(untold) else None
    except RuleFailure:
        return None


def lists_of(
    catalog: Catalog,
    customers: Iterable[Facts],
    wanted: Wanted,
    *,
    now: datetime,
    untold: Collection[tuple[str, str]] = (),
) -> Lists:
    """The lists that these customers make; who cannot be read must not be among them. For `untold` see `member`."""
    left_out: Counter[LeftOut] = Counter()
    outside = unknown = 0
    members: list[str] = []
    buyers: set[str] = set()
    forbidden: set[str] = set()
    for facts in customers:
        assert facts.hot is not None
        said = facts.features.get(wanted.contact)
        contact = normalised(wanted.kind, said)
        refusal = refused(catalog, facts.hot, wanted)
        if refusal in _REFUSALS and contact is not None:
            forbidden.add(contact)
        if contact is not None and refusal is None and _bought(facts.hot, wanted):
            buyers.add(contact)
        scope = catalog.scope(now=now, customer=facts.features, account=facts.account, context={})
        belongs = member(catalog.audiences[wanted.audience], scope, untold)
        if belongs is None:
            unknown += 1
        elif not belongs:
            outside += 1
        elif refusal is not None:
            left_out[refusal] += 1
        elif contact is None:
            left_out["unusable contact" if said else "no contact"] += 1
        else:
            members.append(contact)
    kept: set[str] = set()
    for contact in members:
        if contact in forbidden:
            left_out["forbidden by the same contact"] += 1
        elif contact in buyers:
            left_out["bought lately"] += 1
        elif contact in kept:
            left_out["same contact"] += 1
        else:
            kept.add(contact)
    listed, suppressed = (tuple(sorted(contacts, key=hashed)) for contacts in (kept, buyers - forbidden))
    return Lists(listed, suppressed, left_out, outside, unknown)


def refused(catalog: Catalog, hot: HotProfile, wanted: Wanted) -> LeftOut | None:
    """Why a customer of whom this is known may not be listed; None where they may."""
    channel = wanted.channel
    if channel in hot.suppressed:
        return "suppressed"
    if hot.objects_to(wanted.purpose, channel) or hot.objects_to(MARKETING, channel):
        return "said no"
    if Consent(wanted.purpose, channel) not in hot.consents:
        return "no consent"
    # An audience is made of what is stored of its members.
    return None if agrees_to_personalisation(catalog.content, channel, hot) else "not personalised"


def normalised(kind: ContactKind, contact: object) -> str | None:
    """A contact as ad platforms want it before it is hashed; None where it is none.

    E-mail addresses are trimmed and in small letters. A telephone number must be in E.164 already:
    which country a national one belongs to would be a guess.

    >>> normalised("email", " Mia@Example.COM "), normalised("phone", "+491701234567"), normalised("phone", "0170")
    ('mia@example.com', '+491701234567', None)
    """
    if not isinstance(contact, str):
        return None
    trimmed = contact.strip().lower()
    return trimmed if (_EMAIL if kind == "email" else _E164).fullmatch(trimmed) else None


def hashed(contact: str) -> str:
    """SHA-256 of a normalised contact, 64 hexadecimal digits."""
    return hashlib.sha256(contact.encode("utf-8", "surrogatepass")).hexdigest()


def _bought(hot: HotProfile, wanted: Wanted) -> bool:
    if wanted.bought_since is None:
        return False
    times = [each.at for each in hot.purchases if not wanted.products or each.product in wanted.products]
    if not wanted.products:
        times += [event.at for event in hot.events if event.name == PURCHASE]
    return any(at >= wanted.bought_since for at in times)
