"""Opens what a mapping says rows come from: a file, or a database's answer to a query."""

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from storage.instants import EPOCH
from storage.mapping_parts import FileFormat
from storage.row_files import RowFile
from storage.row_query import RowQuery, is_address


def open_rows(
    origin: str,
    *,
    folder: Path,
    file: FileFormat,
    query: str | None,
    needed: Collection[str],
    since: datetime | None = None,
) -> RowFile | RowQuery:
    """The rows; a file's path counts from `folder`. `since` is what `:since` stands for in the query.

    Raises:
        DataError: There is no such file, or nothing says how it is written, or the address is none.
        SetupError: The database's driver is not installed.
    """
    if is_address(origin):
        return RowQuery(origin, query, needed=needed, since=since or EPOCH)
    return RowFile(folder / Path(origin).expanduser(), file, needed=needed)
