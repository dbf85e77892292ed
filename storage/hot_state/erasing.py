"""What hot state holds on a person, whichever store it is in: shown, and erased."""

from collections.abc import Collection, Iterator
from typing import Any

from storage.hot_state import redis_erasing, sqlite_erasing
from storage.settings import Settings


def hot_parts(settings: Settings, units: Collection[str]) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """Everything that is kept of these ids, as an export shows it.

    Raises:
        StoreError: It cannot be read.
    """
    return (redis_erasing if settings.hot_state == "redis" else sqlite_erasing).parts(settings, units)


def erase_hot(
    settings: Settings, units: Collection[str], *, linked: Collection[str], decisions: Collection[str]
) -> int:
    """Delete it, and how much there was; no rebuild may be under way (`not_during_rebuild`). Again finds nothing.

    `linked` are others' ids that links may name together with these; `decisions` are those of the person.

    Raises:
        StoreError: It cannot be written.
    """
    # The file may be there from a time when hot state was in it.
    done = sqlite_erasing.erase(settings, units, linked=linked, decisions=decisions)
    if settings.hot_state == "redis":
        done += redis_erasing.erase(settings, units, linked=linked)
    return done
