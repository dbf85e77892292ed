"""Ingested customers as decisions know them: the newest features, and what hot state says."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from decisioning.content_types import FeatureKind, Scalar
from decisioning.errors import SetupError
from decisioning.event_features import EventFeatures
from decisioning.profile import Facts, HotProfile, Subject
from storage.hot_state.rebuild import StoredHotState, open_hot_state
from storage.settings import Settings
from training.features import declared_views

Features = dict[str, Any]
# Customers whose profiles are read at once: Redis answers them together.
TOGETHER = 200


class KnownCustomer(NamedTuple):
    """An ingested customer, with all that a decision would be made with."""

    customer_id: str
    facts: Facts

    @property
    def hot(self) -> HotProfile:
        """What hot state says; who cannot be read is not here."""
        assert self.facts.hot is not None
        return self.facts.hot


def known_customers(settings: Settings, over_events: EventFeatures | None, *, now: datetime) -> Iterator[KnownCustomer]:
    """Every ingested customer of the domain, as of `now`, with these features over events.

    Raises:
        SetupError: Nothing is ingested.
        StoreError: Hot state cannot be read.
    """
    states = over_events.states.digest if over_events is not None else None
    features = newest_features(settings, settings.domain, now=now)
    with closing(open_hot_state(settings, now=now)) as hot_state, asyncio.Runner() as runner:
        while some := list(islice(features, TOGETHER)):
            subjects = [Subject(customer_id, own.get("account_id")) for customer_id, own, _ in some]
            profiles = runner.run(_profiles(hot_state, subjects, states, now=now))
            for (customer_id, own, account), subject, hot in zip(some, subjects, profiles, strict=True):
                told = _over_events(over_events, hot, now=now)
                yield KnownCustomer(
                    customer_id,
                    Facts(
                        features={**own, **told},
                        account_id=subject.account_id,
                        account=account,
                        hot=hot,
                        paused=hot.paused,
                    ),
                )


async def _profiles(
    hot_state: StoredHotState, subjects: Iterable[Subject], states: str | None, *, now: datetime
) -> list[HotProfile]:
    return await asyncio.gather(*(hot_state.read(subject, now=now, states=states) for subject in subjects))


def _over_events(over_events: EventFeatures | None, hot: HotProfile, *, now: datetime) -> dict[str, Scalar]:
    if over_events is None:
        return {}
    found = over_events.of_person(hot.states, now=now) if hot.states is not None else None
    return over_events.unknown if found is None else found


def newest_features(settings: Settings, domain: str, *, now: datetime) -> Iterator[tuple[str, Features, Features]]:
    """Every ingested customer with the newest features as of `now`, and those of the account above.

    What is not known is None, or an empty list.

    Raises:
        SetupError: Nothing is ingested.
    """
    rows: dict[str, dict[str, Features]] = {"customer": {}, "account": {}}
    kinds: dict[str, dict[str, FeatureKind]] = {"customer": {}, "account": {}}
    for view in declared_views(settings, domain):
        kinds[view.entity] |= view.kinds
        if not view.path.is_file():
            raise SetupError(f"{view.path} is missing; run: nextmove ingest --dataset {domain}")
        for entity_id, features in _newest(view.path, f"{view.entity}_id", view.kinds, now=now):
            rows[view.entity].setdefault(entity_id, {}).update(features)
    nothing = {entity: {name: _known(None, kind) for name, kind in kinds[entity].items()} for entity in kinds}
    for customer_id, features in rows["customer"].items():
        account = rows["account"].get(features.get("account_id") or "", {})
        yield customer_id, {**nothing["customer"], **features}, {**nothing["account"], **account}


def _newest(path: Path, key: str, kinds: Mapping[str, FeatureKind], *, now: datetime) -> Iterator[tuple[str, Features]]:
    table = pd.read_parquet(path, columns=[key, "event_timestamp", *kinds])
    past = table[table["event_timestamp"] <= pd.Timestamp(now)]
    newest = past.sort_values("event_timestamp", kind="stable").drop_duplicates(key, keep="last")
    columns = [[_known(value, kind) for value in newest[name].tolist()] for name, kind in kinds.items()]
    for entity_id, *values in zip(newest[key].tolist(), *columns, strict=True):
        yield str(entity_id), dict(zip(kinds, values, strict=True))


def _known(value: Any, kind: FeatureKind) -> Any:
    """The value as rules see it online."""
    if kind == "texts":
        return () if value is None or isinstance(value, float) else tuple(value)
    if value is None or value != value:  # NaN alone is not itself
        return None
    convert: dict[FeatureKind, Callable[[Any], Any]] = {"number": float, "text": str, "truth": bool}
    return convert[kind](value)
