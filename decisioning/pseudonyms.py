"""Ids of people under another name, which only who has the secret can tell from the id.

The same id always has the same pseudonym, so one person stays one person; nothing that is kept then
names anybody whom the company's own systems do not name first. What bears a pseudonym already, as
what we hand out does, keeps it.
"""

import re
from base64 import b32encode
from hashlib import sha256
from hmac import digest

PREFIX = "nmp_"
_BYTES = 15  # 120 bits: no two of a billion people share one
_PSEUDONYM = re.compile(rf"{PREFIX}[a-z2-7]{{24}}")
_VISITOR = "anonymous:"


class Pseudonyms:
    """What each id is called here; without a secret, what it is called anyway.

    >>> Pseudonyms(b"0123456789abcdef").of("c-1")
    'nmp_zzepqwdiff2iqoi2u6s6ucox'
    >>> Pseudonyms(None).of("c-1")
    'c-1'
    """

    def __init__(self, secret: bytes | None) -> None:
        self._secret = secret

    @property
    def are_used(self) -> bool:
        """Whether ids get other names at all."""
        return self._secret is not None

    def of(self, person_id: str) -> str:
        """The pseudonym of a customer's or visitor's id; of a visitor's unit, `anonymous:` and the pseudonym.

        A visitor and a customer of the same id stay two.
        """
        if self._secret is None or _PSEUDONYM.fullmatch(person_id):
            return person_id
        if person_id.startswith(_VISITOR):
            return _VISITOR + self.of(person_id.removeprefix(_VISITOR))
        # Half a surrogate pair is no text, but some client may send it.
        hashed = digest(self._secret, person_id.encode("utf-8", "surrogatepass"), sha256)
        return PREFIX + b32encode(hashed[:_BYTES]).decode().lower()

    def of_any(self, person_id: str | None) -> str | None:
        """The same, of an id that may be missing."""
        return None if person_id is None else self.of(person_id)
