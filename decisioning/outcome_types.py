"""What customers and mail servers can do with an answer."""

from typing import Literal, get_args

OutcomeType = Literal[
    "impression", "click", "accept", "reject", "purchase", "sent", "not_sent", "delivered", "open",
    "bounce", "complaint", "unsubscribe", "custom",
]  # fmt: skip
OUTCOME_TYPES: tuple[str, ...] = get_args(OutcomeType)
