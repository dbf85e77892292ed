"""A market is the blueprint with what its files say instead; locks hold, and values keep their currency."""

from pathlib import Path

import pytest

from decisioning.catalog import Release
from decisioning.content import Placement
from decisioning.errors import CatalogError
from decisioning.exploration import BootstrapThompson, EpsilonGreedy, Greedy
from storage.catalog_diff import Difference, differences, readable, release_notes
from storage.catalog_files import read_release, read_sources

BLUEPRINT = """\
domain: shop
currency: EUR
rates: {CHF: 1.5, USD: 0.5}
groups: [cards]
goals: [sell]
channels: [{id: web}]
placements:
  - id: hero
    channel: web
    reward: {click: 1}
    priority_scale: 10
    exploration: {policy: epsilon_greedy, epsilon: 0.2}
actions:
  - id: loan
    name: Loan
    group: cards
    goal: sell
    status: live
    value: 10
    attributes: {margin: 1.0, colour: red}
    treatments:
      - {id: loan_web, channel: web, content: {headline: Loan, link: /loan}}
  - {id: card, name: Card, group: cards, goal: sell, value: 4, currency: USD, status: live}
contact_policies:
  - {id: weekly, limit: 3, within: P7D}
"""


def directory(tmp_path: Path, blueprint: str = BLUEPRINT, **markets: str) -> Path:
    (tmp_path / "shop" / "global").mkdir(parents=True)
    (tmp_path / "shop" / "global" / "all.yaml").write_text(blueprint)
    for market, text in markets.items():
        (tmp_path / "shop" / "markets" / market).mkdir(parents=True)
        (tmp_path / "shop" / "markets" / market / "own.yaml").write_text(text)
    return tmp_path / "shop"


def release(tmp_path: Path, blueprint: str = BLUEPRINT, **markets: str) -> Release:
    return read_release(directory(tmp_path, blueprint, **markets))[1]


def mistakes(tmp_path: Path, blueprint: str = BLUEPRINT, **markets: str) -> list[str]:
    with pytest.raises(CatalogError) as raised:
        read_release(directory(tmp_path, blueprint, **markets))
    return raised.value.mistakes


def test_a_market_overrides_only_what_it_says(tmp_path: Path) -> None:
    de = "language: de\nactions:\n  - {id: loan, name: Kredit, attributes: {margin: 2.0}}\n"

    market = release(tmp_path, de=de).of("de")

    assert (market.content.market, market.content.language, market.content.domain) == ("de", "de", "shop")
    loan = market.actions["loan"]
    assert (loan.name, loan.status, loan.value) == ("Kredit", "live", 10.0)
    assert loan.attributes == {"margin": 2.0, "colour": "red"}


def test_the_blueprint_stays_as_it_is(tmp_path: Path) -> None:
    both = release(tmp_path / "1", de="actions: [{id: loan, name: Kredit}]")
    alone = release(tmp_path / "2")

    assert both.blueprint.content == alone.blueprint.content


def test_entries_inside_entries_are_found_by_their_ids_too(tmp_path: Path) -> None:
    de = """\
actions:
  - id: loan
    treatments: [{id: loan_web, content: {headline: Kredit}}, {id: more, channel: web, placements: [hero]}]
"""

    first, second = release(tmp_path, de=de).of("de").actions["loan"].treatments

    assert first.content == {"headline": "Kredit", "link": "/loan"}
    assert second.id == "more"


def test_plain_lists_and_other_policies_replace(tmp_path: Path) -> None:
    de = "groups: [cards, other]\nplacements: [{id: hero, exploration: {policy: greedy}}]"

    market = release(tmp_path, de=de).of("de")

    assert market.content.groups == ("cards", "other")
    hero: Placement = market.placements["hero"]
    assert hero.exploration == Greedy()
    assert hero.priority_scale == 10


def test_what_one_market_alone_asks_of_a_model_is_asked_of_it_everywhere(tmp_path: Path) -> None:
    blueprint = BLUEPRINT.replace("    channel: web\n", "    channel: web\n    shown_by: sent\n", 1)
    de = "placements: [{id: hero, exploration: {policy: bootstrap_thompson}}]"

    found = release(tmp_path, blueprint, de=de)

    assert found.by_members == {"hero": BootstrapThompson()}
    assert found.everywhere.placements["hero"].exploration == BootstrapThompson()
    assert found.blueprint.placements["hero"].exploration == EpsilonGreedy(epsilon=0.2)


