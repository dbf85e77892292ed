"""A market's catalogue: the blueprint with what the market's files say instead.

Keys of mappings are merged one by one, lists of entries by the entries' ids; other values, and lists
of other things, replace the blueprint's. Nothing is deleted: an action is retired by its status.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from decisioning.catalog_findings import ENTRIES
from decisioning.content import Action
from storage.yaml_file import Node, plain

Path = tuple[str, ...]
# What makes two mappings say different things altogether, so that their other keys do not mix.
_TAG = "policy"


@dataclass(frozen=True, slots=True)
class Override:
    """Something that a market says; `added`: the blueprint has no such entry."""

    path: Path
    node: Node
    added: bool = False


@dataclass(slots=True)
class Overlay:
    """The blueprint and a market's files, merged.

    Attributes:
        root: The market's whole catalogue; each value knows the file that it comes from.
        overrides: What the market says.
        mistakes: Ids that stand twice in the market's files.
    """

    root: Node = field(default_factory=lambda: Node("", {}))
    overrides: list[Override] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)

    def says(self, *path: str) -> bool:
        """Whether the market's files say this, or added the whole entry that it is in."""
        return any(each.path == path or (each.added and path[: len(each.path)] == each.path) for each in self.overrides)


def overlaid(blueprint: Node, market: Node) -> Overlay:
    """The market's catalogue. Fields that a market cannot have are left to whoever converts it."""
    result = Overlay()
    result.root = _merged(blueprint, market, (), result)
    return result


def _merged(base: Node, over: Node, path: Path, result: Overlay) -> Node:
    if isinstance(base.value, dict) and isinstance(over.value, dict) and _same_kind(base, over):
        values: dict[str, Node] = dict(base.value)
        for key, node in over.value.items():
            if key in values:
                values[key] = _merged(values[key], node, (*path, key), result)
            elif not (isinstance(node.value, list) and _by_id(node)):
                values[key] = node
                result.overrides.append(Override((*path, key), node))
            else:
                values[key] = _merged(Node(node.at, []), node, (*path, key), result)
        return Node(base.at, values)
    if isinstance(base.value, list) and over.value is None and len(path) == 1:
        return base  # a key whose entries are all commented out
    if isinstance(base.value, list) and isinstance(over.value, list) and _by_id(base) and _by_id(over):
        return _merged_entries(base, over, path, result)
    result.overrides.append(Override(path, over))
    return over


def _merged_entries(base: Node, over: Node, path: Path, result: Overlay) -> Node:
    entries: dict[Any, Node] = {
        item.identity if item.identity else place: item for place, item in enumerate(base.value)
    }
    twice = len(entries) != len(base.value)  # the blueprint's own mistake, told there
    met: dict[str, str] = {}
    for item in over.value:
        name = item.identity or ""
        if name in met:
            result.mistakes.append(f"{item.at}: {_shown((*path, name))}: the id is used twice, first in {met[name]}")
            continue
        met[name] = item.at
        if name not in entries:
            result.overrides.append(Override((*path, name), item, added=True))
            entries[name] = item
            continue
        entries[name] = _merged(entries[name], _without_id(item), (*path, name), result)
    return base if twice else Node(base.at, list(entries.values()))


def _without_id(item: Node) -> Node:
    return Node(item.at, {key: node for key, node in item.value.items() if key != "id"})


def _by_id(node: Node) -> bool:
    return all(isinstance(item.value, dict) and "id" in item.value for item in node.value)


def _same_kind(base: Node, over: Node) -> bool:
    return _TAG not in over.value or _TAG not in base.value or plain(base.value[_TAG]) == plain(over.value[_TAG])


def lock_mistakes(overlay: Overlay, locked: Node | None) -> list[str]:
    """What the market overrides although the blueprint locks it, with where each says so."""
    if locked is None or not isinstance(locked.value, list):
        return []
    return [
        f"{override.node.at}: {_shown(override.path)}: is locked by '{lock.value}' in {lock.at}; take it out here"
        for override in overlay.overrides
        for lock in locked.value
        if isinstance(lock.value, str) and _locks(lock.value, override)
    ]


