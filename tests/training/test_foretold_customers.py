"""Audiences know the foretold chances as decisions do."""

from contextlib import closing
from pathlib import Path

import pytest

from decisioning.catalog import Catalog
from decisioning.content import Audience, FeatureTypes
from decisioning.foretelling import Foreteller
from serving.adapters.onnx_scorer import OnnxScorer
from storage.blobs import BlobStore
from storage.bundles import load_bundle, stages_pointer
from storage.settings import Settings
from tests.builders import action, catalog
from tests.training.test_next_stage import LIFE, NOW, history, settings_with
from training.audiences import AudienceSize, count_audiences
from training.foretold_customers import Foretelling
from training.known_customers import known_customers
from training.next_stage import learn_stages

RULE = "customer.chance_of_lapsed != null && customer.chance_of_lapsed > 0.5"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    found = settings_with(tmp_path_factory.mktemp("shop"), history(100))
    assert learn_stages(found, shop(), now=NOW, points=1_000).served
    return found


def shop() -> Catalog:
    known = FeatureTypes(customer={"recency": "number", "mens": "number"})
    return catalog(
        action(), domain="hillstrom", journeys=(LIFE,), features=known, audiences=(Audience(id="going", rule=RULE),)
    )


def counted(settings: Settings) -> tuple[AudienceSize, str | None]:
    foretelling = Foretelling(settings, shop(), now=NOW)
    customers = map(foretelling.of, known_customers(settings, None, now=NOW))
    return count_audiences(shop(), customers, now=NOW, untold=foretelling.untold).audiences[0], foretelling.problem


def test_an_audience_of_a_foretold_stage_has_those_for_whom_a_decision_would_say_so(settings: Settings) -> None:
    with closing(BlobStore(settings)) as blobs:
        pointer = blobs.pointer(stages_pointer("hillstrom"))
        assert pointer is not None
        scorer = OnnxScorer(load_bundle(blobs, pointer))
    served = Foreteller(scorer.manifest, scorer.score, bundle_sha256=pointer, on_failure=pytest.fail)
    going = 0
    for customer in known_customers(settings, None, now=NOW):
        scope = shop().scope(now=NOW, customer=customer.facts.features, account={}, context={})
        chance = served.chances(shop(), customer.facts.events, scope)["chance_of_lapsed"]
        going += isinstance(chance, float) and chance > 0.5
    size, problem = counted(settings)
    assert 20 < going < 80
    assert (size.members, size.unknown, problem) == (going, 0, None)


def test_without_a_model_the_chances_are_null_as_in_decisions(tmp_path: Path) -> None:
    size, problem = counted(settings_with(tmp_path, history(10)))
    assert (size.members, size.unknown, problem) == (0, 0, None)


def test_where_the_model_cannot_be_read_nobody_can_say_and_the_report_says_why(tmp_path: Path) -> None:
    found = settings_with(tmp_path, history(10))
    with closing(BlobStore(found)) as blobs:
        blobs.point(stages_pointer("hillstrom"), blobs.put(b"no bundle"), now=NOW, reason="test")
    size, problem = counted(found)
    assert (size.members, size.unknown) == (0, 10)
    assert problem is not None
    assert problem.startswith("stages are not foretold: ")
