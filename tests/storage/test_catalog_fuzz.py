"""Whatever stands in a catalogue's files, reading them gives a release or the mistakes, and soon."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decisioning.catalog import Release
from decisioning.content import FeatureTypes
from decisioning.errors import CatalogError
from storage.catalog_files import decode_release, read_release

VALID: dict[str, Any] = yaml.safe_load("""
domain: shop
currency: EUR
rates: {CHF: 1.05}
language: en
time_zone: Europe/Berlin
continuity: PT4H
locked: ["actions.*.eligibility", budgets]
groups: [cards, other]
goals: [sell]
channels: [{id: web}, {id: email, requires_consent: marketing}]
placements:
  - id: hero
    channel: web
    slots: 2
    reward: {click: 1, purchase: value}
    exploration: {policy: squarecb, gamma: 100.0}
    priority_scale: 10
actions:
  - id: loan
    name: Loan
    group: cards
    goal: sell
    owner: anna
    approved_by: ben
    status: live
    valid_from: 2026-01-01T00:00:00Z
    value: "customer.age * 2 + action.margin"
    eligibility: "customer.age > 18 && in_audience('old')"
    context_weights: [{when: "has(context.page) && context.page == 'cart'", weight: 2}]
    attributes: {margin: 2.5, size: "l"}
    promotes: [loan]
    again_after: P30D
    stages: [new]
    budget: money
    cost: 1
    follow_up: card
    treatments:
      - {id: loan_web, channel: web, content: {text: Loan}, locales: {de: {text: Kredit}}, placements: [hero]}
  - {id: card, name: Card, group: cards, goal: sell, currency: CHF, value: 4}
budgets: [{id: money, owner: anna, amount: 10, period: P7D, starts: 2026-01-01T00:00:00Z, pacing: even}]
contact_policies: [{id: weekly, limit: 3, within: P7D, per: channel, only: email}]
cool_downs: [{id: rest, after: reject, lasting: P7D}]
quiet_hours: [{id: night, begin: "21:00", end: "08:00", days: [1, 2]}]
journeys:
  - id: j
    stages: [{id: new, name: New, entry: "customer.age > 1", weights: {loan: 2}}, {id: done, name: Done}]
    transitions: [{source: new, target: done, 'on': "accept:loan"}]
audiences: [{id: old, rule: "customer.age > 60", exclusions: [young]}, {id: young, rule: "customer.age < 30"}]
experiments: [{id: copy, status: running, variants: [{id: a, weight: 1}, {id: b, weight: 1}]}]
event_features:
  - {id: orders, event: purchase, compute: count, windows: [PT1H, P30D], by: category, values: [shoes]}
  - {id: last_country, event: purchase, compute: last, of: country, kind: text}
approvers: [{person: ben, groups: [cards]}]
""")
MARKET: dict[str, Any] = {
    "currency": "CHF",
    "language": "de",
    "actions": [{"id": "loan", "name": "Kredit", "treatments": [{"id": "loan_web", "content": {"text": "Kredit"}}]}],
}
FEATURES = FeatureTypes(customer={"age": "number", "city": "text", "sites": "texts", "vip": "truth"})
ODD: list[Any] = [
    None, True, 0, -1, 1e308, 2**63, 10**400, "", " ", "x" * 5000, "é😀", "\u2028", "no", "21:00", [], {}, [[]], [{}],
    {"id": 1}, {"id": "loan"}, "P99999999999D", "PT0S", "-P1D", "2026-01-01", "0001-01-01T00:00:00+14:00", "(" * 900,
    "!" * 1900 + "true", "customer.age ** 2", "in_audience('old') || in_audience(\"nobody\")", "action", "'",
    "true // ) ||", "true) || (true", "[1].map(x, [1].map(y, y))", "1 / 0 > 1", "customer.sites.all(x, true)", "*",
    "a{99999999999}", "Mars/Base",
]  # fmt: skip
RAW = [
    "", ":", "- - - -", "%YAML 1.1\n---", "--- a\n--- b", "!!python/object:os.system x", "&a [*a]", "{" * 3000,
    "- " * 3000 + "x", "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: &d [*c, *c]", "<<: 3", "<<: [1, {a: 2}]",
    "? {a: b}\n: c", "\ta: b", 'name: "\\ud800"', "a: !!binary x", "a: !!timestamp x", "a: !!int x", "a: !!float x",
    "a: 0b2", "a: 1_0:99", "\ufeffdomain: shop", "domain: \x00", "a: |\n x\n  y\n z", "a: 'x", "key: [", "=: =", "a: =",
    "actions: !!set {a}", "actions: !!omap [a: b]",
]  # fmt: skip
FUZZ = settings(
    max_examples=120,
    derandomize=True,
    deadline=10_000,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def outcome(blueprint: bytes, market: bytes | None = None) -> Release | CatalogError:
    """What reading these files gives; anything but these two is the test's failure."""
    with tempfile.TemporaryDirectory() as folder:
        shop = Path(folder) / "shop"
        (shop / "global").mkdir(parents=True)
        (shop / "global" / "all.yaml").write_bytes(blueprint)
        if market is not None:
            (shop / "markets" / "ch").mkdir(parents=True)
            (shop / "markets" / "ch" / "own.yaml").write_bytes(market)
        try:
            blob, release = read_release(shop, features=FEATURES)
        except CatalogError as error:
            return error
        assert decode_release(blob).version == release.version
        return release


