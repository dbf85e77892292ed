"""What customers and mail servers can do with an answer."""

from typing import Literal, get_args

OutcomeType = Literal[
    "impression", "click", "accept", "reject", "purchase", "sent", "not_sent", "delivered", "open",
    "bounce", "complaint", "unsubscribe", "custom",
]  # fmt: skip
OUTCOME_TYPES: tuple[str, ...] = get_args(OutcomeType)

# What moves a customer through a journey: what customers do of their own accord, and what only the
# caller can name. What we or a mail server do to a message (sent, delivered ...) moves nobody.
EVENT_TYPES = ("click", "accept", "reject", "purchase", "unsubscribe", "complaint", "custom")
