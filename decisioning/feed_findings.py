"""What is the matter with the sources: silence, names without a meaning, and properties that are not what they were."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from decisioning.content import Content
from decisioning.event_content import Source
from decisioning.feeds import HOUR, OUTCOME, FeedCount, Watched, watched

Level = Literal["ok", "note", "warning", "error"]
# What properties are now is told from what they were: by the last week and all that was before.
LATELY = timedelta(days=7)
FEWEST = 30  # events, before anything is said of their properties
SHARE_MISSING = 0.2  # more of them than before
SHARE_KIND = 0.01
SHARE_DUPLICATE = 0.2
SHARE_REJECTED = 0.05
MOST_NAMES = 10
UNLEARNT = "decisions that need them are not learnt from meanwhile; if others bring them now, say so in sources.yaml"
_KIND = "type:"  # begins what is counted of properties


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line: how bad it is, what it is about, what was found, and what to do."""

    level: Level
    subject: str
    found: str
    to_do: str = ""


def feed_findings(
    counts: Sequence[FeedCount], content: Content, *, now: datetime, unlisted: Collection[str] = ()
) -> list[Finding]:
    """Lines on each source that was heard of or is declared, by `counts` of the last eight weeks.

    `unlisted` are names of callers that are no systems of others, and need not stand in the catalogue.
    """
    declared = {source.id: source for source in content.sources}
    hooks = {hook.id: hook.owner for hook in content.hooks}
    by_source: dict[str, list[FeedCount]] = defaultdict(list)
    for each in counts:
        by_source[each.source].append(each)
    arrived = [each for each in counts if each.what == "received"]
    zone = content.time_zone
    wholes = {feed.source: feed for feed in watched(arrived, now=now, time_zone=zone, whole_sources=True)}
    feeds: dict[str, list[Watched]] = defaultdict(list)
    for feed in watched(arrived, now=now, time_zone=zone):
        feeds[feed.source].append(feed)
    found: list[Finding] = []
    for name in sorted(by_source.keys() | declared.keys() | hooks.keys()):
        source, told = declared.get(name), by_source.get(name, [])
        owner = source.owner if source else hooks.get(name, "unknown")
        found += _heard(name, told, wholes.get(name), feeds[name], owner, now)
        if told and source is None and name not in hooks and name not in unlisted:
            said = f"sources: [{{id: {name}, owner: ...}}]"
            found.append(Finding("note", name, "tells and is not in the catalogue", f"say who it is: {said}"))
        found += _never_told(name, told, source)
        found += _unmapped(name, told)
        found += _shares(name, told, now)
        found += _properties(name, told, now)
    return found


def _heard(
    name: str, told: Sequence[FeedCount], whole: Watched | None, feeds: Iterable[Watched], owner: str, now: datetime
) -> Iterator[Finding]:
    """Whether it is as alive as ever."""
    last = max((each.last_at for each in told if each.what == "received"), default=None)
    if last is None:
        if not told:
            yield Finding(
                "warning", name, "is declared and was not heard of for eight weeks", f"ask {owner}, or take it out"
            )
        return
    said = f"last heard {last:%Y-%m-%d %H:%M} UTC, {_in_words(now - last)} ago"
    if whole is not None:
        day = sum(whole.counts[-24:])
        usual = float(whole.rhythm.expected[-24:].sum())
        said += f"; {day:,} in the last 24 whole hours" + (f", usually {usual:,.0f}" if usual else "")
    silent = whole.gaps[-1] if whole is not None and whole.gaps and whole.gaps[-1].until is None else None
    if silent is None:
        yield Finding("ok", name, said)
    else:
        yield Finding(
            "warning",
            name,
            f"has stopped, or nearly so, since {silent.begin:%Y-%m-%d %H:%M} UTC; {said}",
            f"ask {owner}",
        )
    for feed in feeds:
        gap = feed.gaps[-1] if feed.gaps else None
        if gap is None or gap.until is not None:
            continue
        if feed.name.startswith(OUTCOME):
            yield Finding("warning", name, str(gap), f"ask {owner}; {UNLEARNT}")
        elif silent is None:
            yield Finding("warning", name, str(gap), f"ask {owner}")


def _never_told(name: str, told: Iterable[FeedCount], source: Source | None) -> Iterator[Finding]:
    known = {each.name for each in told}
    for kind in source.outcomes if source else ():
        if known and OUTCOME + kind not in known:
            yield Finding(
                "warning",
                name,
                f"declares outcomes '{kind}' and told none in eight weeks",
                f"mend it, or take '{kind}' out of its outcomes",
            )


