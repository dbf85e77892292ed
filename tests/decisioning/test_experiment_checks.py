"""Every mistake in experiments, layers, holdouts and metrics; and what must not change once one has begun."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from decisioning.catalog_checks import mistakes
from decisioning.content import Content, Treatment
from decisioning.experiment_checks import moved
from decisioning.experiment_content import Experiment, GroupHoldout, Layer, Metric, Variant
from decisioning.exploration import BootstrapThompson, Greedy
from tests.builders import NOW, action, content, experiment, placement, weekly_cap

DAY = timedelta(days=1)
PLACES = (
    placement(),
    placement("inbox"),
    placement("newsletter", channel="email", slots=1, shown_by="sent"),
)
CARD = action(
    "card",
    treatments=(
        Treatment("plain", "web"),
        Treatment("in_inbox", "web", placements=("inbox",)),
        Treatment("letter", "email"),
    ),
)
FACTORS = {"tone": ("plain", "bold"), "colour": ("red", "blue")}


def of(*experiments: Experiment, **overrides: Any) -> Content:
    """A shop with these experiments, and all that they may name."""
    defaults: dict[str, Any] = {
        "placements": PLACES,
        "layers": (Layer("checkout"), Layer("prices")),
        "metrics": (Metric(id="orders", of="purchase"),),
        "contact_policies": (weekly_cap(), weekly_cap(id="of_account", of="account")),
        "experiments": experiments,
    }
    return content(CARD, action("loan", group="loans"), **(defaults | overrides))


def two(*, one: dict[str, Any], other: dict[str, Any]) -> Content:
    """Two experiments that run."""
    return of(experiment(**({"id": "one"} | one)), experiment(**({"id": "other"} | other)))


def variants(**changes: Any) -> tuple[Variant, Variant]:
    """A control, and what changes this."""
    return Variant(id="a"), Variant(id="b", **changes)


def factorial(*levels: tuple[str, str]) -> dict[str, Any]:
    """An experiment with two factors, and variants of these levels of them."""
    named = (dict(zip(FACTORS, each, strict=True)) for each in levels)
    return {
        "factors": FACTORS,
        "variants": tuple(Variant(id=f"v{number}", levels=each) for number, each in enumerate(named)),
    }


RIGHT: list[Content] = [
    of(experiment()),
    of(experiment(variants=(Variant(id="a", weight=9_999.0), Variant(id="b")))),
    of(experiment(layer="checkout", slice=(0.2, 0.3))),
    of(experiment(placements=("home_hero", "inbox"), testers={"ann": "a"}, metric="orders", guardrails=("orders",))),
    of(experiment(metric="unsubscribes", guardrails=(), starts=NOW, length=365 * DAY)),
    of(experiment(placements=("newsletter",), variants=variants(exploration=BootstrapThompson()))),
    of(experiment(variants=variants(levers={"card": 0.0}, treatments={"card": "in_inbox"}, limits={"weekly": 0}))),
    of(experiment(unit="account", variants=variants(limits={"of_account": 1}))),
    of(experiment(**factorial(("plain", "red"), ("plain", "blue"), ("bold", "red"), ("bold", "blue")))),
    of(experiment(**factorial(("plain", "red"), ("bold", "blue")))),
    of(holdouts=(GroupHoldout(id="no_cards", groups=("cards", "loans"), share=0.1),)),
    of(metrics=(Metric(id="m", of="click", measure="ratio", per="impression"),)),
    of(metrics=(Metric(id="m", of="purchase", measure="sum", cap=100.0, within=365 * DAY),)),
    two(one={"layer": "checkout", "slice": (0.0, 0.5)}, other={"layer": "checkout", "slice": (0.5, 1.0)}),
    two(one={"layer": "checkout"}, other={"layer": "checkout", "status": "draft"}),
    two(one={"layer": "checkout"}, other={"layer": "prices", "unit": "account"}),
    two(one={"variants": variants(levers={"card": 2.0})}, other={"variants": variants(levers={"loan": 2.0})}),
    two(
        one={"variants": variants(model="challenger"), "layer": "checkout", "slice": (0.0, 0.5)},
        other={"variants": variants(model="challenger"), "layer": "checkout", "slice": (0.5, 1.0)},
    ),
    two(
        one={"variants": variants(exploration=Greedy()), "placements": ("inbox",)},
        other={"variants": variants(exploration=Greedy()), "placements": ("home_hero",)},
    ),
]


@pytest.mark.parametrize("right", RIGHT)
def test_what_is_just_right_is_no_mistake(right: Content) -> None:
    assert mistakes(right) == []


@pytest.mark.parametrize(
    ("wrong", "path", "said"),
    [
        ({"variants": (Variant(id="a"), Variant(id="a"))}, "variants[a]", "the id is used twice"),
        (
            {"variants": (Variant(id="a", weight=1e308), Variant(id="b"))},
            "variants[b].weight",
            "is less than 1 in 10,000 of all",
        ),
        ({"placements": ("attic",)}, "placements", "'attic' is not defined, must be one of home_hero, inbox"),
        ({"layer": "none_such"}, "layer", "'none_such' is not defined, must be one of checkout, prices"),
        ({"slice": (0.0, 0.5)}, "slice", "is a part of a layer's units, and there is no layer; name it, or use"),
        (
            {"layer": "checkout", "slice": (0.5, 0.5)},
            "slice",
            "is [0.5, 0.5], must be two shares, the first below the second",
        ),
        ({"testers": {"ann": "c"}}, "testers[ann]", "'c' is not defined, must be one of a, b"),
        ({"metric": "joy"}, "metric", "'joy' is not defined, must be one of orders, unsubscribes"),
        ({"guardrails": ("joy",)}, "guardrails", "'joy' is not defined, must be one of orders, unsubscribes"),
        ({"starts": datetime(2026, 1, 1)}, "starts", "has no time zone"),  # noqa: DTZ001
        ({"length": 0 * DAY}, "length", "is 0:00:00, must be longer than 0 and at most 365 days"),
        ({"length": 366 * DAY}, "length", "is 366 days, 0:00:00, must be longer than 0 and at most 365 days"),
        (
            {"placements": ("home_hero", "newsletter"), "variants": variants(exploration=BootstrapThompson())},
            "variants[b].exploration",
            "is bootstrap_thompson, whose ensemble takes too long while somebody waits",
        ),
        ({"variants": variants(levers={"boat": 2.0})}, "variants[b].levers", "'boat' is not defined"),
        ({"variants": variants(treatments={"boat": "x"})}, "variants[b].treatments", "'boat' is not defined"),
        (
            {"placements": ("home_hero",), "variants": variants(treatments={"card": "in_inbox"})},
            "variants[b].treatments[card]",
            "'in_inbox' is not defined, must be one of plain",
        ),
        ({"variants": variants(limits={"daily": 1})}, "variants[b].limits", "'daily' is not defined, must be one of"),
        (
            {"variants": variants(limits={"of_account": 1})},
            "variants[b].limits[of_account]",
            "counts an account's contacts; the experiment's unit must be account",
        ),
        (
            {"factors": {"tone": ("plain", "plain")}, "variants": (Variant(id="a", levels={"tone": "plain"}),)},
            "factors[tone][plain]",
            "the id is used twice",
        ),
        (
            {"factors": {"tone": ("plain", "bold")}, "variants": (Variant(id="a"),)},
            "variants[a].levels",
            "and the experiment's factors must name the same; 'tone' is in one of them only",
        ),
        (
            {"variants": (Variant(id="a", levels={"tone": "plain"}),)},
            "variants[a].levels",
            "and the experiment's factors must name the same; 'tone' is in one of them only",
        ),
        (
            factorial(("plain", "red"), ("loud", "red")),
            "variants[v1].levels[tone]",
            "'loud' is not defined, must be one of bold, plain",
        ),
        (
            factorial(("plain", "red"), ("bold", "red"), ("bold", "red")),
            "variants[v2].levels",
            "are those of v1 too; each combination is one variant",
        ),
        (
            factorial(("bold", "red"), ("plain", "red")),
            "factors[tone]",
            "begins with 'plain', and the control, v0, has 'bold'; the first level must be the control's",
        ),
    ],
)
def test_a_wrong_experiment_is_told(wrong: dict[str, Any], path: str, said: str) -> None:
    [found] = mistakes(of(experiment(**wrong)))
    assert found.startswith(f"experiments[hero_copy].{path}: {said}")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            of(holdouts=(GroupHoldout(id="no_boats", groups=("boats",), share=0.1),)),
            "holdouts[no_boats].groups: 'boats' is not defined, must be one of cards, loans, other",
        ),
        (of(layers=(Layer("checkout"), Layer("checkout"))), "layers[checkout]: the id is used twice"),
        (
            of(metrics=(Metric(id="m", of="click", measure="ratio"),)),
            "metrics[m].per: belongs to `measure: ratio`, which needs it; what the ratio is divided by",
        ),
        (of(metrics=(Metric(id="m", of="click", per="impression"),)), "metrics[m].per: belongs to `measure: ratio`"),
        (of(metrics=(Metric(id="m", of="click", cap=1.0),)), "metrics[m].cap: is not for `measure: rate`; take it out"),
        (of(metrics=(Metric(id="m", of="click", within=366 * DAY),)), "metrics[m].within: is 366 days, 0:00:00, must"),
        (
            two(one={}, other={"salt": "one"}),
            "experiments[other].salt: 'one' is that of experiments[one] too: who is in one would hang on the other",
        ),
        (
            two(one={}, other={"salt": "one:traffic"}),
            "experiments[other].salt: 'one:traffic' is that of experiments[one] too",
        ),
        (of(experiment(salt="holdout")), "experiments[hero_copy].salt: 'holdout' is that of holdout too"),
        (
            of(experiment(), layers=(Layer("checkout", "hero_copy"),)),
            "layers[checkout].salt: 'hero_copy' is that of experiments[hero_copy] too",
        ),
        (
            of(layers=(Layer("x"),), holdouts=(GroupHoldout(id="x", groups=("cards",), share=0.1),)),
            "holdouts[x].salt: 'x' is that of layers[x] too",
        ),
        (
            two(one={"layer": "checkout", "slice": (0.0, 0.5)}, other={"layer": "checkout", "slice": (0.4, 1.0)}),
            "experiments[other].slice: is [0.4, 1.0], which overlaps [0.0, 0.5] of experiments[one] in the same layer",
        ),
        (
            two(
                one={"layer": "checkout", "slice": (0.0, 0.5)},
                other={"layer": "checkout", "slice": (0.5, 1.0), "unit": "account"},
            ),
            "experiments[other].unit: is account, and that of experiments[one] in the same layer is customer",
        ),
        (
            two(one={"variants": variants(levers={"card": 2.0})}, other={"variants": variants(levers={"card": 3.0})}),
            "experiments[other].variants: change levers[card], and so do those of experiments[one], which the same"
            " units meet; put both into one layer",
        ),
        (
            two(
                one={"variants": variants(model="challenger"), "layer": "checkout"},
                other={"variants": variants(model="champion"), "layer": "prices", "placements": ("inbox",)},
            ),
            "experiments[other].variants: change model, and so do those of experiments[one]",
        ),
    ],
)
def test_what_is_wrong_between_them_is_told(wrong: Content, said: str) -> None:
    [found] = mistakes(wrong)
    assert found.startswith(said)


BEGUN: dict[str, Any] = {
    "layer": "checkout", "slice": (0.2, 0.6), "traffic": 0.5, "eligibility": "context.device == 'mobile'",
    "variants": variants(payload={"tone": "bold"}),
}  # fmt: skip


def moves(now: dict[str, Any], was: dict[str, Any] | None = None, **overrides: Any) -> list[str]:
    """What would move of an experiment that runs, with these fields changed."""
    return moved(of(experiment(**(BEGUN | (was or {})))), of(experiment(**(BEGUN | now)), **overrides), now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"traffic": 1.0},
        {"slice": (0.1, 0.7)},
        {"variants": (Variant(id="a", weight=2.0), Variant(id="b", weight=2.0, payload={"tone": "bold"}))},
        {"salt": "hero_copy"},
        {"testers": {"ann": "a"}, "hypothesis": "bold sells", "owner": "ines", "metric": "orders", "length": 30 * DAY},
        {"placements": ("inbox",)},
        {"status": "stopped", "traffic": 0.1},
        {"status": "draft", "unit": "account"},
        {"version": 2, "traffic": 0.1, "unit": "account", "variants": variants(), "layer": None, "slice": (0.0, 1.0)},
    ],
)
def test_what_moves_nobody_may_change(change: dict[str, Any]) -> None:
    assert moves(change) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"variants": variants(payload={"tone": "loud"})}, "variants[b]: what it does changes"),
        ({"variants": variants(payload={"tone": "bold"}, model="challenger")}, "variants[b]: what it does changes"),
        (
            {"variants": (Variant(id="a", weight=2.0), BEGUN["variants"][1])},
            "variants: ids, order or weights change",
        ),
        ({"variants": (*BEGUN["variants"], Variant(id="c"))}, "variants: ids, order or weights change"),
        ({"variants": BEGUN["variants"][::-1]}, "variants: ids, order or weights change"),
        ({"salt": "new"}, "salt: changes from 'hero_copy' to 'new'"),
        ({"unit": "account"}, "unit: changes from customer to account"),
        ({"layer": "prices"}, "layer: changes from 'checkout' (salt 'checkout') to 'prices' (salt 'prices')"),
        ({"slice": (0.3, 0.6)}, "slice: becomes narrower, from [0.2, 0.6] to [0.3, 0.6],"),
        ({"slice": (0.2, 0.5)}, "slice: becomes narrower, from [0.2, 0.6] to [0.2, 0.5],"),
        ({"traffic": 0.4}, "traffic: falls from 0.5 to 0.4"),
        ({"eligibility": "true"}, "eligibility: changes"),
    ],
)
def test_what_moves_units_is_told_with_the_version_to_raise(change: dict[str, Any], said: str) -> None:
    [found] = moves(change)
    assert found == (
        f"experiments[hero_copy].{said} after it began: units would move, or be measured under two treatments; raise"
        " `version` to 2, with which it begins anew"
    )


def test_every_reason_is_told() -> None:
    assert len(moves({"traffic": 0.1, "unit": "account", "salt": "new"})) == 3


def test_another_salt_of_its_layer_moves_units_and_another_name_of_it_does_not() -> None:
    [found] = moves({}, layers=(Layer("checkout", "new"),))
    assert found.startswith("experiments[hero_copy].layer: changes from 'checkout' (salt 'checkout') to 'checkout' (")
    assert moves({"layer": "till"}, layers=(Layer("till", "checkout"),)) == []


def test_an_older_version_is_no_way_back() -> None:
    [found] = moves({}, was={"version": 3})
    assert "version: falls from 3 to 1 after it began" in found
    assert "raise `version` to 4" in found


def test_what_was_stopped_has_begun_and_what_was_a_draft_or_starts_later_has_not() -> None:
    change = {"traffic": 0.1}
    assert len(moves(change, was={"status": "stopped"})) == 1
    assert moves(change, was={"status": "draft"}) == []
    assert len(moves(change, was={"starts": NOW})) == 1
    assert moves(change, was={"starts": NOW + DAY}) == []
