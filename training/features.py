"""Customer features by domain: their definitions, their names in order, and their past values."""

import importlib.util
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from feast import FeatureService, FeatureStore, FeatureView, Field
from feast.errors import FeastObjectNotFoundException

from decisioning.content import FeatureTypes
from decisioning.content_types import FeatureKind
from decisioning.errors import DataError, SetupError
from storage.feature_store import accounts_service, list_features, open_feature_store
from storage.settings import Settings

FEATURE_REPO = Path(__file__).resolve().parents[1] / "feature_repo"
ENTITIES = ("customer", "account")  # as `feature_repo/entity.py` names them
_KINDS: dict[str, FeatureKind] = {
    "Float64": "number", "Float32": "number", "Int64": "number", "Int32": "number", "String": "text",
    "Bool": "truth", "Array(String)": "texts",
}  # fmt: skip
KEYS = ["row_id", "customer_id", "event_timestamp"]


def apply_feature_repo(store: FeatureStore, settings: Settings) -> None:
    """Register what `feature_repo` defines, over the state directory of these settings.

    What `feast apply` does, in this process and for any state directory. The repository is flat and
    imported by nobody; Feast's own command and this function load its files.
    """
    store.apply(_definitions(settings))


def declared_features(domain: str, settings: Settings | None = None) -> FeatureTypes:
    """The features that rules of this domain may name, with their types, as `feature_repo` defines them.

    Needs no state directory, but for a domain of one's own data: `ingest` leaves there what it found.
    What an account's views define are features of accounts.

    Raises:
        SetupError: `feature_repo` defines nothing for the domain, or a type that rules cannot use.
    """
    kinds: dict[str, dict[str, FeatureKind]] = {entity: {} for entity in ENTITIES}
    for view in declared_views(settings or Settings(domain=domain), domain):
        kinds[view.entity] |= view.kinds
    return FeatureTypes(**kinds)


class DeclaredView(NamedTuple):
    """A view of a domain: whom it is about, its offline file, and its features with their types."""

    entity: str
    path: Path
    kinds: dict[str, FeatureKind]


def declared_views(settings: Settings, domain: str) -> list[DeclaredView]:
    """The views of the domain's services as `feature_repo` defines them, whether or not they are registered.

    Raises:
        SetupError: It defines nothing for the domain, or a type that rules cannot use.
    """
    objects = _definitions(settings)
    services = {each.name: each for each in objects if isinstance(each, FeatureService)}
    views = {each.name: each for each in objects if isinstance(each, FeatureView)}
    if domain not in services:
        raise SetupError(
            f"there is no feature service '{domain}', must be one of {', '.join(sorted(services))};"
            f" define it in {FEATURE_REPO.name}/{domain}.py",
            where="domain",
        )
    return [
        DeclaredView(
            entity="account" if views[projection.name].entities == ["account"] else "customer",
            path=Path(views[projection.name].batch_source.path),
            kinds={feature.name: _kind(feature) for feature in projection.features},
        )
        for service in (services[domain], services.get(accounts_service(domain)))
        for projection in (service.feature_view_projections if service is not None else ())
    ]


def _kind(feature: Field) -> FeatureKind:
    kind = _KINDS.get(str(feature.dtype))
    if kind is None:
        raise SetupError(
            f"the feature {feature.name} is {feature.dtype}, must be one of {', '.join(_KINDS)}",
            where=feature.name,
        )
    return kind


def _definitions(settings: Settings) -> list[Any]:
    """Everything that `feature_repo` defines, over the state directory of these settings."""
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
                objects += [getattr(module, entity) for entity in ENTITIES if hasattr(module, entity)]
    finally:
        sys.path.remove(str(FEATURE_REPO))
        # Its files import one another by bare names, which are nobody else's business.
        for path in FEATURE_REPO.glob("*.py"):
            sys.modules.pop(path.stem, None)
    return objects


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
    """The views of the domain's services, in their order: of customers, then, if it has any, of accounts."""
    services = [domain_service(store, domain)]
    with suppress(FeastObjectNotFoundException):
        services.append(store.get_feature_service(accounts_service(domain)))
    return [
        store.get_feature_view(projection.name)
        for service in services
        for projection in service.feature_view_projections
    ]


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
        NaN or None where nothing was known. A list is a tuple, and one that is not known is empty.

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
    for name in list_features(service):
        # What stands for a missing list differs from store to store.
        result[name] = [tuple(value) if isinstance(value, Sequence | np.ndarray) else () for value in result[name]]
    return result[[*KEYS, *_names(service)]]


def _names(service: Any) -> list[str]:
    return [feature.name for projection in service.feature_view_projections for feature in projection.features]
