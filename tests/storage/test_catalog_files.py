"""A catalogue's files become one content; every mistake is named with its file and line."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from decisioning.content import FeatureTypes
from decisioning.errors import CatalogError
from storage.catalog_files import decode_release, read_release

SHOP = """\
domain: shop
currency: EUR
groups: [cards]
goals: [sell]
channels:
  - {id: web}
placements:
  - id: home_hero
    channel: web
    reward: {click: 1}
    priority_scale: 10
actions:
  - id: gold_card
    name: Gold card
    group: cards
    goal: sell
    status: live
    treatments:
      - {id: gold_card_web, channel: web, content: {headline: Gold}}
"""
MORE = """\
actions:
  - id: silver_card
    name: Silver card
    group: cards
    goal: sell
"""


def folder(tmp_path: Path, **files: str) -> Path:
    (tmp_path / "shop" / "global").mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / "shop" / "global" / f"{name}.yaml").write_text(text)
    return tmp_path / "shop"


def mistakes(tmp_path: Path, **files: str) -> list[str]:
    with pytest.raises(CatalogError) as raised:
        read_release(folder(tmp_path, **files))
    return raised.value.mistakes


def test_lists_are_joined_over_files(tmp_path: Path) -> None:
    _, release = read_release(folder(tmp_path, a=SHOP, b=MORE, c="", d="actions:\n  # none yet\n"))

    assert list(release.blueprint.actions) == ["gold_card", "silver_card"]


def test_the_published_bytes_decode_to_the_same_catalogue(tmp_path: Path) -> None:
    blob, release = read_release(folder(tmp_path, a=SHOP))

    assert decode_release(blob).version == release.version
    assert decode_release(blob).blueprint.content == release.blueprint.content


def test_comments_and_the_split_into_files_do_not_change_the_version(tmp_path: Path) -> None:
    head, separator, actions = SHOP.partition("actions:\n")
    whole, _ = read_release(folder(tmp_path / "1", a=SHOP))
    split, _ = read_release(folder(tmp_path / "2", a="# Hello\n" + head, b=separator + actions))

    assert whole == split


def test_every_mistake_of_every_entry_of_every_file_is_named_at_once(tmp_path: Path) -> None:
    wrong = MORE + "    lever: much\n    status: lve\n  - id: bronze\n    group: cards\n    goal: sell\n  - just_text\n"

    assert mistakes(tmp_path, a=SHOP.replace("priority_scale: 10", "priority_scale: 0"), b=wrong) == [
        "shop/global/a.yaml:11: placements[home_hero].priority_scale: is 0, must be a number > 0.0",
        "shop/global/b.yaml:6: actions[silver_card].lever: is 'much', must be a number",
        "shop/global/b.yaml:7: actions[silver_card].status: is 'lve', must be one of draft, approved, live, retired",
        "shop/global/b.yaml:8: actions[bronze].name: is missing",
        "shop/global/b.yaml:11: actions[3]: is 'just_text', must be keys and values",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("quiet_hours: [{id: q, begin: 21:00, end: '08:00'}]", "quote it, like '21:00'"),
        ("quiet_hours: [{id: q, begin: '21:00', end: '8:00'}]", "is '8:00', must be a time of day like 21:30"),
        ("actions: [{id: a, name: A, group: no, goal: sell}]", "YAML reads it as true or false: quote it, like 'no'"),
        ("budgets: [{id: b, amount: 1, period: 7d, starts: 2026-01-01T00:00:00Z}]", "write it like P7D or PT30M"),
        ("budgets: [{id: b, amount: 1, period: P7D, starts: 2026-01-01}]", "write it like 2026-11-21T18:00:00Z"),
        ("rates: {euro: 1}", "rates.euro: is 'euro', must be a currency like EUR"),
        ("rates: {CHF: .inf}", "is .inf, must be a finite number"),
        ("language: german!", "must be a language like de or de-AT"),
        ("journeys: [{id: j, stages: []}]", "journeys[j].stages: is a list, must be a list of length >= 1"),
        ("placements: [{id: p, exploration: {policy: ucb}}]", "exploration.policy: is 'ucb', must be one of greedy"),
        ("placements: [{id: p, exploration: {epsilon: 2}}]", "exploration.policy: is missing, must be one of greedy"),
        (
            "placements: [{id: p, exploration: {policy: epsilon_greedy, epsilon: 2}}]",
            "placements[p].exploration.epsilon: is 2, must be a number <= 1.0",
        ),
        ("market: de", "'market' is not known"),
        ("features: {}", "'features' is not known"),
    ],
)
def test_a_wrong_value_says_what_it_must_be(text: str, said: str, tmp_path: Path) -> None:
    found = mistakes(tmp_path, a=SHOP, b=text)

    assert any(said in mistake and mistake.startswith("shop/global/b.yaml:1: ") for mistake in found), found


def test_a_key_that_yaml_takes_for_a_truth_value_is_a_text(tmp_path: Path) -> None:
    journey = """\
