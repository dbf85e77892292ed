from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from decisioning.content import Action, Channel, Content, Placement, Treatment
from decisioning.content_types import NO_ACTION
from decisioning.errors import CatalogError
from tests.builders import NOW, action, catalog, experiment, placement, weekly_cap


def mistakes(*actions: Action, **overrides: Any) -> list[str]:
    with pytest.raises(CatalogError) as raised:
        catalog(*actions, **overrides)
    return raised.value.mistakes


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"group": "boats"}, "actions[card].group: 'boats' is not defined"),
        ({"goal": "rest"}, "actions[card].goal: 'rest' is not defined, must be one of sell"),
        ({"eligibility": "customer.age >"}, "actions[card].eligibility: 'customer.age >' is not a CEL expression"),
        ({"suitability": "visitor.age > 3"}, "actions[card].suitability: 'visitor.age > 3' names visitor"),
        ({"applicability": "[1].exists(x, x > 0)"}, "must not loop"),
        ({"attributes": {"value": 3.0}}, "actions[card].attributes.value: the name is taken"),
        ({"valid_from": NOW, "valid_until": NOW}, "actions[card].valid_until: is not after valid_from"),
        ({"valid_from": datetime(2026, 1, 1)}, "actions[card].valid_from: has no time zone"),  # noqa: DTZ001
        ({"treatments": (Treatment("t", "fax"),)}, "treatments[t].channel: 'fax' is not defined"),
        ({"treatments": (Treatment("t", "web"), Treatment("t", "email"))}, "treatments[t]: the id is used twice"),
    ],
)
def test_a_wrong_action_is_named_with_its_place(wrong: dict[str, Any], said: str) -> None:
    assert any(said in mistake for mistake in mistakes(action("card", **wrong)))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"placements": (placement(channel="fax"),)}, "placements[home_hero].channel: 'fax'"),
        ({"placements": (placement(time_out=timedelta(0)),)}, "placements[home_hero].time_out: is 0:00:00"),
        ({"contact_policies": (weekly_cap(within=timedelta(days=31)),)}, "at most 30 days"),
        ({"contact_policies": (weekly_cap(within=timedelta(0)),)}, "must be longer than 0"),
        ({"contact_policies": (weekly_cap(per="group", only="boats"),)}, "contact_policies[weekly].only: 'boats'"),
        ({"contact_policies": (weekly_cap(per="any", only="cards"),)}, "must be one of (none)"),
        ({"experiments": (experiment(placements=("hero",)),)}, "experiments[hero_copy].placements: 'hero'"),
        ({"channels": (Channel("web"), Channel("email"), Channel("web"))}, "channels[web]: the id is used twice"),
    ],
)
def test_wrong_content_is_named_with_its_place(wrong: dict[str, Any], said: str) -> None:
    assert any(said in mistake for mistake in mistakes(**wrong))


def test_every_mistake_is_in_one_report() -> None:
    found = mistakes(action("card", group="boats", eligibility="1 +"), action("loan", goal="rest"))
    assert len(found) == 3


def test_showing_nothing_has_no_treatment() -> None:
    found = mistakes(action(NO_ACTION, group="other", treatments=(Treatment("t", "web"),)))
    assert any("shows nothing" in mistake for mistake in found)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "hero", "channel": "web", "priority_scale": 0, "reward": {"accept": 1}},
        {"id": "hero", "channel": "web", "priority_scale": 1, "reward": {}},
        {"id": "hero", "channel": "web", "priority_scale": 1, "reward": {"accept": 1}, "colour": "red"},
        {"id": "hero", "channel": "web", "priority_scale": 1, "reward": {"accept": 1}, "slots": 0},
        {
            "id": "hero",
            "channel": "web",
            "priority_scale": 1,
            "reward": {"accept": 1},
            "exploration": {"policy": "ucb"},
        },
        {
            "id": "hero",
            "channel": "web",
            "priority_scale": 1,
            "reward": {"accept": 1},
            "exploration": {"policy": "epsilon_greedy", "epsilon": 2},
        },
    ],
)
def test_a_placement_outside_the_schema_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Placement)


def test_content_survives_its_way_through_json() -> None:
    content = catalog(contact_policies=(weekly_cap(),), experiments=(experiment(),)).content
    assert msgspec.json.decode(msgspec.json.encode(content), type=Content) == content
