"""Customer features by domain: their definitions, their names in order, and their past values."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from feast import FeatureStore
from feast.errors import FeastObjectNotFoundException

from decisioning.errors import DataError, SetupError
from storage.feature_store import open_feature_store
from storage.settings import Settings

FEATURE_REPO = Path(__file__).resolve().parents[1] / "feature_repo"
KEYS = ["row_id", "customer_id", "event_timestamp"]


def apply_feature_repo(store: FeatureStore, settings: Settings) -> None:
    """Register what `feature_repo` defines, over the state directory of these settings.

    What `feast apply` does, in this process and for any state directory. The repository is flat and
    imported by nobody; Feast's own command and this function load its files.
    """
    objects: list[Any] = []
    sys.path.insert(0, str(FEATURE_REPO))
    try:
        for path in sorted(FEATURE_REPO.glob("*.py")):
            spec = importlib.util.spec_from_file_location(f"feature_repo_{path.stem}", path)
            if spec is None or spec.loader is None:
                raise SetupError(f"{path} cannot be loaded as a Python module", where=str(path))
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            if hasattr(module, "definitions"):
                objects += module.definitions(settings)
                objects.append(module.customer)
    finally:
        sys.path.remove(str(FEATURE_REPO))
        # Its files import one another by bare names, which are nobody else's business.
        for path in FEATURE_REPO.glob("*.py"):
            sys.modules.pop(path.stem, None)
    store.apply(objects)


def domain_service(store: FeatureStore, domain: str) -> Any:
    """The domain's Feast service.

    Raises:
        SetupError: It is not registered.
    """
    try:
        return store.get_feature_service(domain)
    except FeastObjectNotFoundException as error:
        raise SetupError(
            f"Feast has no feature service '{domain}'; define it in {FEATURE_REPO.name}/{domain}.py and run:"
            f" nextmove ingest --dataset {domain}",
            where="domain",
        ) from error


def domain_views(store: FeatureStore, domain: str) -> list[Any]:
    """The views of the domain's service, in its order."""
    service = domain_service(store, domain)
    return [store.get_feature_view(projection.name) for projection in service.feature_view_projections]


def feature_names(settings: Settings, domain: str) -> list[str]:
    """Names of the domain's customer features, in the order of its service: the model's order.

    Raises:
        SetupError: The domain is not registered.
    """
    return _names(domain_service(open_feature_store(settings), domain))


def offline_path(settings: Settings, domain: str, table: str) -> Path:
    """Where `feature_repo` expects a table of a domain."""
    return settings.feast_dir / "offline" / domain / f"{table}.parquet"


def historical_features(settings: Settings, domain: str, entity_frame: pd.DataFrame) -> pd.DataFrame:
    """Each row's customer features as they were at its time; later values never leak in.

    Args:
        settings: Where Feast is.
        domain: Whose features.
        entity_frame: `row_id` (unique), `customer_id`, `event_timestamp` (UTC).

    Returns:
        The same rows in the same order: those three columns, then the features in service order;
        NaN or None where nothing was known.

    Raises:
        DataError: A column is missing, or a row id repeats.
        SetupError: The domain is not registered.
    """
    missing = [name for name in KEYS if name not in entity_frame.columns]
    if missing:
        raise DataError(f"the entity frame lacks {', '.join(missing)}, must have {', '.join(KEYS)}")
    if entity_frame["row_id"].duplicated().any():
        first = entity_frame.loc[entity_frame["row_id"].duplicated(), "row_id"].iloc[0]
        raise DataError(f"the row id '{first}' stands for several rows, must be unique", where="row_id")
    store = open_feature_store(settings)
    service = domain_service(store, domain)
    rows = entity_frame[KEYS].reset_index(drop=True)
    # Feast returns one row for an entity and time, however often they are asked for.
    asked = rows[KEYS[1:]].drop_duplicates(ignore_index=True)
    asked["event_timestamp"] = pd.to_datetime(asked["event_timestamp"], utc=True).dt.as_unit("us")
    joined = store.get_historical_features(entity_df=asked, features=service).to_df()
    joined["event_timestamp"] = pd.to_datetime(joined["event_timestamp"], utc=True).dt.as_unit("us")
    rows["event_timestamp"] = pd.to_datetime(rows["event_timestamp"], utc=True).dt.as_unit("us")
    result = rows.merge(joined, on=KEYS[1:], how="left", validate="many_to_one")
    return result[[*KEYS, *_names(service)]]


def _names(service: Any) -> list[str]:
    return [feature.name for projection in service.feature_view_projections for feature in projection.features]
