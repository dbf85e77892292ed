"""Foretells journey stages with a model of its own, before rules are asked."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from decisioning.bundle import Manifest, Scored
from decisioning.catalog import Catalog
from decisioning.content_types import Value
from decisioning.journey import stages_of
from decisioning.next_stage import StageRows, chances
from decisioning.profile import Event, Facts
from decisioning.rules import RuleScope


class Foreteller:
    """A model that foretells, and what turns a customer into its input.

    `on_failure` is told why it cannot say anything of a customer.

    Attributes:
        bundle_sha256: Which model it is.
    """

    def __init__(
        self,
        manifest: Manifest,
        score: Callable[[NDArray[np.float32]], Scored],
        *,
        bundle_sha256: str,
        on_failure: Callable[[str], None],
    ) -> None:
        self.bundle_sha256 = bundle_sha256
        self._rows = StageRows(manifest.features)
        self._score = score
        self._on_failure = on_failure

    def chances(self, catalog: Catalog, events: tuple[Event, ...], scope: RuleScope) -> Mapping[str, Value]:
        """What is foretold of a customer with these events and features; nothing where the model cannot say."""
        asked = self._rows.asked(catalog.content.journeys)
        if not asked:
            return {}
        try:
            rows = self._rows.rows(asked, scope.customer, stages_of(catalog, events, scope))
            return chances(asked, self._score(rows).propensity)
        except (TypeError, ValueError) as error:  # a feature has become of another kind since it was trained
            self._on_failure(f"stages are not foretold: {error}")
            return {}


def with_chances(
    facts: Facts, catalog: Catalog, foreteller: Foreteller | None, *, context: Mapping[str, Any], now: datetime
) -> Facts:
    """With what is foretold of the customer's stages, null where nobody can say."""
    names = catalog.content.chances
    if not names:
        return facts
    said: Mapping[str, Value] = {}
    if foreteller is not None and facts.known and facts.hot is not None:
        scope = catalog.scope(now=now, customer=facts.features, account=facts.account, context=context)
        said = foreteller.chances(catalog, facts.events, scope)
    return msgspec.structs.replace(facts, features={**facts.features, **dict.fromkeys(names), **said})
