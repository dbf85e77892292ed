"""A first catalogue for one's own data: a placement, an action for each of the log, and showing nothing.

It is written once, into a folder that belongs to whoever writes catalogues, and never again.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from decisioning.content_types import BLUEPRINT, MARKETING, NO_ACTION, PERSONALISATION
from storage.data_mapping import DataMapping, RewardColumn

FILE = "catalog.yaml"
EXAMPLES = ("first_offer", "second_offer")  # where no log names actions
CHANNEL = "web"


def write_starter(folder: Path, mapping: DataMapping, log: pd.DataFrame) -> Path | None:
    """Write it, unless the folder has a catalogue already; the file, or None.

    Two that write at once give one whole file.
    """
    target = folder / BLUEPRINT / FILE
    if folder.is_dir() and any(folder.rglob("*.yaml")):
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_text(starter(mapping, log), encoding="utf-8")
    part.replace(target)
    return target


def starter(mapping: DataMapping, log: pd.DataFrame) -> str:
    """The catalogue as YAML, with comments for whoever goes on from here."""
    asks_personalisation = any(each.purpose == PERSONALISATION for each in mapping.customers.consents)
    marketing = sorted({each.channel for each in mapping.customers.consents if each.purpose == MARKETING})
    placements = sorted(set(log["placement"])) or ["main"]
    actions = sorted(set(log["action_id"])) or list(EXAMPLES)
    values = _values(log)
    most = max([*values.values(), 1.0])
    lines = [
        "# The first catalogue of this data set, made from its mapping and log. It is yours: change it, then",
        "#   nextmove catalog check, and nextmove catalog release",
        "# docs/catalogue.md describes everything that may stand here.",
        _yaml({"domain": mapping.name, "currency": "EUR", "groups": ["offers", "none"], "goals": ["response", "rest"]}),
    ]
    if not asks_personalisation:
        lines += [
            "# The mapping has no consents to personalisation. With `default` features are used without one: make",
            "# sure of a legal basis for that, or take this line out and map the consents.",
            _yaml({"personalisation": "default"}),
        ]
    lines += [
        "# Nobody is held out yet; 5 % tell what all of this is worth.",
        _yaml({"holdout": {"share": 0}}),
        "# Consents that the mapping has bind the channels that they are for.",
        _yaml(
            {"channels": [_channel(CHANNEL, marketing), *(_channel(e, marketing) for e in marketing if e != CHANNEL)]}
        ),
        "# Every fifth answer is drawn, so that the log can tell what other choices would have earned.",
        _yaml({"placements": [_placement(name, mapping, most) for name in placements]}),
        "# `value` is what a success is worth: here what it earned on average in the log, or 1.",
        _yaml({"actions": [_action(name, values.get(name, 1.0)) for name in actions if name != NO_ACTION]}),
        "# Showing nothing is a candidate like any other; its value is what a customer left alone earns.",
        _yaml([_nothing(values.get(NO_ACTION, 0.0))]),
    ]
    return "\n".join(lines)


def _values(log: pd.DataFrame) -> dict[str, float]:
    """What a success of each action earned on average."""
    earned = log[log["success"] == 1].groupby("action_id")["reward"].mean()
    return {str(name): round(float(value), 2) or 0.01 for name, value in earned.items()}


def _channel(name: str, marketing: list[str]) -> dict[str, Any]:
    return {"id": name, "requires_consent": MARKETING} if name in marketing else {"id": name}


def _placement(name: str, mapping: DataMapping, most: float) -> dict[str, Any]:
    said = mapping.decisions.reward if mapping.decisions is not None else None
    worth = isinstance(said, str) or (isinstance(said, RewardColumn) and not said.success)
    return {
        "id": name,
        "channel": CHANNEL,
        "slots": 1,
        "shown_by": "impression",
        "reward": {"accept": 1, "purchase": "value"} if worth else {"accept": 1, "purchase": 1},
        "exploration": {"policy": "epsilon_greedy", "epsilon": 0.2},
        "priority_scale": most,
    }


def _action(name: str, value: float) -> dict[str, Any]:
    return {
        "id": name,
        "name": name.replace("_", " ").capitalize(),
        "group": "offers",
        "goal": "response",
        "status": "live",
        "value": value,
        "treatments": [{"id": f"{name}_{CHANNEL}", "channel": CHANNEL, "content": {"headline": name}}],
    }


def _nothing(value: float) -> dict[str, Any]:
    said = {"id": NO_ACTION, "name": "Show nothing", "group": "none", "goal": "rest", "status": "live", "value": value}
    return {**said, "fallback": True}


def _yaml(said: Any) -> str:
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=120).rstrip("\n")
