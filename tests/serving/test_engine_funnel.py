"""What a caller meets of the funnel: several placements, the control, accounts, markets, pauses, reloads."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from decisioning.content import Budget, ContactPolicy, FeatureTypes, Journey, QuietHours, Stage, Transition, Treatment
from decisioning.content_types import NO_ACTION
from decisioning.errors import RequestError, StoreError
from decisioning.experiment_content import Holdout
from decisioning.profile import BudgetLeft, Event, HotProfile, Purchase
from decisioning.record import DecisionRecord
from serving.pauses import PauseRequest
from tests.builders import NOW, action, catalog, contact, content, placement, request
from tests.fakes import FakeScorer
from tests.serving.test_engine import Shop, shown

TWO = (placement("hero", slots=1), placement("inbox", slots=2))


def decide(shop: Shop, *, ago: timedelta = timedelta(0), **fields: Any) -> DecisionRecord:
    return asyncio.run(shop.engine.decide(request(**fields), now=NOW - ago))


def decide_all(shop: Shop, **fields: Any) -> tuple[DecisionRecord, ...]:
    asked = request(placement=None, placements=["hero", "inbox"], **fields)
    return asyncio.run(shop.engine.decide_placements(asked, now=NOW))


def why(record: DecisionRecord, action_id: str) -> str:
    return next(drop.reason for drop in record.dropped if drop.action_id == action_id)


def test_several_placements_show_no_action_twice_after_one_read() -> None:
    shop = Shop(catalog(action("card"), action("loan"), action("gold"), placements=TWO))
    hero, inbox = decide_all(shop)
    assert (hero.placement, inbox.placement) == ("hero", "inbox")
    assert sorted(shown(hero) + shown(inbox)) == ["card", "gold", "loan"]
    assert why(inbox, shown(hero)[0]) == "SHOWN_ELSEWHERE"
    assert shop.hot_state.reads == 1


def test_a_contact_in_the_first_placement_counts_for_the_second() -> None:
    capped = catalog(
        action("card"), action("loan"), placements=TWO,
        contact_policies=(ContactPolicy("daily", limit=1, within=timedelta(days=1)),),
    )  # fmt: skip
    for mode in ("live", "preview"):
        hero, inbox = decide_all(Shop(capped), mode=mode)
        assert (len(shown(hero)), shown(inbox)) == (1, [])


def test_each_of_several_placements_can_be_asked_for_again_by_id() -> None:
    shop = Shop(catalog(action("card"), action("loan"), placements=TWO))
    first = decide_all(shop, decision_id="d")
    assert [record.decision_id for record in first] == ["d.hero", "d.inbox"]
    shop.engine.scorer = None
    assert decide_all(shop, decision_id="d") == first


@pytest.mark.parametrize(
    "places",
    [{"placement": None}, {"placements": ["home_hero"]}, {"placement": None, "placements": ["home_hero", "home_hero"]}],
)
def test_placements_are_given_one_way_and_once(places: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as raised:
        decide(Shop(), **places)
    assert raised.value.where in ("placement", "placements")


def test_one_wrong_placement_of_several_keeps_nothing() -> None:
    shop = Shop(catalog(action("card"), placements=(placement("hero"),)))
    with pytest.raises(RequestError):
        decide_all(shop)
    assert shop.ledger.decisions == {}
    assert shop.hot_state.contacts == []


def test_the_control_gets_fallback_actions_that_nobody_drew() -> None:
    shop = Shop(catalog(action("card"), action("loan", fallback=True), holdout=Holdout(share=1.0)))
    record = decide(shop)
    assert (record.reason, shown(record)) == ("HOLDOUT", ["loan"])
    assert record.slots[0].probability is None
    assert not record.drawn


def test_about_the_holdout_s_share_of_customers_is_held_out_and_stays_so() -> None:
    shop = Shop(catalog(holdout=Holdout(share=0.05)))
    held = [decide(shop, customer_id=f"c-{number}").reason == "HOLDOUT" for number in range(2_000)]
    again = [decide(shop, customer_id=f"c-{number}").reason == "HOLDOUT" for number in range(2_000)]
    assert held == again
    assert abs(sum(held) - 100) < 4 * (2_000 * 0.05 * 0.95) ** 0.5


def test_a_rule_sees_the_account_of_the_customer() -> None:
    shop = Shop(catalog(action("card", eligibility="account.employees > 100.0"), action("loan")))
    shop.features.customers["c-1"] = {"age": 41.0, "city": "ulm", "account_id": "a-1"}
    shop.features.accounts = {"a-1": {"employees": 500.0}, "a-2": {"employees": 5.0}}
    assert "card" in shown(decide(shop))
    other = decide(shop, context={"account_id": "a-2"})
    assert (why(other, "card"), other.account_id) == ("ELIGIBILITY", "a-2")


def test_contacts_of_colleagues_count_against_the_account_s_cap() -> None:
    cap = ContactPolicy("account_weekly", limit=1, within=timedelta(days=7), of="account")
    shop = Shop(catalog(action("card"), placements=(placement(slots=1),), contact_policies=(cap,)))
    for name, account in (("c-1", "a-1"), ("c-2", "a-1"), ("c-3", "a-2")):
        shop.features.customers[name] = {"account_id": account}
    assert shown(decide(shop, customer_id="c-1")) == ["card"]
    assert why(decide(shop, customer_id="c-2"), "card") == "CAP_REACHED"
    assert shown(decide(shop, customer_id="c-3")) == ["card"]


def test_an_action_is_for_its_role_in_the_buying_group() -> None:
    shop = Shop(catalog(action("card", buying_roles=("decision_maker",)), action("loan")))
    assert why(decide(shop), "card") == "BUYING_ROLE"
    shop.features.customers["c-1"] = {"buying_role": "decision_maker"}
    assert "card" in shown(decide(shop))


def test_a_market_has_its_own_catalogue_and_currency() -> None:
    shop = Shop()
    swiss = content(action("card", value=10.0), market="ch", market_currency="CHF", rates={"CHF": 1.05})
    shop.engine.release = type(shop.engine.release)(
        {"global": content(action("card", value=10.0)), "ch": swiss}, version="sha256:two"
    )
    assert decide(shop).candidates[0].value == 10.0
    record = decide(shop, market="ch")
    assert (record.market, record.candidates[0].value) == ("ch", 10.5)
    with pytest.raises(RequestError, match="must be one of ch, global"):
        decide(shop, market="fr")


def test_a_paused_action_is_gone_at_the_next_decision_and_somebody_answers_for_it() -> None:
    shop = Shop()
    pause = PauseRequest(reason="wrong price")
    asyncio.run(shop.engine.pause("card", pause, paused=True, actor="ann", now=NOW))
    assert why(decide(shop), "card") == "PAUSED"
    asyncio.run(shop.engine.pause("card", pause, paused=False, actor="ann", now=NOW))
    assert "card" in shown(decide(shop, exclude=[NO_ACTION]))
    assert [(entry.what, entry.subject, entry.actor, entry.reason) for entry in shop.ledger.audits] == [
        ("action.pause", "card", "ann", "wrong price"),
        ("action.resume", "card", "ann", "wrong price"),
    ]


def test_a_pause_can_be_for_one_market() -> None:
    shop = Shop()
    shop.engine.release = type(shop.engine.release)(
        {"global": content(), "de": content(market="de")}, version="sha256:two"
    )
    asyncio.run(shop.engine.pause("card", PauseRequest(market="de"), paused=True, actor="ann", now=NOW))
    assert why(decide(shop, market="de"), "card") == "PAUSED"
    assert "card" in {candidate.action_id for candidate in decide(shop).candidates}
    with pytest.raises(RequestError):
        asyncio.run(shop.engine.pause("card", PauseRequest(market="fr"), paused=True, actor="ann", now=NOW))


def test_a_pause_that_cannot_be_kept_still_stops_and_says_so() -> None:
    shop = Shop()
    shop.ledger.down = True
    with pytest.raises(StoreError, match="paused, but"):
        asyncio.run(shop.engine.pause("card", PauseRequest(), paused=True, actor="ann", now=NOW))
    shop.ledger.down = False
    assert why(decide(shop), "card") == "PAUSED"


def test_a_bought_product_is_never_offered_again() -> None:
    shop = Shop(
        catalog(action("card", promotes=("credit_card",)), action("loan")),
        hot=HotProfile(purchases=(Purchase("credit_card", NOW - timedelta(days=400)),)),
    )
    assert why(decide(shop), "card") == "ALREADY_BOUGHT"


def test_a_consumable_is_offered_again_after_its_time() -> None:
    for days, back in ((29, False), (30, True)):
        shop = Shop(
            catalog(action("card", promotes=("coffee",), again_after=timedelta(days=30)), action("loan")),
            hot=HotProfile(purchases=(Purchase("coffee", NOW - timedelta(days=days)),)),
        )
        assert ("card" in shown(decide(shop))) is back


def test_a_reload_gives_the_same_answer_and_reserves_nothing_new() -> None:
    shop = Shop(catalog(action("card"), action("loan"), action("gold"), continuity=timedelta(days=3)))
    first = decide(shop, ago=timedelta(minutes=10))
    again = decide(shop)
    assert shown(again) == shown(first)
    assert len(shop.hot_state.contacts) == len(shown(first))
    assert [slot.repeats for slot in again.slots] == [first.decision_id] * 2
    assert again.slots[0].probability == 1.0
    assert not again.drawn


def test_what_was_shown_on_one_channel_is_the_choice_on_the_next() -> None:
    mail = placement("newsletter", channel="email", slots=1, shown_by="sent")
    actions = [action(name) for name in ("card", "loan", "gold", "visa", "debit")]
    shop = Shop(catalog(*actions, placements=(placement(slots=1), mail), continuity=timedelta(days=3)))
    first = decide(shop, ago=timedelta(days=2))
    sent = decide(shop, placement="newsletter")
    assert shown(sent) == shown(first)
    assert sent.slots[0].repeats is None
    assert len(shop.hot_state.contacts) == 2


def test_an_outcome_of_a_repeated_answer_speaks_of_the_first_contact() -> None:
    shop = Shop(catalog(action("card"), continuity=timedelta(days=3)))
    first = decide(shop, ago=timedelta(minutes=5))
    again = decide(shop)
    shop.report({"decision_id": again.decision_id, "type": "impression"})
    assert shop.hot_state.applied[-1].contacts == ((first.decision_id, "card"),)


def test_an_accepted_action_makes_way_for_its_follow_up_on_every_channel() -> None:
    shop = Shop(
        catalog(
            action("card", follow_up="gold"), action("gold"), action("loan", value=500.0), continuity=timedelta(days=3)
        ),
        hot=HotProfile(contacts=(contact("card", accepted_at=NOW - timedelta(hours=1)),)),
    )
    record = decide(shop)
    assert shown(record)[0] == "gold"
    assert why(record, "card") == "FOLLOWED_UP"


def test_an_action_that_ranks_by_uplift_is_worth_what_it_adds() -> None:
    shop = Shop(catalog(action("card", rank_by="uplift"), action("loan"), action(NO_ACTION, group="other")))
    ranked = {candidate.action_id: candidate for candidate in decide(shop).candidates}
    assert ranked["card"].uplift == pytest.approx(0.3 - 0.1)
    assert ranked["card"].priority == pytest.approx(0.2 * 10.0)
    assert ranked["loan"].uplift is None


def test_uplift_is_over_showing_nothing_even_where_that_is_no_candidate() -> None:
    shop = Shop(catalog(action("card", rank_by="uplift"), action(NO_ACTION, group="other", status="retired")))
    [candidate] = decide(shop).candidates
    assert candidate.uplift == pytest.approx(0.2)


def test_an_uplift_that_the_model_learnt_ranks_instead_and_asks_for_no_baseline() -> None:
    shop = Shop(
        catalog(action("card", rank_by="uplift"), action("loan"), action(NO_ACTION, group="other")),
        scorer=FakeScorer(uplifts={"card": 0.05, "loan": 0.3}),
    )
    record = decide(shop)
    ranked = {candidate.action_id: candidate for candidate in record.candidates}
    assert ranked["card"].uplift == pytest.approx(0.05)
    assert ranked["card"].priority == pytest.approx(0.05 * 10.0)
    assert ranked["card"].propensity == pytest.approx(0.3)
    assert ranked["loan"].uplift is None
    assert record.baseline is None


def test_a_value_can_be_a_rule() -> None:
    shop = Shop(catalog(action("card", value="customer.age * 2.0"), action("loan", value="customer.spend * 1.0")))
    record = decide(shop)
    assert record.candidates[0].value == 82.0
    assert why(record, "loan") == "RULE_ERROR"


def test_content_is_in_the_language_that_is_asked_for() -> None:
    treatment = Treatment("t", "web", {"text": "Hello"}, locales={"de": {"text": "Hallo"}}, content_ref="cms/1")
    shop = Shop(catalog(action("card", treatments=(treatment,))))
    assert decide(shop).slots[0].content == {"text": "Hello"}
    assert decide(shop, context={"locale": "de-AT"}).slots[0].content == {"text": "Hallo"}
    assert decide(shop).slots[0].content_ref == "cms/1"


def test_what_is_approved_shows_in_previews_alone() -> None:
    shop = Shop(catalog(action("card", status="approved"), action("loan")))
    assert why(decide(shop), "card") == "NOT_LIVE"
    assert "card" in shown(decide(shop, mode="preview"))


def test_a_planned_time_is_for_what_is_sent() -> None:
    with pytest.raises(RequestError, match="not sent"):
        decide(Shop(), planned_at="2026-03-03T12:00:00Z")
    late = {"placement": "newsletter", "planned_at": "2026-06-01T12:00:00Z"}
    with pytest.raises(RequestError, match="30 days"):
        decide(Shop(), **late)
    record = decide(Shop(), placement="newsletter", planned_at="2026-03-03T12:00:00Z")
    assert record.contact_at == NOW + timedelta(days=1)


def test_stages_follow_events_and_bind_actions() -> None:
    journey = Journey(
        id="life",
        stages=(Stage(id="new", name="New", entry="true"), Stage(id="regular", name="Regular", weights={"loan": 3.0})),
        transitions=(Transition(source="new", target="regular", on="purchase"),),
    )
    shop = Shop(catalog(action("card", stages=("new",)), action("loan"), journeys=(journey,)))
    assert decide(shop).stages == ("new",)
    shop.hot_state.profile = HotProfile(events=(Event("purchase", NOW),))
    record = decide(shop)
    assert (record.stages, why(record, "card")) == (("regular",), "STAGE")
    assert record.candidates[0].context_weight == 3.0


def test_a_value_of_the_wrong_kind_for_a_feature_is_refused() -> None:
    shop = Shop(catalog(action("card"), features=FeatureTypes(customer={"age": "number", "city": "text"})))
    with pytest.raises(RequestError, match="must be a text"):
        decide(shop, context={"city": 3})
    assert decide(shop, context={"age": 20}).features["age"] == 20.0


def test_without_hot_state_nothing_is_taken_for_not_bought_not_spent_or_not_stopped() -> None:
    shop = Shop(
        catalog(
            action("card", promotes=("credit_card",), fallback=True),
            action("loan", budget="b", fallback=True),
            action("gold", stages=("new",), fallback=True),
            action("visa", fallback=True),
            action("debit", fallback=True),
            budgets=(Budget(id="b", amount=9.0, period=timedelta(days=1), starts=NOW, of="customer"),),
            journeys=(Journey(id="life", stages=(Stage(id="new", name="New", entry="true"),)),),
        )
    )
    asyncio.run(shop.engine.pause("visa", PauseRequest(), paused=True, actor="ann", now=NOW))
    decide(shop)
    shop.hot_state.down = True
    record = decide(shop)
    assert shown(record) == ["debit"]
    reasons = {drop.action_id: drop.reason for drop in record.dropped}
    assert reasons == {
        "card": "PURCHASES_UNKNOWN",
        "loan": "BUDGET_UNKNOWN",
        "gold": "FEATURES_UNKNOWN",
        "visa": "PAUSED",
    }


def test_the_model_sees_an_action_the_same_in_every_market() -> None:
    shop = Shop()
    market = content(action("card", group="loans"), action("only_here"), market="ch")
    shop.engine.release = type(shop.engine.release)(
        {"global": content(action("card"), action("loan")), "ch": market}, version="sha256:two"
    )
    assert set(shop.engine.release.everywhere.actions) == {"card", "loan", "only_here"}
    record = decide(shop, market="ch")
    assert {candidate.action_id for candidate in record.candidates} == {"card", "only_here"}
    assert shop.engine.release.everywhere.actions["card"].group == "cards"


def test_two_loads_of_one_page_at_once_make_one_contact_under_a_cap_of_one() -> None:
    cap = ContactPolicy("weekly", limit=1, within=timedelta(days=7), per="action")
    shop = Shop(catalog(action("card"), placements=(placement(slots=1),), contact_policies=(cap,)))
    read = shop.hot_state.read
    both_have_read = asyncio.Barrier(2)

    async def read_together(*args: Any, **kwargs: Any) -> HotProfile:
        profile = await read(*args, **kwargs)
        await both_have_read.wait()
        return profile

    shop.hot_state.read = read_together  # type: ignore[method-assign]

    async def load_twice() -> list[DecisionRecord]:
        return await asyncio.gather(*(shop.engine.decide(request(), now=NOW) for _ in range(2)))

    first, second = asyncio.run(load_twice())
    assert sorted([shown(first), shown(second)]) == [[], ["card"]]
    assert len(shop.hot_state.contacts) == 1


def test_what_is_sent_again_counts_again() -> None:
    mail = placement("newsletter", channel="email", slots=1, shown_by="sent", time_out=timedelta(days=1))
    cap = ContactPolicy("daily", limit=1, within=timedelta(days=1))
    shop = Shop(catalog(action("card"), placements=(placement(), mail), contact_policies=(cap,)))
    assert shown(decide(shop, placement="newsletter", ago=timedelta(hours=5))) == ["card"]
    assert why(decide(shop, placement="newsletter"), "card") == "CAP_REACHED"


def test_a_contact_planned_for_later_bars_what_is_in_one_window_with_it() -> None:
    mail = placement("newsletter", channel="email", slots=1, shown_by="sent")
    cap = ContactPolicy("daily", limit=1, within=timedelta(days=1))
    shop = Shop(catalog(action("card"), placements=(placement(slots=1), mail), contact_policies=(cap,)))
    decide(shop, placement="newsletter", planned_at="2026-03-05T12:00:00Z")
    assert shown(decide(shop)) == ["card"]
    late = decide(shop, placement="newsletter", planned_at="2026-03-06T06:00:00Z")
    assert why(late, "card") == "CAP_REACHED"


def test_validity_is_judged_when_the_contact_is() -> None:
    ends = NOW + timedelta(days=1)
    shop = Shop(catalog(action("card", valid_until=ends), action("loan", valid_from=ends)))
    later = decide(shop, placement="newsletter", planned_at="2026-03-07T12:00:00Z")
    assert (shown(later), why(later, "card")) == (["loan"], "NO_LONGER_VALID")


def test_a_reload_may_be_shown_no_longer_than_its_place_is_held() -> None:
    shop = Shop(catalog(action("card")))
    first = decide(shop, ago=timedelta(minutes=29))
    assert decide(shop).expires_at == first.expires_at == NOW + timedelta(minutes=1)


def test_without_features_nothing_holds_because_a_feature_looks_missing() -> None:
    shop = Shop(
        catalog(
            action("card", suitability="customer.age == null || customer.age >= 18.0"),
            action("loan"),
            action("gold", budget="ours"),
            budgets=(Budget(id="ours", amount=9.0, period=timedelta(days=1), starts=NOW, of="account"),),
        )
    )
    shop.features.down = True
    record = decide(shop)
    assert {drop.action_id: drop.reason for drop in record.dropped} == {
        "card": "FEATURES_UNKNOWN",
        "gold": "BUDGET_UNKNOWN",
    }
    assert "card" in shown(decide(shop, context={"age": 20}))


def test_without_features_an_account_s_cap_closes() -> None:
    cap = ContactPolicy("account_weekly", limit=1, within=timedelta(days=7), of="account", per="group", only="cards")
    shop = Shop(catalog(action("card"), action("loan", group="loans"), contact_policies=(cap,)))
    shop.features.down = True
    assert why(decide(shop), "card") == "CONTACTS_UNKNOWN"
    assert "card" in shown(decide(shop, context={"account_id": "a-1"}))


def test_without_features_nothing_goes_out_in_hours_that_may_be_quiet() -> None:
    shop = Shop(catalog(action("card"), quiet_hours=(QuietHours(id="night", begin="21:00", end="08:00"),)))
    assert shown(decide(shop, placement="newsletter")) == ["card"]
    shop.features.names |= {"time_zone"}
    shop.features.down = True
    assert why(decide(shop, placement="newsletter"), "card") == "QUIET_HOURS"


def test_whole_numbers_of_callers_calculate_like_fractions() -> None:
    shop = Shop(catalog(action("card", eligibility="context.cart_value * 0.5 > 10.0"), action("loan")))
    for cart in (120, 120.0):
        assert "card" in {c.action_id for c in decide(shop, context={"cart_value": cart}).candidates}


def test_what_the_control_does_not_get_is_said() -> None:
    shop = Shop(catalog(action("card"), action("loan", fallback=True), holdout=Holdout(share=1.0)))
    assert why(decide(shop), "card") == "HELD_OUT"
    shop = Shop(catalog(action("card")))
    shop.engine.scorer = None
    assert why(decide(shop), "card") == "NOT_A_FALLBACK"


def test_a_preview_of_several_placements_spends_a_budget_once() -> None:
    budget = Budget(id="b", amount=9.0, period=timedelta(days=1), starts=NOW, counts="contacts")
    actions = (action("card", budget="b"), action("loan", budget="b"))
    shop = Shop(catalog(*actions, placements=TWO, budgets=(budget,)), hot=HotProfile(budgets=(BudgetLeft("b", 1.0),)))
    hero, inbox = decide_all(shop, mode="preview")
    assert (len(shown(hero)), shown(inbox)) == (1, [])


def test_a_reload_is_given_though_its_budget_is_spent_by_it() -> None:
    budget = Budget(id="ours", amount=1.0, period=timedelta(days=1), starts=NOW - timedelta(days=9, hours=12),
                    counts="contacts", of="customer")  # fmt: skip
    shop = Shop(catalog(action("card", budget="ours"), budgets=(budget,)))
    assert shown(decide(shop, ago=timedelta(minutes=5))) == ["card"]
    assert shown(decide(shop)) == ["card"]
    assert why(decide(shop, ago=timedelta(hours=-1)), "card") == "BUDGET_SPENT"


def test_budgets_are_asked_for_as_they_will_be_at_the_planned_time() -> None:
    shop, asked = Shop(), []
    read = shop.hot_state.read

    async def noting(*args: Any, **kwargs: Any) -> HotProfile:
        asked.append(kwargs["at"])
        return await read(*args, **kwargs)

    shop.hot_state.read = noting  # type: ignore[method-assign]
    decide(shop)
    decide(shop, placement="newsletter", planned_at="2026-03-05T12:00:00Z")
    assert asked == [NOW, NOW + timedelta(days=3)]