journeys:
  - id: j
    stages: [{id: new, name: New}, {id: old, name: Old}]
    transitions: [{source: new, target: old, on: purchase}]
"""
    _, release = read_release(folder(tmp_path, a=SHOP, b=journey))

    assert release.blueprint.content.journeys[0].transitions[0].on == "purchase"


def test_anchors_and_merged_keys_are_read(tmp_path: Path) -> None:
    more = "actions:\n  - &base {id: a, name: A, group: cards, goal: sell}\n  - {<<: *base, id: b}\n"
    _, release = read_release(folder(tmp_path, a=SHOP, b=more))

    assert release.blueprint.actions["b"].name == "A"


def test_a_misspelt_field_is_named_with_its_line(tmp_path: Path) -> None:
    first, second = mistakes(tmp_path, a=SHOP.replace("content: {head", "contents: {head"), b=MORE + "    vaule: 3\n")

    assert first.startswith(
        "shop/global/a.yaml:19: actions[gold_card].treatments[gold_card_web]: 'contents' is not known, must be one of"
    )
    assert second.startswith(
        "shop/global/b.yaml:6: actions[silver_card]: 'vaule' is not known, must be one of id, name"
    )


def test_the_domain_is_the_name_of_the_folder(tmp_path: Path) -> None:
    assert mistakes(tmp_path, a=SHOP.replace("domain: shop", "domain: bank")) == [
        "shop/global/a.yaml:1: domain: is 'bank', must be 'shop', the folder"
    ]


def test_a_file_that_nobody_would_read_is_named(tmp_path: Path) -> None:
    directory = folder(tmp_path, a=SHOP)
    (directory / "approvers.yaml").write_text("approvers: []")

    with pytest.raises(CatalogError, match=r"approvers\.yaml: is in no folder that is read"):
        read_release(directory)


def test_unknown_features_and_wrong_types_in_rules_are_refused_where_features_are_known(tmp_path: Path) -> None:
    features = FeatureTypes(customer={"age": "number", "city": "text"})
    rules = """\
    eligibility: customer.agee > 30
    suitability: customer.city > 3
    applicability: customer.age > 30
