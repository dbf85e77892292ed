"""What a database answers to a query, row by row, without ever holding all of it."""

import re
from collections.abc import Collection, Iterator
from datetime import datetime

from sqlalchemy import Connection, Engine, TextClause, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from decisioning.errors import DataError, SetupError
from storage.ledger.database import first_line
from storage.row_files import FileRow

ROWS = 2_000  # fetched at once
_NO_ADDRESS = "the address of a database is like postgresql+psycopg://user@host/name or sqlite:////path/to/file.db"
_SINCE = re.compile(r"(?<![:\w]):since\b")
_OTHER_COLON = re.compile(r":(?!since\b)|(?<=:):")


def is_address(origin: str) -> bool:
    """Whether this names a database, not a file.

    >>> is_address("postgresql+psycopg://reader@db/crm"), is_address("customers.csv")
    (True, False)
    """
    return "://" in origin


class RowQuery:
    """A query whose rows can be read, again and again.

    Attributes:
        name: What people call it: the database, without its password.
        unseen: Nothing: a query names its columns.
    """

    unseen: frozenset[str] = frozenset()

    def __init__(self, address: str, query: str | None, *, needed: Collection[str], since: datetime) -> None:
        """Nothing is read yet; `since` is what `:since` in the query stands for.

        Raises:
            DataError: There is no query, or the address is none.
            SetupError: The database's driver is not installed.
        """
        try:
            self._url: URL = make_url(address)
        except (ArgumentError, ValueError) as error:
            raise DataError(_NO_ADDRESS) from error
        self.name = self._url.render_as_string(hide_password=True)
        if query is None:
            raise DataError(f"the mapping has no query for {self.name}: write `query: SELECT ...` into it")
        self._query = query.strip().rstrip(";")
        self._needed = tuple(needed)
        self._since = since
        self._rows = 0
        self._total = 0
        try:
            self._engine: Engine = create_engine(self._url)
        except ArgumentError as error:
            if isinstance(error, NoSuchModuleError):
                raise self._no_driver(error) from error
            raise DataError(f"{self.name}: {_NO_ADDRESS}", where=self.name) from error
        except ImportError as error:
            raise self._no_driver(error) from error

    @property
    def share(self) -> float:
        """How much of it is read, from 0 to 1."""
        return min(self._rows / self._total, 1.0) if self._total else 0.0

    def rows(self) -> Iterator[FileRow]:
        """Every row, from the first.

        Raises:
            DataError: The database does not answer, or lacks a column that is needed.
        """
        try:
            with self._engine.connect() as connection:
                # The operator's own words, on their own database.
                counted = f"SELECT count(*) FROM ({self._query}) AS asked"  # noqa: S608
                self._total = connection.execute(self._said(counted)).scalar_one()
                yield from self._of(connection)
        except (SQLAlchemyError, ImportError) as error:
            raise DataError(
                f"{self.name} cannot be read: {self._unsaid(first_line(error))}", where=self.name
            ) from error
        finally:
            self._engine.dispose()

    def _of(self, connection: Connection) -> Iterator[FileRow]:
        streamed = connection.execution_options(stream_results=True, max_row_buffer=ROWS)
        found = streamed.execute(self._said(self._query))
        columns = list(found.keys())
        missing = [column for column in self._needed if column not in columns]
        if missing:
            said = f"lacks {', '.join(missing)}, which the mapping names; its columns are {', '.join(columns)}"
            raise DataError(f"the query of {self.name} {said}", where=self.name)
        for self._rows, row in enumerate(found, start=1):
            yield FileRow(self._rows, dict(zip(columns, row, strict=True)))

    def _said(self, query: str) -> TextClause:
        """The query for SQLAlchemy, to which a colon before any name but `since` means nothing."""
        said = text(_OTHER_COLON.sub(r"\:", query))
        return said.bindparams(since=self._since) if _SINCE.search(query) else said

    def _no_driver(self, error: Exception) -> SetupError:
        return SetupError(
            f"the driver for {self._url.drivername} is not installed ({error}); for PostgreSQL:"
            " pip install 'psycopg[binary]', and an address that begins with postgresql+psycopg://"
        )

    def _unsaid(self, words: str) -> str:
        """The same without the password, should a driver repeat it."""
        password = self._url.password
        return words.replace(str(password), "***") if password else words
