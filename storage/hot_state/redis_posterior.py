"""The online posterior in Redis's hot state: one hash, written if what it was worked out from still stands."""

from datetime import timedelta
from typing import Any

from storage.hot_state.kept_posterior import Kept, new_revision
from storage.hot_state.redis_bulk import bulk_client
from storage.hot_state.redis_connection import address_of
from storage.hot_state.redis_values import Keys
from storage.settings import Settings

_KEEP = """
if (redis.call('HGET', KEYS[1], 'revision') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'counted', ARGV[3], 'fitted', ARGV[4])
return 1
"""
_LEASE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class RedisPosterior:
    """See `posteriors.PosteriorStore`."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is connected yet."""
        self._url = settings.redis_url
        self._address = address_of(settings.redis_url)
        self._keys = Keys(settings.redis_prefix, settings.domain)

    def revision(self) -> str | None:
        """See `PosteriorStore`."""
        with bulk_client(self._url, self._address) as client:
            found: Any = client.hget(self._keys.posterior, "revision")
            return None if found is None else found.decode()

    def kept(self) -> Kept | None:
        """See `PosteriorStore`."""
        with bulk_client(self._url, self._address) as client:
            found: Any = client.hgetall(self._keys.posterior)
            return Kept(found[b"revision"].decode(), found[b"counted"], found[b"fitted"]) if found else None

    def keep(self, counted: bytes, fitted: bytes, *, over: str | None) -> str | None:
        """See `PosteriorStore`."""
        revision = new_revision()
        with bulk_client(self._url, self._address) as client:
            done: Any = client.eval(_KEEP, 1, self._keys.posterior, over or "", revision, counted, fitted)
            return revision if done else None

    def lease(self, holder: str, *, duration: timedelta) -> bool:
        """See `PosteriorStore`."""
        milliseconds = duration // timedelta(milliseconds=1)
        with bulk_client(self._url, self._address) as client:
            return bool(client.eval(_LEASE, 1, self._keys.posterior_lease, holder, str(milliseconds)))

    def forget(self) -> None:
        """See `PosteriorStore`."""
        with bulk_client(self._url, self._address) as client:
            client.delete(self._keys.posterior)
