"""Journeys as Mermaid state diagrams."""

import re
from collections.abc import Iterable

from decisioning.content import Journey, Stage


def journey_chart(journeys: Iterable[Journey]) -> str:
    """One diagram: stages with their rules as notes, transitions by event.

    >>> from decisioning.content import Stage, Transition
    >>> stages = (Stage(id="new", name="New"), Stage(id="loyal", name="Loyal"))
    >>> journey = Journey(id="j", stages=stages, transitions=(Transition(source="new", target="loyal", on="purchase"),))
    >>> print(journey_chart([journey]))
    stateDiagram-v2
        state "j" as journey1 {
            state "New" as stage1_1
            state "Loyal" as stage1_2
            stage1_1 --> stage1_2 : purchase
        }
    """
    lines = ["stateDiagram-v2"]
    for number, journey in enumerate(journeys, start=1):
        # Ids of ours may be words of Mermaid's, like `end`.
        names = {stage.id: f"stage{number}_{place}" for place, stage in enumerate(journey.stages, start=1)}
        lines.append(f'    state "{_label(journey.id)}" as journey{number} {{')
        lines += [f'        state "{_label(stage.name)}" as {names[stage.id]}' for stage in journey.stages]
        for stage in journey.stages:
            if stage.entry != "false":
                lines.append(f"        [*] --> {names[stage.id]}")
            if stage.exit != "false":
                lines.append(f"        {names[stage.id]} --> [*]")
        lines += [
            f"        {names[transition.source]} --> {names[transition.target]} : {_label(transition.on)}"
            for transition in journey.transitions
        ]
        for stage in journey.stages:
            lines += _note(stage, names[stage.id])
        lines.append("    }")
    return "\n".join(lines)


def _note(stage: Stage, name: str) -> list[str]:
    rules = [f"{part}: {rule}" for part, rule in (("entry", stage.entry), ("exit", stage.exit)) if rule != "false"]
    if not rules:
        return []
    body = [f"            {_label(rule)}" for rule in rules]
    return [f"        note right of {name}", *body, "        end note"]


def _label(text: str) -> str:
    """The text in one line, without what Mermaid would take for a quote's end, a tag or an entity.

    Its own entities (`#34;`) are no way out: state diagrams show them as they stand.

    >>> _label('spend > 3 && city == "ulm" && tier<b #34;')
    "spend > 3 && city == 'ulm' && tier< b # 34;"
    """
    line = " ".join(text.split()).replace('"', "'")
    return re.sub(r"<(?=[A-Za-z/!])", "< ", line).replace("#", "# ").replace("%%", "% %")
