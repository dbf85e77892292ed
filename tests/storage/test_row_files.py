import gzip
import json
import zipfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from decisioning.errors import DataError
from storage.mapping_parts import FileFormat
from storage.row_files import FileRow, RowFile

ROWS = [{"who": "c-1", "at": "2026-01-01"}, {"who": "c-2", "at": "2026-01-02"}]
CSV = "who,at\nc-1,2026-01-01\nc-2,2026-01-02\n"


def rows(path: Path, *, needed: Sequence[str] = ("who", "at"), **given: Any) -> list[FileRow]:
    return list(RowFile(path, FileFormat(**given), needed=needed).rows())


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def packed(path: Path, content: str, member: str) -> Path:
    if path.suffix == ".gz":
        return written(path, gzip.compress(content.encode()))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.CSV", "a.b.csv", "a.csv.gz", "a.csv.zip", "a.zip"])
def test_csv_by_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    found = packed(path, CSV, "a.csv") if path.suffix in (".gz", ".zip") else written(path, CSV)
    assert [row.values for row in rows(found)] == ROWS


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz"])
def test_json_lines_by_any_name(tmp_path: Path, name: str) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    path = tmp_path / name
    found = packed(path, lines, "a") if path.suffix == ".gz" else written(path, lines)
    assert [row.values for row in rows(found)] == ROWS


def test_parquet_keeps_the_types_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    at = datetime.fromisoformat("2026-01-01T12:00")
    pq.write_table(pa.table({"who": [1, 2], "at": [at, None], "more": [0.5, 1.5]}), path)
    assert rows(path) == [
        FileRow(1, {"who": 1, "at": at, "more": 0.5}),
        FileRow(2, {"who": 2, "at": None, "more": 1.5}),
    ]


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_a_separator_is_found_in_the_header(tmp_path: Path, separator: str) -> None:
    path = written(tmp_path / "a.csv", CSV.replace(",", separator))
    assert [row.values for row in rows(path)] == ROWS


def test_a_separator_can_be_given(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "who at,x,y\nc-1 2026-01-01,1,2\n")
    assert rows(path, needed=["who"], separator=" ")[0].values == {"who": "c-1", "at,x,y": "2026-01-01,1,2"}


def test_a_format_can_be_given_where_the_name_says_none(tmp_path: Path) -> None:
    path = written(tmp_path / "orders", CSV)
    assert len(rows(path, format="csv")) == 2
    with pytest.raises(DataError, match="its name does not say"):
        rows(path)


def test_rows_are_counted_as_a_spreadsheet_does(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'who,at\nc-1,"two\nlines"\n\nc-2,x\n')
    assert [row.number for row in rows(path)] == [2, 4]


def test_a_mark_at_the_beginning_and_blanks_are_no_part_of_a_column(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", b"\xef\xbb\xbfwho , at\nc-1,x\n")
    assert rows(path)[0].values == {"who": "c-1", "at": "x"}


def test_a_row_of_another_length_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    first, second, third = rows(written(tmp_path / "a.csv", "who,at\nc-1\nc-2,x\nc-3,x,y\n"))
    assert first.mistake == "has 1 values, the header has 2 columns"
    assert (second.values, second.mistake) == ({"who": "c-2", "at": "x"}, None)
    assert third.mistake == "has 3 values, the header has 2 columns"


def test_a_quotation_mark_that_is_never_closed_costs_one_row(tmp_path: Path) -> None:
    content = 'who,at\nc-1,"' + "x" * 200_000 + "\nc-2,x\n"
    first, second = rows(written(tmp_path / "a.csv", content))
    assert "a quotation mark may not be closed" in (first.mistake or "")
    assert second.values == {"who": "c-2", "at": "x"}


def test_bytes_of_another_encoding_are_named_with_their_column(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "who,at\nMüller,x\nc-2,x\n".encode("latin-1"))
    first, second = rows(path)
    assert (first.number, first.column) == (2, "who")
    assert "is not utf-8" in (first.mistake or "")
    assert second.mistake is None
    assert first.content
    assert rows(path, encoding="latin-1")[0].values["who"] == "Müller"


def test_a_line_that_is_no_json_object_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", b'{"who": "c-1"}\n[1]\n{"who"\n\n{"who": "\xff"}\n{"who": "c-2"}\n')
    found = rows(path)
    assert [(row.number, row.mistake is None) for row in found] == [
        (1, True), (2, False), (3, False), (5, False), (6, True)
    ]  # fmt: skip
    assert all(row.content for row in found)


def test_columns_that_no_line_has_are_told_at_the_end(tmp_path: Path) -> None:
    file = RowFile(written(tmp_path / "a.jsonl", '{"who": 1}\n{"at": 2}\n'), FileFormat(), needed=["who", "at", "x"])
    list(file.rows())
    assert file.unseen == {"x"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "a.csv is empty"),
        ("who,when\nc-1,x\n", "a.csv lacks at, which the mapping names; its columns are who, when"),
        ("who,at,at\nc-1,x,y\n", "a.csv has several columns 'at'"),
    ],
)
def test_a_file_without_the_columns_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        rows(written(tmp_path / "a.csv", content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*nowhere\.csv"):
        rows(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zip", "a.parquet"])
def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be read any further"):
        rows(written(tmp_path / name, CSV))


def test_of_a_file_that_is_cut_off_the_rows_before_are_read(tmp_path: Path) -> None:
    lines = "".join(f"c-{number},{number * 7919 % 10007}\n" for number in range(20_000))
    whole = gzip.compress(("who,at\n" + lines).encode())
    file = RowFile(written(tmp_path / "a.csv.gz", whole[: len(whole) // 2]), FileFormat(), needed=["who"])
    seen = []
    with pytest.raises(DataError, match=r"a\.csv\.gz cannot be read any further"):
        seen.extend(row.number for row in file.rows())
    assert 1_000 < len(seen) < 20_000


def test_an_archive_of_several_files_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("a.csv", CSV)
        archive.writestr("b.csv", CSV)
    with pytest.raises(DataError, match="holds 2 files, must hold one"):
        rows(tmp_path / "a.csv.zip")


def test_how_much_is_read_grows_to_all_of_it(tmp_path: Path) -> None:
    file = RowFile(written(tmp_path / "a.csv", CSV * 10_000), FileFormat(), needed=["who"])
    shares = [file.share for _ in file.rows()]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.5
    assert file.share == 1.0