def _unmapped(name: str, told: Iterable[FeedCount]) -> Iterator[Finding]:
    names: Counter[str] = Counter()
    for each in told:
        if each.what == "unmapped":
            names[each.name] += each.count
    if not names:
        return
    shown = [said for said, _ in names.most_common(MOST_NAMES)]
    meanings = ", ".join(f"{msgspec.json.encode(said).decode()}: ..." for said in shown)
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    listed = ", ".join(f"'{said}' ({names[said]:,})" for said in shown)
    yield Finding(
        "warning",
        name,
        f"nobody has said what these events mean: {listed}{more}",
        f"sources: [{{id: {name}, events: {{{meanings}}}}}], or ignored: [...]",
    )


def _shares(name: str, told: Iterable[FeedCount], now: datetime) -> Iterator[Finding]:
    lately: Counter[str] = Counter()
    for each in told:
        if each.hour >= now - LATELY:
            lately[each.what] += each.count
    received, rejected = lately["received"], lately["rejected"]
    if received >= FEWEST and lately["duplicate"] > SHARE_DUPLICATE * received:
        yield Finding(
            "warning",
            name,
            f"{lately['duplicate'] / received:.0%} of what it told in the last week was told before",
            "nothing counts twice, but find out why it sends again: answers that it does not get, or ids used twice",
        )
    if lately["unconverted"]:
        yield Finding(
            "warning",
            name,
            f"the money of {lately['unconverted']:,} events of the last week is in a currency without a rate",
            "add it to the catalogue's rates",
        )
    if rejected and rejected > SHARE_REJECTED * (received + rejected):
        yield Finding(
            "warning",
            name,
            f"{rejected:,} of {received + rejected:,} that it told in the last week were rejected",
            "the answers to its calls say why",
        )


def _properties(name: str, told: Iterable[FeedCount], now: datetime) -> Iterator[Finding]:
    """Properties that are missing, or of another kind than before."""
    recent, before = _Seen(), _Seen()
    first: dict[tuple[str, str, str], datetime] = {}
    for each in told:
        (recent if each.hour >= now - LATELY else before).add(each)
        if each.what.startswith(_KIND) and each.hour >= now - LATELY:
            key = each.name, *_property_of(each.what)
            first[key] = min(first.get(key, each.hour), each.hour)
    for event, called in sorted(recent.kinds.keys() | before.kinds.keys()):
        now_of, then_of = recent.kinds.get((event, called), {}), before.kinds.get((event, called), {})
        missing, was = recent.missing(event, called), before.missing(event, called)
        if missing is not None and was is not None and missing > was + SHARE_MISSING:
            yield Finding(
                "warning",
                name,
                f"'{called}' of '{event}' is missing or null in {missing:.0%} of the last week, was in {was:.0%}",
                "ask for it, or do not build on it",
            )
        usual, kinds = _kinds(then_of), _kinds(now_of)
        other = [kind for kind in kinds if kind not in usual] if usual else kinds[1:]
        for kind in other:
            since = first[event, called, kind]
            yield Finding(
                "warning",
                name,
                f"'{called}' of '{event}' is {kind} in {now_of[kind]:,} events since {since:%Y-%m-%d %H:%M} UTC,"
                f" {' and '.join(usual or kinds[:1])} otherwise",
                "rules and features that expect the one do not see the other",
            )


class _Seen:
    """How often each property of each event was of which kind, and how many events there were."""

    def __init__(self) -> None:
        self.kinds: dict[tuple[str, str], dict[str, int]] = {}
        self._events: Counter[str] = Counter()

    def add(self, each: FeedCount) -> None:
        if each.what == "received":
            self._events[each.name] += each.count
        elif each.what.startswith(_KIND):
            called, kind = _property_of(each.what)
            kinds = self.kinds.setdefault((each.name, called), {})
            kinds[kind] = kinds.get(kind, 0) + each.count

    def missing(self, event: str, called: str) -> float | None:
        """Which share of the events lacks it; None of too few."""
        events = self._events[event]
        if events < FEWEST:
            return None
        kinds = self.kinds.get((event, called), {})
        return max(0.0, 1.0 - sum(count for kind, count in kinds.items() if kind != "null") / events)


def _kinds(counts: Mapping[str, int]) -> list[str]:
    """The kinds that are no exceptions, the most frequent first."""
    some = {kind: count for kind, count in counts.items() if kind != "null"}
    total = sum(some.values())
    if total < FEWEST:
        return []
    return sorted((k for k, count in some.items() if count >= SHARE_KIND * total), key=lambda k: (-some[k], k))


def _property_of(what: str) -> tuple[str, str]:
    called, _, kind = what.removeprefix(_KIND).rpartition(":")
    return called, kind


def _in_words(ago: timedelta) -> str:
    """Roughly.

    >>> _in_words(timedelta(minutes=12)), _in_words(timedelta(hours=30)), _in_words(timedelta(days=9))
    ('12 min', '30 h', '9 days')
    """
    if ago < 2 * HOUR:
        return f"{max(0, ago // timedelta(minutes=1))} min"
    return f"{ago // HOUR} h" if ago < timedelta(days=3) else f"{ago.days} days"
