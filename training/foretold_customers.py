"""What is foretold of ingested customers' stages, as decisions know it."""

from contextlib import closing
from datetime import datetime

from decisioning.catalog import Catalog
from decisioning.errors import BundleError, StoreError
from decisioning.foretelling import Foreteller, with_chances
from storage.blobs import BlobStore
from storage.bundles import load_bundle, stages_pointer
from storage.settings import Settings
from training.graph_scorer import verified_scorer
from training.known_customers import KnownCustomer


class Foretelling:
    """Adds to customers what services foretell of them under a catalogue.

    Where no model is promoted the chances are null, as in decisions.

    Attributes:
        untold: Names that rules may ask for and nobody can say, since the promoted model cannot be used.
        problem: Why, or why it cannot say anything of some customers; None: nothing is wrong.
    """

    def __init__(self, settings: Settings, catalog: Catalog, *, now: datetime) -> None:
        self.problem: str | None = None
        self._catalog = catalog
        self._now = now
        self._foreteller: Foreteller | None = None
        self.untold: frozenset[tuple[str, str]] = frozenset()
        if catalog.content.chances:
            try:
                self._foreteller = self._promoted(settings)
            except (BundleError, StoreError) as error:
                self.untold = frozenset(("customer", name) for name in catalog.content.chances)
                self._note(f"stages are not foretold: {error.message}")

    def of(self, customer: KnownCustomer) -> KnownCustomer:
        """The customer, with what is foretold."""
        facts = with_chances(customer.facts, self._catalog, self._foreteller, context={}, now=self._now)
        return customer._replace(facts=facts)

    def _promoted(self, settings: Settings) -> Foreteller | None:
        with closing(BlobStore(settings)) as blobs:
            sha256 = blobs.pointer(stages_pointer(settings.domain))
            if sha256 is None:
                return None
            bundle = load_bundle(blobs, sha256)
        score = verified_scorer(bundle).score
        return Foreteller(bundle.manifest, score, bundle_sha256=sha256, on_failure=self._note)

    def _note(self, problem: str) -> None:
        self.problem = problem