BUDGETS = """\
budgets:
  - {id: gifts, amount: 100, period: P7D, starts: 2026-01-01T00:00:00Z}
  - {id: calls, amount: 3, counts: contacts, period: P7D, starts: 2026-01-01T00:00:00Z, of: customer}
"""
PROMO = "budgets: [{id: promo, amount: %s, period: P1D, starts: 2026-01-01T00:00:00Z, of: %s}]"


@pytest.mark.parametrize("said", ["amount: 50", "period: P1D", "pacing: even", "of: customer", "counts: contacts"])
def test_a_market_cannot_change_a_budget_whose_spending_it_shares(tmp_path: Path, said: str) -> None:
    [mistake] = mistakes(tmp_path, BLUEPRINT + BUDGETS, de=f"budgets: [{{id: gifts, {said}}}]")
    field = said.partition(":")[0]
    assert mistake.startswith(f"shop/markets/de/own.yaml:1: budgets[gifts].{field}: what is spent of this budget")
    assert "counted over all markets together" in mistake
    assert "a market may only name another owner" in mistake


def test_a_market_cannot_make_a_customer_s_budget_everyone_s(tmp_path: Path) -> None:
    [mistake] = mistakes(tmp_path, BLUEPRINT + BUDGETS, de="budgets: [{id: calls, of: everyone}]")
    assert "budgets[calls].of" in mistake


def test_a_market_names_its_owner_and_changes_what_each_customer_has_of_their_own(tmp_path: Path) -> None:
    de = "budgets: [{id: gifts, owner: dora}, {id: calls, amount: 5}]"
    market = release(tmp_path, BLUEPRINT + BUDGETS, de=de).of("de")
    assert (market.budgets["gifts"].owner, market.budgets["gifts"].amount) == ("dora", 100.0)
    assert market.budgets["calls"].amount == 5.0


def test_two_markets_cannot_share_the_spending_of_budgets_of_their_own(tmp_path: Path) -> None:
    [mistake] = mistakes(tmp_path, ch=PROMO % (5, "everyone"), de=PROMO % (5, "everyone"))
    assert mistake.startswith("shop/markets/de/own.yaml:1: budgets[promo]: market ch has a budget of this id too")
    assert "shop/markets/ch/own.yaml:1" in mistake
    each = release(tmp_path / "own", ch=PROMO % (5, "customer"), de=PROMO % (9, "customer"))
    assert [each.of(market).budgets["promo"].amount for market in ("ch", "de")] == [5.0, 9.0]


def test_budgets_that_are_no_list_are_told_as_such(tmp_path: Path) -> None:
    found = mistakes(tmp_path, BLUEPRINT + "budgets: {gifts: {amount: 1}}\n", de="budgets: {gifts: {amount: 2}}")
    assert any("budgets: " in mistake for mistake in found)


def test_new_entries_are_added_behind(tmp_path: Path) -> None:
    de = """\
actions: [{id: scooter, name: Roller, group: cards, goal: sell}]
budgets: [{id: b, amount: 1, period: P1D, starts: 2026-01-01T00:00:00Z}]
"""

    market = release(tmp_path, de=de).of("de")

    assert list(market.actions) == ["loan", "card", "scooter"]
    assert list(market.budgets) == ["b"]


