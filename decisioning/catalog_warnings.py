"""What may be wrong with a catalogue, and need not be: it can be released all the same."""

from typing import get_args

from decisioning.content import Content
from decisioning.events import EventType
from decisioning.vocabulary import Vocabulary


def warnings(content: Content) -> list[str]:
    """Sentences, each with the place that it is about."""
    known = Vocabulary(content.sources).names | set(get_args(EventType))
    return [
        f"event_features[{feature.id}].event: is '{feature.event}', which no source maps an event to; it counts events"
        " that are told under just this name"
        for feature in content.event_features
        if feature.event not in known
    ]
