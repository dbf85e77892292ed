"""Files of contacts are whole or not there, private, and in the audit."""

import stat
from contextlib import closing
from pathlib import Path

import pytest

from decisioning.errors import DataError, StoreError
from decisioning.record import AuditRecord
from storage.contact_files import write_contacts
from storage.ledger.database import migrate
from storage.ledger.reader import LedgerReader
from storage.settings import Settings
from tests.builders import NOW

ENTRY = AuditRecord(
    at=NOW, domain="simulated", actor="ann", what="audience.export", subject="loyal", reason="2 contacts"
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def audited(settings: Settings) -> list[AuditRecord]:
    with closing(LedgerReader(settings)) as reader:
        return list(reader.audits("simulated"))


def test_a_file_has_a_header_a_line_each_and_is_for_its_owner_alone(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    path.chmod(0o644)
    write_contacts(settings, {path: ["x@y.de", '"a,b"@y.de']}, header="email", entry=ENTRY)
    assert path.read_bytes() == b'email\r\nx@y.de\r\n"""a,b""@y.de"\r\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert audited(settings) == [ENTRY]


def test_where_one_file_cannot_be_written_none_is_and_nothing_is_audited(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    for wrong, said in (
        (folder, "is a folder, must be a file"),
        (tmp_path / "gone" / "b.csv", "nothing was written in"),
    ):
        with pytest.raises(DataError, match=said):
            write_contacts(settings, {tmp_path / "a.csv": ["x"], wrong: ["y"]}, header="email", entry=ENTRY)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []
    assert audited(settings) == []


def test_what_cannot_be_audited_is_not_written(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    migrate(settings)
    taken = AuditRecord(at=NOW, domain="simulated", actor="ann", what="w", subject="s", reason=None)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="cannot be written"):
        write_contacts(settings, {path: ["x"]}, header="email", entry=taken)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["a.csv"]