"""

    with pytest.raises(CatalogError) as raised:
        read_release(folder(tmp_path, a=SHOP, b=MORE + rules), features=features)

    first, second = raised.value.mistakes
    assert first.startswith("shop/global/b.yaml:6: actions[silver_card].eligibility: 'customer.agee > 30' names")
    assert "must be one like customer.age" in first
    assert second.startswith("shop/global/b.yaml:7: actions[silver_card].suitability: 'customer.city > 3' does not fit")


def test_a_misspelt_top_level_key_is_told_what_is_allowed(tmp_path: Path) -> None:
    [mistake] = mistakes(tmp_path, a=SHOP, b="action:\n  - id: x\n")

    assert mistake.startswith("shop/global/b.yaml:1: 'action' is not known, must be one of domain, currency")


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    assert mistakes(tmp_path, a=SHOP + "goals: [other]\n", b=MORE + "    name: Again\n") == [
        "shop/global/a.yaml:20: 'goals' stands twice, first in line 4",
        "shop/global/b.yaml:6: 'name' stands twice, first in line 3",
    ]


def test_files_that_contradict_each_other_are_both_named(tmp_path: Path) -> None:
    assert mistakes(tmp_path, a=SHOP, b="domain: shop\ncurrency: USD\n") == [
        "shop/global/b.yaml:2: currency: is 'USD', but 'EUR' in shop/global/a.yaml:2"
    ]


def test_the_catalogues_own_checks_carry_the_line_too(tmp_path: Path) -> None:
    a = SHOP.replace("    group: cards", "    group: loans")
    b = MORE + "    eligibility: customer.age >\n    treatments:\n      - {id: t, channel: fax}\n"

    first, second, third = mistakes(tmp_path, a=a, b=b)

    assert first.startswith("shop/global/a.yaml:15: actions[gold_card].group: 'loans' is not defined")
    assert second.startswith("shop/global/b.yaml:8: actions[silver_card].treatments[t].channel: 'fax' is not defined")
    assert third.startswith("shop/global/b.yaml:6: actions[silver_card].eligibility: 'customer.age >' is not a CEL")


def test_what_no_file_says_is_named(tmp_path: Path) -> None:
    found = mistakes(tmp_path, a="domain: shop\n")

    assert [mistake.split(":")[0] for mistake in found] == [
        "currency", "groups", "goals", "channels", "placements", "actions",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("actions: [", "a.yaml:2: is not YAML"),
        ("actions:\n\t- id: x", "a.yaml:2: is not YAML"),
        ("a: 1\n---\nb: 2", "a.yaml:2: is not YAML"),
        ("- id: x", "a.yaml:1: holds a list, must hold keys like `actions:`"),
        ("just text", "a.yaml:1: holds a text"),
        ("1: 2", "a.yaml:1: '1' is not known, must be one of domain"),
        ("? [a, b]\n: 1", "a.yaml:1: is not YAML"),
        ("actions: !!python/object/apply:os.system [ls]", "a.yaml:1: is not YAML"),
        ("actions: &a [*a]", "a.yaml:1: contains itself, by an alias"),
        ("actions: 3", "a.yaml:1: actions: is 3, must be a list"),
        ("domain: 3", "a.yaml:1: domain: is 3, must be a text; YAML reads it as the number 3: quote it"),
        (
            "actions:\n  - {id: a, valid_from: 2026-99-99}",
            "a.yaml:2: is not YAML: '2026-99-99': month must be in 1..12",
        ),
        ("domain: \x00", "a.yaml: cannot be read as YAML"),
    ],
)
def test_bad_yaml_is_a_mistake_and_never_a_traceback(text: str, expected: str, tmp_path: Path) -> None:
    [mistake, *_] = mistakes(tmp_path, a=text)

    assert mistake.startswith(f"shop/global/{expected}")


def test_a_file_in_another_encoding_is_a_mistake(tmp_path: Path) -> None:
    directory = folder(tmp_path, a=SHOP)
    (directory / "global" / "b.yaml").write_bytes("name: Zoë".encode("utf-16"))

    with pytest.raises(CatalogError, match=r"b\.yaml: cannot be read as YAML"):
        read_release(directory)


def test_a_missing_folder_an_empty_one_and_a_wrong_ending_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="there is no such folder"):
        read_release(tmp_path / "nowhere")
    with pytest.raises(CatalogError, match=r"holds no \.yaml file"):
        read_release(folder(tmp_path / "1"))
    directory = folder(tmp_path / "2", a=SHOP)
    (directory / "global" / "b.yml").write_text(MORE)
    with pytest.raises(CatalogError, match=r"b\.yml: the name ends in \.yml"):
        read_release(directory)


@pytest.mark.parametrize("blob", [b"", b"{}", b"\xff", msgspec.json.encode({"domain": "shop", "currency": "euro"})])
def test_bytes_that_hold_no_catalogue_are_refused(blob: bytes) -> None:
    with pytest.raises(CatalogError):
        decode_release(blob)


def before_markets(**overrides: object) -> bytes:
    """A catalogue as an older version released it: one, of the market `default`."""
    old = {
        "domain": "shop",
        "currency": "EUR",
        "market": "default",
        "groups": ["cards"],
        "goals": ["sell"],
        "channels": [{"id": "web", "requires_consent": None}],
        "placements": [{"id": "home_hero", "channel": "web", "slots": 1, "reward": {"click": 1}, "priority_scale": 10}],
        "actions": [{"id": "gold_card", "name": "Gold card", "group": "cards", "goal": "sell", "value": 20.0}],
    }
    return msgspec.json.encode({**old, **overrides})


def test_a_catalogue_from_before_markets_is_the_blueprint_and_the_market_that_its_decisions_name() -> None:
    blob = before_markets()
    release = decode_release(blob, domain="shop")

    assert release.version == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert list(release.blueprint.actions) == ["gold_card"]
    assert release.blueprint.content.market == "global"
    assert release.of("default").content.market == "default"


@pytest.mark.parametrize(
    "gone", [{"segments": []}, {"actions": [{"id": "a", "name": "A", "group": "x", "goal": "sell"}]}]
)
def test_a_catalogue_from_before_markets_that_does_not_fit_any_more_says_what_to_run(gone: dict[str, object]) -> None:
    with pytest.raises(CatalogError, match=r"released by an older version.*run: nextmove catalog release"):
        decode_release(before_markets(**gone))


def test_another_domains_catalogue_is_refused() -> None:
    with pytest.raises(CatalogError, match="is of 'shop', must be of 'bank'"):
        decode_release(before_markets(), domain="bank")