@pytest.mark.parametrize(
    ("own", "loan", "card"),
    [
        ("currency: CHF", 10.0, 2.0),  # inherited: stays in euros and dollars
        ("currency: CHF\nactions: [{id: loan, value: 10}]", 15.0, 2.0),
        ("currency: CHF\nactions: [{id: loan, value: 10, currency: USD}]", 5.0, 2.0),
        ("currency: CHF\nactions: [{id: card, value: 4}]", 10.0, 6.0),  # what a market writes is in its currency
        ("actions: [{id: card, value: 4}]", 10.0, 4.0),
        ("currency: CHF\nactions: [{id: loan, currency: CHF}]", 15.0, 2.0),
        ("currency: CHF\nrates: {CHF: 2}\nactions: [{id: loan, value: 10}]", 20.0, 2.0),
        ("language: de", 10.0, 2.0),
    ],
)
def test_values_are_converted_from_the_currency_that_they_are_written_in(
    own: str, loan: float, card: float, tmp_path: Path
) -> None:
    market = release(tmp_path, de=own).of("de")
    hero = market.placements["hero"]
    priced = {p.action.id: p.value for p in market.offered(hero).live}

    assert market.content.currency == "EUR"
    assert priced["loan"] == loan
    assert market._proposals["card"].value == card


def test_a_new_action_of_a_market_is_in_its_currency(tmp_path: Path) -> None:
    fields = "name: N, group: cards, goal: sell, value: 10, treatments: [{id: t, channel: web}], status: live"
    ch = f"currency: CHF\nactions: [{{id: own, {fields}}}, {{id: euro, currency: EUR, {fields}}}]"

    market = release(tmp_path, ch=ch).of("ch")

    prices = {p.action.id: p.value for p in market.offered(market.placements["hero"]).live}
    assert (prices["own"], prices["euro"]) == (15.0, 10.0)


def test_a_currency_without_a_rate_is_a_mistake_of_the_market(tmp_path: Path) -> None:
    [said] = mistakes(tmp_path, pl="language: pl\ncurrency: PLN")

    assert said == (
        "shop/markets/pl/own.yaml:2: market pl: currency: is PLN,"
        " and rates does not say what one unit of it is worth in EUR"
    )


@pytest.mark.parametrize(
    ("lock", "own", "path"),
    [
        ("actions.*.eligibility", "actions: [{id: loan, eligibility: 'true'}]", "actions[loan].eligibility"),
        ("actions.loan.value", "actions: [{id: loan, value: 11}]", "actions[loan].value"),
        ("actions.loan", "actions: [{id: loan, name: K}]", "actions[loan].name"),
        ("contact_policies", "contact_policies: [{id: weekly, limit: 9}]", "contact_policies[weekly].limit"),
        ("contact_policies", "contact_policies: [{id: own, limit: 9, within: P1D}]", "contact_policies[own]"),
        ("layers", "layers: [{id: checkout, salt: x}]", "layers[checkout]"),
        ("actions.*.attributes", "actions: [{id: loan, attributes: {margin: 3.0}}]", "actions[loan].attributes.margin"),
        (
            "actions.*.treatments",
            "actions: [{id: loan, treatments: [{id: loan_web, content: {link: /x}}]}]",
            "actions[loan].treatments[loan_web].content.link",
        ),
        (
            "placements.hero.exploration.epsilon",
            "placements: [{id: hero, exploration: {policy: greedy}}]",
            "placements[hero].exploration",
        ),
    ],
)
def test_a_locked_path_cannot_be_overridden(lock: str, own: str, path: str, tmp_path: Path) -> None:
    locked = BLUEPRINT + f"locked: ['{lock}']\n"

    assert mistakes(tmp_path, locked, de=own) == [
        f"shop/markets/de/own.yaml:1: {path}: is locked by '{lock}'"
        f" in shop/global/all.yaml:{locked.count(chr(10))}; take it out here"
    ]


@pytest.mark.parametrize(
    ("lock", "own"),
    [
        ("actions.*.eligibility", "actions: [{id: own, name: N, group: cards, goal: sell, eligibility: 'true'}]"),
        ("actions.loan", "actions: [{id: card, name: C}]"),
        ("actions.loan.value", "actions: [{id: loan, name: K}]"),
    ],
)
def test_a_lock_holds_nothing_else(lock: str, own: str, tmp_path: Path) -> None:
    assert release(tmp_path, BLUEPRINT + f"locked: ['{lock}']\n", de=own).of("de").content.market == "de"


def test_a_lock_of_nothing_is_a_mistake(tmp_path: Path) -> None:
    locks = "['action.*.value', 'actions.lown.value', 'actions.*.vaule', domain]"

    found = mistakes(tmp_path, BLUEPRINT + f"locked: {locks}\n")

    assert [said.split("'")[1] for said in found] == [
        "action.*.value",
        "actions.lown.value",
        "actions.*.vaule",
        "domain",
    ]


