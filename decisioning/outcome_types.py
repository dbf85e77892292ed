"""What customers and mail servers can do with an answer."""

from typing import Literal, get_args

OutcomeType = Literal[
    "impression", "click", "accept", "reject", "purchase", "sent", "not_sent", "delivered", "open",
    "bounce", "complaint", "unsubscribe", "custom",
]  # fmt: skip
OutcomeDetail = Literal["machine", "hard", "soft"]
OUTCOME_TYPES: tuple[str, ...] = get_args(OutcomeType)

# What moves a customer through a journey: what customers do of their own accord, and what only the
# caller can name. What we or a mail server do to a message (sent, delivered ...) moves nobody.
EVENT_TYPES = ("click", "accept", "reject", "purchase", "unsubscribe", "complaint", "custom")

# What is said of a whole message, whichever actions are in it.
OF_MESSAGE = frozenset({"sent", "not_sent", "delivered", "open", "bounce"})
# What tells whether a mailbox takes what it is sent.
OF_MAILBOX = ("delivered", "open", "click", "bounce")
# Detail of the soft bounce that was one too many. Nobody reports it: it is kept so when it arrives.
REPEATED = "repeated"
