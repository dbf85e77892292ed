"""The offline table of a domain's customers: parts as they are read, one parquet file in the end.

The file says how many parts it holds, so a run that dies between the file and its parts does not
put them in twice. Rows of an earlier shape keep what has the same name and kind.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from decisioning.content_types import FeatureKind
from decisioning.errors import StoreError

_TIME = pa.timestamp("us", tz="UTC")
_KINDS: dict[FeatureKind, Any] = {
    "number": pa.float64(), "text": pa.string(), "truth": pa.bool_(), "texts": pa.list_(pa.string()),
}  # fmt: skip
_HOLDS = b"parts"
ROWS = 50_000  # of a group in the file, and held at once


class CustomerTable:
    """The file of one domain and the parts that are not in it yet."""

    def __init__(self, path: Path, kinds: Mapping[str, FeatureKind], *, parts: int) -> None:
        """`parts` were written and noted; a part behind them is what a run left that died, and goes.

        Raises:
            StoreError: The folder cannot be used.
        """
        self._path = path
        self._folder = path.with_suffix(".parts")
        self._parts = parts
        features = [(name, _KINDS[kind]) for name, kind in kinds.items()]
        keys = [("customer_id", pa.string()), ("event_timestamp", _TIME), ("ingested_at", _TIME)]
        self._schema = pa.schema([*keys, *features])
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for number, part in self._found():
                if number > parts:
                    part.unlink()
        except OSError as error:
            raise StoreError(f"{self._folder} cannot be used: {error}") from error

    @property
    def parts(self) -> int:
        """How many parts were ever written."""
        return self._parts

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write one more part; it counts once its number is noted.

        Raises:
            StoreError: It cannot be written.
        """
        table = pa.Table.from_pylist(list(rows), schema=self._schema)
        path = self._part(self._parts + 1)
        try:
            pq.write_table(table, path)
            _sync(path)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{path} cannot be written: {error}") from error
        self._parts += 1

    def merge(self) -> None:
        """Put every part into the file, and let them go.

        Raises:
            StoreError: It cannot be written; run it again.
        """
        held = self._held()
        waiting = [part for number, part in self._found() if number > held]
        merged = self._path.with_name(self._path.name + ".part")
        try:
            if waiting:
                with pq.ParquetWriter(merged, self._schema) as writer:
                    for source in [*([self._path] if self._path.is_file() else []), *waiting]:
                        with pq.ParquetFile(source) as file:
                            for rows in file.iter_batches(ROWS):
                                writer.write_batch(self._fitted(rows))
                    writer.add_key_value_metadata({_HOLDS: str(self._parts).encode()})
                _sync(merged)
                merged.replace(self._path)
            for _, part in self._found():
                part.unlink()
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{self._path} cannot be written: {error}; run it again") from error

    def _fitted(self, rows: Any) -> Any:
        """The same rows in today's shape."""
        columns = []
        for field in self._schema:
            place = rows.schema.get_field_index(field.name)
            same = place >= 0 and rows.schema.field(place).type == field.type
            columns.append(rows.column(place) if same else pa.nulls(rows.num_rows, field.type))
        return pa.record_batch(columns, schema=self._schema)

    def _held(self) -> int:
        """How many parts are in the file."""
        with suppress(FileNotFoundError), pq.ParquetFile(self._path) as file:
            return int((file.metadata.metadata or {}).get(_HOLDS, b"0"))
        return 0

    def _part(self, number: int) -> Path:
        return self._folder / f"{number:09d}.parquet"

    def _found(self) -> list[tuple[int, Path]]:
        return [(int(part.stem), part) for part in sorted(self._folder.glob("*.parquet"))]


def _sync(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())
