"""Whether a decision may know whom it is for.

Without consent to `personalisation` on the placement's channel, and under Global Privacy Control,
the customer is decided for as if nobody knew them: no stored features, no history. What is left is
what protects them: consent, suppression, caps and cool-downs, preferences, what they bought already,
and that a reload is the same contact as before.
"""

import msgspec

from decisioning.case import Case
from decisioning.content import Content
from decisioning.content_types import PERSONALISATION
from decisioning.profile import Consent, Facts, HotProfile


def may_personalise(case: Case, hot: HotProfile | None) -> bool:
    """Whether stored features and history may be used; where nobody can say, they may not.

    A visitor without a customer's id must have consented, whatever the catalogue's default is.
    """
    if case.request.global_privacy_control or hot is None:
        return False
    if case.request.customer_id is None:
        return Consent(PERSONALISATION, case.placement.channel) in hot.consents
    return agrees_to_personalisation(case.catalog.content, case.placement.channel, hot)


def agrees_to_personalisation(content: Content, channel: str, hot: HotProfile) -> bool:
    """Whether a customer lets us use what is stored of them on this channel."""
    by_default = content.personalisation == "default" and not hot.objects_to(PERSONALISATION, channel)
    return by_default or Consent(PERSONALISATION, channel) in hot.consents


def considered(case: Case, facts: Facts) -> Facts:
    """What of these facts the decision may use, and its record may hold.

    The account's id stays, since caps and budgets of an account count by it. Where hot state cannot
    say what the customer consented to, a rule that asks for a stored feature drops its action: what
    is kept from it must not pass for what nobody knows.
    """
    if may_personalise(case, facts.hot):
        return facts
    return msgspec.structs.replace(
        facts,
        features={name: value if name in facts.overridden else None for name, value in facts.features.items()},
        account={},
        as_of=None,
        known=False,
        readable=facts.readable and facts.hot is not None,
        personal=False,
    )
