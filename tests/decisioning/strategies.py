"""Random catalogues, customers and requests for property tests: small, valid, and using every step of the funnel."""

from datetime import timedelta
from typing import Any

import msgspec
from hypothesis import strategies as st

from decisioning.catalog import Catalog
from decisioning.content import (
    Action,
    Budget,
    Channel,
    ContactPolicy,
    Content,
    ContextWeight,
    CoolDown,
    Journey,
    QuietHours,
    Stage,
    Transition,
    Treatment,
)
from decisioning.content_types import NO_ACTION
from decisioning.exploration import EpsilonGreedy, ExplorationPolicy, Greedy, Softmax, SquareCB
from decisioning.profile import BudgetLeft, Consent, Contact, Event, Facts, HotProfile, Purchase
from decisioning.request import DecisionRequest
from tests.builders import NOW, content, placement, request

IDS = ("card", "loan", "fund", "visit", "gift", NO_ACTION)
GROUPS, GOALS, PRODUCTS, STAGES = ("cards", "loans"), ("sell", "serve"), ("p1", "p2"), ("new", "regular")
PLACEMENTS = ("home_hero", "newsletter")
# True, false, and an error for somebody without the feature.
RULES = ("true", "false", "customer.age > 30.0", "!(customer.age > 30.0)", "context.device == 'mobile'")
POLICIES: tuple[ExplorationPolicy, ...] = (
    Greedy(),
    EpsilonGreedy(epsilon=0.0),
    EpsilonGreedy(epsilon=0.2),
    EpsilonGreedy(epsilon=1.0),
    Softmax(temperature=0.2),
    SquareCB(gamma=0.0),
    SquareCB(gamma=25.0),
)

windows = st.sampled_from([timedelta(hours=1), timedelta(days=1), timedelta(days=7)])
chances = st.floats(0.0, 1.0, width=32)
policies = st.sampled_from(POLICIES)


@st.composite
def actions(draw: st.DrawFn, action_id: str) -> Action:
    is_nothing = action_id == NO_ACTION
    rendered = draw(st.lists(st.sampled_from(("web", "email")), unique=True, max_size=2, min_size=1))
    return Action(
        id=action_id,
        name=action_id,
        group=draw(st.sampled_from(GROUPS)),
        goal=draw(st.sampled_from(GOALS)),
        status=draw(st.sampled_from(("live", "live", "live", "approved", "draft", "retired"))),
        valid_from=draw(st.sampled_from((None, None, NOW, NOW + timedelta(days=1)))),
        valid_until=draw(st.sampled_from((None, None, NOW + timedelta(days=9)))),
        rank_by=draw(st.sampled_from(("response", "uplift"))),
        value=draw(st.sampled_from((0.0, 1.0, 10.0, "customer.age * 2.0"))),
        context_weights=tuple(ContextWeight(rule, 2.0) for rule in draw(st.lists(st.sampled_from(RULES), max_size=1))),
        eligibility=draw(st.sampled_from(RULES)),
        suitability=draw(st.sampled_from(("true", *RULES))),
        promotes=() if is_nothing else tuple(draw(st.lists(st.sampled_from(PRODUCTS), unique=True, max_size=1))),
        stages=tuple(draw(st.sampled_from(((), (), ("regular",))))),
        buying_roles=tuple(draw(st.sampled_from(((), (), ("champion",))))),
        budget=draw(st.sampled_from((None, None, "money", "mails", "team"))),
        cost=draw(st.sampled_from((0.0, 1.0, 3.0))),
        follow_up=draw(st.sampled_from((None, None, *(["card"] if action_id != "card" else [])))),
        fallback=draw(st.booleans()),
        treatments=() if is_nothing else tuple(Treatment(f"{action_id}_{channel}", channel) for channel in rendered),
    )


@st.composite
def contents(draw: st.DrawFn) -> Content:
    """All `IDS` are actions, so that whatever names another finds it."""
    caps = draw(st.lists(contact_policies(), max_size=3, unique_by=lambda policy: policy.id))
    policy = draw(policies)
    return content(
        *[draw(actions(action_id)) for action_id in IDS],
        continuity=draw(st.sampled_from((timedelta(0), timedelta(hours=4), timedelta(days=3)))),
        groups=GROUPS,
        goals=GOALS,
        channels=(Channel("web"), Channel("email", requires_consent="marketing")),
        placements=(
            placement("home_hero", slots=3, exploration=policy),
            placement("newsletter", channel="email", slots=2, shown_by="sent", exploration=policy),
        ),
        budgets=(
            budget("money"),
            budget("mails", counts="contacts", amount=2.0, of="customer"),
            budget("team", amount=6.0, of="account"),
        ),
        contact_policies=tuple(caps),
        cool_downs=tuple(draw(st.sampled_from(((), (NO_MEANS_NO, IGNORED))))),
        quiet_hours=tuple(draw(st.sampled_from(((), (NOON,))))),
        journeys=(JOURNEY,),
    )


