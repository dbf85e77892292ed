"""Files of contacts for others: whole or not at all, for their owner's eyes, and audited."""

import csv
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from decisioning.errors import DataError
from decisioning.record import AuditRecord
from storage.ledger.audit import keep_audit
from storage.settings import Settings


def write_contacts(settings: Settings, files: Mapping[Path, Sequence[str]], *, header: str, entry: AuditRecord) -> None:
    """Write each file, one contact a line below the header, after the entry is in the audit.

    A file that exists is replaced. None is, unless all could be written and the entry was kept.

    Raises:
        DataError: A file cannot be written.
        StoreError: The entry could not be kept.
    """
    parts: dict[Path, Path] = {}
    try:
        try:
            for path, contacts in files.items():
                if path.is_dir():
                    raise DataError(f"{path} is a folder, must be a file", where=str(path))
                handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
                parts[path] = Path(part)
                with os.fdopen(handle, "w", encoding="utf-8", errors="surrogatepass", newline="") as file:
                    csv.writer(file).writerows([line] for line in (header, *contacts))
                    file.flush()
                    os.fsync(file.fileno())
            keep_audit(settings, entry)
            for path, written in parts.items():
                written.replace(path)
        except OSError as error:
            path = Path(error.filename or "").parent if error.filename else next(iter(files)).parent
            raise DataError(f"nothing was written in {path}: {error.strerror or error}", where=str(path)) from error
    finally:
        for written in parts.values():
            with suppress(FileNotFoundError):
                written.unlink()