def _locks(lock: str, override: Override) -> bool:
    """Whether the lock is on what is overridden, on what it is in, or, where all of it is replaced, inside it.

    >>> _locks("actions.*.eligibility", Override(("actions", "loan", "eligibility"), Node("", "true")))
    True
    >>> _locks("actions.loan", Override(("actions", "card", "name"), Node("", "Card")))
    False
    """
    rest: str | None = lock
    for step in override.path:
        if not rest:
            return True
        rest = _after(rest, step)
        if rest is None:
            return False
    # A new entry's own fields are nobody's to lock; they override nothing.
    return not rest or not override.added


def _after(lock: str, step: str) -> str | None:
    """What is left of the lock's path behind this step; ids may have dots of their own."""
    for name in (step, "*"):
        if lock == name or lock.startswith(f"{name}."):
            return lock[len(name) + 1 :]
    return None


def budget_mistakes(blueprint: Node, markets: Mapping[str, Overlay]) -> list[str]:
    """What markets say that would give a budget of everyone's two amounts for one count of spending.

    What is spent is counted by the budget's id, over all markets together.
    """
    mistakes: list[str] = []
    first: dict[str, tuple[str, Override]] = {}  # budgets of markets' own
    for market, overlay in markets.items():
        for override in overlay.overrides:
            if override.path[0] != "budgets" or len(override.path) < 2:
                continue
            budget, field_names = override.path[1], override.path[2:]
            if override.added:
                other, its = first.setdefault(budget, (market, override))
                if other != market and (_is_everyones(its.node) or _is_everyones(override.node)):
                    mistakes.append(
                        f"{override.node.at}: {_shown(override.path)}: market {other} has a budget of this id too"
                        f" ({its.node.at}), and spending is counted over all markets together; give it another id,"
                        " or put it into the blueprint"
                    )
            elif field_names != ("owner",) and any(
                _is_everyones(entry) for root in (blueprint, overlay.root) for entry in _entries(root, budget)
            ):
                mistakes.append(
                    f"{override.node.at}: {_shown(override.path)}: what is spent of this budget is counted over all"
                    " markets together, so a market may only name another owner; take it out here, or add a budget"
                    " of the market's own"
                )
    return mistakes


def _entries(root: Node, budget: str) -> list[Node]:
    listed = root.value["budgets"].value
    return [entry for entry in listed if entry.identity == budget] if isinstance(listed, list) else []


def _is_everyones(budget: Node) -> bool:
    return "of" not in budget.value or budget.value["of"].value == "everyone"


def _shown(path: Iterable[str]) -> str:
    """A path for people: entries in brackets, fields after dots.

    >>> _shown(("actions", "loan", "treatments", "loan_web", "channel"))
    'actions[loan].treatments[loan_web].channel'
    """
    shown, in_list = "", False
    for step in path:
        shown += f"[{step}]" if in_list else f".{step}" if shown else step
        in_list = not in_list and step in _ENTRY_LISTS
    return shown


_ENTRY_LISTS = frozenset((*ENTRIES, "treatments", "stages", "variants"))


def market_values(values: Mapping[str, Any], overlay: Overlay, *, market: str, currency: str) -> dict[str, Any]:
    """The market's content: what it writes is in its currency, what it inherits stays in the blueprint's.

    `currency` is the blueprint's, in which priorities are.
    """
    own = values["currency"] if overlay.says("currency") else None
    written = {
        override.path[1]
        for override in overlay.overrides
        if override.path[0] == "actions" and (override.added or override.path[2:] == ("value",))
    }
    named = {
        override.path[1]
        for override in overlay.overrides
        if override.path[0] == "actions" and override.path[2:] == ("currency",)
    }

    def priced(action: Action) -> Action:
        if action.id in written and action.id not in named and not _names_currency(overlay, action):
            return msgspec.structs.replace(action, currency=own or currency)
        if action.currency is None and own is not None:
            return msgspec.structs.replace(action, currency=own if action.id in named else currency)
        return action

    actions = tuple(priced(action) for action in values.get("actions", ()))
    return {**values, "market": market, "currency": currency, "market_currency": own, "actions": actions}


def _names_currency(overlay: Overlay, action: Action) -> bool:
    """Whether an action of the market's own says which currency its value is in."""
    return action.currency is not None and any(
        override.added and override.path == ("actions", action.id) for override in overlay.overrides
    )
