"""What Feast holds on a person, online and offline: shown, and erased. Also where others' features name them."""

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from redis import Redis

from decisioning.errors import StoreError
from storage.feature_store import PROJECT, open_feature_store
from storage.privacy.scrubbing import emptied, replaced
from storage.settings import Settings

KEY = "customer_id"
# The tag of a feature in `feature_repo` whose values are ids of customers: {"names": "customer"}.
NAMES = "names"
ROWS_AT_ONCE = 50_000
_NULL = Value().SerializeToString()


class FeatureRows:
    """The features of one person, by all their ids, in the views of one domain."""

    def __init__(self, settings: Settings, units: Collection[str]) -> None:
        """Where nothing was ever ingested, there is nothing."""
        self._settings = settings
        self._units = sorted(units)
        is_there = (settings.feast_dir / "registry.db").exists()
        self._store = open_feature_store(settings) if is_there else None
        views = self._store.list_feature_views() if self._store is not None else []
        self._views = [view for view in views if _path(view).parent.name == settings.domain]

    @property
    def naming(self) -> frozenset[str]:
        """Features whose values are ids of customers."""
        return frozenset(name for view in self._views for name in _naming(view))

    def parts(self) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
        """Everything, as an export shows it."""
        for view in self._of_customers():
            yield f"online.{view.name}", self._online(view)
        for path in self._files():
            yield f"offline.{path.stem}", self._offline(path)

    def erase(self) -> Counter[str]:
        """Delete all of it, and how much there was; again finds nothing. `alone_with_features` must hold.

        Raises:
            StoreError: A store cannot be written.
        """
        done: Counter[str] = Counter()
        naming: dict[str, set[str]] = {}
        for path in self._files():
            features = {name for view in self._views if _path(view) == path for name in _naming(view)}
            dropped, others = self._rewrite(path, features)
            done["features_offline"] += dropped
            naming[path.stem] = others
        try:
            # The file may be there from a time when features were in it.
            done["features_online"] += self._erase_sqlite(naming)
            if self._settings.online_store == "redis":
                done["features_online"] += self._erase_redis(naming)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the online feature store cannot be written: {error}") from error
        return +done

    def _of_customers(self) -> list[Any]:
        return [view for view in self._views if view.join_keys == [KEY]]

    def _files(self) -> list[Path]:
        folder = self._settings.feast_dir / "offline" / self._settings.domain
        return sorted(folder.glob("**/*.parquet"))

    def _online(self, view: Any) -> Iterator[dict[str, Any]]:
        assert self._store is not None
        names = [f"{view.name}:{feature.name}" for feature in view.features]
        for unit in self._units:
            found = self._store.get_online_features(features=names, entity_rows=[{KEY: unit}]).to_dict()
            values = {name: value for name, [value] in found.items()}
            if any(value is not None for name, value in values.items() if name != KEY):
                yield values

    def _offline(self, path: Path) -> Iterator[dict[str, Any]]:
        file = pq.ParquetFile(path)
        for batch in file.iter_batches(ROWS_AT_ONCE):
            if KEY in batch.schema.names:
                yield from batch.filter(pc.is_in(batch[KEY], pa.array(self._units, pa.string()))).to_pylist()

    def _rewrite(self, path: Path, naming: set[str]) -> tuple[int, set[str]]:
        """How many rows are left out, and whose features named this person and no longer do."""
        dropped, others = 0, set()
        with closing(pq.ParquetFile(path)) as file:
            schema = file.schema_arrow
            if KEY not in schema.names:
                return 0, set()
            wanted = pa.array(self._units, schema.field(KEY).type)
            batches = []
            for batch in file.iter_batches(ROWS_AT_ONCE):
                kept = batch.filter(pc.invert(pc.fill_null(pc.is_in(batch[KEY], wanted), fill_value=False)))
                dropped += batch.num_rows - kept.num_rows
                for name in sorted(naming & set(schema.names)):
                    named = pc.is_in(kept[name], pa.array(self._units, schema.field(name).type))
                    others |= set(kept[KEY].filter(named).to_pylist())
                    place = schema.get_field_index(name)
                    cleared = pc.if_else(named, pa.scalar(None, schema.field(name).type), kept[name])
                    kept = kept.set_column(place, schema.field(name), cleared)
                batches.append(kept)
        if dropped or others:
            table = pa.Table.from_batches(batches, schema)
            replaced(path, lambda part: pq.write_table(table, part))
        return dropped, others

    def _erase_sqlite(self, naming: dict[str, set[str]]) -> int:
        path = self._settings.feast_dir / "online.db"
        if not path.exists():
            return 0
        done = 0
        with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            connection.execute("BEGIN IMMEDIATE")
            for view in self._of_customers():
                table = f"{PROJECT}_{view.name}"
                if table not in tables:
                    continue
                for unit in self._units:
                    delete = f'DELETE FROM "{table}" WHERE entity_key = ?'  # noqa: S608 (a name of ours)
                    done += connection.execute(delete, (_entity(unit),)).rowcount
                clear = f'UPDATE "{table}" SET value = ?, value_text = NULL'  # noqa: S608
                clear += " WHERE entity_key = ? AND feature_name = ? AND value = ?"
                for other in sorted(naming.get(_path(view).stem, ())):
                    connection.executemany(
                        clear,
                        [(_NULL, _entity(other), name, _text(unit)) for name in _naming(view) for unit in self._units],
                    )
            connection.execute("COMMIT")
            if done or any(naming.values()):
                # Feast deletes without overwriting, so what it replaced before is still in the file.
                connection.execute("VACUUM")
        emptied(path)
        return done

    def _erase_redis(self, naming: dict[str, set[str]]) -> int:
        done = 0
        with closing(Redis.from_url(self._settings.redis_url)) as client:
            for view in self._of_customers():
                fields = [_mmh3(f"{view.name}:{feature.name}") for feature in view.features]
                fields.append(f"_ts:{view.name}".encode())
                for unit in self._units:
                    done += int(client.hdel(_online_key(unit), *fields))  # type: ignore[arg-type]
                for other in naming.get(_path(view).stem, ()):
                    for name in _naming(view):
                        field = _mmh3(f"{view.name}:{name}")
                        key: Any = _online_key(other)
                        found: Any = client.hget(key, field)
                        if found in [_text(unit) for unit in self._units]:
                            client.hset(key, field, _NULL)
        return done


def _path(view: Any) -> Path:
    return Path(view.batch_source.path)


def _naming(view: Any) -> list[str]:
    return [feature.name for feature in view.features if feature.tags.get(NAMES) == "customer"]


def _key(unit: str) -> Any:
    return EntityKey(join_keys=[KEY], entity_values=[Value(string_val=unit)])


def _entity(unit: str) -> bytes:
    return serialize_entity_key(_key(unit), entity_key_serialization_version=3)


def _online_key(unit: str) -> bytes:
    return _redis_key(PROJECT, _key(unit), entity_key_serialization_version=3)


def _text(unit: str) -> bytes:
    serialized: bytes = Value(string_val=unit).SerializeToString()
    return serialized
