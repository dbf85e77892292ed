"""Foretells journey stages with a model of its own, before rules are asked."""

import logging
from collections.abc import Mapping

from decisioning.catalog import Catalog
from decisioning.content_types import Value
from decisioning.journey import stages_of
from decisioning.next_stage import StageRows, chances
from decisioning.profile import Event
from decisioning.rules import RuleScope
from serving.ports import Scorer

logger = logging.getLogger(__name__)


class Foreteller:
    """A model that foretells, and what turns a customer into its input."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self._rows = StageRows(scorer.manifest.features)

    def chances(self, catalog: Catalog, events: tuple[Event, ...], scope: RuleScope) -> Mapping[str, Value]:
        """What is foretold of a customer with these events and features; nothing where the model cannot say."""
        asked = self._rows.asked(catalog.content.journeys)
        if not asked:
            return {}
        try:
            rows = self._rows.rows(asked, scope.customer, stages_of(catalog, events, scope))
            return chances(asked, self.scorer.score(rows).propensity)
        except (TypeError, ValueError) as error:  # a feature has become of another kind since it was trained
            logger.warning("stages are not foretold: %s", error)
            return {}
