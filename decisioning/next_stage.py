"""Foretold stages: the chance that a customer is in each stage of a journey some time from now.

Of journeys with a `horizon`. A model of its own says it, from what is known of the customer and the stage
that they are in. Rules see it as `customer.chance_of_<stage>`, and so does the propensity model.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from decisioning.bundle import ModelFeature
from decisioning.content import Journey, chance_of
from decisioning.content_types import Value
from decisioning.encoding import encoder

ASKED = "asked_stage"  # the model's input that says which stage is meant, by its place among the levels


def current_name(journey: Journey) -> str:
    """The model's input that says in which of a journey's stages the customer is.

    >>> current_name(Journey(id="life", stages=()))
    'current_life'
    """
    return f"current_{journey.id}"


def foretold(journeys: Iterable[Journey]) -> list[tuple[Journey, str]]:
    """Each stage of which a chance is foretold, with its journey."""
    return [(journey, stage.id) for journey in journeys if journey.horizon is not None for stage in journey.stages]


def current_stages(journeys: Iterable[Journey], stages: Collection[str]) -> dict[str, Value]:
    """The model's inputs on where a customer in these stages is; None: in none of the journey's."""
    return {
        current_name(journey): next((stage.id for stage in journey.stages if stage.id in stages), None)
        for journey in journeys
    }


class StageRows:
    """Input of a model that foretells stages."""

    def __init__(self, features: Sequence[ModelFeature]) -> None:
        self._encoders = [(feature.name, encoder(feature)) for feature in features]
        [self._asked] = [(column, each) for column, each in enumerate(features) if each.name == ASKED]

    def asked(self, journeys: Iterable[Journey]) -> list[tuple[Journey, str]]:
        """What is foretold of these journeys, as far as the model learnt of it."""
        return [(journey, stage) for journey, stage in foretold(journeys) if stage in self._asked[1].categories]

    def rows(
        self, asked: Sequence[tuple[Journey, str]], features: Mapping[str, Value], stages: Collection[str]
    ) -> NDArray[np.float32]:
        """One row for each stage that is `asked` for, `(n_asked, n_features)`, of a customer in `stages`.

        Raises:
            TypeError, ValueError: A feature's value is not of its kind.
        """
        known = {**features, ASKED: None, **current_stages({j.id: j for j, _ in asked}.values(), stages)}
        first = np.array([encode(known.get(name)) for name, encode in self._encoders], dtype=np.float32)
        rows = np.tile(first, (len(asked), 1))
        column, feature = self._asked
        rows[:, column] = [feature.categories.index(stage) for _, stage in asked]
        return rows


def chances(asked: Sequence[tuple[Journey, str]], propensities: NDArray[np.floating]) -> dict[str, Value]:
    """Features of a model's answer, `(n_asked,)`: within a journey the chances sum to 1 at most.

    Who is in no stage then is in none; so sums below 1 stay, and those above are scaled.

    >>> from decisioning.content import Stage
    >>> journey = Journey(id="j", stages=(Stage(id="new", name="New"), Stage(id="old", name="Old")))
    >>> found = chances([(journey, "new"), (journey, "old")], np.array([0.9, 0.6]))
    >>> {name: round(chance, 3) for name, chance in found.items()}
    {'chance_of_new': 0.6, 'chance_of_old': 0.4}
    """
    sums: dict[str, float] = {}
    for (journey, _), chance in zip(asked, propensities.tolist(), strict=True):
        sums[journey.id] = sums.get(journey.id, 0.0) + chance
    return {
        chance_of(stage): chance / max(1.0, sums[journey.id])
        for (journey, stage), chance in zip(asked, propensities.tolist(), strict=True)
    }