def dumped(content: Any) -> bytes:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path of the value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner for key, child in items for inner in places(child, (*path, key)))]


def changed(content: Any, path: tuple[Any, ...], change: str, odd: Any) -> Any:
    """The content with one place dropped, doubled, renamed or replaced."""
    if not path:
        return odd if change == "replace" else content
    key, *rest = path
    copy = dict(content) if isinstance(content, dict) else list(content)
    if rest:
        copy[key] = changed(copy[key], tuple(rest), change, odd)
    elif change == "drop":
        del copy[key]
    elif change == "double":
        if isinstance(copy, list):
            copy.append(copy[key])
        else:
            copy[f"{key}_"] = copy[key]
    elif change == "nest":
        copy[key] = [copy[key]] if isinstance(odd, list) else {"x": copy[key]}
    else:
        copy[key] = odd
    return copy


CHANGES = st.sampled_from(["drop", "double", "nest", "replace", "replace", "replace"])
ODDITIES = st.one_of(
    st.sampled_from(ODD),
    st.text(max_size=30),
    st.floats(),
    st.integers(),
    st.text(alphabet="customer.age action&|!=<>()[]'\"\\/ 0123456789?:,+-*%", max_size=40),
)


def test_the_catalogue_that_is_changed_is_valid() -> None:
    assert isinstance(outcome(dumped(VALID), dumped(MARKET)), Release)


@FUZZ
@given(st.data())
def test_a_changed_catalogue_is_valid_or_its_mistakes_are_told(data: st.DataObject) -> None:
    content, market = VALID, MARKET
    for _ in range(data.draw(st.integers(1, 3))):
        in_market = data.draw(st.integers(0, 3)) == 0
        target = market if in_market else content
        path = data.draw(st.sampled_from(places(target)))
        target = changed(target, path, data.draw(CHANGES), data.draw(ODDITIES))
        content, market = (content, target) if in_market else (target, market)
        if not isinstance(content, dict) or not isinstance(market, dict):
            break

    outcome(dumped(content), dumped(market))


@FUZZ
@given(st.data())
def test_a_damaged_file_is_valid_or_its_mistakes_are_told(data: st.DataObject) -> None:
    text = dumped(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.integers(0, 20))
        put_in = data.draw(st.one_of(st.binary(max_size=8), st.sampled_from([each.encode() for each in RAW])))
        text = text[:start] + put_in + text[end:]

    outcome(text, dumped(MARKET))


@FUZZ
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "ignore"))))
def test_bytes_of_any_kind_are_told(content: bytes) -> None:
    assert isinstance(outcome(content), CatalogError)
    assert isinstance(outcome(dumped(VALID), content), Release | CatalogError)


@pytest.mark.parametrize("text", RAW)
def test_odd_yaml_is_told(text: str) -> None:
    assert isinstance(outcome(text.encode()), CatalogError)
    outcome(dumped(VALID), text.encode())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1", "utf-8-sig"])
def test_another_encoding_is_told_or_read(encoding: str) -> None:
    text = yaml.safe_dump({**VALID, "time_zone": "Zürich"}, allow_unicode=True)

    assert isinstance(outcome(text.encode(encoding)), CatalogError)


def test_aliases_of_aliases_are_not_expanded() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 30):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"

    found = outcome(bomb.encode())

    assert isinstance(found, CatalogError)
    assert "more than 100,000 values" in found.mistakes[0]


def test_audiences_that_exclude_all_before_them_are_not_expanded() -> None:
    names = [f"a{number}" for number in range(60)]
    audiences = [
        {"id": name, "rule": "customer.age > 1.0", "exclusions": names[:number]} for number, name in enumerate(names)
    ]

    found = outcome(dumped({**VALID, "audiences": [*VALID["audiences"], *audiences]}))

    assert isinstance(found, CatalogError)
    assert "characters with them" in found.mistakes[0]


@FUZZ
@given(st.binary(max_size=300))
def test_published_bytes_of_any_kind_are_told(blob: bytes) -> None:
    with pytest.raises(CatalogError):
        decode_release(blob)
