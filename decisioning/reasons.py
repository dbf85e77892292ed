"""Why an action is not shown: every step of the funnel says so in these words, and no other.

| step | reasons |
|---|---|
| `candidates` | `NOT_LIVE`, `PAUSED`, `NOT_YET_VALID`, `NO_LONGER_VALID`, `NO_TREATMENT`, `NOT_ASKED_FOR`, `EXCLUDED`, `SHOWN_ELSEWHERE`, `HELD_OUT` |
| `consent` | `NO_CONSENT`, `OBJECTED`, `SUPPRESSED`, `CONSENT_UNKNOWN` |
| `engagement_policy` | `PREFERENCE`, `PREFERENCES_UNKNOWN`, `ALREADY_CONSENTED`, `CONSENT_UNKNOWN`, `ALREADY_BOUGHT`, `PURCHASES_UNKNOWN`, `FOLLOWED_UP`, `STAGE`, `BUYING_ROLE`, `FEATURES_UNKNOWN`, `ELIGIBILITY`, `APPLICABILITY`, `SUITABILITY`, `RULE_ERROR` |
| `contact_policy` | `CAP_REACHED`, `COOL_DOWN`, `QUIET_HOURS`, `CONTACTS_UNKNOWN` |
| `budget` | `BUDGET_SPENT`, `BUDGET_UNKNOWN` |
| `fallback` | `HELD_OUT`, `NOT_A_FALLBACK` |
| `reservation` | `TAKEN_MEANWHILE` |
"""  # noqa: E501

from typing import Literal, get_args

import msgspec

Step = Literal["candidates", "consent", "engagement_policy", "contact_policy", "budget", "fallback", "reservation"]
STEPS: tuple[Step, ...] = get_args(Step)


class Drop(msgspec.Struct, frozen=True, array_like=True):
    """An action that a step took out, and why."""

    action_id: str
    step: Step
    reason: str
    detail: str = ""
