"""How many ingested customers are in each audience, and how many of them a channel may reach."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec
import pandas as pd

from decisioning.catalog import Catalog
from decisioning.content import FeatureKind
from decisioning.errors import SetupError
from decisioning.profile import ConsentChange
from decisioning.rules import RuleFailure
from storage.settings import Settings
from training.features import declared_views

Features = dict[str, Any]


class AudienceSize(msgspec.Struct, frozen=True, kw_only=True):
    """An audience as it is now.

    Attributes:
        unknown: Customers for whom the rule could not be evaluated; they count as outside.
        reachable: By channel, members who consent to what the channel requires.
        minimum: What the catalogue demands, by channel.
    """

    audience: str
    members: int
    unknown: int
    customers: int
    reachable: dict[str, int]
    minimum: dict[str, int]

    @property
    def too_small(self) -> tuple[str, ...]:
        """Channels on which fewer can be reached than the audience's minimum size."""
        return tuple(channel for channel, least in self.minimum.items() if self.reachable[channel] < least)


def audience_sizes(
    catalog: Catalog,
    audience_ids: Iterable[str],
    customers: Iterable[tuple[str, Features, Features]],
    consents: Iterable[ConsentChange],
    *,
    now: datetime,
) -> list[AudienceSize]:
    """The sizes of these audiences, over customers with their features and their accounts' features."""
    granted = _granted(consents)
    audiences = [audience for audience in catalog.content.audiences if audience.id in set(audience_ids)]
    required = {channel.id: channel.requires_consent for channel in catalog.content.channels}
    members = dict.fromkeys((audience.id for audience in audiences), 0)
    unknown, met = dict(members), 0
    reachable = {audience.id: dict.fromkeys(audience.minimum_size, 0) for audience in audiences}
    for customer_id, customer, account in customers:
        met += 1
        scope = catalog.scope(now=now, customer=customer, account=account, context={})
        for audience in audiences:
            try:
                if not catalog.audiences[audience.id].holds(scope):
                    continue
            except RuleFailure:
                unknown[audience.id] += 1
                continue
            members[audience.id] += 1
            for channel in audience.minimum_size:
                purpose = required[channel]
                reachable[audience.id][channel] += purpose is None or (customer_id, purpose, channel) in granted
    return [
        AudienceSize(
            audience=audience.id,
            members=members[audience.id],
            unknown=unknown[audience.id],
            customers=met,
            reachable=reachable[audience.id],
            minimum=dict(audience.minimum_size),
        )
        for audience in audiences
    ]


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


def _newest(path: Any, key: str, kinds: Mapping[str, FeatureKind], *, now: datetime) -> Iterator[tuple[str, Features]]:
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


def _granted(changes: Iterable[ConsentChange]) -> set[tuple[str, str, str]]:
    """Customer, purpose and channel of every consent that stands."""
    last: dict[tuple[str, str, str], ConsentChange] = {}
    for change in changes:
        key = (change.customer_id, change.purpose, change.channel)
        if key not in last or last[key].at <= change.at:
            last[key] = change
    return {key for key, change in last.items() if change.granted}
