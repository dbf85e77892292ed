"""What differs between two catalogues: a market and its blueprint, or a release and the one before."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from decisioning.content import Content

# What identifies a catalogue rather than what it says; `features` are Feast's.
_NOT_COMPARED = ("market", "features", "domain")
_NOTHING: Any = object()


class Difference(NamedTuple):
    """One path that the two do not agree on; `before` or `after` is None where it is not there."""

    path: str
    before: Any
    after: Any


def differences(before: Content, after: Content) -> list[Difference]:
    """Where the second catalogue is not the first, entries found by their ids, in the catalogue's order."""
    return list(_different("", _comparable(before), _comparable(after)))


def release_notes(
    market: str, before: Content | None, after: Content | None, *, version: str, reason: str, previous: str | None
) -> str:
    """What a release changes in a market, as Markdown for whoever wrote the catalogue."""
    lines = [f"# {market}: {version[:19]}", "", f"- Reason: {' '.join(reason.split())}"]
    lines.append(f"- Before: {previous[:19] if previous else 'nothing'}")
    if before is None or after is None:
        return "\n".join([*lines, "", "The market is new." if before is None else "The market is gone.", ""])
    changes = differences(before, after)
    if not changes:
        return "\n".join([*lines, "", "Nothing changed here.", ""])
    for kind in dict.fromkeys(_kind(change) for change in changes):
        lines += ["", f"## {kind}", ""]
        lines += [_line(change) for change in changes if _kind(change) == kind]
    return "\n".join([*lines, ""])


def readable(content: Content) -> dict[str, Any]:
    """The whole catalogue as plain values, without what is empty."""
    said: dict[str, Any] = _filled(msgspec.to_builtins(msgspec.structs.replace(content, features=None)))
    return said


def in_words(value: Any) -> str:
    """A value in one line.

    >>> in_words(None), in_words("a"), in_words(["a", 1.5]), in_words(True)
    ('-', 'a', '[a, 1.5]', 'true')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(in_words, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {in_words(each)}' for key, each in value.items())}}}"
    return " ".join(str(value).split())


def _comparable(content: Content) -> dict[str, Any]:
    """Plain values, with each action's currency, whichever way the catalogue says it."""
    said: dict[str, Any] = {k: v for k, v in msgspec.to_builtins(content).items() if k not in _NOT_COMPARED}
    said["currency"] = said.pop("market_currency") or content.currency
    for action in said["actions"]:
        action["currency"] = action["currency"] or said["currency"]
    return said


def _different(path: str, before: Any, after: Any) -> Iterator[Difference]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys((*before, *after)):
            inner = f"{path}.{key}" if path else key
            yield from _different(inner, before.get(key, _NOTHING), after.get(key, _NOTHING))
    elif _by_id(before) and _by_id(after):
        first, second = ({each["id"]: each for each in entries} for entries in (before, after))
        for key in dict.fromkeys((*first, *second)):
            yield from _different(f"{path}[{key}]", first.get(key, _NOTHING), second.get(key, _NOTHING))
    else:
        yield Difference(path, *(None if value is _NOTHING else _filled(value) for value in (before, after)))


def _by_id(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, dict) and "id" in each for each in value)


def _filled(value: Any) -> Any:
    """Without fields that say nothing."""
    if isinstance(value, dict):
        return {key: _filled(each) for key, each in value.items() if each not in (None, [], {}, ())}
    return [_filled(each) for each in value] if isinstance(value, list | tuple) else value


def _kind(change: Difference) -> str:
    return change.path.split("[")[0].split(".")[0]


def _line(change: Difference) -> str:
    if change.before is None and isinstance(change.after, dict):
        return f"- `{change.path}` is new: {_fenced(change.after)}"
    if change.after is None and isinstance(change.before, dict):
        return f"- `{change.path}` is gone"
    return f"- `{change.path}`: {_fenced(change.before)} -> {_fenced(change.after)}"


def _fenced(value: Any) -> str:
    """Code that may hold backticks itself."""
    said = in_words(value)
    fence = "`" * (max((len(run) for run in _backticks(said)), default=0) + 1)
    padding = " " if said.startswith("`") or said.endswith("`") else ""
    return f"{fence}{padding}{said}{padding}{fence}"


def _backticks(text: str) -> list[str]:
    return re.findall("`+", text)
