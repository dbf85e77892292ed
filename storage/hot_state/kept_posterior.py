"""What is kept of the online posterior."""

import secrets
from typing import NamedTuple


class Kept(NamedTuple):
    """Counts and what they say, as bytes. Each state has a `revision` of its own, which never comes again."""

    revision: str
    counted: bytes
    fitted: bytes


def new_revision() -> str:
    """A name that nobody has used."""
    return secrets.token_hex(8)
