"""A file, row by row, without ever holding more of it than a part: CSV, JSON lines or Parquet.

A row is counted as a spreadsheet or an editor counts it: a CSV file's header is row 1.
"""

import csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from decisioning.errors import DataError
from storage.mapping_parts import FileFormat

Format = Literal["csv", "jsonl", "parquet"]
PARQUET_ROWS = 2_000
_FORMATS: dict[str, Format] = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet",
}  # fmt: skip
_SEPARATORS = ",;\t|"
_encode = msgspec.json.Encoder(enc_hook=str).encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class FileRow(NamedTuple):
    """A row, or what is wrong with it; a column of another name than all that the mapping names is no mistake."""

    number: int
    values: dict[str, Any]
    mistake: str | None = None
    column: str | None = None

    @property
    def content(self) -> bytes:
        """What the row says, as bytes: the same for the same row, whatever the file around it."""
        try:
            return _encode(self.values)
        except UnicodeEncodeError:  # bytes that are of another encoding
            return repr(self.values).encode("ascii", "backslashreplace")


class RowFile:
    """A file whose rows can be read, again and again.

    Attributes:
        name: What people call it.
        unseen: Columns that are needed and that no row had so far; only where there is no header.
    """

    def __init__(self, path: Path, given: FileFormat, *, needed: Collection[str]) -> None:
        """Nothing is read yet.

        Raises:
            DataError: There is no such file, or nothing says how it is written.
        """
        if not path.is_file():
            raise DataError(f"there is no file {path}", where=str(path))
        self.name = path.name
        self.unseen = set(needed)
        self._path = path
        self._given = given
        self._needed = tuple(needed)
        self._format = given.format or self._format_of_name()
        self._size = max(path.stat().st_size, 1)
        self._raw: IO[bytes] | None = None
        self._share = 0.0

    @property
    def share(self) -> float:
        """How much of it is read, from 0 to 1."""
        if self._raw is not None and not self._raw.closed:
            self._share = self._raw.tell() / self._size
        return min(self._share, 1.0)

    def rows(self) -> Iterator[FileRow]:
        """Every row, from the first.

        Raises:
            DataError: The file lacks a column that is needed, or cannot be read any further.
        """
        try:
            with ExitStack() as opened:
                self._raw = opened.enter_context(self._path.open("rb"))
                if self._format == "parquet":
                    yield from self._of_parquet(self._raw)
                    return
                content = opened.enter_context(self._unpacked(self._raw))
                encoding = "utf-8-sig" if self._given.encoding.lower() in ("utf-8", "utf8") else self._given.encoding
                text = io.TextIOWrapper(content, encoding, errors="surrogateescape", newline="")
                yield from self._of_csv(text) if self._format == "csv" else self._of_jsonl(text)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, pa.ArrowException, UnicodeError) as error:
            raise DataError(f"{self.name} cannot be read any further: {error}", where=str(self._path)) from error

    def _of_csv(self, text: IO[str]) -> Iterator[FileRow]:
        separator = self._given.separator or _separator_of(text.readline())
        text.seek(0)
        reader = csv.reader(text, delimiter=separator)
        columns: list[str] | None = None
        number = 0
        while True:
            number += 1
            try:
                said = next(reader, None)
            except csv.Error as error:
                yield FileRow(number, {}, f"cannot be read: {error}; a quotation mark may not be closed")
                continue
            if said is None:
                break
            if not said:
                continue
            if columns is None:
                columns = self._checked([name.strip() for name in said])
            elif len(said) != len(columns):
                values = dict(zip(columns, said, strict=False))
                yield FileRow(number, values, f"has {len(said)} values, the header has {len(columns)} columns")
            else:
                yield self._row(number, dict(zip(columns, said, strict=True)))
        if columns is None:
            raise DataError(f"{self.name} is empty, must begin with a row of column names", where=str(self._path))

    def _of_jsonl(self, text: IO[str]) -> Iterator[FileRow]:
        for number, line in enumerate(text, start=1):
            if not line.strip():
                continue
            try:
                values = _decode(line)
            except UnicodeEncodeError:
                yield FileRow(number, {"line": line}, f"is not {self._given.encoding}; say file.encoding")
            except (msgspec.MsgspecError, RecursionError) as error:
                yield FileRow(number, {"line": line}, f"is no JSON object: {error}")
            else:
                if self.unseen:
                    self.unseen.difference_update(values)
                yield self._row(number, values)

    def _of_parquet(self, raw: IO[bytes]) -> Iterator[FileRow]:
        file = pq.ParquetFile(raw)
        self._checked(file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches(PARQUET_ROWS):
            for values in batch.to_pylist():
                number += 1
                yield FileRow(number, values)

    def _row(self, number: int, values: dict[str, Any]) -> FileRow:
        for column, said in values.items():
            if isinstance(said, str) and not said.isascii() and any("\ud800" <= sign <= "\udfff" for sign in said):
                mistake = f"is not {self._given.encoding}; say file.encoding in the mapping, latin-1 for example"
                return FileRow(number, values, mistake, column)
        return FileRow(number, values)

    def _checked(self, columns: list[str]) -> list[str]:
        twice = sorted({column for column in columns if columns.count(column) > 1 and column in self._needed})
        if twice:
            raise DataError(f"{self.name} has several columns '{twice[0]}', rename all but one", where=str(self._path))
        missing = [column for column in self._needed if column not in columns]
        if missing:
            said = f"lacks {', '.join(missing)}, which the mapping names; its columns are {', '.join(columns)}"
            raise DataError(f"{self.name} {said}", where=str(self._path))
        self.unseen.clear()
        return columns

    def _unpacked(self, raw: IO[bytes]) -> IO[bytes]:
        suffix = self._path.suffix.lower()
        if suffix == ".gz":
            return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
        if suffix == ".zip":
            archive = zipfile.ZipFile(raw)
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if len(names) != 1:
                raise DataError(f"{self.name} holds {len(names)} files, must hold one", where=str(self._path))
            return archive.open(names[0])
        return raw

    def _format_of_name(self) -> Format:
        suffixes = [suffix.lower() for suffix in self._path.suffixes]
        packed = bool(suffixes) and suffixes[-1] in (".gz", ".zip")
        inner = suffixes[:-1] if packed else suffixes
        if packed and not inner and suffixes[-1] == ".zip":
            try:
                inner = [Path(name).suffix.lower() for name in zipfile.ZipFile(self._path).namelist()][:1]
            except (OSError, zipfile.BadZipFile) as error:
                raise DataError(f"{self.name} is no zip archive: {error}", where=str(self._path)) from error
        found = _FORMATS.get(inner[-1]) if inner else None
        if found is None or (packed and found == "parquet"):
            raise DataError(
                f"{self.name}: its name does not say whether it is CSV, JSON lines or Parquet;"
                " write `file: {format: csv}` (or jsonl, parquet) into the mapping",
                where=str(self._path),
            )
        return found


def _separator_of(header: str) -> str:
    r"""What stands between the names of columns: the most frequent outside of quotation marks.

    >>> _separator_of('"a,b";c;d')
    ';'
    """
    outside = "".join(header.split('"')[::2])
    return max(_SEPARATORS, key=outside.count)