def test_a_mistake_of_the_blueprint_is_told_once_and_a_markets_with_its_own_line(tmp_path: Path) -> None:
    wrong = BLUEPRINT.replace("name: Card,", "name: Card, eligibility: 'x >',")
    de = "actions:\n  - id: loan\n    suitability: y >\n"

    first, second = mistakes(tmp_path, wrong, de=de, at="language: de")

    assert first.startswith("shop/global/all.yaml:23: actions[card].eligibility: ")
    assert second.startswith("shop/markets/de/own.yaml:3: market de: actions[loan].suitability: ")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("actions: [{id: lown, name: K}]", "actions[lown].group: is missing"),
        ("actions: [{id: loan}, {id: loan, name: K}]", "actions[loan]: the id is used twice"),
        ("domain: other", "domain: is the blueprint's alone"),
        ("locked: []", "locked: is the blueprint's alone"),
        ("event_features: []", "event_features: is the blueprint's alone"),
        ("colour: red", "'colour' is not known"),
        ("actions: [", "own.yaml:2: is not YAML"),
        ("actions: [{id: loan, value: [1]}]", "actions[loan].value: is a list, must be"),
        ("actions: 3", "actions: is 3, must be a list"),
    ],
)
def test_a_wrong_market_file_is_named_with_its_line(own: str, said: str, tmp_path: Path) -> None:
    found = mistakes(tmp_path, de=own)

    assert any(said in mistake and "shop/markets/de/own.yaml:" in mistake for mistake in found), found


def test_the_blueprints_name_and_odd_names_are_no_markets(tmp_path: Path) -> None:
    shop = directory(tmp_path)
    for name in ("global", "d e"):
        (shop / "markets" / name).mkdir(parents=True)
    (shop / "markets" / "de.yaml").write_text("language: de")

    with pytest.raises(CatalogError) as raised:
        read_release(shop)

    assert len(raised.value.mistakes) == 3
    assert "'d e' is no market id" in raised.value.mistakes[0]
    assert "must lie in a market's folder, like" in raised.value.mistakes[1]
    assert "'global' is the blueprint's name" in raised.value.mistakes[2]


def test_a_difference_says_what_and_where_from(tmp_path: Path) -> None:
    shop = directory(tmp_path, ch="currency: CHF\nactions:\n  - id: loan\n    value: 12\n")
    markets = read_release(shop)[1].markets

    found = differences(markets["global"].content, markets["ch"].content)

    assert found == [
        Difference("currency", "EUR", "CHF"),
        Difference("actions[loan].value", 10.0, 12.0),
        Difference("actions[loan].currency", "EUR", "CHF"),
    ]
    sources = read_sources(shop)
    assert sources.line("ch", "actions[loan].value") == "shop/markets/ch/own.yaml:4"
    assert sources.line("ch", "actions[loan].name") == "shop/global/all.yaml:15"


def test_release_notes_say_what_is_new_changed_and_gone(tmp_path: Path) -> None:
    old = release(tmp_path / "1").blueprint.content
    text = BLUEPRINT.replace("value: 10", "value: 12").replace("id: card, name: Card", "id: boat, name: 'A `b`'")
    new = release(tmp_path / "2", text).blueprint.content

    notes = release_notes("global", old, new, version="sha256:" + "a" * 64, reason="sale\n# boo", previous=None)

    assert "# global: sha256:aaaaaaaaaaaa\n" in notes
    assert "- Reason: sale # boo\n" in notes
    assert "- `actions[loan].value`: `10.0` -> `12.0`" in notes
    assert "- `actions[boat]` is new: ``{id: boat, name: A `b`, group: cards" in notes
    assert "- `actions[card]` is gone" in notes


def test_the_readable_catalogue_says_nothing_empty(tmp_path: Path) -> None:
    said = readable(release(tmp_path).blueprint.content)

    assert "features" not in said
    assert "budgets" not in said
    assert said["actions"][0]["value"] == 10.0
