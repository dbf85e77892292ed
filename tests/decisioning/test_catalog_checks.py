"""Every mistake that a type cannot say: its path, and what is allowed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from decisioning.catalog import Catalog
from decisioning.catalog_checks import mistakes
from decisioning.content import (
    Action,
    Approver,
    Audience,
    Budget,
    CoolDown,
    FeatureTypes,
    Journey,
    Naming,
    QuietHours,
    Stage,
    Transition,
    Treatment,
)
from decisioning.content_types import NO_ACTION
from decisioning.errors import CatalogError
from decisioning.event_content import AtMost, EventFeature, Hook, HookEvent, HookSignature, Source
from decisioning.exploration import BootstrapThompson
from tests.builders import NOW, action, catalog, content, experiment, moment, placement, weekly_cap

DAY = timedelta(days=1)
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001


def budget(**overrides: Any) -> Budget:
    return Budget(**({"id": "money", "amount": 100.0, "period": DAY, "starts": NOW} | overrides))


def journey(*transitions: Transition, stages: tuple[Stage, ...] = ()) -> Journey:
    return Journey(
        id="j", stages=stages or (Stage(id="new", name="New"), Stage(id="old", name="Old")), transitions=transitions
    )


def step(**overrides: Any) -> Transition:
    return Transition(**({"source": "new", "target": "old", "on": "purchase"} | overrides))


def orders(**overrides: Any) -> EventFeature:
    return EventFeature(
        **({"id": "orders", "event": "purchase", "compute": "count", "windows": (DAY, 7 * DAY)} | overrides)
    )


def test_an_ensemble_decides_only_where_nobody_waits() -> None:
    asked = content(placements=(placement(exploration=BootstrapThompson()),))
    [mistake] = [each for each in mistakes(asked) if "exploration" in each]
    assert mistake.startswith("placements[home_hero].exploration.policy: is bootstrap_thompson")
    assert "thompson explores by doubt" in mistake
    sent = content(placements=(placement(exploration=BootstrapThompson(), shown_by="sent"),))
    assert not [each for each in mistakes(sent) if "exploration" in each]


def test_valid_content_has_no_mistakes() -> None:
    whole = content(
        action("card", budget="money", stages=("new",), follow_up="loan", owner="anna", approved_by="ben"),
        action("loan", approved_by="ben"),
        budgets=(budget(),),
        journeys=(journey(step(), step(on="accept:card")),),
        audiences=(Audience(id="a", rule="true", exclusions=("b",)), Audience(id="b", rule="true")),
        approvers=(Approver(person="ben"),),
        locked=("actions.*.eligibility", "actions.card", "contact_policies", "actions.card.treatments.card_web"),
        quiet_hours=(QuietHours(id="q", begin="21:00", end="08:00", channels=("email",)),),
        cool_downs=(CoolDown(id="c", after="reject", lasting=DAY, per="group", only="cards"),),
        event_features=(
            orders(),
            orders(id="orders_of", by="category", values=("Men's shoes", "bags"), windows=(30 * DAY,)),
            orders(id="spend", compute="sum", of="value"),
            orders(id="since_order", compute="recency", windows=()),
            orders(id="last_country", compute="last", of="country", kind="text", windows=()),
        ),
        features=FeatureTypes(customer={"age": "number"}),
    )
    assert mistakes(whole) == []


@pytest.mark.parametrize(
    ("wrong", "path", "said"),
    [
        ({"status": "live", "group": "boats"}, "group", "'boats' is not defined, must be one of cards, loans, other"),
        ({"goal": "rest"}, "goal", "'rest' is not defined, must be one of sell"),
        ({"id": "Card"}, "id", "does not follow the naming rule [a-z][a-z0-9_]*"),
        ({"valid_from": NOW, "valid_until": NOW}, "valid_until", "is not after valid_from"),
        ({"valid_until": NAIVE}, "valid_until", "has no time zone, write it like 2026-11-21T18:00:00Z"),
        ({"again_after": DAY}, "again_after", "says when a product may be offered again, but `promotes` names none"),
        ({"again_after": -DAY, "promotes": ("p",)}, "again_after", "is -1 day, 0:00:00, must be longer than 0"),
        ({"stages": ("new",)}, "stages", "'new' is not defined, must be one of (none)"),
        ({"budget": "money"}, "budget", "'money' is not defined, must be one of (none)"),
        ({"follow_up": "gone"}, "follow_up", "'gone' is not defined, must be one of card"),
        ({"follow_up": "card"}, "follow_up", "leads back to the action itself"),
        ({"rank_by": "uplift"}, "rank_by", "uplift is over showing nothing: the catalogue needs an action no_action"),
        ({"currency": "CHF"}, "currency", "rates lacks CHF: what one unit is worth in EUR"),
        ({"attributes": {"group": "x"}}, "attributes.group", "the name is taken, choose another"),
        ({"treatments": (Treatment("t", "fax"),)}, "treatments[t].channel", "'fax' is not defined, must be one of"),
        ({"treatments": (Treatment("t", "web"), Treatment("t", "email"))}, "treatments[t]", "the id is used twice"),
        ({"treatments": (Treatment("a", "web"), Treatment("b", "web"))}, "treatments", "two are for channel web"),
        (
            {"treatments": tuple(Treatment(i, "web", placements=("home_hero",)) for i in "ab")},
            "treatments",
            "two are for placement home_hero; there must be one",
        ),
        (
            {"treatments": (Treatment("t", "web", placements=("newsletter",)),)},
            "treatments[t].placements",
            "newsletter is not on channel web",
        ),
        ({"treatments": (Treatment("t", "web", placements=("x",)),)}, "treatments[t].placements", "'x' is not defined"),
    ],
)
def test_a_wrong_action_is_told(wrong: dict[str, Any], path: str, said: str) -> None:
    [found] = mistakes(content(action(**({"action_id": wrong.get("id", "card")} | wrong))))
    assert found.startswith(f"actions[{wrong.get('id', 'card')}].{path}: {said}")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"time_zone": "Mars"}, "time_zone: 'Mars' is not a time zone, write it like Europe/Berlin"),
        ({"time_zone": "../etc/passwd"}, "time_zone: '../etc/passwd' is not a time zone"),
        ({"market_currency": "CHF"}, "currency: is CHF, and rates does not say what one unit of it is worth in EUR"),
        ({"continuity": timedelta(days=31)}, "continuity: is 31 days, 0:00:00, must be at least 0 and at most 30 days"),
        ({"locked": ("action.*",)}, "locked: 'action.*' is no path that a market can override"),
        (
            {"locked": ("actions.boat.value",)},
            "locked: 'actions.boat.value' names no entry of actions, must be one of *",
        ),
        ({"locked": ("actions.*.vaule",)}, "locked: 'actions.*.vaule' names no field of actions, must be one of id"),
        ({"naming": Naming(actions="[")}, "naming.actions: '[' is not a regular expression"),
        (
            {"naming": Naming(experiments="exp_.*"), "experiments": (experiment(),)},
            "experiments[hero_copy].id: does not",
        ),
        ({"placements": (placement(channel="fax"),)}, "placements[home_hero].channel: 'fax' is not defined"),
        ({"placements": (placement(time_out=31 * DAY),)}, "placements[home_hero].time_out: is 31 days"),
        (
            {"placements": (placement(attribution_window=0 * DAY),)},
            "placements[home_hero].attribution_window: is 0:00:00",
        ),
        (
            {"placements": (placement(reward={"purchse": 1.0}),)},
            "placements[home_hero].reward: 'purchse' is not defined",
        ),
        ({"budgets": (budget(id="Money"),)}, "budgets[Money].id: does not follow the naming rule"),
        ({"budgets": (budget(period=0 * DAY),)}, "budgets[money].period: is 0:00:00, must be longer than 0"),
        ({"budgets": (budget(period=DAY / 86_400),)}, "budgets[money].period: is 0:00:01, must be at least 0:01:00"),
        ({"budgets": (budget(period=31 * DAY, of="account"),)}, "budgets[money].period: is 31 days, 0:00:00, must be"),
        ({"budgets": (budget(starts=NAIVE),)}, "budgets[money].starts: has no time zone"),
        ({"budgets": (budget(), budget())}, "budgets[money]: the id is used twice"),
        ({"contact_policies": (weekly_cap(within=31 * DAY),)}, "contact_policies[weekly].within: is 31 days, 0:00:00"),
        (
            {"contact_policies": (weekly_cap(per="goal", only="x"),)},
            "contact_policies[weekly].only: 'x' is not defined",
        ),
        (
            {"contact_policies": (weekly_cap(only="x"),)},
            "contact_policies[weekly].only: 'x' is not defined, must be one of (none)",
        ),
        ({"cool_downs": (CoolDown(id="c", after="reject", lasting=31 * DAY),)}, "cool_downs[c].lasting: is 31 days"),
        ({"cool_downs": (CoolDown(id="c", after="ignore", lasting=DAY, only="x"),)}, "cool_downs[c].only: 'x' is not"),
        ({"quiet_hours": (QuietHours(id="q", begin="21:00", end="21:00"),)}, "quiet_hours[q].end: is 21:00, as begin"),
        (
            {"quiet_hours": (QuietHours(id="q", begin="21:00", end="08:00", channels=("x",)),)},
            "quiet_hours[q].channels: 'x'",
        ),
        (
            {"journeys": (journey(step(source="gone")),)},
            "journeys[j].transitions[0].source: 'gone' is not defined, must be",
        ),
        ({"journeys": (journey(step(target="gone")),)}, "journeys[j].transitions[0].target: 'gone' is not defined"),
        (
            {"journeys": (journey(step(on="buys")),)},
            "journeys[j].transitions[0].on: 'buys' is not defined, must be one of",
        ),
        ({"journeys": (journey(step(on="accept:gone")),)}, "journeys[j].transitions[0].on: 'gone' is not defined"),
        (
            {"journeys": (journey(stages=(Stage(id="s", name="S", weights={"gone": 1.0}),)),)},
            "journeys[j].stages[s].weights: 'gone' is not defined",
        ),
        (
            {"journeys": (journey(stages=(Stage(id="s", name="S"), Stage(id="s", name="T"))),)},
            "journeys.stages[s]: the id is used twice",
        ),
        (
            {"audiences": (Audience(id="a", rule="true", exclusions=("b",)),)},
            "audiences[a].exclusions: 'b' is not defined",
        ),
        ({"audiences": (Audience(id="a", rule="true", exclusions=("a",)),)}, "audiences[a].exclusions: leads back to"),
        (
            {"audiences": (Audience(id="a", rule="true", minimum_size={"x": 1}),)},
            "audiences[a].minimum_size: 'x' is not",
        ),
        ({"audiences": (Audience(id="A-1", rule="true"),)}, "audiences[A-1].id: does not follow the naming rule"),
        ({"approvers": (Approver(person="p", groups=("x",)),)}, "approvers[0].groups: 'x' is not defined"),
        ({"approvers": (Approver(person="p", channels=("x",)),)}, "approvers[0].channels: 'x' is not defined"),
        ({"approvers": (Approver(person="p", budgets=("x",)),)}, "approvers[0].budgets: 'x' is not defined"),
    ],
)
def test_wrong_content_is_told(wrong: dict[str, Any], said: str) -> None:
    drafts = (action("card", status="draft"), action("loan", status="draft", group="loans"))
    [found, *_] = mistakes(content(*drafts, **wrong))
    assert found.startswith(said)


def test_a_circle_of_exclusions_is_told_of_all_in_it() -> None:
    circle = tuple(Audience(id=name, rule="true", exclusions=(to,)) for name, to in ("ab", "bc", "ca"))
    assert [said.split(".")[0] for said in mistakes(content(audiences=circle))] == [f"audiences[{i}]" for i in "abc"]


def test_a_role_in_the_buying_group_needs_its_feature() -> None:
    wanted = action(buying_roles=("finance",))
    assert mistakes(content(wanted, features=FeatureTypes())) == [
        "actions[card].buying_roles: needs a customer feature buying_role, and there is none"
    ]
    assert not mistakes(content(wanted, features=FeatureTypes(customer={"buying_role": "text"})))


@pytest.mark.parametrize(
    ("approver", "wrong", "said"),
    [
        ({}, {}, "is missing, and status is live; must be one of ben"),
        ({}, {"approved_by": "anna"}, "is anna, who owns it; nobody approves what is their own; must be one of ben"),
        ({}, {"approved_by": "cleo"}, "is cleo, who may not approve this; must be one of ben"),
        ({"groups": ("loans",)}, {"approved_by": "ben"}, "is ben, who may not approve this; must be one of (nobody"),
        ({"markets": ("de",)}, {"approved_by": "ben"}, "is ben, who may not approve this; must be one of (nobody"),
        ({"channels": ("web",)}, {"approved_by": "ben"}, "is ben, who may not approve this; must be one of (nobody"),
        ({"budgets": ()}, {"approved_by": "ben", "budget": "money"}, None),
        ({"channels": ("web", "email"), "groups": ("cards",), "markets": ("global",)}, {"approved_by": "ben"}, None),
        ({}, {"status": "draft"}, None),
        ({}, {"status": "retired"}, None),
        ({}, {"status": "approved"}, "is missing, and status is approved; must be one of ben"),
    ],
)
def test_only_who_is_entitled_approves(approver: dict[str, Any], wrong: dict[str, Any], said: str | None) -> None:
    found = mistakes(
        content(action(owner="anna", **wrong), budgets=(budget(),), approvers=(Approver(person="ben", **approver),))
    )
    assert len(found) == (said is not None)
    assert said is None or found[0].startswith(f"actions[card].approved_by: {said}")


def test_an_approver_of_one_budget_approves_no_other() -> None:
    budgets = (budget(), budget(id="other"))
    approvers = (Approver(person="ben", budgets=("other",)),)
    [found] = mistakes(
        content(action(owner="anna", approved_by="ben", budget="money"), budgets=budgets, approvers=approvers)
    )
    assert "who may not approve this" in found


def test_showing_nothing_has_no_treatment() -> None:
    [found] = mistakes(content(action(NO_ACTION, group="other", treatments=(Treatment("t", "web"),))))
    assert found == "actions[no_action].treatments: no_action shows nothing, so it has no treatments"


def refused(*actions: Action, **overrides: Any) -> list[str]:
    with pytest.raises(CatalogError) as raised:
        catalog(*actions, **overrides)
    return raised.value.mistakes


@pytest.mark.parametrize(
    ("audience", "said"),
    [
        ("true) || (true", "is not a CEL expression"),
        ("in_audience('b')", "asks for another audience; use `exclusions`"),
        ("action.margin > 1.0", "this rule is not about an action"),
        ("customer.x >", "is not a CEL expression"),
        ("1", "gives a whole number, must give true or false"),
    ],
)
def test_a_wrong_audience_is_told_once_and_not_by_every_rule_that_asks_for_it(audience: str, said: str) -> None:
    audiences = (Audience(id="a", rule=audience), Audience(id="b", rule="true"))
    [found] = refused(
        action(eligibility="in_audience('a')"), action("loan", eligibility="!in_audience('a')"), audiences=audiences
    )
    assert found.startswith("audiences[a].rule: ")
    assert said in found


def test_a_comment_in_an_audience_takes_nothing_with_it() -> None:
    audiences = (
        Audience(id="a", rule="customer.age > 3.0 // adults", exclusions=("b",)),
        Audience(id="b", rule="customer.vip"),
    )
    made: Catalog = catalog(audiences=audiences)
    assert made.audiences["a"].source == "(customer.age > 3.0) && !((customer.vip))"


def test_an_exclusion_leaves_out_only_who_is_really_in_it() -> None:
    audiences = (
        Audience(id="a", rule="customer.a", exclusions=("b",)),
        Audience(id="b", rule="customer.b", exclusions=("c",)),
        Audience(id="c", rule="customer.c"),
    )
    assert catalog(audiences=audiences).audiences["a"].source == "(customer.a) && !((customer.b) && !((customer.c)))"


def test_an_unknown_audience_says_which_there_are() -> None:
    [found] = refused(action(eligibility="in_audience('x')"), audiences=(Audience(id="a", rule="true"),))
    assert found == "actions[card].eligibility: there is no audience 'x', must be one of a"


def test_a_rule_of_a_stage_is_told_with_its_journey() -> None:
    wrong = journey(stages=(Stage(id="s", name="S", entry="x >"),))
    [found] = refused(journeys=(wrong,))
    assert found.startswith("journeys[j].stages[s].entry: 'x >' is not a CEL expression")


def test_times_far_from_each_other_are_compared() -> None:
    far = action(valid_from=datetime(1, 1, 1, tzinfo=UTC), valid_until=datetime(9999, 12, 31, tzinfo=UTC))
    assert mistakes(content(far)) == []


CUSTOM = {"format": "custom", "verify": HookSignature(header="X-Signature"), "events": {"x": HookEvent(type="open")}}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"format": "custom"}, "verify.header: is missing; a custom hook says where it sends its signature"),
        (CUSTOM | {"format": "brevo"}, "verify.header: is not for `brevo`, which has its own; take it out"),
        (CUSTOM | {"events": {}}, "events: is missing; nobody knows what a custom hook calls its events"),
        ({"verify": HookSignature(tolerance=-DAY)}, "verify.tolerance: is -1 day, 0:00:00, must be longer than 0"),
        ({"verify": HookSignature(tolerance=2 * DAY)}, "verify.tolerance: is 2 days, 0:00:00, must be longer than 0"),
        (
            {"events": {"lost": HookEvent(type="open", detail="hard")}},
            "events: 'lost' is open with detail hard, which is for a bounce",
        ),
    ],
)
def test_a_wrong_hook_is_told(wrong: dict[str, Any], said: str) -> None:
    found = mistakes(content(hooks=(Hook(**({"id": "mail", "format": "sendgrid"} | wrong)),)))
    assert found[0].startswith(f"hooks[mail].{said}")


def test_hooks_of_every_format_are_in_order() -> None:
    hooks = (Hook(id="a", format="sendgrid"), Hook(id="b", format="brevo"), Hook(id="c", format="segment"))
    assert mistakes(content(hooks=(*hooks, Hook(id="d", **CUSTOM)))) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"id": "Orders"}, ".id: does not follow the naming rule [a-z][a-z0-9_]*"),
        ({"windows": ()}, ".windows: is missing; `count` needs it"),
        ({"compute": "recency"}, ".windows: is not for `recency`; take it out"),
        ({"compute": "sum"}, ".of: is missing; `sum` needs it"),
        ({"of": "value"}, ".of: is not for `count`; take it out"),
        ({"compute": "sum", "of": "products.price"}, ".of: is 'products.price', which each line of an order has"),
        ({"kind": "number"}, ".kind: is not for `count`, which is a number; take it out"),
        ({"by": "category"}, ".values: is missing; `by` names a property"),
        ({"values": ("bags",)}, ".by: is missing; `by` names a property"),
        ({"windows": (31 * DAY,)}, ".windows: is 31 days, 0:00:00, must be longer than 0 and at most 30 days"),
        ({"windows": (timedelta(0),)}, ".windows: is 0:00:00, must be longer than 0"),
        ({"windows": (timedelta(seconds=90),)}, ".windows: is 0:01:30, must be whole minutes"),
        ({"windows": (DAY, timedelta(hours=24))}, ": gives the feature orders_1d twice; its windows and the names of"),
        (
            {"by": "size", "values": ("X-L", "x l")},
            ": gives the feature orders_x_l_1d twice; its windows and the names",
        ),
        ({"by": "size", "values": ("大",)}, ".values: '大' has no Latin letter or digit"),
        ({"id": "customer_id", "compute": "recency", "windows": ()}, ": gives a feature customer_id, and the feature"),
        (
            {"id": "age", "compute": "recency", "windows": ()},
            ": gives a feature age, and the feature store has one too",
        ),
        (
            {"id": "in", "compute": "recency", "windows": ()},
            ": gives a feature 'in', which rules cannot name; use letters",
        ),
    ],
)
def test_a_wrong_event_feature_is_told(wrong: dict[str, Any], said: str) -> None:
    feature = orders(**wrong)
    found = mistakes(content(event_features=(feature,), features=FeatureTypes(customer={"age": "number"})))
    assert found[0].startswith(f"event_features[{feature.id}]{said}")


def test_a_name_that_the_naming_rule_allows_and_rules_do_not_is_told() -> None:
    feature = orders(id="my.orders", windows=(DAY,))
    assert mistakes(content(event_features=(feature,), naming=Naming(event_features=".*"))) == [
        "event_features[my.orders]: gives a feature 'my.orders_1d', which rules cannot name; use letters, digits and"
        " '_' alone"
    ]


def test_two_event_features_of_one_name_are_told() -> None:
    shoes = orders(id="orders", by="category", values=("shoes",), windows=(DAY,))
    also = orders(id="orders_shoes", windows=(DAY,))
    assert mistakes(content(event_features=(shoes, also))) == [
        "event_features[orders_shoes]: gives a feature orders_shoes_1d, and so does event_features[orders]; give it"
        " another id"
    ]


def test_event_features_are_no_market_s_to_lock() -> None:
    [found] = mistakes(content(event_features=(orders(),), locked=("event_features.orders",)))
    assert found.startswith("locked: 'event_features.orders' is no path that a market can override")


def test_rules_may_name_event_features_and_know_their_kinds() -> None:
    country = orders(id="last_country", compute="last", of="country", windows=())
    known = {"event_features": (orders(), country), "features": FeatureTypes(customer={"age": "number"})}
    catalog(action(eligibility="customer.orders_7d > 1 && customer.last_country == 'CH' && customer.age > 3"), **known)
    with pytest.raises(
        CatalogError, match=r"customer\.orders_30d, and there is no such feature, must be one like customer.orders"
    ):
        catalog(action(eligibility="customer.orders_30d > 1"), **known)
    with pytest.raises(CatalogError, match=r"'customer\.last_country > 1' does not fit"):
        catalog(action(eligibility="customer.last_country > 1"), **known)


def test_a_buying_role_may_come_from_events() -> None:
    role = orders(id="buying_role", compute="last", of="role", windows=())
    wanted = action(buying_roles=("user",))
    assert mistakes(content(wanted, event_features=(role,), features=FeatureTypes())) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"event": "kart_added"}, "event: no event is called 'kart_added'; say in `sources`"),
        ({"event": "accept"}, "event: no event is called 'accept'"),
        ({"unless": ("bought",)}, "unless: no event is called 'bought'"),
        ({"unless": ("page",)}, "unless: no event is called 'page'"),
        ({"placement": "letter"}, "placement: 'letter' is not defined, must be one of home_hero, newsletter"),
        ({"delay": 31 * DAY}, "delay: is 31 days, 0:00:00, must be at least 0"),
        ({"delay": -DAY}, "delay: is -1 day, 0:00:00, must be at least 0"),
        ({"expires": 0 * DAY}, "expires: is 0:00:00, must be longer than 0"),
        ({"at_most": AtMost(times=1, per=0 * DAY)}, "at_most.per: is 0:00:00, must be longer than 0"),
        ({"at_most": AtMost(times=1, per=366 * DAY)}, "at_most.per: is 366 days"),
        ({"when": "customer.age > 3.0"}, "when: names customer.age; it sees what the event says"),
        ({"when": "account.size > 3.0"}, "when: names account.size; it sees what the event says"),
        ({"when": "contxt.value > 3.0"}, "when: 'contxt.value > 3.0' names contxt"),
        ({"when": "1 + 1"}, "when: '1 + 1' gives a whole number, must give true or false"),
    ],
)
def test_a_moment_that_can_never_be_or_means_nothing_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(CatalogError) as raised:
        catalog(moments=(moment(**wrong),))
    assert raised.value.mistakes[0].startswith(f"moments[cart_abandoned].{said}")


def test_a_moment_may_name_what_a_source_or_an_outcome_is_called() -> None:
    sources = (Source(id="app", events={"Song": "song_played"}),)
    told = (moment("a", event="song_played", unless=("song_played", "accept")), moment("b", event="identify"))
    assert mistakes(content(moments=told, sources=sources)) == []