@st.composite
def contact_policies(draw: st.DrawFn) -> ContactPolicy:
    per = draw(st.sampled_from(("any", "channel", "group", "goal", "action")))
    only = {"channel": "web", "group": "cards", "goal": "sell", "action": "card"}.get(per)
    return ContactPolicy(
        id=f"cap_{draw(st.integers(0, 99))}",
        limit=draw(st.integers(0, 3)),
        within=draw(windows),
        per=per,
        only=draw(st.sampled_from((None, only))),
        of=draw(st.sampled_from(("customer", "account"))),
    )


@st.composite
def contacts(draw: st.DrawFn, *, owner: str = "earlier") -> Contact:
    at = NOW - draw(st.sampled_from([timedelta(minutes=10), timedelta(hours=3), timedelta(days=1), timedelta(days=8)]))
    answered = draw(st.sampled_from(("", "", "clicked_at", "accepted_at", "rejected_at")))
    return Contact(
        action_id=draw(st.sampled_from(IDS)),
        group=draw(st.sampled_from(GROUPS)),
        channel=draw(st.sampled_from(("web", "email"))),
        at=at,
        goal=draw(st.sampled_from(GOALS)),
        placement=draw(st.sampled_from(PLACEMENTS)),
        decision_id=f"{owner}-{draw(st.integers(0, 9))}",
        until=at + timedelta(minutes=30),
        budget=draw(st.sampled_from((None, "money", "mails", "team"))),
        cost=1.0,
        **({answered: at + timedelta(minutes=1)} if answered else {}),
    )


@st.composite
def profiles(draw: st.DrawFn, *, version: int = 1) -> HotProfile:
    own = draw(st.lists(contacts(), max_size=5))
    return HotProfile(
        consents=draw(st.sampled_from(((), (Consent("marketing", "email"),)))),
        contacts=tuple(sorted(own, key=lambda contact: contact.at)),
        suppressed=draw(st.sampled_from(((), (), ("web",), ("email",)))),
        account_contacts=tuple(draw(st.lists(contacts(owner="colleague"), max_size=2))),
        purchases=draw(st.sampled_from(((), (Purchase("p1", NOW - timedelta(days=2)),)))),
        events=tuple(draw(st.lists(st.sampled_from(EVENTS), unique=True, max_size=2))),
        budgets=draw(st.sampled_from(((), (BudgetLeft("money", 0.0),), (BudgetLeft("money", 4.0),)))),
        version=version,
    )


@st.composite
def facts(draw: st.DrawFn, hot: st.SearchStrategy[HotProfile | None] | None = None) -> Facts:
    return Facts(
        features={
            "age": draw(st.sampled_from((None, 20.0, 41.0))),
            "buying_role": draw(st.sampled_from((None, "champion"))),
            "time_zone": draw(st.sampled_from((None, "Europe/Berlin", "Pacific/Auckland", "Atlantis"))),
        },
        account_id=draw(st.sampled_from((None, "a-1"))),
        hot=draw(profiles() if hot is None else hot),
        paused=tuple(draw(st.lists(st.sampled_from((*IDS, "global/visit")), unique=True, max_size=1))),
    )


@st.composite
def requests(draw: st.DrawFn) -> DecisionRequest:
    asked: dict[str, Any] = {
        "placement": draw(st.sampled_from(PLACEMENTS)),
        "mode": draw(st.sampled_from(("live", "live", "preview"))),
        "context": draw(st.sampled_from(({}, {"device": "mobile"}, {"device": "desktop"}))),
        "exclude": draw(st.lists(st.sampled_from(IDS), unique=True, max_size=1)),
        "limit": draw(st.sampled_from((None, 1, 2))),
    }
    some = draw(st.sampled_from((None, None, ("card", "loan", NO_ACTION))))
    return request(**asked, actions=some)


def catalogs() -> st.SearchStrategy[Catalog]:
    return contents().map(lambda drawn: Catalog(drawn, version="sha256:drawn"))


def widened(shop: Content, *more: Action) -> Catalog:
    """The same catalogue with more actions."""
    return Catalog(msgspec.structs.replace(shop, actions=(*shop.actions, *more)), version="sha256:wider")


def budget(budget_id: str, **overrides: Any) -> Budget:
    defaults: dict[str, Any] = {
        "id": budget_id,
        "amount": 8.0,
        "period": timedelta(days=7),
        "starts": NOW - timedelta(days=3),
    }
    return Budget(**(defaults | overrides))


NO_MEANS_NO = CoolDown(id="no_means_no", after="reject", lasting=timedelta(days=7))
IGNORED = CoolDown(id="ignored", after="ignore", times=2, per="group", lasting=timedelta(days=2))
NOON = QuietHours(id="noon", begin="11:00", end="13:30", channels=("email",))
JOURNEY = Journey(
    id="life",
    stages=(
        Stage(id="new", name="New", entry="customer.age < 30.0", weights={"cards": 2.0}),
        Stage(id="regular", name="Regular", exit="customer.age > 90.0", weights={"card": 0.5, "loans": 3.0}),
    ),
    transitions=(Transition(source="new", target="regular", on="purchase"),),
)
EVENTS = (Event("purchase", NOW - timedelta(days=2)), Event("click", NOW - timedelta(days=1)))
