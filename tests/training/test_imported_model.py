"""A model from elsewhere: the guide's own, from its features to a champion; and what is refused."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest

from decisioning.bundle import Bundle, ModelFeature
from decisioning.errors import DataError, SetupError
from storage.settings import Settings
from tests.training.tiny_shop import NOW, START, tiny_catalog, tiny_examples
from training.evaluation_run import evaluate_run
from training.graph_scorer import verified_scorer
from training.imported_model import add_model, check_features, features_of
from training.promotion import promote
from training.tracking import CHALLENGER, Tracking

GUIDE = Path(__file__).parents[2] / "docs" / "models.md"
CATALOG = tiny_catalog()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"), domain="tiny")


@pytest.fixture(scope="module")
def examples() -> pd.DataFrame:
    return tiny_examples(4000)


@pytest.fixture(scope="module")
def made(examples: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the guide's example leaves behind."""
    [example] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    names = {"examples": examples, "catalog": CATALOG, "folder": tmp_path_factory.mktemp("made")}
    exec(example, names)
    return names


@pytest.fixture(scope="module")
def added(made: dict[str, Any], settings: Settings) -> tuple[Bundle, str]:
    return add_model(
        (made["folder"] / "forest.onnx").read_bytes(),
        features_of(str(made["folder"] / "features.yaml"), settings, "tiny"),
        settings,
        catalog=CATALOG,
        trained_until=pd.Timestamp(made["trained_until"]).to_pydatetime(),
        name="forest",
        now=NOW,
    )


def test_the_guides_features_are_features() -> None:
    [listed] = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(msgspec.yaml.decode(listed, type=list[ModelFeature])) == 5


def test_it_is_registered_as_challenger(settings: Settings, added: tuple[Bundle, str]) -> None:
    bundle, run_id = added
    tracking = Tracking(settings)
    challenger = tracking.version_by_alias("tiny", CHALLENGER)
    assert challenger is not None
    assert (challenger.run_id, challenger.bundle_sha256) == (run_id, bundle.sha256)
    assert (bundle.manifest.learner, bundle.manifest.outputs) == ("imported", ("propensity",))
    assert tracking.client.get_run(run_id).data.params["learner"] == "imported"
    verified_scorer(bundle)


def test_its_graph_scores_as_what_it_was_made_of(made: dict[str, Any], added: tuple[Bundle, str]) -> None:
    scores = verified_scorer(added[0]).score(made["rows"]).propensity
    assert scores == pytest.approx(made["forest"].predict_proba(made["rows"])[:, 1], abs=1e-5)


def test_it_is_evaluated_and_promoted_like_any(
    settings: Settings, added: tuple[Bundle, str], examples: pd.DataFrame
) -> None:
    report = evaluate_run(examples, settings, catalog=CATALOG, now=NOW)
    assert report.since == added[0].manifest.trained_until, "it is judged on what came later"
    over = report.difference("uniform")
    assert over is not None
    assert over.low > 0.0
    assert promote(examples, settings, catalog=CATALOG, now=NOW, report=report).changed


def test_features_are_those_of_a_model_or_a_file(settings: Settings, added: tuple[Bundle, str], tmp_path: Path) -> None:
    features = added[0].manifest.features
    assert features_of(CHALLENGER, settings, "tiny") == features
    assert features_of(added[0].manifest.version, settings, "tiny") == features
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(msgspec.json.encode(added[0].manifest))
    assert features_of(str(manifest), settings, "tiny") == features
    with pytest.raises(SetupError, match="has no model '99', must be champion, challenger, or a version: 1"):
        features_of("99", settings, "tiny")


@pytest.mark.parametrize("content", ["- {name: age}", "just words", "features: 3", "[", "{}"])
def test_a_file_that_lists_no_features_says_so(settings: Settings, tmp_path: Path, content: str) -> None:
    (tmp_path / "features.yaml").write_text(content)
    with pytest.raises(DataError, match=r"features.yaml cannot be read as a list of features"):
        features_of(str(tmp_path / "features.yaml"), settings, "tiny")


def test_a_file_that_is_not_there_says_so(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        features_of(str(tmp_path / "nowhere.yaml"), settings, "tiny")


AGE = ModelFeature("age", "customer", "number")


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ((), "there is none"),
        ((AGE, AGE), "'age' is there twice"),
        ((ModelFeature("colour", "customer", "category"),), "'colour' is a category without categories"),
        ((ModelFeature("joined", "customer", "time"),), "'joined' is a time without a base"),
        ((ModelFeature("joined", "customer", "time", base=START.replace(tzinfo=None)),), "with its zone"),
        (
            (ModelFeature("clicks_7d", "history", "number"),),
            "'clicks_7d' is no contact history, must be one of contacts_1d",
        ),
        ((ModelFeature("slot", "customer", "number"),), "'slot' is of the customer, must be of the context"),
        ((ModelFeature("pryce", "action", "number"),), "no action of the catalogue has 'pryce', must be .*price"),
        ((ModelFeature("fits", "action", "number"),), "of the action 'umbrella', 'fits' is 'wet', must be a number"),
    ],
)
def test_features_that_could_not_be_filled_are_named(features: tuple[ModelFeature, ...], says: str) -> None:
    with pytest.raises(DataError, match=says):
        check_features(features, CATALOG, now=NOW)


def test_nothing_is_registered_of_a_model_from_the_future(
    made: dict[str, Any], added: tuple[Bundle, str], settings: Settings
) -> None:
    graph = (made["folder"] / "forest.onnx").read_bytes()
    later = NOW + timedelta(days=1)
    with pytest.raises(DataError, match="must not be in the future"):
        add_model(graph, made["features"], settings, catalog=CATALOG, trained_until=later, name="x", now=NOW)
    challenger = Tracking(settings).version_by_alias("tiny", CHALLENGER)
    assert challenger is not None
    assert challenger.bundle_sha256 == added[0].sha256
