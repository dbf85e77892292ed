"""How an explained decision looks in a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from rich import box
from rich.table import Table

from decisioning.catalog import Catalog
from decisioning.explain import BY_RESPONSE, BY_UPLIFT, Explanation, explain
from decisioning.preferences import Preferences
from decisioning.reasons import STEPS
from decisioning.record import DecisionRecord
from nextmove.console import out


def as_document(record: DecisionRecord) -> dict[str, Any]:
    """The explanation for machines, with who, where and when."""
    found = msgspec.to_builtins(explain(record))
    found["dropped"] = [
        {name: getattr(drop, name) for name in drop.__struct_fields__} for drop in record.dropped
    ]  # the ledger keeps them as arrays
    return {
        "decision_id": record.decision_id,
        "decided_at": record.decided_at.isoformat(),
        "customer_id": record.customer_id,
        "placement": record.placement,
        "reason": record.reason,
        "catalog_version": record.catalog_version,
        **found,
    }


def print_explanation(record: DecisionRecord, catalog: Catalog | None) -> None:
    """Who, where and when; what was read; every candidate, every drop, and what losers lacked.

    `catalog` gives actions their names; without it ids stand alone.
    """
    found = explain(record)
    out.print(f"decision {record.decision_id}: {record.reason}")
    out.print(found.how)
    _print_pairs("Asked", _asked(record))
    _print_pairs("Read", _read(record))
    _print_candidates(found, catalog)
    _print_drops(found)
    if found.losers:
        _print_rows(
            "The best that lost, and what alone would have brought them level",
            ("action", "priority", "chance", "what would have to change"),
            [(each.action_id, f"{each.priority:.4g}", f"{each.chance:.3f}", each.why) for each in found.losers],
        )


def _asked(record: DecisionRecord) -> list[tuple[str, str]]:
    planned = record.contact_at not in (None, record.decided_at)
    context = ", ".join(f"{name} = {value!r}" for name, value in record.request.context.items())
    return [
        ("customer", record.customer_id + (f", account {record.account_id}" if record.account_id else "")),
        *([("asked about", asked_about)] if (asked_about := record.request.unit) != record.customer_id else []),
        ("where", f"{record.placement} ({record.channel}), market {record.market}"),
        ("when", record.decided_at.isoformat() + (f", to be met {record.contact_at}" if planned else "")),
        ("context", context or "none"),
        ("catalogue", record.catalog_version),
        ("model", f"{record.model.name} {record.model.version}" if record.model else "none"),
    ]


def _read(record: DecisionRecord) -> list[tuple[str, str]]:
    if not record.known:
        stored = "the customer is not known" if record.readable else "stored features could not be read"
    else:
        stored = f"as of {record.features_as_of.isoformat()}" if record.features_as_of else "of unknown age"
    features = ", ".join(f"{name} = {value!r}" for name, value in sorted(record.features.items()) if value is not None)
    pairs = [
        ("features", f"{features or 'none'} ({stored})"),
        ("overridden", ", ".join(record.overridden) or "none: no feature was supplied by the request"),
    ]
    if record.account:
        account = ", ".join(
            f"{name} = {value!r}" for name, value in sorted(record.account.items()) if value is not None
        )
        pairs.append(("account", account))
    assigned = [f"{a.experiment} = {a.variant} (probability {a.probability:.3g})" for a in record.assignments]
    pairs += [
        ("experiments", ", ".join(assigned) or "none"),
        ("holdout", "yes: the universal control" if record.reason == "HOLDOUT" else "no"),
        ("journey stages", ", ".join(record.stages) or "none"),
    ]
    if not record.hot_known:
        return [*pairs, ("hot state", "could not be read: nothing is known of consents, contacts and budgets")]
    contacts = [contact for contact in record.contacts if contact.is_counted]
    consents = [f"{consent.purpose} on {consent.channel}" for consent in record.consents]
    last = ", ".join(f"{contact.action_id} {contact.at:%Y-%m-%d %H:%M}" for contact in contacts[-5:])
    told = f"{len(contacts)} of the last 30 days" + (f", the last: {last}" if last else "")
    if record.account_contacts:
        told += f"; {len(record.account_contacts)} of others in the account"
    return [
        *pairs,
        ("consents", ", ".join(consents) or "none"),
        ("said no to", ", ".join(f"{word.purpose} on {word.channel}" for word in record.withdrawn) or "nothing"),
        ("wishes", _wishes(record.preferences)),
        ("suppressed", ", ".join(record.suppressed) or "nowhere"),
        ("contacts", told),
        ("purchases", ", ".join(f"{p.product} {p.at:%Y-%m-%d}" for p in record.purchases) or "none"),
        ("budgets", ", ".join(f"{b.budget}: {b.left:,.2f} left" for b in record.budgets) or "none of everyone's"),
        ("paused", ", ".join(record.paused) or "none"),
    ]


def _wishes(preferences: Preferences | None) -> str:
    if preferences is None:
        return "none"
    topics, frequency = preferences.topics, preferences.frequency
    said = [] if topics.include is None else [f"only {', '.join(topics.include) or 'nothing'}"]
    said += [f"no {group}" for group in topics.exclude]
    if frequency is not None:
        said.append(f"at most {frequency.limit} messages within {msgspec.to_builtins(frequency.within)}")
    return "; ".join(said) or "none"


def _print_candidates(found: Explanation, catalog: Catalog | None) -> None:
    if not found.candidates:
        return
    names = {action.id: action.name for action in catalog.content.actions} if catalog is not None else {}
    by_uplift = any(each.terms == BY_UPLIFT for each in found.candidates)
    uplift = "; where it says so, uplift in propensity's place" if by_uplift else ""
    _print_rows(
        f"Candidates: {BY_RESPONSE} = priority{uplift}",
        ("slot", "rank", "action", "formula", "probability", "why"),
        [
            (
                str(each.slot or ""),
                str(each.rank or ""),
                _named(each.action_id, names),
                each.formula or "not scored",
                f"{each.probability:.4f}" if each.probability is not None else "",
                each.why,
            )
            for each in found.candidates
        ],
    )  # fmt: skip


def _named(action_id: str, names: Mapping[str, str]) -> str:
    name = names.get(action_id, action_id)
    return action_id if name == action_id else f"{action_id} ({name})"


def _print_drops(found: Explanation) -> None:
    if not found.dropped:
        out.print("no action was dropped")
        return
    order = sorted(found.dropped, key=lambda drop: STEPS.index(drop.step))
    _print_rows(
        "Dropped, by step",
        ("step", "action", "reason", "detail"),
        [(drop.step, drop.action_id, drop.reason, drop.detail) for drop in order],
    )


def _print_pairs(title: str, pairs: Iterable[tuple[str, str]]) -> None:
    _print_rows(title, ("", ""), list(pairs))


def _print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)
