"""The features of a domain that was made from one's own data, with their kinds."""

from pathlib import Path

import msgspec

from storage.feature_kinds import Features
from storage.settings import Settings


class CustomerSchema(msgspec.Struct, frozen=True, kw_only=True):
    """A domain's features as `ingest` found them, from which `feature_repo` makes its views."""

    domain: str
    features: Features


def schema_path(settings: Settings, domain: str) -> Path:
    """Where the schema of a domain's customers is."""
    return settings.feast_dir / "schemas" / f"{domain}.json"


def write_schema(settings: Settings, schema: CustomerSchema) -> None:
    """Keep it, completely or not at all."""
    path = schema_path(settings, schema.domain)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(schema))
    part.replace(path)


def read_schemas(settings: Settings) -> list[CustomerSchema]:
    """The schemas of all domains in this state directory."""
    paths = sorted(schema_path(settings, "any").parent.glob("*.json"))
    return [msgspec.json.decode(path.read_bytes(), type=CustomerSchema) for path in paths]
